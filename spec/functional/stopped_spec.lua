-- Processes that stand still for a while, as a machine that is out of breath or SIGSTOP makes them.

local uv = require "luv"
local hostile = require "spec.support.hostile"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

-- Waits until nothing in the process is on the CPU: it waits for what comes next.
local function until_idle(pid)
    wait.until_true(function() return tmp.read(("/proc/%d/stat"):format(pid)):match "%) (%a)" == "S" end, 10000, "it to wait")
end

-- How often it has gone to sleep.
local function turns(pid)
    return tonumber(tmp.read(("/proc/%d/status"):format(pid)):match "\nvoluntary_ctxt_switches:%s+(%d+)")
end

describe("a worker that stands still", function()
    it("is replaced after the timeout of what it has, not after the longest there is, and nothing is lost", function()
        local s = hostile.new { broker = "embedded", group = "handler_timeout = '1h'",
            handler = "if not msg.redelivered then shove.sleep '30m' end" }
        s:publish("bad", { "patient" }, "acked")
        local p = s:run()
        wait.until_true(function() return #s:lines_of("patient", "began") == 1 end, 10000, "the message to be begun")
        local pid = p:children()[1]
        until_idle(pid)
        uv.kill(pid, "sigstop")
        s:publish_good(20)
        p:wait_for("it does not answer any more", 15000)
        assert.are.equal(2, s:finish(p), p:transcript())
        assert.are.equal(1, select(2, p:text("stderr"):gsub("a worker process died", "")))
        for _, line in ipairs(s:lines_of()) do assert.are.equal(0, line.retries, line.payload) end
    end)
end)

describe("a control that stands still", function()
    it("for longer than any handler may take kills no worker when it goes on", function()
        local s = hostile.new { broker = "embedded", group = "handler_timeout = '1s', concurrent = true, prefetch = 4",
            handler = "shove.sleep '500ms'", more = [[
                app:on_start(function()
                    local ticks = assert(io.open("ticks", "a"))
                    while true do ticks:write "." ticks:flush() shove.sleep "100ms" end
                end)]] }
        local payloads = {}
        for i = 1, 20 do payloads[i] = "slow " .. i end
        s:publish("bad", payloads, "acked")
        local p = s:run()
        wait.until_true(function() return #s:lines_of(nil, "returned") >= 4 end, 10000, "work to go on")
        wait.until_true(function() return #s:lines_of(nil, "began") > #s:lines_of(nil, "returned") end, 10000, "some to run")
        p:kill "sigstop"
        local function ticks() return #tmp.read(s.app:file "ticks") end
        local before = ticks()
        wait.until_true(function() return ticks() >= before + 65 end, 30000, "the worker to go on")
        p:kill "sigcont"
        assert.are.equal(0, s:finish(p), p:transcript())
        for _, line in ipairs(s:lines_of()) do
            assert.are.same({ 0, false }, { line.retries, line.redelivered }, line.payload)
        end
        assert.is_nil(p:text("stderr"):find("killing a worker process", 1, true), p:transcript())
    end)
end)

describe("an app all of whose processes stand still", function()
    for verb, when in pairs { began = "as it begins", half = "some time after it began" } do
        it("does not count that time for the handler that was on the CPU, " .. when, function()
            -- It takes its time on the CPU, whenever that is: longer than the grace, and far from the timeout on a busy machine.
            local s = hostile.new { broker = "embedded", group = "handler_timeout = '9s'", handler = [[
                local function work(seconds)
                    local till = os.clock() + seconds
                    while os.clock() < till do end
                end
                work(0.6)
                note("half", msg)
                work(2)]] }
            s:publish("bad", { "busy" }, "acked")
            local p = s:run()
            wait.until_true(function() return #s:lines_of("busy", verb) == 1 end, 10000, verb)
            local stopped_ms = uv.hrtime() / 1e6
            p:kill "sigstop"
            uv.kill(p:children()[1], "sigstop")
            -- Longer than the timeout and the grace after it.
            wait.until_true(function() return uv.hrtime() / 1e6 >= stopped_ms + 11500 end, 20000, "time to pass")
            uv.kill(p:children()[1], "sigcont")
            p:kill "sigcont"
            assert.are.equal(0, s:finish(p), p:transcript())
            assert.are.equal(1, #s:lines_of("busy", "began"))
        end)
    end

    it("does not count it for the handler that waited meanwhile either, whichever process goes on first", function()
        local s = hostile.new { broker = "embedded", group = "handler_timeout = '7s'", handler = [[
            shove.sleep "1s"
            local till = os.clock() + 2
            while os.clock() < till do end]] }
        s:publish("bad", { "busy" }, "acked")
        local p = s:run()
        wait.until_true(function() return #s:lines_of("busy", "began") == 1 end, 10000, "the message to be begun")
        local pid = p:children()[1]
        until_idle(pid)
        local stopped_ms = uv.hrtime() / 1e6
        uv.kill(pid, "sigstop")
        p:kill "sigstop"
        wait.until_true(function() return uv.hrtime() / 1e6 >= stopped_ms + 9500 end, 20000, "time to pass")
        local before = turns(p.pid)
        p:kill "sigcont"
        wait.until_true(function() return turns(p.pid) > before + 1 end, 10000, "control to look around")
        uv.kill(pid, "sigcont")
        assert.are.equal(0, s:finish(p), p:transcript())
        assert.is_nil(p:text("stderr"):find("killing a worker process", 1, true), p:transcript())
    end)
end)
