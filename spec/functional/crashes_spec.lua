-- Handlers that end or break their process: the culprit is named, counted and dead-lettered as `crashed`; what was beside
-- it goes to another process with its retry count unchanged; nothing is lost.

local uv = require "luv"
local app = require "spec.support.app"
local hostile = require "spec.support.hostile"
local wait = require "spec.support.wait"

local TOP = [[
ffi.cdef "int raise(int); void exit(int); void _exit(int); void abort(void); int close(int); "
ffi.cdef "int execvp(const char *, char *const *);"
]]

-- A first sleep puts messages of the good group beside the culprit.
local function crash(how)
    return "shove.sleep '30ms' " .. how
end

local CRASHES = {
    ["kills its process"] = { "ffi.C.raise(9)", "signal 9 (Killed)" },
    ["kills its process through luv"] = { "uv.kill(uv.os_getpid(), 'sigkill')", "signal 9 (Killed)" },
    ["segfaults"] = { "ffi.cast('int *', 8)[0] = 1", "signal 11 (Segmentation fault)" },
    -- In one call: between two of them, what is overwritten may make Lua raise an error, which is a failure and no crash.
    ["overwrites its own heap"] = { "ffi.fill(ffi.new 'char[64]', 2^40, 255)", "signal 11 (Segmentation fault)" },
    ["aborts"] = { "ffi.C.abort()", "signal 6 (Aborted)" },
    ["exits with 0 behind os.exit's back"] = { "ffi.C.exit(0)", "exit code 0" },
    ["exits at once"] = { "ffi.C._exit(7)", "exit code 7" },
    ["executes another program in its place"] =
        { "local argv = ffi.new('char *[2]') argv[0] = ffi.cast('char *', 'true') ffi.C.execvp('true', argv)", "exit code 0" },
}

