-- codec.lua: between a body (a Lua value) and a payload (a string): "json", "raw", or a script's own.
--
-- Worker processes; needs no host. A codec is { name =, encode = function(body), decode = function(payload)
-- }; both raise when they cannot.
--
-- JSON is lua-cjson's, in an instance of its own, so that a script's `require "cjson"` keeps its settings:
--   * null is shove.null, inside of arrays and objects and at the top;
--   * an empty table is written as {}; write shove.empty_array for [];
--   * a table with holes is refused rather than filled up or turned into an object: fill it with shove.null;
--   * NaN and infinity are refused both ways, and so is anything else that is not JSON (hexadecimal, trailing commas);
--   * numbers keep all their digits when written, though cjson alone writes 14. What is read becomes a double, as
--     every number in LuaJIT: whole numbers beyond 2^53 are exact in msg.payload only, so send those as strings.

local cjson = require "cjson"

local show = require "shove.show"

local M = {}

M.null = cjson.null

-- Stands for [] in a body; a constant, whatever is put into it is not written.
M.empty_array = setmetatable({}, {
    __metatable = "shove.empty_array",
    __newindex = function()
        error("shove.empty_array is a constant: make a table of your own for an array that is not empty", 2)
    end,
    __tostring = function()
        return "shove.empty_array"
    end,
})

local DEPTH_MAX = 1000
local EXACT_DIGITS = 14 -- the most that every lua-cjson accepts
local EXACT_INTEGER = 10 ^ EXACT_DIGITS

local json = cjson.new()
json.encode_number_precision(EXACT_DIGITS)
json.encode_sparse_array(false, 1, 0)
json.encode_invalid_numbers(false)
json.decode_invalid_numbers(false)
json.encode_max_depth(DEPTH_MAX)
json.decode_max_depth(DEPTH_MAX)

local function keeps_its_digits(number)
    if number % 1 == 0 then
        return number < EXACT_INTEGER and number > -EXACT_INTEGER
    end
    return tonumber(string.format("%.14g", number)) == number
end

-- Whether what cjson has written of this value is right.
local function is_plain(value)
    local kind = type(value)
    if kind == "number" then
        return keeps_its_digits(value)
    elseif kind ~= "table" then
        return true
    elseif value == M.empty_array then
        return false
    end
    for key, inner in next, value do
        if not is_plain(inner) or (type(key) == "number" and not keeps_its_digits(key)) then
            return false
        end
    end
    return true
end

local function shortest(number)
    local text
    for digits = EXACT_DIGITS + 1, 17 do
        text = string.format("%." .. digits .. "g", number)
        if tonumber(text) == number then
            break
        end
    end
    return text
end

-- A copy of the value with a placeholder for whatever cjson would write wrong; `places` collects what belongs
-- there.
local function with_places(value, token, places)
    local text
    if type(value) == "number" and not keeps_its_digits(value) then
        text = shortest(value)
    elseif value == M.empty_array then
        text = "[]"
    end
    if text then
        places[#places + 1] = text
        return token .. #places .. ":"
    elseif type(value) ~= "table" then
        return value
    end
    local copy = {}
    for key, inner in next, value do
        if type(key) == "number" and not keeps_its_digits(key) then
            key = shortest(key)
        end
        copy[key] = with_places(inner, token, places)
    end
    return copy
end

-- The placeholder must not be anywhere in the data itself; when it is, another one is tried.
local function encode_with_places(body)
    local attempt = 0
    while true do
        attempt = attempt + 1
        local places = {}
        local token = string.format("shove-place-%d-", attempt)
        local text = json.encode(with_places(body, token, places))
        local pattern = string.gsub(token, "%-", "%%-")
        local _, count = string.gsub(text, pattern, "%0")
        if count == #places then
            return (string.gsub(text, '"' .. pattern .. '(%d+):"', function(index)
                return places[tonumber(index)]
            end))
        end
    end
end

local function encode_json(body)
    -- cjson goes first: it bounds the depth, so that tables which contain themselves never come to is_plain.
    local text = json.encode(body)
    return is_plain(body) and text or encode_with_places(body)
end

local ENCODE_HINTS = {
    ["excessively sparse array"] = "a table has holes; fill them with shove.null or use string keys",
    ["must not be NaN or Inf"] = "NaN and infinity are not JSON",
    ["excessive nesting"] = "tables are nested more than 1000 deep, or contain themselves",
    ["type not supported"] = "functions, threads and C data are not JSON",
}

local function encode(body)
    local is_ok, result = pcall(encode_json, body)
    if is_ok then
        return result
    end
    result = tostring(result)
    for part, hint in pairs(ENCODE_HINTS) do
        if result:find(part, 1, true) then
            error(("the body cannot be written as JSON: %s"):format(hint), 0)
        end
    end
    error("the body cannot be written as JSON: " .. result, 0)
end

M.json = { name = "json", encode = encode, decode = json.decode }

M.raw = {
    name = "raw",
    encode = function(body)
        if type(body) ~= "string" then
            error(("the codec is \"raw\": the body is %s, not a string"):format(show.value(body)), 0)
        end
        return body
    end,
    decode = function(payload)
        return payload
    end,
}

-- A script may raise, or return nil and a reason: half of Lua's libraries do the one, half the other.
local function custom(encode_body, decode_payload)
    return {
        name = "custom",
        encode = function(body)
            local payload, reason = encode_body(body)
            if type(payload) ~= "string" then
                error(("the codec's encode returned %s, not a string%s"):format(show.value(payload),
                    reason ~= nil and ": " .. tostring(reason) or ""), 0)
            end
            return payload
        end,
        decode = function(payload)
            local body, reason = decode_payload(payload)
            if body == nil and reason ~= nil then
                error(reason, 0)
            end
            return body
        end,
    }
end

local ALLOWED = 'write "json", "raw" or { encode = function(body), decode = function(payload) }'

-- A checker in the sense of validate.lua.
function M.check(value)
    if value == "json" or value == "raw" then
        return M[value]
    elseif type(value) ~= "table" or getmetatable(value) ~= nil then
        return nil, ("%s is not a codec; %s"):format(show.value(value), ALLOWED)
    end
    for key in next, value do
        if key ~= "encode" and key ~= "decode" then
            return nil, ("unknown key %s; %s"):format(show.value(key), ALLOWED)
        end
    end
    for _, name in ipairs { "encode", "decode" } do
        if type(rawget(value, name)) ~= "function" then
            return nil, ("%s is not a function; %s"):format(show.value(rawget(value, name)), ALLOWED), "." .. name
        end
    end
    return custom(value.encode, value.decode)
end

return M
