-- log.lua: shove.log.debug, info, warn, error (message, fields): one line each, beside shove's own.
--
-- Worker processes only: needs the host. Inside a handler the line names the message's topic, partition and offset by
-- itself. A table is written as JSON, as far as it fits a line. Logging never raises for what it is given: a handler
-- that reports a failure must not fail over it.

local host = require "shove.host"

local compact = require "shove.compact"
local object = require "shove.object"
local show = require "shove.show"

local M = {}

local FIELDS_MAX = 32

local LEVELS = { debug = 0, info = 1, warn = 2, error = 3 } -- enum shove_log_level

local function text_of(value)
    if type(value) == "string" then
        return value
    end
    local shown = type(value) == "table" and compact.table(value)
    if shown then
        return shown
    end
    local is_ok, text = pcall(tostring, value)
    return is_ok and type(text) == "string" and text or show.value(value)
end

local function sorted_fields(fields)
    local names, texts = {}, {}
    for name, value in next, fields do
        local text = text_of(name)
        names[#names + 1] = text
        texts[text] = text_of(value)
    end
    table.sort(names)
    local values = {}
    for i, name in ipairs(names) do
        values[i] = texts[name]
    end
    if #names > FIELDS_MAX then
        names[FIELDS_MAX], values[FIELDS_MAX] = "fields_left_out", tostring(#names - FIELDS_MAX + 1)
    end
    return names, values
end

local function logger(level)
    return function(message, fields)
        if not host.is_logging(level) then
            return
        end
        local names, values
        if type(fields) == "table" then
            names, values = sorted_fields(fields)
        elseif fields ~= nil then
            names, values = { "value" }, { text_of(fields) }
        else
            names, values = {}, {}
        end
        host.log(level, text_of(message), names, values)
    end
end

for name, level in pairs(LEVELS) do
    M[name] = logger(level)
end

return setmetatable(M, {
    __index = function(_, name)
        object.refuse_key("shove.log", "level", name, { "debug", "error", "info", "warn" })
    end,
})
