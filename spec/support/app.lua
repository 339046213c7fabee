-- A user's script in a directory of its own, and shove running it.
--
--     local a = app.new { source = [[ local shove = require "shove" ... return app ]] }
--     local a = app.new { path = "examples/orders/app.lua" }
--     local p = a:run { "--workers", "2", env = { ... } }      a process (spec/support/process.lua)
--     local result = a:command("check")                        runs `shove check app.lua` to its end
--     a.dir, a.path, a:file("name")                            where it is, and a path beside it
--
-- The program is $SHOVE_BIN, default build/shove.

local uv = require "luv"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local M = {}
local App = {}
App.__index = App

local DRAIN_MS = 30000

M.bin = os.getenv "SHOVE_BIN" or "build/shove"
if M.bin:sub(1, 1) ~= "/" then M.bin = uv.cwd() .. "/" .. M.bin end

-- source: the script's text, or path: an existing one; files: name -> text, put beside the script.
function M.new(options)
    local a = setmetatable({ dir = tmp.dir() }, App)
    a.path = options.path or tmp.write(a:file "app.lua", options.source)
    for name, text in pairs(options.files or {}) do tmp.write(a:file(name), text) end
    return a
end

function App:file(name)
    return self.dir .. "/" .. name
end

local function command_line(a, command, options)
    local line = { M.bin, command, a.path, cwd = options.cwd or a.dir, env = options.env, stdin = options.stdin }
    for _, argument in ipairs(options) do table.insert(line, argument) end
    return line
end

-- Starts `shove run app.lua ARG...` in the app's directory; options: the arguments, and env, cwd, stdin.
function App:run(options)
    return process.spawn(command_line(self, "run", options or {}))
end

-- Runs `shove COMMAND app.lua ARG...` to its end: { code, signal, stdout, stderr }. COMMAND may have two words.
function App:command(command, options, deadline_ms)
    options = options or {}
    local line = command_line(self, command, options)
    local first, second = command:match "^(%S+) (%S+)$"
    if first then
        line[2] = first
        table.insert(line, 3, second)
    end
    return process.run(line, deadline_ms)
end

-- Asks a running shove to drain and waits: exit code, signal.
function M.drain(p, deadline_ms)
    p:kill "sigterm"
    return p:wait_exit(deadline_ms or DRAIN_MS)
end

return M
