-- names.lua: which names Kafka takes, and which names come out of a topic's options. Pure.
--
-- What is made of these names is decided in runtime/core/topology.c alone; here they serve to refuse, at the
-- script's line, a name that would be too long or would be taken twice. A spec compares the two.

local show = require "shove.show"

local M = {}

M.LENGTH_MAX = 249

local INTERNAL = { __consumer_offsets = true, __transaction_state = true }

local function check_word(value, noun)
    if type(value) ~= "string" then
        return nil, ("%s is not a %s; write a string"):format(show.value(value), noun)
    elseif value == "" then
        return nil, ("a %s is not empty"):format(noun)
    elseif #value > M.LENGTH_MAX then
        return nil, ("%s is too long for a %s: %d characters, of at most %d"):format(
            show.value(value), noun, #value, M.LENGTH_MAX)
    elseif value:find "[^%w%._%-]" then
        return nil, ("%s is not a %s; use letters, digits, '.', '_' and '-'"):format(show.value(value), noun)
    end
    return value
end

-- Checkers in the sense of validate.lua.
function M.topic(value)
    local name, text = check_word(value, "topic name")
    if not name then
        return nil, text
    elseif name == "." or name == ".." then
        return nil, ("%s is not a topic name"):format(show.value(name))
    elseif INTERNAL[name] then
        return nil, ("%s is Kafka's own topic"):format(show.value(name))
    end
    return name
end

function M.group(value)
    return check_word(value, "group name")
end

-- A group id may be one that a company has long had; Kafka takes almost anything.
function M.group_id_given(value)
    if type(value) ~= "string" or value == "" or #value > M.LENGTH_MAX or value:find "[^\32-\126]" then
        return nil, ("%s is not a group id; write 1 to %d printable ASCII characters"):format(
            show.value(value), M.LENGTH_MAX)
    end
    return value
end

local function stem(queue, for_group)
    return for_group and queue .. "-" .. for_group or queue
end

function M.hold(queue, for_group, delay_ms)
    if delay_ms % 1000 == 0 then
        return ("%s-hold-%ds"):format(stem(queue, for_group), delay_ms / 1000)
    end
    return ("%s-hold-%dms"):format(stem(queue, for_group), delay_ms)
end

function M.dlq(queue, for_group)
    return stem(queue, for_group) .. "-dlq"
end

function M.poison(queue, for_group)
    return stem(queue, for_group) .. "-poison"
end

function M.group_id(explicit_id, queue, for_group, is_fifo)
    return explicit_id or stem(queue, for_group) .. (is_fifo and "-fifo" or "-consumer")
end

return M
