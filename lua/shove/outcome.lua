-- outcome.lua: what a handler says of a message: shove.ack, retry, reject, defer; bare, or called with a
-- reason.
--
-- Worker processes; needs no host. `code` is the number of enum shove_outcome in runtime/core/outcome.h.

local show = require "shove.show"
local validate = require "shove.validate"

local M = {}

local NAMES = { "ack", "retry", "reject", "defer" }

local metatable = {}

local function make(code, reason)
    return setmetatable({ code = code, reason = reason }, metatable)
end

-- A reason is words. What is no string is shown as it is rather than raising: a handler that reports a
-- failure must not fail over it.
function metatable:__call(reason)
    if self.reason ~= nil then
        validate.raise(("shove.%s was called with a reason already"):format(NAMES[self.code]))
    elseif reason == nil or type(reason) == "string" then
        return make(self.code, reason)
    end
    local is_ok, text = pcall(tostring, reason)
    return make(self.code, is_ok and type(text) == "string" and text or show.value(reason))
end

function metatable:__tostring()
    return self.reason and ("shove.%s(%s)"):format(NAMES[self.code], show.value(self.reason))
        or "shove." .. NAMES[self.code]
end

for code, name in ipairs(NAMES) do
    M[name] = make(code)
end

-- Whether a handler's return value is an outcome.
function M.is_outcome(value)
    return type(value) == "table" and getmetatable(value) == metatable
end

return M
