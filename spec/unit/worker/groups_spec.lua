-- app:groups() in a worker: questions to control and their answers.
local rig = require "spec.unit.worker.rig"

local C = rig.C

local STRATEGY_SLOT = 4294967293 -- SHOVE_STRATEGY_SLOT, which is a macro

local function start(handler, timeout)
    return rig.start(("app:register(orders, { prefetch = 100, concurrent = true, handler_timeout = %q },\n"
        .. "function(msg) %s end)"):format(timeout or "30s", handler))
end

local REPORT = [[
    local list = app:groups()
    return shove.ack(#list .. " " .. tostring(list[1] and list[1].lag) .. " " .. tostring(list[1] and list[1].group))
]]

describe("app:groups in a handler", function()
    it("gives what control answers, without what is not known", function()
        local worker = start(REPORT)
        local slot = worker:send()
        worker:tell_groups(1, '[{"group":"a","lag":null},{"group":"b","lag":3}]')
        assert.are.same({ "ack", "2 nil a" }, worker:outcome_of(slot))
        slot = worker:send()
        worker:tell_groups(2, "[]")
        assert.are.same({ "ack", "0 nil nil" }, worker:outcome_of(slot))
    end)

    it("asks once for all handlers that wait, and again for those that came after the question", function()
        local worker = start(REPORT)
        local first = worker:send()
        worker:wait_until(function() return worker.questions == 1 end, "a question")
        local later = { worker:send(), worker:send(), worker:send() }
        worker:tell_groups(1, '[{"group":"old","lag":1}]')
        assert.are.same({ "ack", "1 1 old" }, worker:outcome_of(first))
        worker:tell_groups(2, '[{"group":"new","lag":2}]')
        for _, slot in ipairs(later) do assert.are.same({ "ack", "1 2 new" }, worker:outcome_of(slot)) end
        assert.are.equal(2, worker.questions)
        assert.are.equal(0, worker:stop())
    end)

    it("gives a handler that asks again an answer of its own", function()
        local worker = start "return shove.ack(app:groups()[1].group .. app:groups()[1].group)"
        local slot = worker:send()
        worker:tell_groups(1, '[{"group":"a"}]')
        worker:tell_groups(2, '[{"group":"b"}]')
        assert.are.same({ "ack", "ab" }, worker:outcome_of(slot))
    end)

    it("does not outlast the handler's timeout, and a late answer reaches nobody", function()
        local worker = start("if msg.payload ~= 'plain' then app:groups() end", "50ms")
        local slot = worker:send()
        local outcome = worker:outcome_of(slot)
        assert.are.same({ "timeout", "the handler did not finish within 0.05 s: it was in app:groups" }, outcome)
        worker:tell_groups(1, "[]")
        assert.are.same({ "ack", "" }, worker:handle { payload = "plain" })
    end)

    it("refuses where nothing can wait, at the script's line", function()
        local function text_of(body) return start(body):handle()[2] end
        assert.truthy(text_of("table.sort({ 2, 1 }, function() app:groups() end)")
            :find "app%.lua:5: app:groups waits, which is not possible inside")
        assert.truthy(text_of("coroutine.wrap(function() app:groups() end)()")
            :find "app:groups waits, so it must be called from the handler itself")
        assert.truthy(text_of([[local uv = require "luv"
            local co, timer = coroutine.running(), uv.new_timer()
            local text
            timer:start(1, 0, function() text = select(2, pcall(app.groups, app)) coroutine.resume(co) end)
            coroutine.yield()
            return shove.retry(text)]]):find "app:groups waits, so it can only be called from a handler, not .* a luv callback")
    end)
end)

describe("The strategy of app:autoscale in a worker", function()
    local GROUPS = [==[[
        {"group":"a","broker":"memory:","state":"joined","paused":false,"min":1,"max":4,"consumers":2},
        {"group":"fixed","broker":"memory:","state":"joined","paused":false,"min":1,"max":1,"consumers":1},
        {"group":"paused","broker":"memory:","state":"joined","paused":true,"min":1,"max":4,"consumers":1},
        {"group":"down","broker":"memory:","state":"resting","paused":false,"min":1,"max":4,"consumers":1},
        {"group":"b","broker":"kafka://k","state":"joined","paused":false,"min":0,"max":4,"consumers":0}]]==]

    local function consult(strategy, generation)
        local worker = rig.start("app:register(orders, {}, function() end)\napp:autoscale { strategy = function(group) "
            .. strategy .. " end }")
        worker:submit(C.SHOVE_SUBMIT_ADVISE, 0, generation)
        worker:tell_groups(1, GROUPS)
        return worker
    end

    local function advice_of(strategy)
        local worker = consult(strategy, 7)
        worker:wait_until(function() return worker.advised[7] end, "the strategy to end")
        assert.are.equal("", worker.advised[7])
        assert.are.same({ 2, "a", "b", 7, 7 }, { #worker.advice, worker.advice[1].group, worker.advice[2].group,
            worker.advice[1].generation, worker.advice[2].generation })
        assert.are.same({ "memory:", "kafka://k" }, { worker.advice[1].broker, worker.advice[2].broker })
        return worker.advice[1], worker.advice[2]
    end

    it("is asked about the groups that could be scaled, and what it says is told of each", function()
        local a, b = advice_of "return group.group == 'a' and 'up' or 'down'"
        assert.are.same({ C.SHOVE_ADVICE_UP, C.SHOVE_ADVICE_DOWN }, { a.kind, b.kind })
        a, b = advice_of "if group.group == 'a' then return group.consumers * 2 - 7 end"
        assert.are.same({ C.SHOVE_ADVICE_COUNT, -3, C.SHOVE_ADVICE_NONE }, { a.kind, a.consumers, b.kind })
        a, b = advice_of "if group.group == 'b' then error 'no' end group.group, group.broker = 'b', nil return 'stay'"
        assert.are.same({ C.SHOVE_ADVICE_STAY, C.SHOVE_ADVICE_FAILED }, { a.kind, b.kind })
        assert.truthy(b.text:find "app.lua:5: no\nstack traceback:\n")
    end)

    for value, shown in pairs {
        ["'UP'"] = 'a string ("UP")', ["1.5"] = "a number (1.5)", ["1/0"] = "a number (inf)", ["0/0"] = "a number (nan)",
        ["2^60"] = "a number (1.1529215046068e+18)", ["true"] = "a boolean (true)", ["{}"] = "a table", ["print"] = "a function",
    } do
        it("is told to have failed when it returns " .. value, function()
            local a = advice_of("return " .. value)
            assert.are.equal(C.SHOVE_ADVICE_FAILED, a.kind)
            assert.are.equal("it returned " .. shown .. ': return "up", "down", "stay", a whole number of consumers, or nothing',
                (a.text:gsub("%-nan", "nan")))
        end)
    end

    it("may wait, is ended by CANCEL with a word to control, and keeps no worker from stopping", function()
        local worker = consult("if group.group == 'b' then shove.sleep '1h' end return 'up'", 3)
        worker:wait_until(function() return worker.advice[1] end, "the first group's advice")
        assert.are.same({ "ack", "" }, worker:handle())
        worker:submit(C.SHOVE_SUBMIT_CANCEL, STRATEGY_SLOT, 3)
        worker:wait_until(function() return worker.advised[3] end, "the strategy to end")
        assert.are.same({ "it was cancelled", 1 }, { worker.advised[3], #worker.advice })
        worker:submit(C.SHOVE_SUBMIT_ADVISE, 0, 4)
        worker:tell_groups(2, GROUPS)
        worker:wait_until(function() return worker.advice[2] end, "the next advice")
        assert.are.equal(0, worker:stop())
        assert.is_nil(worker.advised[4])
    end)

    it("is what the running word names while it is on the CPU", function()
        local worker = consult("while true do end", 9)
        worker:wait_until(function() return worker:running() end, "the strategy to run")
        assert.are.same({ STRATEGY_SLOT, 9 }, { worker:running() })
    end)
end)
