-- Handlers that wait: sleep, publish, luv, and the timeouts that end them.
local rig = require "spec.unit.worker.rig"
local uv = require "luv"

local C = rig.C

local function start(handler, timeout)
    return rig.start(("app:register(orders, { prefetch = 100, concurrent = true, handler_timeout = %q },\n"
        .. "function(msg) %s end)"):format(timeout or "30s", handler))
end

local function elapsed_ms(fn)
    local before = uv.hrtime()
    fn()
    return (uv.hrtime() - before) / 1e6
end

describe("shove.sleep", function()
    it("lets other messages go on, and never wakes early", function()
        local worker = start "if msg.payload == 'slow' then shove.sleep '150ms' return shove.retry 'awake' end"
        local ms = elapsed_ms(function()
            local slow = worker:send { payload = "slow" }
            assert.are.same({ "ack", "" }, worker:handle { payload = "fast" })
            assert.is_nil(worker.settled[slow])
            assert.are.same({ "retry", "awake" }, worker:outcome_of(slow))
        end)
        assert.is_true(ms >= 150, "slept " .. ms)
    end)

    it("takes seconds, zero, and nothing else", function()
        assert.are.same({ "ack", "" }, start("shove.sleep(0) shove.sleep(0.01)"):handle())
        for value, text in pairs { ["-1"] = "is negative", ["'soon'"] = "is not a duration", ["nil"] = "is not a duration",
            ["{}"] = "is not a duration", ["0/0"] = "is not a duration" } do
            local result = start("shove.sleep(" .. value .. ")"):handle()
            assert.truthy(result[2]:find "app%.lua:5: shove%.sleep: ", result[2])
            assert.truthy(result[2]:find(text), result[2])
        end
    end)

    it("works across pcall, and refuses where nothing can wait", function()
        assert.are.same({ "ack", "true" }, start("return shove.ack(pcall(shove.sleep, 0.01))"):handle())
        for _, body in ipairs { "table.sort({ 2, 1 }, function() shove.sleep(0) end)",
            "return setmetatable({}, { __index = function() shove.sleep(0) end }).x",
            "for x in function() shove.sleep(0) end do end", "string.gsub('a', '.', function() shove.sleep(0) end)" } do
            local result = start(body):handle()
            if result[1] == "error" then
                assert.truthy(result[2]:find "app%.lua:5: shove%.sleep waits, which is not possible", result[2])
            end
        end
        assert.truthy(start("table.sort({ 2, 1 }, function() shove.sleep(0) end)"):handle()[2]:find "not possible inside")
        assert.truthy(start("coroutine.wrap(function() shove.sleep(0) end)()"):handle()[2]
            :find "from the handler itself, not from a coroutine of your own")
    end)
end)

