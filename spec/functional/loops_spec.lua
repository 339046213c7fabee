-- Handlers that never yield: killed with their process after the timeout, the message blamed, the others handled elsewhere.

local cleanup = require "spec.support.cleanup"
local hostile = require "spec.support.hostile"

local TOP = [[
ffi.cdef "int raise(int); unsigned sleep(unsigned);"
]]

local LOOPS = {
    ["loops"] = "while true do end",
    ["loops and catches every error"] = "while true do pcall(error) end",
    ["loops in coroutines of its own"] = "while true do coroutine.wrap(function() coroutine.yield() end)() end",
    ["sorts, gsubs and formats for ever"] = "while true do table.sort({ 3, 1, 2 }) string.gsub('xxx', '.', '%0%0') end",
    ["matches a pattern that takes years"] = "return (('a'):rep(100)):find(('.-'):rep(50) .. 'b')",
    ["blocks in the kernel"] = "while true do ffi.C.sleep(1000) end",
    ["waits for a program"] = "os.execute 'sleep 1000'",
    ["reads what nobody writes"] = "return #io.popen('sleep 1000'):read '*a'",
    ["stops its process"] = "ffi.C.raise(19)",
}

-- on_timeout -> what becomes of a message whose handler loops the first time only, how often it begins, of what it dies
local OUTCOMES = { reject = { "dead", 1, "timeout" }, defer = { "acked", 2 } }

local FIRST_TIME = "if kind == 'culprit' and not msg.redelivered then %s end shove.sleep '50ms'"

describe("a handler that", function()
    local running = {}

    local function start(name, options, fate)
        options.broker, options.top = "embedded", TOP
        local s = hostile.new(options)
        s:publish("bad", { "culprit" }, fate)
        s:publish("bad", { "behind it" }, "acked")
        if not options.is_alone then s:publish_good(20) end
        running[name] = { s = s, p = s:run() }
    end

    local function finish(name)
        local s, p = running[name].s, running[name].p
        assert.are.equal(2, s:finish(p), p:transcript())
        assert.are.equal(1, select(2, p:text("stderr"):gsub("a worker process died", "")))
        return s, p
    end

    -- All at once: each takes its timeout and two seconds of grace.
    setup(function()
        cleanup.for_block(function()
            for what, loop in pairs(LOOPS) do
                start(what, { handler = "if kind == 'culprit' then " .. loop .. " end",
                    group = "handler_timeout = '200ms', max_retries = 0" }, "dead")
            end
            for on_timeout, expected in pairs(OUTCOMES) do
                start(on_timeout, { handler = FIRST_TIME:format "while true do end",
                    group = ("handler_timeout = '200ms', on_timeout = %q"):format(on_timeout) }, expected[1])
            end
            start("callback", { handler = FIRST_TIME:format "uv.new_timer():start(5, 0, function() while true do end end)",
                group = "handler_timeout = '300ms', concurrent = true, prefetch = 4" }, "acked")
            start("late", { group = "handler_timeout = '4s', max_retries = 0",
                handler = "if kind ~= 'culprit' then return end note('waits', msg, { at_ms = uv.hrtime() / 1e6 }) "
                    .. "shove.sleep '3800ms' while true do end" }, "dead")
            start("behind", { is_alone = true, group = "handler_timeout = '2s', max_retries = 0, concurrent = true", handler = [[
                local function spin(ms) local till = uv.hrtime() + ms * 1e6 while uv.hrtime() < till do end end
                if kind == 'culprit' then shove.sleep '1900ms' spin(1000) else spin(3500) end
            ]] }, "acked")
        end)
    end)

    for what in pairs(LOOPS) do
        it(what .. " is killed after its timeout, which is its message's outcome; the others lose nothing", function()
            local s = finish(what)
            local letter = s:dead_letters().culprit
            assert.are.equal("max_retries_exceeded", letter.reason)
            assert.are.equal(0, letter.crash_count)
            assert.matches("the handler did not yield and ran past its timeout", letter.error, 1, true)
            assert.are.equal(1, #s:lines_of("culprit", "began"))
            -- In the process with it, and begun again in the next, with nothing counted (finish has looked).
            local again = 0
            for _, line in ipairs(s:lines_of(nil, "began")) do again = again + (line.redelivered and 1 or 0) end
            assert.is_true(again >= 1 and again <= 4, again .. " came again")
        end)
    end

    for on_timeout, expected in pairs(OUTCOMES) do
        it("never yields has the outcome that its group says: " .. on_timeout, function()
            local s = finish(on_timeout)
            assert.are.equal(expected[2], #s:lines_of("culprit", "began"))
            local letter = s:dead_letters().culprit
            assert.are.equal(expected[3], letter and letter.reason)
        end)
    end

    it("waits almost as long as it may and never yields then is killed as soon as one that never waited", function()
        local s, p = finish "late"
        assert.are.equal("max_retries_exceeded", s:dead_letters().culprit.reason)
        local killed_ms
        for _, line in ipairs(p.lines) do
            if line.text:find("killing a worker process", 1, true) then killed_ms = p.started / 1e6 + line.at_ms end
        end
        local after_ms = killed_ms - s:lines_of("culprit", "waits")[1].at_ms
        assert.is_true(after_ms > 6000 and after_ms < 8500, after_ms .. " ms after it began")
    end)

    it("was late because another kept the CPU has its two seconds all the same", function()
        local s, p = running.behind.s, running.behind.p
        assert.are.equal(0, s:finish(p), p:transcript())
    end)

    it("leaves a luv callback that never ends has its process killed, and all messages in it go to another", function()
        local _, p = finish "callback"
        assert.matches("it does not answer any more", p:text "stderr", 1, true)
        assert.is_nil(p:text("stderr"):find("outcome=", 1, true), "it may have been any of them")
    end)
end)
