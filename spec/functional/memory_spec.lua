-- A worker's memory is limited, and a handler that needs more loses its own message's attempt, cleanly.

local app = require "spec.support.app"
local hostile = require "spec.support.hostile"
local http = require "spec.support.http"
local rig = require "spec.unit.worker.rig"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local LIMIT = { "--worker-memory", "128MiB" }

-- Each needs more than there is, in its own way.
local GREEDY = {
    ["one-string"] = "local s = 'x' while true do s = s .. s end",
    ["four-gigabytes"] = "local s = ('x'):rep(2 ^ 31 - 100) return s .. s",
    ["many-strings"] = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
    ["one-table"] = "local t = {} for i = 1, 1e9 do t[i] = i end",
    ["many-tables"] = "local t = {} while true do t = { t, {}, {}, {} } end",
    ["many-coroutines"] = "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
    ["many-closures"] = "local t = {} while true do local n = #t t[n + 1] = function() return n end end",
    ["cdata"] = "local t = {} while true do t[#t + 1] = ffi.new('char[?]', 1000000) end",
    ["concat"] = "local t = {} for i = 1, 1000 do t[i] = ('y'):rep(1000000) end return #table.concat(t)",
    ["gsub"] = "return #(('x'):rep(1e6):gsub('.', ('y'):rep(1000)))",
    ["format"] = "local s = ('x'):rep(1e7) while true do s = string.format('%s%s', s, s) end",
    ["reason"] = "return shove.reject(('x'):rep(1e8) .. ('y'):rep(1e8))",
    ["caught"] = "local ok, text = pcall(function() local s = 'x' while true do s = s .. s end end) error(text)",
}

local function handler_of(kinds)
    local body = {}
    for kind, source in pairs(kinds) do table.insert(body, ("if kind == %q then %s end"):format(kind, source)) end
    return table.concat(body, "\n")
end

local function names_of(kinds)
    local names = {}
    for name in pairs(kinds) do table.insert(names, name) end
    table.sort(names)
    return names
end

-- What a process may have as data, in bytes.
local function data_limit(pid)
    return tmp.read(("/proc/%d/limits"):format(pid)):match "Max data size%s+(%S+)"
end