describe("shove.publish", function()
    it("waits for the broker, and gives what it said", function()
        local worker = start [[
            local ok, text, code = shove.publish('receipts', { id = 1 })
            return shove.retry(tostring(ok) .. tostring(text) .. tostring(code))
        ]]
        local slot = worker:send()
        local one = worker:publication(1)
        assert.are.same({ "receipts", nil, '{"id":1}', -1, -1 },
            { one.topic, one.key, one.payload, one.partition, one.timestamp })
        assert.is_nil(worker.settled[slot])
        worker:answer(one)
        assert.are.same({ "retry", "truenilnil" }, worker:outcome_of(slot))
        slot = worker:send()
        worker:answer(worker:publication(2), C.SHOVE_ENOTOPIC)
        assert.are.same({ "retry", 'nilpublishing to "receipts": the topic does not existENOTOPIC' }, worker:outcome_of(slot))
    end)

    it("sends key, headers, partition and timestamp, and gives every message an id of its own", function()
        local worker = start [[shove.publish(orders, "x", { key = "k\0", headers = { b = "2", a = "\0", n = shove.null },
            partition = 4, timestamp = 1234567890123 })]]
        worker:send()
        worker:send()
        local one, two = worker:publication(1), worker:publication(2)
        assert.are.same({ "orders", "k\0", '"x"', 4, 1234567890123 },
            { one.topic, one.key, one.payload, one.partition, one.timestamp })
        assert.are.same({ { "a", "\0" }, { "b", "2" }, { "n", false } }, { unpack(one.headers, 1, 3) })
        assert.are.equal("Shove-Message-Id", one.headers[4][1])
        assert.are.equal(4, #one.headers)
        assert.are_not.equal(one.headers[4][2], two.headers[4][2])
    end)

    it("names the broker that the topic is on, its DLQ with it; a name that is on several is refused", function()
        local worker = rig.start [[
            app:topic("there", { broker = "embedded:there.db", dlq = "there-dead" })
            app:topic("far", { broker = "embedded:there.db", dlq = "dead" })
            app:topic("here", { dlq = "dead" })
            app:register(orders, {}, function(msg)
                shove.publish(msg.payload, 1)
            end)
        ]]
        for name, broker in pairs { there = 1, ["there-dead"] = 1, here = 0, elsewhere = 0 } do
            worker:send { payload = name }
            local one = worker:publication(#worker.published + 1)
            assert.are.same({ name, broker }, { one.topic, one.broker })
            worker:answer(one)
        end
        local result = worker:handle { payload = "dead" }
        assert.are.equal("error", result[1])
        assert.matches('shove.publish: "dead" is a topic on several brokers; declare it', result[2], 1, true)
    end)

    it("is refused for what only shove writes to, with the queue to name", function()
        local worker = rig.start [[
            app:topic("seq", { sequenced = "fail_all", dlq = true, hold = { "1s" } })
            app:register(orders, {}, function(msg)
                if msg.retry_count > 0 then shove.publish_batch(msg.payload, { { body = 1 } }) end
                shove.publish(msg.payload, 1)
            end)
        ]]
        for name, what in pairs {
            ["seq-hold-1s"] = '"seq-hold-1s" holds retries of "seq"',
            ["seq-poison"] = '"seq-poison" keeps the poisoned keys of "seq"',
        } do
            for retries, call in pairs { [0] = "shove.publish", "shove.publish_batch" } do
                local result = worker:handle { payload = name, retry_count = retries }
                assert.are.equal("error", result[1])
                assert.matches(("%s: %s, and only shove writes to it; name the queue"):format(call, what), result[2], 1, true)
            end
        end
        assert.are.equal(0, #worker.published)
    end)

    it("passes on the headers of a message, duplicates and order included", function()
        local worker = start "shove.publish('copies', 1, { headers = msg.headers })"
        local headers = { { "b", "1" }, { "a", "2" }, { "b", "\0" }, { "n", false } }
        worker:send { headers = headers }
        local one = worker:publication(1)
        table.remove(one.headers)
        assert.are.same(headers, one.headers)
    end)

    it("uses the topic's codec and key function", function()
        local worker = rig.start [[
            local payments = app:topic("payments", { sequenced = "skip", hold = { "1s" }, dlq = true,
                key = function(body) return body.account end })
            local upper = app:topic("upper", { codec = { encode = string.upper, decode = string.lower } })
            app:register(orders, {}, function()
                shove.publish_batch(payments, { { body = { account = 77 } }, { body = { account = "b" }, key = "given" } })
                shove.publish("upper", "text")
            end)
        ]]
        worker:send()
        local first, second = worker:publication(1), worker:publication(2)
        assert.are.same({ "77", "given" }, { first.key, second.key })
        worker:answer(first)
        worker:answer(second)
        local third = worker:publication(3)
        assert.are.same({ "TEXT" }, { third.payload, third.key })
    end)

    it("gives a sequenced topic nothing without a key, unless that is said", function()
        local worker = rig.start [[
            local topic = { sequenced = "skip", hold = { "1s" }, dlq = true }
            app:topic("plain", topic)
            topic.key = function(body) return body.account end
            app:topic("computed", topic)
            app:register(orders, {}, function(msg)
                assert(loadstring("local shove = require 'shove' shove.publish" .. msg.payload))()
            end)
        ]]
        for call, text in pairs {
            ["('plain', {})"] = "the topic is sequenced, and its order is kept per key: give key =, or shove.null",
            ["('computed', {})"] = "the topic's key function returned nil; the topic is sequenced",
        } do
            local result = worker:handle { payload = call }
            assert.are.equal("error", result[1])
            assert.matches(text, result[2], 1, true)
        end
        for i, call in ipairs {
            "('plain', {}, { key = shove.null })", "('computed', {}, { key = shove.null })",
            "('computed', { account = shove.null })",
        } do
            worker:send { payload = call }
            local one = worker:publication(i)
            assert.is_nil(one.key)
            worker:answer(one)
        end
    end)

    it("publishes a tombstone only when asked to", function()
        local worker = start "shove.publish('t', nil, { key = 'k', tombstone = true })"
        worker:send()
        local one = worker:publication(1)
        assert.are.same({ "k", nil }, { one.key, one.payload })
        worker = start "shove.publish('t', shove.null)"
        worker:send()
        assert.are.equal("null", worker:publication(1).payload)
    end)

    it("refuses misuse at the script's line", function()
        for call, text in pairs {
            ["('t', nil)"] = "the body is nil; for a null payload",
            ["('t', 1, { key = {} })"] = "the key is a table",
            ["('t', 1, { kee = 'x' })"] = 'unknown option "kee" %(did you mean "key"%?%)',
            ["('t', 1, 'k')"] = "is not a table of options",
            ["('', 1)"] = "is not a topic's name",
            ["(('x'):rep(250), 1)"] = "is not a topic's name",
            ["('a b', 1)"] = "is not a topic's name",
            ["(nil, 1)"] = "nil is not a topic",
            ["('t', 1, { headers = { ['sHOVE-Retry-Count'] = '9' } })"] = "shove's own",
            ["('t', 1, { headers = { { 'Shove-Due', '1' } } })"] = "shove's own",
            ["('t', 1, { headers = { a = 5 } })"] = '"a" is 5; a value is a string',
            ["('t', 1, { headers = { { 'a', 'b' }, c = 'd' } })"] = '"c" is not in the list',
            ["('t', 1, { headers = 'a' })"] = "headers is \"a\"",
            ["('t', 1, { partition = -1 })"] = "partition is %-1",
            ["('t', 1, { partition = 1.5 })"] = "partition is 1.5",
            ["('t', 1, { timestamp = 'now' })"] = "timestamp is \"now\"",
            ["('t', print)"] = "the body cannot be written as JSON",
            ["('t', { 1, [5] = 2 })"] = "holes",
            ["('t', 1, { tombstone = true, key = 'k' })"] = "a tombstone has no body",
            ["('t', nil, { tombstone = true })"] = "a tombstone needs a key",
            ["('t', nil, { tombstone = true, key = shove.null })"] = "a tombstone needs a key",
        } do
            local result = start("shove.publish" .. call):handle()
            assert.are.equal("error", result[1], call)
            assert.truthy(result[2]:find "^%S*app%.lua:5: shove%.publish: ", result[2])
            assert.truthy(result[2]:find(text), call .. " gave " .. result[2])
        end
    end)

    it("refuses a luv callback and a coroutine of the script's own", function()
        local worker = start [[
            local timer = require("luv").new_timer()
            timer:start(1, 0, function() timer:close() print(pcall(shove.publish, "t", 1)) end)
        ]]
        worker:handle()
        worker:wait_until(function() return worker:stdout():find "\n" end, "the callback")
        assert.truthy(worker:stdout():find "false\t.*only be called from a handler")
    end)

    it("refuses what is larger than any note, without losing the worker", function()
        local worker = rig.start [[
            local raw = app:topic("raw", { codec = "raw" })
            app:register(orders, {}, function()
                local ok, text, code = shove.publish(raw, ("x"):rep(65 * 1024 * 1024))
                return shove.retry(code)
            end)
        ]]
        assert.are.same({ "retry", "ETOOLARGE" }, worker:handle())
    end)

    it("carries payloads larger than the ring", function()
        local worker = start "shove.publish('t', ('x'):rep(1000000)) return shove.reject 'done'"
        local slot = worker:send()
        assert.are.equal(1000002, #worker:publication(1).payload)
        worker:answer(worker.published[1])
        assert.are.same({ "reject", "done" }, worker:outcome_of(slot))
    end)
end)

describe("shove.publish_batch", function()
    it("publishes all at once, and counts them", function()
        local worker = start [[
            local list = {}
            for i = 1, 100 do list[i] = { body = i, key = i } end
            return shove.retry(shove.publish_batch("t", list))
        ]]
        local slot = worker:send()
        for i = 100, 1, -1 do
            assert.are.equal(tostring(i), worker:publication(i).key)
            worker:answer(worker.published[i])
        end
        assert.are.same({ "retry", "100" }, worker:outcome_of(slot))
        assert.are.same({ "retry", "0" }, start("return shove.retry(shove.publish_batch('t', {}))"):handle())
    end)

    it("says which were refused", function()
        local worker = start [[
            local count, text, code, failed = shove.publish_batch("t", { { body = 1 }, { body = 2 }, { body = 3 }, { body = 4 } })
            local list = {}
            for i, one in ipairs(failed) do list[i] = one.index .. one.code end
            return shove.retry(tostring(count) .. "|" .. text .. "|" .. code .. "|" .. table.concat(list, " "))
        ]]
        local slot = worker:send()
        worker:publication(4)
        worker:answer(worker.published[4], C.SHOVE_ETIMEOUT)
        worker:answer(worker.published[1])
        worker:answer(worker.published[2], C.SHOVE_ETOOLARGE)
        worker:answer(worker.published[3])
        assert.are.same({ "retry", 'nil|publishing to "t": 2 of 4 were refused, the first (number 2): the message is '
            .. "larger than the broker accepts|ETOOLARGE|2ETOOLARGE 4ETIMEOUT" }, worker:outcome_of(slot))
    end)

    it("sends nothing when one of them is misuse", function()
        for list, text in pairs { ["{ { body = 1 }, { bodi = 2 } }"] = "%[2%]: unknown option \"bodi\"",
            ["{ { body = 1 }, 5 }"] = "%[2%]: 5 is not", ["{ { body = 1 }, nil, { body = 2 } }"] = "hole",
            ["5"] = "5 is not a list" } do
            local worker = start("shove.publish_batch('t', " .. list .. ")")
            local result = worker:handle()
            assert.truthy(result[2]:find "app%.lua:5: shove%.publish_batch: ", result[2])
            assert.truthy(result[2]:find(text), result[2])
            assert.are.same({}, worker.published)
        end
    end)
end)

describe("a handler that yields by itself", function()
    local RESUMED = [[
        local co, timer = coroutine.running(), require("luv").new_timer()
        timer:start(20, 0, function() timer:close() print(coroutine.resume(co, "value")) end)
        local value = coroutine.yield()
    ]]

    it("is resumed by a luv callback, and its outcome counts", function()
        local worker = start(RESUMED .. "return shove.retry(value)")
        assert.are.same({ "retry", "value" }, worker:handle())
        assert.are.same({ "retry", "value" }, worker:handle())
        worker:stop()
        assert.are.equal("true\ntrue\n", worker:stdout())
    end)

    it("may sleep and publish after it, and err", function()
        local worker = start(RESUMED .. "shove.sleep '5ms' shove.publish('t', 1) error 'after all'")
        local slot = worker:send()
        worker:answer(worker:publication(1))
        assert.truthy(worker:outcome_of(slot)[2]:find "app%.lua:%d+: after all")
    end)

    it("is named in the running word while a callback runs it", function()
        local worker = start(RESUMED .. "while true do end")
        local slot = worker:send()
        worker:wait_until(function() return worker:running() == slot end, "the running word")
    end)

    it("is timed out when nobody resumes it", function()
        local worker = start("coroutine.yield() return shove.ack", "100ms")
        assert.are.same({ "timeout", "the handler did not finish within 0.1 s: it yielded outside shove and was not resumed" },
            worker:handle())
        assert.are.equal(0, worker:stop())
    end)

    it("cannot be resumed any more once it was timed out", function()
        local worker = start([[
            local co, timer = coroutine.running(), require("luv").new_timer()
            timer:start(200, 0, function() timer:close() print(coroutine.resume(co)) end)
            coroutine.yield()
            print "went on"
        ]], "50ms")
        assert.are.equal("timeout", worker:handle()[1])
        worker:wait_until(function() return worker:stdout():find "\n" end, "the callback")
        assert.are.equal("false\tcannot resume a handler that timed out or was cancelled\n", worker:stdout())
    end)

    it("cannot be woken out of a sleep, nor resumed when it is over", function()
        local worker = start [[
            local co, timer = coroutine.running(), require("luv").new_timer()
            timer:start(20, 30, function(...) print(coroutine.resume(co)) end)
            shove.sleep "100ms"
            return shove.retry "slept"
        ]]
        local ms = elapsed_ms(function() assert.are.same({ "retry", "slept" }, worker:handle()) end)
        assert.is_true(ms >= 100)
        worker:wait_until(function() return worker:stdout():find "has finished" end, "a late resume")
        assert.truthy(worker:stdout():find("false\tcannot resume a handler that waits in shove.sleep", 1, true))
        assert.are.same({ "retry", "slept" }, worker:handle())
    end)

    it("leaves coroutines of the script's own alone", function()
        local worker = start [[
            local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) error("no " .. b) end)
            local list = { coroutine.resume(co, 1) }
            list[3], list[4] = coroutine.resume(co, 2)
            list[5], list[6] = coroutine.resume(co, 2)
            for i = 1, 6 do list[i] = tostring(list[i]) end
            return shove.retry(table.concat(list, " "):gsub("%S*app.lua", "app.lua"))
        ]]
        assert.are.same({ "retry", "true 2 false app.lua:5: no 2 false cannot resume dead coroutine" }, worker:handle())
    end)
end)

describe("handler_timeout", function()
    it("ends a handler that sleeps past it, which never goes on", function()
        local worker = start("shove.sleep '300ms' print 'went on'", "100ms")
        local ms = elapsed_ms(function()
            assert.are.same({ "timeout", "the handler did not finish within 0.1 s: it was in shove.sleep" }, worker:handle())
        end)
        assert.is_true(ms >= 100 and ms < 290, "after " .. ms)
        worker:handle()
        worker:handle()
        assert.are.equal(0, worker:stop())
        assert.are.equal("", worker:stdout())
    end)

    it("ends one that waits for the broker; the late answer reaches nobody", function()
        local worker = start("shove.publish('t', 1) print 'went on'", "80ms")
        assert.are.equal("timeout", worker:handle()[1])
        local slot = worker:send()
        worker:answer(worker:publication(1))
        worker:answer(worker:publication(2))
        assert.are.same({ "ack", "" }, worker:outcome_of(slot))
        worker:stop()
        assert.are.equal("went on\n", worker:stdout())
    end)

    local SPIN = "local function spin(ms) local till = uv.hrtime() + ms * 1e6 while uv.hrtime() < till do end end "

    it("counts from the call on, over all waits of a message and its time on the CPU", function()
        local worker = start("for i = 1, 20 do shove.sleep '20ms' end", "100ms")
        assert.are.equal("timeout", worker:handle()[1])
        worker = start("local uv = require 'luv' " .. SPIN .. "spin(600) shove.sleep '600ms'", "1s")
        assert.are.equal("timeout", worker:handle()[1])
    end)

    -- The first one's deadline would be in the middle of what the second sleeps.
    it("spares one whose sleep is over in time, while another keeps the CPU beyond it", function()
        local worker = start("local uv = require 'luv' " .. SPIN
            .. "if msg.payload == 'spin' then spin(1300) else shove.sleep(msg.payload) end", "1s")
        assert.are.same({ "ack", "" }, worker:handle { payload = "500ms" })
        local slot = worker:send { payload = "900ms" }
        worker:send { payload = "spin" }
        assert.are.same({ "ack", "" }, worker:outcome_of(slot))
    end)

    it("is each group's own", function()
        local worker = rig.start [[
            local function wait() shove.sleep "250ms" end
            app:register(orders, { handler_timeout = "60ms" }, wait)
            app:register(app:topic "patient", { handler_timeout = "10s" }, wait)
            app:register(app:topic "hasty", { handler_timeout = "30ms" }, wait)
        ]]
        local slots = { worker:send { group = 0 }, worker:send { group = 1 }, worker:send { group = 2 } }
        assert.are.equal("timeout", worker:outcome_of(slots[3])[1])
        assert.is_nil(worker.settled[slots[1]])
        assert.are.equal("timeout", worker:outcome_of(slots[1])[1])
        assert.are.same({ "ack", "" }, worker:outcome_of(slots[2]))
    end)

    it("ends hundreds at once", function()
        local worker = start("shove.sleep '1h'", "100ms")
        local slots = {}
        for i = 1, 500 do slots[i] = worker:send() end
        for i = 1, 500 do assert.are.equal("timeout", worker:outcome_of(slots[i])[1]) end
        assert.are.equal(0, worker:stop())
    end)
end)

describe("CANCEL", function()
    it("drops a waiting handler without a word", function()
        local worker = start "shove.sleep '100ms' print 'went on'"
        local slot = worker:send()
        worker:submit(C.SHOVE_SUBMIT_CANCEL, slot, worker.generations[slot])
        assert.are.same({ "ack", "" }, worker:handle())
        assert.are.equal(0, worker:stop())
        assert.is_nil(worker.settled[slot])
        assert.are.equal("went on\n", worker:stdout())
    end)
end)
