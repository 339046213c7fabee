-- key.lua: a message's key as it is written, and the one that a topic's key function makes of a body.
--
-- Worker processes; needs no host. Raises nothing: what is wrong comes back as text.

local show = require "shove.show"

local M = {}

-- The key's text, or nil and what is wrong with it. A number has one text, however it was computed.
function M.text(key)
    if type(key) == "string" then
        return key
    elseif type(key) == "number" and key == key and math.abs(key) ~= math.huge then
        return key % 1 == 0 and string.format("%.0f", key) or tostring(key)
    end
    return nil, string.format("the key is %s; a key is a string or a number", show.value(key))
end

-- What `compute` makes of a body: text, or nil where it makes none; or nil and what is wrong.
function M.compute(compute, body)
    local is_ok, key = pcall(compute, body)
    if not is_ok then
        return nil, "the topic's key function failed: " .. (type(key) == "string" and key or show.value(key))
    elseif key == nil then
        return nil
    end
    return M.text(key)
end

-- The function that `shove publish` has every payload of a topic go through (runtime/worker/keys.c); nil for a topic
-- without a key function. It returns what compute does, and true as the third where it is the body that is wrong.
function M.reader(known)
    if not known or not known.key then
        return nil
    end
    local decode, compute = known.decode, known.key
    return function(payload)
        local is_ok, body = pcall(decode, payload)
        if not is_ok then
            return nil, "the body cannot be decoded: " .. (type(body) == "string" and body or show.value(body)), true
        end
        return M.compute(compute, body)
    end
end

return M
