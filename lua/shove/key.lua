-- key.lua: a message's key as it is written, and the one that a topic's key function makes of a body.
--
-- Worker processes; needs no host. Raises nothing: what is wrong comes back as text.

local codec = require "shove.codec"
local show = require "shove.show"

local M = {}

local NONE = "the topic is sequenced, and its order is kept per key: give %s, or shove.null for a message without one"

-- The key's text; nil for shove.null, which is none on purpose; or nil and what is wrong with it. A number has one
-- text, however it was computed.
function M.text(key)
    if key == codec.null then
        return nil
    elseif type(key) == "string" then
        return key
    elseif type(key) == "number" and key == key and math.abs(key) ~= math.huge then
        if key == 0 then
            return "0" -- of -0, too
        end
        return key % 1 == 0 and string.format("%.0f", key) or tostring(key)
    end
    return nil, string.format("the key is %s; a key is a string or a number", show.value(key))
end

-- The key of a body that is published without one being given (`known`: lua/shove/describe.lua): text, or nil where
-- there is none; or nil and what is wrong.
function M.of_body(known, body)
    if not known.key then
        return nil, known.sequenced and NONE:format "key =" or nil
    end
    local is_ok, key = pcall(known.key, body)
    if not is_ok then
        return nil, "the topic's key function failed: " .. (type(key) == "string" and key or show.value(key))
    elseif key == nil then
        return nil, known.sequenced and "the topic's key function returned nil; " .. NONE:format "a key" or nil
    end
    return M.text(key)
end

-- The function that `shove publish` has every payload of a topic go through (runtime/worker/keys.c); nil for a topic
-- without a key function. It returns what of_body does, and true as the third where it is the body that is wrong.
function M.reader(known)
    if not known or not known.key then
        return nil
    end
    local decode = known.decode
    return function(payload)
        local is_ok, body = pcall(decode, payload)
        if not is_ok then
            return nil, "the body cannot be decoded: " .. (type(body) == "string" and body or show.value(body)), true
        end
        return M.of_body(known, body)
    end
end

return M
