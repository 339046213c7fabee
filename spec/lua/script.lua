-- A script of a user as a spec has it: text that runs as app.lua, so that positions can be told.

-- So that plain busted finds the source tree's modules too; spec_runner does already.
if not package.path:find("lua/?/init.lua", 1, true) then
    package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
end

local M = {}

-- The first line of every script; what is given begins on line 2.
local PRELUDE = 'local shove = require "shove"; local app = shove.registry { broker = "memory:" }\n'

-- Runs `body` as app.lua, from its line 2 on, with `shove` and an `app` on the memory broker: what it returns or the
-- message it raises, as pcall does.
function M.run(body)
    return pcall(assert(loadstring(PRELUDE .. body, "@app.lua")))
end

-- The message that `body` raises; it must raise one.
function M.message_of(body)
    local is_ok, message = M.run(body)
    if is_ok then
        error("the script was accepted:\n" .. body, 2)
    end
    return message
end

-- The description of the app that `body` returns; it begins on line 2.
function M.document(body)
    local is_ok, result = M.run(body .. "\nreturn app")
    assert(is_ok, result)
    return require("shove.describe").document(result)
end

return M
