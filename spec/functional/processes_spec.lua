-- Handlers that fork, execute, print without end or start what outlives them; and app:on_start that goes wrong.

local cleanup = require "spec.support.cleanup"
local hostile = require "spec.support.hostile"
local process = require "spec.support.process"
local rig = require "spec.unit.worker.rig"
local wait = require "spec.support.wait"

local TOP = [[
ffi.cdef "int fork(void); int vfork(void); void _exit(int); int execlp(const char *, const char *, ...); int raise(int);"
ffi.cdef "int waitpid(int, int *, int); int dup2(int, int); int close(int); unsigned sleep(unsigned);"
]]

describe("a handler that", function()
    -- kind -> what it does, and says: its message is acknowledged in the process that was given it
    local FORKS = {
        ["forks and goes on in both processes"] = "ffi.C.fork()",
        ["forks and waits in both processes"] = "ffi.C.fork() shove.sleep '50ms'",
        ["forks and publishes in both processes"] = "ffi.C.fork() shove.publish(bad, 'published')",
        ["forks a child that reads its message"] = "if ffi.C.fork() == 0 then local h = msg.headers ffi.C._exit(0) end",
        ["forks a child that raises"] = "if ffi.C.fork() == 0 then error 'in the child' end",
        ["forks a child that executes a program"] =
            "if ffi.C.fork() == 0 then ffi.C.execlp('true', 'true', nil) ffi.C._exit(1) end",
        ["runs programs"] = [[
            assert(os.execute "true" == 0 and os.execute "exit 3" ~= 0)
            local pipe = io.popen "echo hello" assert(pipe:read "*a" == "hello\n") pipe:close()
            local co, said = coroutine.running(), ""
            local out = uv.new_pipe(false)
            uv.spawn("echo", { args = { "through luv" }, stdio = { nil, out } }, function() end)
            out:read_start(function(_, data)
                said = said .. (data or "")
                if not data then out:close() coroutine.resume(co) end
            end)
            coroutine.yield()
            assert(said == "through luv\n")]],
        ["executes programs, which see none of the channel"] = [[
            local pipe = io.popen "ls -l /proc/self/fd" local list = pipe:read "*a" pipe:close()
            assert(not match(list, "shove"), list)]],
    }
    local running = {}

    setup(function()
        cleanup.for_block(function()
            for what, handler in pairs(FORKS) do
                local s = hostile.new { broker = "embedded", top = TOP, group = "max_retries = 0, handler_timeout = '2s'",
                    handler = "if kind ~= 'culprit' then return end " .. handler }
                s:publish("bad", { "culprit", "behind it" }, "acked")
                if handler:find "published" then s.fates.bad.published = "acked" end
                s:publish_good(30)
                running[what] = { s = s, p = s:run() }
            end
        end)
    end)

    for what in pairs(FORKS) do
        it(what .. " has one outcome, and what it forked takes part in nothing", function()
            local s, p = running[what].s, running[what].p
            s:wait(p)
            local worker = s:lines_of("behind it", "began")[1].pid
            wait.until_true(function() return #process.orphans() == 0 end, 5000, "forked processes to end")
            assert.are.equal(0, s:finish(p), p:transcript())
            for _, line in ipairs(s:lines_of()) do
                assert.is_true(line.pid == worker or line.payload == "culprit", "a forked process handles " .. line.payload)
            end
        end)
    end
end)

describe("a handler that prints", function()
    it("megabytes has every line arrive whole, beside control's own", function()
        local LINES = 20000
        local s = hostile.new { broker = "embedded", group = "handler_timeout = '20s', concurrent = true, prefetch = 2",
            handler = ("for i = 1, %d do print(kind, ('y'):rep(90)) if i %% 1000 == 0 then shove.sleep(0.001) end end"):format(
                LINES) }
        s:publish("bad", { "a", "b" }, "acked")
        s:publish_good(60)
        local p = s.app:run { "--workers", "2" }
        assert.are.equal(0, s:finish(p), p:transcript())
        local counts = { a = 0, b = 0 }
        for line in p:text("stdout"):gmatch "[^\n]+" do
            local kind, rest = line:match "^(%a)\t(y+)$"
            assert.are.equal(90, rest and #rest, line)
            counts[kind] = counts[kind] + 1
        end
        assert.are.same({ a = LINES, b = LINES }, counts)
    end)

    it("control characters and what looks like a log line changes nothing", function()
        local s = hostile.new { broker = "embedded", handler = [[
            print "\27[2J\0\255 2026-01-01T00:00:00.000Z error control: all is lost"
            io.stderr:write "no line end"
            shove.log.error("two\nlines", { ["a\nb"] = "c\nd\27[2J" })]] }
        s:publish("bad", { "one" }, "acked")
        local p = s:run()
        assert.are.equal(0, s:finish(p), p:transcript())
        assert.is_nil(p:text("stderr"):find("\27", 1, true), "an escape sequence reached the log")
        assert.is_nil(p:text("stderr"):find("\nlines", 1, true), "a log line was broken in two")
    end)
end)

describe("app:on_start", function()
    -- what it does -> exit code, what is said
    local STARTS = {
        ["raises"] = { "error 'cannot seed'", 0, "app:on_start failed: ", "cannot seed" },
        ["returns nonsense"] = { "return 42", 0 },
        ["kills its process"] = { "ffi.C.raise(9)", 2, "app:on_start did not come to its end" },
        ["never yields"] = { "while true do end", 2, "app:on_start did not come to its end" },
        ["never ends"] = { "coroutine.yield()", 0, "app:on_start has not returned" },
        ["needs more memory than there is"] = { "local s = 'x' while true do s = s .. s end", 0, "app:on_start failed: ",
            "not enough memory" },
    }
    local GREEDY = "needs more memory than there is"
    local running = {}

    local function start(what, row)
        local s = hostile.new { broker = "embedded", top = TOP, group = "handler_timeout = '300ms'", handler = "",
            more = "app:on_start(function() shove.sleep '20ms' " .. row[1] .. " end)" }
        s:publish("bad", { "one", "two" }, "acked")
        s:publish_good(30)
        running[what] = { s = s, p = s:run("--worker-memory", "128MiB") }
    end

    setup(function()
        cleanup.for_block(function()
            for what, row in pairs(STARTS) do
                if what ~= GREEDY or rig.can_limit_memory then start(what, row) end
            end
        end)
    end)

    for what, row in pairs(STARTS) do
        local it_can = what == GREEDY and rig.it_limited or it
        it_can("that " .. what .. " loses nothing, and is not run again", function()
            local s, p = running[what].s, running[what].p
            if row[2] == 2 then p:wait_for("a worker process died", 15000) end
            assert.are.equal(row[2], s:finish(p), p:transcript())
            for i = 3, #row do assert.matches(row[i], p:text "stderr", 1, true) end
            assert.is_true(select(2, p:text("stderr"):gsub("app:on_start", "")) <= 1, p:transcript())
        end)
    end
end)