describe("a handler that", function()
    for what, row in pairs(CRASHES) do
        it(what .. " costs its message a crash, and after max_crashes it is dead-lettered as crashed", function()
            local s = hostile.new { broker = "embedded", handler = crash(row[1]), top = TOP, group = "max_crashes = 2" }
            s:publish("bad", { "culprit" }, "dead")
            s:publish_good(30)
            local p = s:run()
            assert.are.equal(2, s:finish(p), p:transcript())
            local letter = s:dead_letters().culprit
            assert.are.equal("crashed", letter.reason)
            assert.are.equal(0, letter.retry_count)
            assert.are.equal(2, #s:lines_of("culprit", "began"))
            assert.matches("the worker process died in the handler: " .. row[2], letter.error, 1, true)
            -- The others that were in the process came again, and only they.
            assert.is_true(#s:lines_of(nil, "began") > 2 + 30 and #s:lines_of(nil, "began") <= 2 + 30 + 2 * 4)
            p:wait_for(("was handling=%s/0@0"):format(s.bad:gsub("%-", "%%-")), 0)
        end)
    end
end)

-- Otherwise who overruns its heap into it has overwritten the running word before it dies, and is not named by it.
it("has nothing of its own next to where its process says which message it handles", function()
    local s = hostile.new { broker = "embedded", handler = "local f = io.open '/proc/self/maps' " ..
        "local maps = f:read '*a' f:close() note('maps', msg, { maps = maps })" }
    s:publish("bad", { "any" }, "acked")
    local p = s:run()
    assert.are.equal(0, s:finish(p), p:transcript())
    local before, found, is_alone = "", 0, true
    for line in s:lines_of("any", "maps")[1].maps:gmatch "[^\n]+" do
        local is_shared = line:find("shove outbound", 1, true) or line:find("shove inbound", 1, true)
        if is_shared or before:find "memfd:shove" then
            local other = is_shared and before or line
            is_alone = is_alone and other:match "^%S+ (%S+)" == "---p"
        end
        if is_shared then found = found + 1 end
        before = line
    end
    assert.are.equal(2, found)
    assert.is_true(is_alone, s:lines_of("any", "maps")[1].maps)
end)

-- What a handler leaves behind kills the process when no handler is on the CPU.
local BOMBS = {
    ["arms a callback that segfaults"] =
        "local t = uv.new_timer() t:start(10, 0, function() ffi.cast('int *', 8)[0] = 1 end) shove.sleep '300ms'",
    ["closes all descriptors and waits"] = "for fd = 0, 255 do ffi.C.close(fd) end shove.sleep '300ms'",
}

describe("a message that kills its process while no handler runs", function()
    for what, handler in pairs(BOMBS) do
        it("is found by being handled alone: when its handler " .. what, function()
            local s = hostile.new { broker = "embedded", handler = "if kind == 'culprit' then " .. handler .. " end",
                top = TOP, group = "max_crashes = 1, concurrent = true, prefetch = 4" }
            s:publish("bad", { "first", "second" }, "acked")
            s:publish("bad", { "culprit" }, "dead")
            s:publish("bad", { "third", "fourth" }, "acked")
            s:publish_good(30)
            local p = s:run()
            assert.are.equal(2, s:finish(p), p:transcript())
            local letter = s:dead_letters().culprit
            assert.are.equal("crashed", letter.reason)
            assert.matches("the worker process died with this message alone in it", letter.error, 1, true)
            -- Twice with others beside it, which may have been to blame; once alone.
            assert.are.equal(3, #s:lines_of("culprit", "began"))
        end)
    end

    it("costs what was near it no process each: all those are handled alone in few", function()
        local s = hostile.new { broker = "embedded", top = TOP, group = "max_crashes = 1, concurrent = true, prefetch = 24",
            handler = "if kind == 'culprit' then " .. BOMBS["arms a callback that segfaults"] .. " end shove.sleep '50ms'" }
        local payloads = {}
        for i = 1, 20 do payloads[i] = "innocent " .. i end
        s:publish("bad", { "culprit" }, "dead")
        s:publish("bad", payloads, "acked")
        local p = s:run()
        assert.are.equal(2, s:finish(p), p:transcript())
        local pids, count = {}, 0
        for _, line in ipairs(s:lines_of(nil, "began")) do
            if not pids[line.pid] then pids[line.pid], count = true, count + 1 end
        end
        assert.is_true(count <= 6, count .. " processes")
        -- Each twice beside the culprit and once alone.
        assert.are.equal(3, #s:lines_of("innocent 20", "began"))
    end)

    it("is not taken for another that runs alone where it was before", function()
        -- Two times it kills its process at once; then what it has armed goes off when it is done, and the next is there (the
        -- only worker serves the others between the two for as long as it was kept).
        local s = hostile.new { broker = "embedded", group = "max_crashes = 1, concurrent = true, prefetch = 6", handler = [[
            if kind == "arms" then
                local run = 1
                while uv.fs_stat("run-" .. run) do run = run + 1 end
                io.open("run-" .. run, "w"):close()
                uv.new_timer():start(run < 3 and 50 or 900, 0, function() ffi.cast("int *", 8)[0] = 1 end)
                shove.sleep(run < 3 and "5s" or "300ms")
            else
                shove.sleep "1s"
            end]] }
        s:publish("bad", { "arms", "innocent" }, "acked")
        local p = s:run()
        assert.are.equal(2, s:finish(p), p:transcript())
        assert.is_nil(next(s:dead_letters()))
        assert.are.equal(4, #s:lines_of("innocent", "began")) -- beside it twice, after it, and in a fresh process
    end)

    for workers, least in pairs { [1] = 0.3, [2] = 0.4 } do
        it(("leaves other groups their part while suspects are handled alone, of %d workers"):format(workers), function()
            local s = hostile.new { broker = "embedded", top = TOP,
                group = ("max_crashes = 1, concurrent = true, prefetch = 12, consumers = { min = %d, max = %d }"):format(
                    workers, workers),
                topic = "partitions = 2,",
                handler = "if kind == 'culprit' then " .. BOMBS["arms a callback that segfaults"] .. " end shove.sleep '500ms'" }
            s:publish("bad", { "culprit" }, "dead")
            local payloads = {}
            for i = 1, 8 do payloads[i] = "innocent " .. i end
            s:publish("bad", payloads, "acked")
            s:publish_good(4000)
            local p = s:run("--workers", tostring(workers))
            local function count(verb, prefix)
                local n = 0
                for _, line in ipairs(s:lines_of(nil, verb)) do n = n + (line.payload:find(prefix, 1, true) == 1 and 1 or 0) end
                return n
            end
            -- Twice beside the culprit, and now alone.
            wait.until_true(function() return count("began", "innocent") > 2 * 8 end, 20000, "an innocent to be alone")
            local before, from_ms = count("returned", "good"), uv.hrtime() / 1e6
            wait.until_true(function() return count("returned", "innocent") >= 6 end, 30000, "most of them to be done")
            local seconds = (uv.hrtime() / 1e6 - from_ms) / 1000
            local share = (count("returned", "good") - before) / seconds / (4 / 0.02)
            p:kill "sigterm"
            p:wait_exit(30000)
            assert.is_true(share > least, ("%.2f of what it could do"):format(share))
        end)
    end

    it("has its process replaced at once: another is at work within a second and a half", function()
        local s = hostile.new { broker = "embedded", handler = "shove.sleep '10ms'", group = "concurrent = true, prefetch = 4" }
        local payloads = {}
        for i = 1, 200 do payloads[i] = "slow " .. i end
        s:publish("bad", payloads, "acked")
        local p = s:run()
        wait.until_true(function() return #s:lines_of(nil, "returned") >= 20 end, 10000, "work to go on")
        local dead = p:children()[1]
        uv.kill(dead, "sigkill")
        wait.until_true(function()
            local lines = s:lines_of(nil, "began")
            return lines[#lines].pid ~= dead
        end, 1500, "another process to be at work")
        assert.are.equal(2, s:finish(p), p:transcript())
    end)

    it("does not have innocent messages dead-lettered when others kill their processes", function()
        local s = hostile.new { broker = "embedded", handler = "shove.sleep '10ms'",
            group = "max_crashes = 1, concurrent = true, prefetch = 4" }
        local payloads = {}
        for i = 1, 300 do payloads[i] = "slow " .. i end
        s:publish("bad", payloads, "acked")
        local p = s:run()
        for kill = 1, 3 do
            wait.until_true(function() return #s:lines_of(nil, "returned") >= kill * 20 end, 10000, "work to go on")
            uv.kill(p:children()[1], "sigkill")
        end
        -- A kill may hit a process right when a handler is on the CPU, which is then to blame as far as anyone can know.
        local function deaths() return select(2, p:transcript():gsub("a worker process died", "")) end
        wait.until_true(function() return deaths() == 3 end, 10000, "three deaths")
        for offset in p:transcript():gmatch "was handling=bad%S+/0@(%d+)" do s.fates.bad["slow " .. offset + 1] = "dead" end
        assert.are.equal(2, s:finish(p), p:transcript())
    end)
end)

describe("a message that is to be handled alone", function()
    it("is so in a process that has handled others, where no other can be started: the script has been broken", function()
        local s = hostile.new { broker = "embedded", top = TOP, group = "max_crashes = 3, concurrent = true, prefetch = 8",
            handler = [[
                if kind ~= "culprit" then return shove.sleep "20ms" end
                if uv.fs_stat "second" then return end
                shove.sleep "1s"
                if uv.fs_stat "first" then io.open("second", "w"):close() io.open("app.lua", "w"):write "(" end
                io.open("first", "w"):close()
                ffi.C.raise(9)
            ]] }
        local payloads = {}
        for i = 1, 400 do payloads[i] = "fine " .. i end
        s:publish("bad", { "culprit" }, "acked")
        s:publish("bad", payloads, "acked")
        local p = s.app:run { "--workers", "2" }
        assert.are.equal(2, s:finish(p), p:transcript())
        p:wait_for("a replacement worker cannot load the script", 0)
        assert.are.equal(3, #s:lines_of("culprit", "began"))
    end)
end)

for _, broker in ipairs { "embedded", "kafka" } do
    describe("crash counts, on " .. broker, function()
        it("survive a restart of control: max_crashes is over all runs", function()
            local s = hostile.new { broker = broker, top = TOP, group = "max_crashes = 3",
                handler = "if kind == 'culprit' then shove.sleep '30ms' ffi.C.raise(9) end" }
            s:publish("bad", { "culprit" }, "dead")
            s:publish("bad", { "behind it" }, "acked")
            s:publish_good(10)
            -- Stopped by force while the message waits for its second, then its third chance.
            for round = 1, 2 do
                local p = s:run()
                p:wait_for("outcome=crashed", 30000)
                wait.until_true(function() return #s:lines_of("culprit", "began") > round end, 10000, "the next attempt")
                p:kill "sigkill"
                p:wait_exit(10000)
            end
            local p = s:run()
            s:wait(p)
            app.drain(p)
            local letter = s:dead_letters().culprit
            assert.are.equal("crashed", letter.reason)
            assert.are.equal(0, letter.retry_count)
            assert.are.same({}, s:lines_of("behind it", "dead"))
            -- Three counted, and those that control did not live to see.
            local attempts = #s:lines_of("culprit", "began")
            assert.is_true(attempts >= 3 and attempts <= 3 + 2, attempts .. " attempts\n" .. p:transcript())
        end)

        it("of two have a message handled alone in a fresh process the third time, while others go on elsewhere", function()
            local s = hostile.new { broker = broker, top = TOP, group = "max_crashes = 3, concurrent = true, prefetch = 8",
                handler = "if kind == 'culprit' then shove.sleep '100ms' ffi.C.raise(9) end shove.sleep '20ms'" }
            local payloads = {}
            for i = 1, 100 do payloads[i] = "fine " .. i end
            s:publish("bad", { "culprit" }, "dead")
            s:publish("bad", payloads, "acked")
            s:publish_good(100)
            local p = s.app:run { "--workers", "2" }
            assert.are.equal(2, s:finish(p), p:transcript())
            local lines, begun, attempts, alone = s:lines_of(), {}, 0, nil
            for _, line in ipairs(lines) do
                if line.payload == "culprit" and line.verb == "began" then
                    attempts = attempts + 1
                    if attempts == 3 then
                        alone = line.pid
                        assert.is_nil(begun[line.pid], "that process had handled others before")
                    end
                elseif line.verb == "began" then
                    assert.are_not.equal(alone, line.pid)
                    begun[line.pid] = begun[line.pid] or {}
                    begun[line.pid][line.payload] = true
                elseif line.verb == "returned" then
                    begun[line.pid][line.payload] = nil
                end
            end
            assert.are.equal(3, attempts)
        end)

        it("do not count against others: three culprits among good messages, nothing else is lost or retried", function()
            local s = hostile.new { broker = broker, top = TOP, group = "max_crashes = 2, concurrent = true, prefetch = 8",
                handler = "if kind == 'culprit' then shove.sleep '30ms' ffi.C.raise(9) end shove.sleep '20ms'" }
            local payloads = {}
            for i = 1, 60 do payloads[i] = "fine " .. i end
            s:publish("bad", { "culprit 1" }, "dead")
            s:publish("bad", payloads, "acked")
            s:publish("bad", { "culprit 2", "culprit 3" }, "dead")
            s:publish_good(60)
            local p = s.app:run { "--workers", "2" }
            assert.are.equal(2, s:finish(p), p:transcript())
            for _, line in ipairs(s:lines_of()) do assert.are.equal(0, line.retries, line.payload) end
            for payload, letter in pairs(s:dead_letters()) do assert.are.equal("crashed", letter.reason, payload) end
        end)
    end)
end
