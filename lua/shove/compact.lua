-- compact.lua: a table as a log line shows it: JSON as far as it is JSON, on one line, bounded in what is read of it.
--
-- Pure; never raises. Bounded: the table may be a body of megabytes, hold itself, or come while memory is short.

local codec = require "shove.codec"
local show = require "shove.show"

local M = {}

local DEPTH_MAX, ENTRIES_MAX, BYTES_MAX = 8, 64, 4096

local encode, null = codec.json.encode, codec.null
local concat, sort, sub = table.concat, table.sort, string.sub
local getmetatable, next, pcall, rawget, tostring, type = getmetatable, next, pcall, rawget, tostring, type

local write -- function(out, value, depth)

local function put(out, text)
    out[#out + 1] = text
    out.size = out.size + #text
end

local function put_string(out, text)
    put(out, encode(#text > BYTES_MAX and sub(text, 1, BYTES_MAX) .. "..." or text))
end

local function write_array(out, list, depth)
    put(out, "[")
    for i = 1, #list do
        if i > 1 then put(out, ",") end
        if i > ENTRIES_MAX or out.size > BYTES_MAX then
            put(out, "...")
            break
        end
        write(out, rawget(list, i), depth + 1)
    end
    put(out, "]")
end

local function write_object(out, object, depth)
    local names, values = {}, {}
    local is_whole = true
    for key, value in next, object do
        if #names == ENTRIES_MAX then
            is_whole = false
            break
        end
        local name = type(key) == "string" and key or type(key) == "number" and tostring(key) or show.value(key)
        names[#names + 1], values[name] = name, value
    end
    sort(names)
    put(out, "{")
    for i = 1, #names do
        if i > 1 then put(out, ",") end
        if out.size > BYTES_MAX then
            is_whole = false
            break
        end
        put_string(out, names[i])
        put(out, ":")
        write(out, values[names[i]], depth + 1)
    end
    put(out, is_whole and "}" or "...}")
end

function write(out, value, depth)
    local kind = type(value)
    if value == null then
        put(out, "null")
    elseif value == codec.empty_array then
        put(out, "[]")
    elseif kind == "string" then
        put_string(out, value)
    elseif kind == "number" or kind == "boolean" or kind == "nil" then
        put(out, kind == "nil" and "null" or tostring(value))
    elseif kind ~= "table" then
        put_string(out, show.value(value))
    elseif depth > DEPTH_MAX then
        put(out, '"..."')
    elseif rawget(value, 1) ~= nil then
        write_array(out, value, depth)
    else
        write_object(out, value, depth)
    end
end

-- nil for a table that says itself how it is written.
function M.table(value)
    local metatable = getmetatable(value)
    if type(metatable) == "table" and rawget(metatable, "__tostring") ~= nil then return nil end
    local out = { size = 0 }
    return pcall(write, out, value, 1) and concat(out) or nil
end

return M
