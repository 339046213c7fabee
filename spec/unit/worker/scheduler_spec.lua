-- What becomes of a message, whatever its handler does.
local rig = require "spec.unit.worker.rig"

local function start(handler, options)
    return rig.start(("app:register(orders, { prefetch = 100, concurrent = true, handler_timeout = %q },\n"
        .. "function(msg) %s end)"):format(options and options.timeout or "30s", handler), options)
end

-- The outcome of a handler with this body for one message.
local function outcome(body, message)
    return start(body):handle(message)
end

describe("a handler", function()
    it("acknowledges by returning nothing, nil or shove.ack", function()
        assert.are.same({ "ack", "" }, outcome "")
        assert.are.same({ "ack", "" }, outcome "return nil")
        assert.are.same({ "ack", "" }, outcome "return shove.ack")
        assert.are.same({ "ack", "fine" }, outcome "return shove.ack 'fine'")
    end)

    it("says retry, reject and defer, with and without a reason", function()
        for _, name in ipairs { "retry", "reject", "defer" } do
            assert.are.same({ name, "" }, outcome("return shove." .. name))
            assert.are.same({ name, "why" }, outcome("return shove." .. name .. " 'why'"))
        end
    end)

    it("gives reasons that are no strings, too long, or binary", function()
        assert.are.same({ "retry", "5" }, outcome "return shove.retry(5)")
        assert.are.same({ "retry", "a\0b" }, outcome "return shove.retry 'a\\0b'")
        assert.are.same({ "reject", ("x"):rep(4096) }, outcome "return shove.reject(('x'):rep(10000))")
        local cut = outcome "return shove.reject(('€'):rep(3000))"
        assert.are.equal(("€"):rep(1365), cut[2])
    end)

    it("errs with its message and traceback", function()
        local result = outcome "local function charge() error 'no money' end charge() return shove.ack"
        assert.are.equal("error", result[1])
        assert.truthy(result[2]:find "app%.lua:5: no money\nstack traceback:\n")
        assert.truthy(result[2]:find "in function 'charge'")
        assert.is_nil(result[2]:find "run%.lua", result[2])
    end)

    it("errs with anything, and costs its message only", function()
        local worker = start [[
            local kind = msg.payload
            if kind == "nil" then error(nil) end
            if kind == "table" then error({}) end
            if kind == "tostring" then error(setmetatable({}, { __tostring = function() return "told" end })) end
            if kind == "bad tostring" then error(setmetatable({}, { __tostring = function() error "x" end })) end
            if kind == "number tostring" then error(setmetatable({}, { __tostring = function() return 1 end })) end
            if kind == "yielding tostring" then
                error(setmetatable({}, { __tostring = function() coroutine.yield() end }))
            end
            if kind == "stack" then local function f() return 1 + f() end f() end
            if kind == "c stack" then
                local function f(s) return (s:gsub(".", f)) end
                f "x"
            end
            if kind == "pattern" then string.find(("a"):rep(300000), (".-"):rep(300000) .. "b") end
            if kind == "handler" then xpcall(error, function() error "again" end) error "then" end
            if kind == "huge" then error(("x"):rep(10 * 1024 * 1024)) end
        ]]
        for kind, text in pairs {
            ["nil"] = "^nil\n", ["table"] = "^a table\n", ["tostring"] = "^told\n", ["bad tostring"] = "^a table\n",
            ["number tostring"] = "^a table\n", ["yielding tostring"] = "^a table\n", ["stack"] = "stack overflow",
            ["c stack"] = "stack overflow", ["pattern"] = "app%.lua", ["handler"] = "then", ["huge"] = "app%.lua:%d+: xxx",
        } do
            local result = worker:handle { payload = kind }
            assert.are.equal("error", result[1], kind)
            assert.truthy(result[2]:find(text), kind .. ": " .. result[2])
            assert.is_true(#result[2] <= 4096)
        end
        assert.are.same({ "ack", "" }, worker:handle { payload = "none" })
        assert.are.equal(0, worker:stop())
    end)

    it("that returns anything else is an error that says so, and leaves the line about it to control", function()
        for value, shown in pairs { ["'ok'"] = 'a string ("ok")', ["true"] = "a boolean (true)", ["5"] = "a number (5)",
            ["{}"] = "a table", ["print"] = "a function", ["{ code = 1 }"] = "a table",
            ["setmetatable({ code = 99 }, getmetatable(shove.ack))"] = "a table" } do
            local worker = start("return " .. value)
            local result = worker:handle()
            assert.are.same({ "error", "the handler returned " .. shown .. ": return shove.ack, shove.retry, "
                .. "shove.reject, shove.defer or nothing" }, result)
            worker:stop()
            assert.are.equal("", worker:stderr())
        end
    end)

    it("cannot call os.exit, nor run the loop", function()
        local result = outcome "os.exit(1)"
        assert.are.equal("error", result[1])
        assert.truthy(result[2]:find "app%.lua:5: os%.exit is not for scripts that shove runs")
        for _, name in ipairs { "run", "stop", "walk", "loop_close" } do
            assert.truthy(outcome("require('luv')." .. name .. "(print)")[2]:find("uv." .. name .. " is not", 1, true))
        end
    end)

    rig.it_limited("that needs more memory than there is costs its message only", function()
        local worker = start([[
            if msg.payload == "big string" then local s = ("x"):rep(2^31 - 100) end
            if msg.payload == "many strings" then local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end end
            if msg.payload == "deep" then local t = {} while true do t = { t, {}, {}, {} } end end
        ]], { memory = "200MiB" })
        for _, kind in ipairs { "big string", "many strings", "deep", "many strings", "deep", "big string", "deep" } do
            local result = worker:handle({ payload = kind }, 60000)
            assert.are.equal("error", result[1], kind)
            assert.truthy(result[2]:find "not enough memory", kind .. ": " .. result[2])
            for _ = 1, 10 do assert.are.same({ "ack", "" }, worker:handle { payload = "none" }) end
        end
        assert.are.equal(0, worker:stop())
    end)

    it("is named in the running word while it is on the CPU, and only then", function()
        local worker = start "if msg.payload == 'spin' then while true do end end shove.sleep(3600)"
        worker:send { payload = "wait" }
        local spinning = worker:send { payload = "spin" }
        worker:wait_until(function() return worker:running() == spinning end, "the running word")
        local slot, generation = worker:running()
        assert.are.same({ spinning, worker.generations[spinning] }, { slot, generation })
        assert.are.same({}, worker.settled)
    end)

    it("that kills its process is named in the running word", function()
        local worker = start "require('ffi').cast('int *', 0)[0] = 1"
        local slot = worker:send()
        worker:wait_exit()
        assert.are_not.equal(0, worker.signal + worker.code)
        assert.are.equal(slot, (worker:running()))
        assert.is_nil(worker.settled[slot])
    end)

    it("finished before its process died is not handled again: its outcome can be revealed", function()
        local worker = start "if msg.payload == 'die' then require('luv').kill(require('luv').getpid(), 'sigkill') end"
        local first, second, last = worker:send(), worker:send(), worker:send { payload = "die" }
        worker:wait_exit()
        rig.C.shove_channel_reveal(worker.channel)
        worker:read_notes()
        assert.are.same({ "ack", "" }, worker.settled[first])
        assert.are.same({ "ack", "" }, worker.settled[second])
        assert.are.equal(last, (worker:running()))
    end)

    it("prints line by line to standard output", function()
        local worker = start "print('handling', msg.offset)"
        worker:handle { offset = 5 }
        worker:wait_until(function() return worker:stdout() == "handling\t5\n" end, "the line")
    end)

    it("logs with its message's place and sorted fields, whatever it is given", function()
        local worker = start [[
            shove.log.warn("odd order", { zebra = 1, apple = "x y", [5] = true, bad = setmetatable({}, { __tostring = error }) })
            shove.log.error(nil, "text")
            shove.log.info(setmetatable({}, { __tostring = error }))
            shove.log.warning "no such level"
        ]]
        local result = worker:handle { offset = 88 }
        assert.truthy(result[2]:find 'shove%.log has no level "warning" %(did you mean "warn"%?%)')
        worker:stop()
        assert.truthy(worker:stderr():find("odd order  topic=orders  partition=3  offset=88  5=true  apple=\"x y\"  "
            .. "bad=\"a table\"  zebra=1", 1, true), worker:stderr())
        assert.truthy(worker:stderr():find("nil  topic=orders  partition=3  offset=88  value=text", 1, true))
    end)

    it("logs a table as JSON, as far as it fits a line", function()
        local worker = start [[
            local circle = {}
            circle.self = circle
            shove.log.info({ id = 8 }, { body = { id = 7, lines = { 1, 2 }, none = shove.null, f = print } })
            shove.log.info("circle", { circle = circle })
            shove.log.info("long", { body = { ("x"):rep(1e6), b = ("y"):rep(1e6) } })
            shove.log.info("wide", { body = setmetatable({ a = 1 }, { __pairs = error, __index = error }) })
            shove.log.info("own", { body = setmetatable({ a = 1 }, { __tostring = function() return "mine" end }) })
        ]]
        worker:handle {}
        worker:stop()
        local said = worker:stderr():gsub('\\"', '"')
        assert.truthy(said:find('{"id":8}  ', 1, true), said)
        assert.truthy(said:find('body="{"f":"a function","id":7,"lines":[1,2],"none":null}"', 1, true), said)
        assert.truthy(said:find('circle="{"self":{"self":', 1, true), said)
        assert.truthy(said:find('wide  [^\n]-body="{"a":1}"'), said)
        assert.truthy(said:find('own  [^\n]-body=mine'), said)
        assert.falsy(said:find(("x"):rep(5000), 1, true))
    end)

    it("runs for thousands of messages at once, in the order in which they came", function()
        local worker = start("seen = (seen or 0) + 1 local n = seen shove.sleep(0.05) return shove.retry(n)",
            { submit_entries = 1024 })
        local slots = {}
        for i = 1, 1000 do slots[i] = worker:send() end
        for i = 1, 1000 do assert.are.same({ "retry", tostring(i) }, worker:outcome_of(slots[i])) end
        assert.are.equal(0, worker:stop())
    end)
end)

describe("how long a handler took", function()
    local body = [[
        local begun = require("luv").hrtime()
        if msg.payload:find "wait" then shove.sleep "30ms" end
        while require("luv").hrtime() - begun < 20e6 and msg.payload:find "busy" do end]]

    it("is told from its call to its end, waits included and others' work not", function()
        local worker = start(body, { arguments = { "--measure" } })
        local slots = {}
        for i, payload in ipairs { "busy", "quick", "wait", "busy", "quick" } do slots[i] = worker:send { payload = payload } end
        for _, slot in ipairs(slots) do assert.are.same({ "ack", "" }, worker:outcome_of(slot)) end
        local took = {}
        for i, slot in ipairs(slots) do took[i] = worker.durations[slot] end
        local text = table.concat(took, ", ")
        assert.is_true(took[1] >= 0.0199 and took[4] >= 0.0199 and took[3] >= 0.028, text)
        assert.is_true(took[2] > 0 and took[5] > 0 and took[2] < 0.0199 and took[5] < 0.0199, text)
        assert.are.equal(0, worker:stop())
    end)

    it("is not measured unless control asks", function()
        local worker = start(body)
        local slot = worker:send { payload = "busy" }
        worker:outcome_of(slot)
        assert.are.equal(0, worker.durations[slot])
        assert.are.equal(0, worker:stop())
    end)
end)

describe("a worker", function()
    it("ends when nothing runs any more, not before", function()
        local worker = start "shove.sleep '200ms' return shove.reject 'late'"
        local slot = worker:send()
        worker:submit(rig.C.SHOVE_SUBMIT_STOP)
        assert.are.equal(0, (worker:wait_exit()))
        assert.are.same({ "reject", "late" }, worker.settled[slot])
    end)

    it("does not start when control is gone already", function()
        local worker = rig.start_file("/nowhere/app.lua", { parent = 1 })
        assert.are.equal(1, (worker:wait_exit()))
        assert.is_nil(worker.load_error)
    end)

    it("is not ended by a terminal's signals, nor are the programs it starts made deaf to them", function()
        local worker = start [[
            local pipe = io.popen "cat /proc/self/status"
            local status = pipe:read "*a"
            pipe:close()
            return shove.ack(status:match "SigIgn:%s*(%x+)")
        ]]
        for _, name in ipairs { "sigint", "sigterm", "sighup", "sigquit" } do worker.process:kill(name) end
        -- Signals 1 to 15; beyond them are those that libraries keep for themselves.
        assert.truthy(worker:handle()[2]:find "0000$")
    end)

    it("logs an error of a luv callback, and goes on", function()
        local worker = start [[
            local uv = require "luv"
            local timer = uv.new_timer()
            timer:start(1, 0, function() timer:close() error "nobody's message" end)
        ]]
        worker:handle()
        worker:wait_until(function() return worker:stderr():find "a luv callback failed" end, "the log line")
        assert.truthy(worker:stderr():find "nobody's message")
        assert.are.same({ "ack", "" }, worker:handle())
        assert.are.equal(0, worker:stop())
    end)

    it("runs on_start as a coroutine, and says when it is over or how it failed", function()
        local worker = rig.start [[
            app:register(orders, {}, function() end)
            app:on_start(function() shove.sleep "10ms" print "started" end)
        ]]
        worker:submit(rig.C.SHOVE_SUBMIT_START)
        assert.are.equal("", worker:wait_for("started", "on_start"))
        assert.are.equal("started\n", worker:stdout())
        worker = rig.start [[
            app:register(orders, {}, function() end)
            app:on_start(function() shove.sleep "1ms" error "cannot seed" end)
        ]]
        worker:submit(rig.C.SHOVE_SUBMIT_START)
        assert.truthy(worker:wait_for("started", "on_start"):find "app%.lua:5: cannot seed\n")
        assert.are.same({ "ack", "" }, worker:handle())
    end)

    it("does not wait for an on_start that never ends", function()
        local worker = rig.start [[
            app:register(orders, {}, function() end)
            app:on_start(function() while true do shove.sleep "1h" end end)
        ]]
        worker:submit(rig.C.SHOVE_SUBMIT_START)
        assert.are.same({ "ack", "" }, worker:handle())
        assert.are.equal(0, worker:stop())
    end)

    it("answers for an app without on_start", function()
        local worker = start ""
        worker:submit(rig.C.SHOVE_SUBMIT_START)
        assert.are.equal("", worker:wait_for("started", "the answer"))
    end)
end)
