-- SIGHUP while the app starts, and when the terminal is closed.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local process = require "spec.support.process"
local reloads = require "spec.support.reloads"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000

local rewrite, status = reloads.rewrite, reloads.status

-- For a script: the first load of it waits for the gate load-1, the second for load-2. The first is to see what the app is.
local WAITS_TO_LOAD = [[
    for i = 1, 2 do
        local file = uv.fs_open(dir .. "/loading-" .. i, "wx", tonumber("644", 8))
        if file then
            uv.fs_write(file, tostring(uv.os_getppid()))
            while not uv.fs_stat(dir .. "/gate-load-" .. i) do uv.sleep(5) end
            break
        end
    end
]]

local function wait_loading(s, nth)
    return wait.until_true(function()
        local ok, pid = pcall(tmp.read, ("%s/loading-%d"):format(s.dir, nth))
        return ok and tonumber(pid)
    end, WAIT_MS, "load " .. nth)
end

for _, row in ipairs {
    { "while the app is looked at", 1 }, { "while the app is looked at behind nohup", 1, "nohup" },
    { "while its first workers load it", 2 },
} do
    local when, nth, before = unpack(row)
    it("SIGHUP " .. when .. " reloads once it runs", function()
        local s = steered.new { url = steered.brokers[1].url, extra = WAITS_TO_LOAD }
        s.env = { XDG_RUNTIME_DIR = tmp.dir() }
        s.p = process.spawn { before or "env", app.bin, "run", s.app.path, "--workers", "1", env = s.env }
        for i = 1, 2 do
            wait_loading(s, i)
            if i == nth then s.p:kill "sighup" end
            if i == nth then rewrite(s, "-new") end
            s:open("load-" .. i)
        end
        s.p:wait_for("reloaded: .*generation=2 +why=SIGHUP", WAIT_MS)
        s:publish { "a" }
        s:wait("ended", { "a-new" })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)
end

describe("When the terminal is closed", function()
    -- Runs the app in a terminal of its own, behind `words`; gives its journal of lines, and what closes it.
    local function in_terminal(words, extra)
        local s = steered.new { url = steered.brokers[1].url, partitions = 4, extra = extra }
        local log = s.dir .. "/log"
        s.env = { XDG_RUNTIME_DIR = tmp.dir() }
        local p = process.spawn { "script", "-q", "-c",
            ("exec %s %s run %s --workers 1 2>%s >/dev/null </dev/null"):format(words, app.bin, s.app.path, log),
            "/dev/null", env = s.env }
        local function says(text)
            wait.until_true(function()
                local ok, said = pcall(tmp.read, log)
                return ok and said:find(text)
            end, WAIT_MS, text)
        end
        if not extra then says "partitions assigned" end
        return s, says, function() p:kill "sigkill" end
    end

    -- Nothing was reloaded yet; the next SIGHUP does it, and the app drains.
    local function check_reloads(s, pid, says)
        assert.equal(1, status(s).generation)
        uv.kill(pid, "sighup")
        says "reloaded: .*generation=2"
        uv.kill(pid, "sigterm")
        says "handled +group"
    end

    it("the app drains", function()
        local _, says, close = in_terminal ""
        close()
        says 'draining.*why="the terminal was closed"'
    end)

    it("an app that still loads ends", function()
        local s, _, close = in_terminal("", WAITS_TO_LOAD)
        local pid = wait_loading(s, 1)
        close()
        wait.until_true(function() return not process.is_alive(pid) end, WAIT_MS, "the app to end")
    end)

    it("an app behind nohup that still loads goes on, and reloads at the next SIGHUP only", function()
        local s, says, close = in_terminal("nohup", WAITS_TO_LOAD)
        local pid = wait_loading(s, 1)
        close()
        for i = 1, 2 do s:open("load-" .. i) end
        says "partitions assigned"
        check_reloads(s, pid, says)
    end)

    it("an app behind nohup goes on, and reloads at the next SIGHUP", function()
        local s, says, close = in_terminal "nohup"
        local pid = status(s).pid
        close()
        says "the terminal was closed: the app goes on"
        check_reloads(s, pid, says)
    end)
end)