describe("a worker's memory", function()
    rig.it_limited("is limited to 512 MiB when nothing is said, and to --worker-memory", function()
        for limit, arguments in pairs { ["536870912"] = {}, ["134217728"] = LIMIT } do
            local s = hostile.new { broker = "embedded", handler = "" }
            local p = s:run(unpack(arguments))
            p:wait_for("running", 10000)
            assert.are.equal(limit, data_limit(p:children()[1]))
            -- Control is not a worker.
            assert.are.equal("unlimited", data_limit(p.pid))
        end
    end)

    rig.it_limited("is what a handler finds used up in the middle: not enough memory costs its message, and the process goes on",
        function()
            local s = hostile.new { broker = "embedded", handler = handler_of(GREEDY), group = "max_retries = 0" }
            local names = names_of(GREEDY)
            s:publish("bad", names, "dead")
            s:publish_good(60)
            local p = s:run(unpack(LIMIT))
            assert.are.equal(0, s:finish(p, 60000), p:transcript())
            local pids = {}
            for _, name in ipairs(names) do
                local dead = s:lines_of(name, "dead")[1]
                assert.are.equal("max_retries_exceeded", dead.reason, name)
                assert.matches("not enough memory", dead.error, 1, true)
                pids[dead.pid] = true
            end
            assert.is_nil(next(pids, (next(pids))), "one process handled them all")
        end)

    rig.it_limited("leaves room for machine code: nothing that becomes hot while all is used up has LuaJIT give up", function()
        local s = hostile.new { broker = "embedded", group = "max_retries = 0", handler = [[
            local loops, kept = {}, {}
            for i = 1, 200 do
                loops[i] = loadstring(("local s = 0 for i = 1, 500 do s = s + i % " .. i .. " end return s"))
            end
            pcall(function() while true do kept[#kept + 1] = ("x"):rep(1e5) .. #kept end end)
            pcall(function() while true do kept = { kept } end end)
            for i = 1, 200 do pcall(loops[i]) end
            kept[#kept + 1] = ("x"):rep(1e8)]] }
        s:publish("bad", { "a", "b", "c", "d", "e", "f", "g", "h" }, "dead")
        s:publish_good(20)
        local p = s:run(unpack(LIMIT))
        local code = s:finish(p, 60000)
        -- LuaJIT may crash there (README.md), which is a worker's death as any. Without such room it makes the process exit,
        -- with one in some ten of these messages.
        assert.is_true(code == 0 or code == 2, p:transcript())
        assert.is_nil(p:text "stderr":find('how="exit', 1, true), p:transcript())
    end)

    rig.it_limited("that is used up inside lua-cjson ends the process: that is a crash of the message", function()
        local s = hostile.new { broker = "embedded", group = "max_crashes = 2",
            handler = "if kind == 'culprit' then return encode { ('x'):rep(3e7), ('y'):rep(3e7) } end" }
        s:publish("bad", { "culprit" }, "dead")
        s:publish_good(20)
        local p = s:run(unpack(LIMIT))
        assert.are.equal(2, s:finish(p), p:transcript())
        local letter = s:dead_letters().culprit
        assert.are.equal("crashed", letter.reason)
        assert.matches("exit code 255", letter.error, 1, true)
    end)
end)

-- Each message keeps a little for ever.
local LEAKS = {
    ["large strings"] = "for i = 1, 5 do kept[#kept + 1] = ('x'):rep(1000000) .. #kept end",
    ["small tables"] = "for i = 1, 50000 do kept[#kept + 1] = {} end",
    ["messages, with their bodies"] = "local b = msg.payload .. ('x'):rep(1e6) kept[#kept + 1] = { msg, b }",
}

local SPENT = "what the script keeps leaves less than a quarter of a worker's memory"

local function count_of(text, words)
    return select(2, text:gsub(words:gsub("%p", "%%%0"), ""))
end

local function assert_undisturbed(s)
    for _, line in ipairs(s:lines_of()) do
        assert.are.same({ 0, false }, { line.retries, line.redelivered }, line.payload)
    end
end

describe("a script that leaks", function()
    for what, handler in pairs(LEAKS) do
        rig.it_limited(what .. " has its process replaced when too little is left; no message notices", function()
            local s = hostile.new { broker = "embedded", top = "local kept = {}", handler = handler,
                group = "max_retries = 0" }
            local payloads = {}
            for i = 1, 70 do payloads[i] = "leak " .. i end
            s:publish("bad", payloads, "acked")
            s:publish_good(60)
            local p = s:run(unpack(LIMIT))
            assert.are.equal(0, s:finish(p, 60000), p:transcript())
            assert.is_true(count_of(p:text "stderr", SPENT) >= 1, p:transcript())
            assert_undisturbed(s)
        end)
    end

    rig.it_limited("a little with each of thousands of messages runs on in one fresh process after the other, and loses, repeats"
        .. " and retries nothing", function()
        local a = app.new { source = [[
            local shove = require "shove"
            local app = shove.registry { broker = "embedded:queue.db" }
            local kept = {}
            local group = shove.group { concurrent = true, prefetch = 100 }
            app:register(app:topic("leaks", { hold = { "1s" }, dlq = true, codec = "raw" }), group, function(msg)
                if msg.retry_count > 0 or msg.redelivered then shove.log.error "it was not left alone" end
                shove.sleep "1ms"
                kept[#kept + 1] = ('x'):rep(60000) .. #kept
            end)
            return app
        ]] }
        local count = 3000
        a:command("publish", { "leaks", "--raw", stdin = { text = ("message\n"):rep(count) } })
        local p = a:run { "--workers", "2", "--listen", "0", unpack(LIMIT) }
        local port = http.port_of(p)
        local function says(pattern, number)
            return http.request(port, "/metrics").body:find(pattern:format(number), 1, true)
        end
        wait.until_true(function() return says('outcome="ack"} %d\n', count) end, 20000, "all to be handled")
        local told = count_of(p:text "stderr", SPENT)
        assert.is_true(told >= 2, p:transcript())
        wait.until_true(function() return says('shove_worker_deaths_total{reason="memory"} %d\n', told) end, 5000,
            "every replaced process to be counted")
        assert.are.equal(0, app.drain(p), p:transcript())
        assert.matches(("acked=%d  retried or deferred=0  dead letters=0"):format(count), p:text "stderr", 1, true)
        assert.is_nil(p:text("stderr"):find("it was not left alone", 1, true), p:transcript())
    end)

    rig.it_limited("while app:on_start waits has it begin again in the fresh process", function()
        local s = hostile.new { broker = "embedded", top = "local kept = {}",
            handler = "kept[#kept + 1] = ('x'):rep(5e6) .. #kept",
            more = "app:on_start(function() shove.log.info 'on_start begins' shove.sleep '1h' end)" }
        local payloads = {}
        for i = 1, 20 do payloads[i] = "leak " .. i end
        s:publish("bad", payloads, "acked")
        local p = s:run(unpack(LIMIT))
        p:wait_for(SPENT:gsub("%p", "%%%0"), 10000)
        p:mark()
        p:wait_for("on_start begins", 10000)
        assert.are.equal(0, s:finish(p), p:transcript())
    end)

    rig.it_limited("has its process left in peace by a reload while it finishes what it has", function()
        local s = hostile.new { broker = "embedded", top = "local kept = {}", group = "max_retries = 0, concurrent = true",
            handler = [[
                while kind == "patient" do
                    if uv.fs_stat "go" then return end
                    shove.sleep "10ms"
                end
                for _ = 1, 580 do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end
            ]] }
        s:publish("bad", { "patient", "leak" }, "acked")
        local p = s:run(unpack(LIMIT))
        p:wait_for(SPENT:gsub("%p", "%%%0"), 10000)
        assert.are.equal(0, s.app:command("reload").code)
        tmp.write(s.app:file "go", "")
        assert.are.equal(0, s:finish(p), p:transcript())
        assert_undisturbed(s)
    end)

    -- 55 MiB are kept; the one that then needs 100 MiB more finds the process spent, with messages behind it in the ring.
    local KEEPS = [[
        if kind == "keep" then for _ = 1, 41 do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end end
        if kind == "block" then while not uv.fs_stat "go" do end end
        if kind == "greedy" then return #('x'):rep(1e8) end
    ]]

    local function publish_keeping(s, blocks)
        local kept, behind = {}, {}
        for i = 1, 14 do kept[i] = "keep " .. i end
        for i = 1, 40 do behind[i] = "behind " .. i end
        if blocks then table.insert(kept, "block") end
        s:publish("bad", kept, "acked")
        s:publish("bad", { "greedy" }, "dead")
        s:publish("bad", behind, "acked")
    end

    rig.it_limited("has what waits behind it in its process given to another, as it is", function()
        local s = hostile.new { broker = "embedded", top = "local kept = {}", handler = KEEPS,
            group = "max_retries = 0, concurrent = true, prefetch = 100" }
        publish_keeping(s)
        s:publish_good(20)
        local p = s:run(unpack(LIMIT))
        assert.are.equal(0, s:finish(p), p:transcript())
        assert.is_true(count_of(p:text "stderr", SPENT) >= 1, p:transcript())
        assert_undisturbed(s)
    end)

    rig.it_limited("has the same done where a reload had retired its process before", function()
        local s = hostile.new { broker = "embedded", top = "local kept = {}", handler = KEEPS,
            group = "max_retries = 0, concurrent = true, prefetch = 100" }
        publish_keeping(s, true)
        local p = s:run(unpack(LIMIT))
        wait.until_true(function() return #s:lines_of("block", "began") == 1 end, 10000, "the process to be busy")
        assert.are.equal(0, s.app:command("reload").code)
        tmp.write(s.app:file "go", "")
        assert.are.equal(0, s:finish(p), p:transcript())
        assert.is_true(count_of(p:text "stderr", SPENT) >= 1, p:transcript())
        assert_undisturbed(s)
    end)

    rig.it_limited("until not even what runs can be finished has its process end at once, and others lose nothing", function()
        local s = hostile.new { broker = "embedded", top = "local kept = {}", group = "max_retries = 0, concurrent = true",
            handler = [[
                local function keep(count) for _ = 1, count do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end end
                if kind == "some" then return keep(600) end
                shove.sleep "300ms"
                if kind == "patient" then return shove.sleep "200ms" end
                for _ = 1, 20 do pcall(keep, 1e9) pcall(collectgarbage) end
                error "not enough memory"
            ]] }
        s:publish("bad", { "all" }, "dead")
        s:publish("bad", { "some", "patient" }, "acked")
        s:publish_good(60)
        local p = s:run(unpack(LIMIT))
        p:wait_for("memory is used up: this process ends at once", 10000)
        assert.are.equal(2, s:finish(p), p:transcript())
        assert.is_nil(p:text("stderr"):find("outcome=crashed", 1, true), "nobody is to blame")
        local again = s:lines_of("patient", "returned")[1]
        assert.are.same({ 0, true }, { again.retries, again.redelivered })
    end)

    -- It catches the error and goes on with what it has, so the process ends while no handler is on the CPU.
    rig.it_limited("by a handler that keeps all and waits is that message's doing: found by being handled alone, it is dead",
        function()
            local s = hostile.new { broker = "embedded", top = "local kept = {}",
                group = "max_crashes = 2, concurrent = true, prefetch = 4", handler = [[
                    local function keep() while true do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end end
                    if kind == "culprit" then
                        for _ = 1, 20 do pcall(keep) pcall(collectgarbage) end
                        for _ = 1, 100 do shove.sleep "10ms" end
                    end
                    shove.sleep "300ms"
                ]] }
            s:publish("bad", { "first", "second" }, "acked")
            s:publish("bad", { "culprit" }, "dead")
            s:publish("bad", { "third", "fourth" }, "acked")
            s:publish_good(60)
            local p = s:run(unpack(LIMIT))
            assert.are.equal(2, s:finish(p), p:transcript())
            local letter = s:dead_letters().culprit
            assert.are.same({ "crashed", 0 }, { letter.reason, letter.retry_count })
            assert.matches("used up the worker process's memory with this message alone in it", letter.error, 1, true)
            -- Twice with others beside it, which may have been to blame; twice alone, and once more if that was not at once in
            -- a process of its own.
            local runs = #s:lines_of("culprit", "began")
            assert.is_true(runs == 4 or runs == 5, runs .. " runs")
            for _, line in ipairs(s:lines_of()) do assert.are.equal(0, line.retries, line.payload) end
        end)

    rig.it_limited("while it is loaded is refused, with what to do", function()
        local a = app.new { source = "kept = {} for i = 1, 700 do kept[i] = ('x'):rep(1e5) .. i end\n"
            .. "local shove = require 'shove'\nlocal app = shove.registry { broker = 'memory:' }\n"
            .. "app:register(app:topic 'a', {}, function() end)\nreturn app" }
        local result = a:command("run", LIMIT)
        assert.are.equal(78, result.code, result.stderr)
        assert.matches("app.lua: once it is loaded, less than a quarter of a worker's memory is left for messages", result.stderr,
            1, true)
        assert.are.equal(0, a:command("check").code)
    end)
end)
