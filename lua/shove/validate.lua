-- validate.lua: says what is wrong with what a script gives, at the script's own line.
--
-- Worker processes, while the script is loaded; needs no host. Everything raised here is a string that begins
-- with the position of the first stack frame outside of this folder, so a mistake is reported where it was
-- made however deep in the library it was found. Where there is no such frame (the call was the script's last
-- `return`, a tail call), the message names the script without a line.
--
-- A *checker* is a function(value) that returns the converted value, or nil, text and, when the mistake is
-- inside of the value, the path to it: ("[2]", ".min"). A *schema* maps option names to checkers.

local duration = require "shove.duration"
local show = require "shove.show"
local size = require "shove.size"
local suggest = require "shove.suggest"

local M = {}

local here = debug.getinfo(1, "S").source:match "^(@.*[/\\])" or "@shove/"

-- The script that is being run, as the user gave it; nil outside of a worker.
M.script = nil

-- "app.lua:12" of the script's frame nearest to the caller; the script's name or nil when there is none.
function M.position()
    local level = 2
    while true do
        local info = debug.getinfo(level, "Sl")
        if not info then
            return M.script
        end
        if info.what ~= "C" and info.source:sub(1, #here) ~= here then
            local file = info.source:match "^[@=](.*)" or info.short_src
            return ("%s:%d"):format(file, info.currentline)
        end
        level = level + 1
    end
end

-- Raises "app.lua:12: text".
function M.raise(text)
    local position = M.position()
    error(position and position .. ": " .. text or text, 0)
end

-- Raises "app.lua:12: where: text"; `...` goes into `text` as string.format does.
function M.fail(where, text, ...)
    M.raise(where .. ": " .. (select("#", ...) > 0 and text:format(...) or text))
end

M.show = show.value

local function path_of(key)
    return type(key) == "string" and key or ("[%s]"):format(M.show(key))
end

-- Refuses everything that is not a plain table: values behind a metatable would be passed over in silence.
function M.plain_table(where, value)
    if type(value) ~= "table" then
        M.fail(where, "%s is not a table of options", M.show(value))
    elseif getmetatable(value) ~= nil then
        M.fail(where, "the table of options has a metatable, whose values would not be seen; give a plain table")
    end
end

local function names_of(schema)
    local names = {}
    for name in pairs(schema) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

local function unknown_key_text(key, schema, absent)
    if absent and absent[key] then
        return ("unknown key %s: %s"):format(M.show(key), absent[key])
    end
    local names = names_of(schema)
    return ("unknown key %s%s; allowed: %s"):format(M.show(key), suggest.hint(key, names), table.concat(names, ", "))
end

-- The keys of a table in an order that does not depend on hashing, so that of several mistakes the same is
-- reported.
local function sorted_keys(options)
    local keys = {}
    for key in next, options do
        keys[#keys + 1] = key
    end
    table.sort(keys, function(a, b)
        if type(a) ~= type(b) then
            return type(a) < type(b)
        end
        return (type(a) == "string" or type(a) == "number") and a < b
    end)
    return keys
end

-- Checks `options` (nil: none given) against `schema` and returns a new table of converted values. `absent`
-- maps keys that are refused for a reason worth telling to that reason.
function M.options(where, options, schema, absent)
    local checked = {}
    if options == nil then
        return checked
    end
    M.plain_table(where, options)
    for _, key in ipairs(sorted_keys(options)) do
        local checker = type(key) == "string" and schema[key]
        if not checker then
            M.fail(where, "%s", unknown_key_text(key, schema, absent))
        end
        local value, text, inner_path = checker(rawget(options, key))
        if text then
            M.fail(where, "%s%s: %s", path_of(key), inner_path or "", text)
        end
        checked[key] = value
    end
    return checked
end

function M.boolean(value)
    if type(value) ~= "boolean" then
        return nil, M.show(value) .. " is not a boolean; write true or false"
    end
    return value
end

function M.func(value)
    if type(value) ~= "function" then
        return nil, M.show(value) .. " is not a function"
    end
    return value
end

function M.is_integer(value, low, high)
    return type(value) == "number" and value >= low and value <= high and value % 1 == 0
end

function M.integer(low, high)
    return function(value)
        if not M.is_integer(value, low, high) then
            return nil, ("%s is not allowed; write a whole number from %d to %d"):format(M.show(value), low, high)
        end
        return value
    end
end

-- Above `low`, up to `high`.
function M.number(low, high)
    return function(value)
        if type(value) ~= "number" or not (value > low and value <= high) then
            return nil, ("%s is not allowed; write a number above %g, up to %g"):format(M.show(value), low, high)
        end
        return value
    end
end

local function quoted_list(words)
    local quoted = {}
    for i, word in ipairs(words) do
        quoted[i] = '"' .. word .. '"'
    end
    if #quoted == 1 then
        return quoted[1]
    end
    return table.concat(quoted, ", ", 1, #quoted - 1) .. " or " .. quoted[#quoted]
end

function M.one_of(words)
    return function(value)
        for _, word in ipairs(words) do
            if value == word then
                return value
            end
        end
        return nil, ("%s is not allowed%s; write %s"):format(
            M.show(value), suggest.hint(value, words), quoted_list(words))
    end
end

-- Converts to milliseconds.
function M.duration(low_ms, high_ms)
    return function(value)
        local ms, text = duration.parse(value)
        if not ms then
            return nil, text
        elseif ms < low_ms or ms > high_ms then
            return nil, ("%s is not allowed; write a duration from %s to %s"):format(
                M.show(value), duration.format(low_ms), duration.format(high_ms))
        end
        return ms
    end
end

-- Converts to bytes.
function M.size(low_bytes, high_bytes)
    return function(value)
        local bytes, text = size.parse(value)
        if not bytes then
            return nil, text
        elseif bytes < low_bytes or bytes > high_bytes then
            return nil, ("%s is not allowed; write a size from %s to %s"):format(
                M.show(value), size.format(low_bytes), size.format(high_bytes))
        end
        return bytes
    end
end

return M
