-- What happens between a handler's outcome and control's knowing of it, where a group is audited.
local cjson = require "cjson"
local rig = require "spec.unit.worker.rig"

local C = rig.C
local TOPIC = "shove-audit-log"

-- audit: the registry's option, as the script writes it; options: group (more of shove.group's), arguments.
local function start(audit, handler, options)
    options = options or {}
    options.prelude = rig.prelude:gsub('broker = "memory:"', function(text) return text .. ", audit = " .. audit end)
    return rig.start(("app:register(orders, { prefetch = 100, concurrent = true, %s },\nfunction(msg) %s end)\n%s"):format(
        options.group or "", handler, options.more or ""), options)
end

-- An audit that fails as the message says, or prints what it was given.
local SAYING = [[function(record)
    local why = record.payload:match "audit: (.*)"
    if why then return assert(loadstring(why, "@audit.lua"))() end
    print(record.outcome, record.reason)
end]]

local HANDLER = [[
    local kind = msg.payload:match "^%a+"
    if kind == "retry" then return shove.retry "later" end
    if kind == "reject" then return shove.reject end
    if kind == "defer" then return shove.defer "not yet" end
    if kind == "raise" then error("no money", 0) end
    if kind == "nonsense" then return 5 end
    if kind == "sleep" then shove.sleep "1h" end
    if kind == "doze" then shove.sleep(0) end
    if kind == "yield" then coroutine.yield() end
    if kind == "body" then return msg.body and shove.ack end
]]

local function assert_failed(result, outcome, text)
    assert.are.equal("error", result[1], result[2])
    assert.matches("^the audit failed: " .. text, result[2])
    assert.matches("%(the handler's outcome was " .. outcome .. "[%)\n]", result[2])
end

describe("an audited message", function()
    for what, row in pairs {
        ack = { "ack", "" }, retry = { "retry", "later" }, reject = { "reject", "" }, defer = { "defer", "not yet" },
        raise = { "error", "no money" }, nonsense = { "error", "the handler returned a number (5)" },
        sleep = { "timeout", "the handler did not finish within 0.05 s: it was in shove.sleep" },
        yield = { "timeout", "the handler did not finish within 0.05 s: it yielded outside shove" },
        body = { "undecodable", "" },
    } do
        it("is settled as its handler said, which its record says too: " .. what, function()
            local worker = start(SAYING, HANDLER, { group = "handler_timeout = '50ms'" })
            local result = worker:handle { payload = what }
            assert.are.equal(row[1], result[1])
            assert.matches(row[2], result[2], 1, true)
            assert.are.equal(0, worker:stop())
            assert.matches("^" .. row[1] .. "\t" .. (row[2] == "" and "" or row[2]:gsub("%p", "%%%0")), worker:stdout())
        end)
    end

    it("is not settled before its record is stored", function()
        local worker = start("true", "")
        local slot = worker:send { id = "m-1" }
        local record = worker:publication(1)
        assert.are.same({ TOPIC, "m-1" }, { record.topic, record.key })
        assert.is_nil(worker.settled[slot])
        worker:answer(record)
        assert.are.same({ "ack", "" }, worker:outcome_of(slot))
    end)

    it("leaves the process as it was, however many there are", function()
        local worker = start(SAYING, HANDLER)
        for i = 1, 300 do
            local result = worker:handle { payload = i % 3 == 0 and "raise" or i % 3 == 1 and "retry" or "ack audit: error 'x'" }
            assert.are.equal(i % 3 == 1 and "retry" or "error", result[1])
        end
        assert.are.equal(0, worker:stop())
    end)

    for what, row in pairs {
        ["raises"] = { "error('disk full', 0)", "disk full" },
        ["raises what is no text"] = { "error {}", "a table" },
        ["returns false"] = { "return false", "the audit function returned false" },
        ["returns false and a reason"] = { "return false, 'disk full'", "disk full" },
        ["returns nil and a reason"] = { "return nil, 'disk full'", "disk full" },
        ["returns an outcome"] = { "return require('shove').reject 'no'",
            'the audit function returned shove.reject%("no"%): it returns nothing, or false and a reason' },
    } do
        it("is an error when its audit " .. what, function()
            local worker = start(SAYING, HANDLER)
            assert_failed(worker:handle { payload = "ack audit: " .. row[1] }, "ack", row[2])
            assert_failed(worker:handle { payload = "raise audit: " .. row[1] }, "error: no money", row[2])
            assert.are.equal(0, worker:stop())
        end)
    end

    it("is an error when its record is refused", function()
        local worker = start("true", HANDLER)
        local slot = worker:send { payload = "defer" }
        worker:answer(worker:publication(1), C.SHOVE_ENOTOPIC)
        assert_failed(worker:outcome_of(slot), "defer: not yet", 'publishing to "shove%-audit%-log": the topic does not exist')
    end)

    it("keeps its outcome when its audit takes too long, and control is told", function()
        local worker = start("{ timeout = '50ms' }", HANDLER)
        local slot = worker:send { payload = "reject" }
        local record = worker:publication(1)
        assert.are.same({ "reject", "" }, worker:outcome_of(slot))
        assert.are.same({ "reject", "the audit did not finish within 0.05 s: it was waiting for a publication to be "
            .. "acknowledged" }, worker.late[slot])
        worker:answer(record) -- reaches nobody
        slot = worker:send { payload = "ack" }
        local second = worker:publication(2)
        assert.is_nil(worker.settled[slot])
        worker:answer(second)
        assert.are.same({ "ack", "" }, worker:outcome_of(slot))
        assert.is_nil(worker.late[slot])
    end)

    it("has time for its audit beyond handler_timeout, and again for a handler that used all of it", function()
        local worker = start("function(r) shove.sleep '120ms' print(r.outcome) end", HANDLER,
            { group = "handler_timeout = '50ms'" })
        local ack, doze = worker:send { payload = "ack" }, worker:send { payload = "doze" }
        local sleep = worker:send { payload = "sleep" }
        for _, slot in ipairs { ack, doze } do assert.are.same({ "ack", "" }, worker:outcome_of(slot)) end
        assert.are.equal("timeout", worker:outcome_of(sleep)[1])
        assert.are.equal(0, worker:stop())
        assert.are.equal("ack\nack\ntimeout\n", worker:stdout())
    end)

    it("whose handler timed out in a publication waits for its own record, not for that", function()
        local worker = start("true", "shove.publish('receipts', 1)", { group = "handler_timeout = '50ms'" })
        local slot = worker:send()
        local receipt, record = worker:publication(1), worker:publication(2)
        assert.are.same({ "receipts", TOPIC }, { receipt.topic, record.topic })
        worker:answer(receipt)
        worker:send()
        worker:publication(3) -- so the answer has arrived
        assert.is_nil(worker.settled[slot])
        worker:answer(record)
        assert.are.equal("timeout", worker:outcome_of(slot)[1])
    end)

    it("is audited where a luv callback has resumed its handler, by coroutine.resume or behind its back", function()
        for _, resume in ipairs { "coroutine.resume",
            [[(function()
                for i = 1, 9 do
                    local name, f = debug.getupvalue(coroutine.resume, i)
                    if name == "resume" then return f end
                end
            end)()]] } do
            local worker = start("true", [[
                local co, timer = coroutine.running(), require("luv").new_timer()
                local resume = ]] .. resume .. [[

                timer:start(1, 0, function() timer:close() resume(co) end)
                coroutine.yield()
                return shove.retry "resumed"
            ]])
            local slot = worker:send()
            local record = worker:publication(1)
            assert.are.equal("resumed", cjson.decode(record.payload).reason)
            worker:answer(record)
            assert.are.same({ "retry", "resumed" }, worker:outcome_of(slot))
            assert.are.equal(0, worker:stop())
        end
    end)

    it("is measured without its audit", function()
        local worker = start("function() shove.sleep '100ms' end", HANDLER, { arguments = { "--measure" } })
        local slot = worker:send { payload = "ack" }
        worker:outcome_of(slot)
        assert.is_true(worker.durations[slot] > 0 and worker.durations[slot] < 0.09, tostring(worker.durations[slot]))
    end)

    rig.it_limited("whose handler needs more memory than there is costs itself only", function()
        local worker = start(SAYING, "if msg.payload == 'deep' then local t = {} while true do t = { t, {}, {} } end end",
            { memory = "200MiB" })
        for _ = 1, 3 do
            assert.are.equal("error", worker:handle({ payload = "deep" }, 60000)[1])
            assert.are.same({ "ack", "" }, worker:handle { payload = "none" })
        end
        assert.are.equal(0, worker:stop())
    end)
end)

describe("an audit record", function()
    -- What the function is given, as text: cjson would hide what is no UTF-8.
    local SHOWING = [[function(record)
        local m = record.metadata
        local function show(v) return type(v) == "string" and ("%q"):format(v) or tostring(v) end
        local shown = { record.trace_id, record.topic, record.group, record.payload or "no payload", m.id, m.key or "no key",
            m.partition, m.offset, m.timestamp, m.retry_count, m.redelivered, record.outcome, record.reason or "no reason" }
        for i, value in ipairs(shown) do shown[i] = show(value) end
        for _, pair in ipairs(m.headers) do shown[#shown + 1] = show(pair[1]) .. "=" .. show(pair[2]) end
        shove.publish("shown", { shown = shown, duration = record.duration, timestamp = record.timestamp,
            by_name = m.headers["x-trace-id"] })
    end]]

    local MESSAGE = { payload = "{\0\255", key = "k\0", id = "m-1", retry_count = 2, redelivered = true,
        headers = { { "a", "1" }, { "x-trace-id", "t-1" }, { "a", "\255" }, { "n", false } } }

    it("has everything of the message, bytes as they are, for a function", function()
        local before = os.time() * 1000
        local worker = start(SHOWING, "return shove.retry 'later'")
        worker:send(MESSAGE)
        local text = worker:publication(1).payload
        local record = cjson.decode(text)
        local shown = {}
        for i, value in ipairs { "t-1", "orders", "orders-consumer", "{\0\255", "m-1", "k\0" } do
            shown[i] = ("%q"):format(value)
        end
        for _, value in ipairs { "3", "17", "1700000000123", "2", "true", '"retry"', '"later"', '"a"="1"', '"x-trace-id"="t-1"',
            '"a"="\255"', '"n"=userdata: NULL' } do shown[#shown + 1] = value end
        assert.are.same(shown, record.shown)
        assert.are.equal("t-1", record.by_name)
        assert.is_true(record.duration >= 0 and record.duration < 5)
        assert.is_true(record.timestamp >= before and record.timestamp < before + 60000)
    end)

    it("has no payload, no key and no reason where there are none", function()
        local worker = start(SHOWING, "")
        worker:send { payload = false }
        local shown = cjson.decode(worker:publication(1).payload).shown
        assert.are.same({ '"no payload"', '"no key"', '"no reason"' }, { shown[4], shown[6], shown[13] })
    end)

    it("is JSON in the topic, where what is no UTF-8 is base64", function()
        local worker = start("true", "return shove.retry '\\255'")
        worker:send(MESSAGE)
        local record = worker:publication(1)
        local written = cjson.decode(record.payload)
        assert.is_number(written.duration)
        assert.is_number(written.timestamp)
        written.duration, written.timestamp = nil, nil
        assert.are.same({
            trace_id = "t-1", topic = "orders", group = "orders-consumer", payload = { base64 = "ewD/" }, outcome = "retry",
            reason = { base64 = "/w==" },
            metadata = {
                id = "m-1", key = "k\0", partition = 3, offset = 17, timestamp = 1700000000123, retry_count = 2,
                redelivered = true,
                headers = { { "a", "1" }, { "x-trace-id", "t-1" }, { "a", { base64 = "/w==" } }, { "n", cjson.null } },
            },
        }, written)
        assert.are.equal("t-1", record.key)
    end)

    it("says null of what is not there, and has an empty list of headers", function()
        local worker = start("true", "")
        worker:send { payload = false, id = "m-1" }
        local text = worker:publication(1).payload
        for _, part in ipairs { '"payload":null', '"key":null', '"reason":null', '"headers":[]', '"outcome":"ack"' } do
            assert.matches(part, text, 1, true)
        end
    end)

    it("is about the message, whatever the handler has made of what it was given", function()
        local worker = start("true", [[
            msg.payload, msg.topic, msg.headers = "forged", "forged", { { "forged", "forged" } }
            _G.tostring = nil
        ]])
        worker:send { payload = "true", id = "m-1" }
        local record = cjson.decode(worker:publication(1).payload)
        assert.are.same({ "true", "orders", {} }, { record.payload, record.topic, record.metadata.headers })
    end)

    it("has the message's id for a trace id where no header says one, the same on every attempt", function()
        local worker = start("true", "")
        for n, row in ipairs { { {}, "orders/3/17" }, { { id = "m-1" }, "m-1" }, { { id = "m-1", retry_count = 1 }, "m-1" },
            { { id = "m-1", headers = { { "x-trace-id", "" } } }, "m-1" },
            { { id = "m-1", headers = { { "x-trace-id", false } } }, "m-1" },
            { { id = "m-1", headers = { { "x-trace-id", "\255" } } }, { base64 = "/w==" } } } do
            worker:send(row[1])
            local record = worker:publication(n)
            assert.are.same(row[2], cjson.decode(record.payload).trace_id)
            assert.are.equal(n == 6 and "\255" or row[2], record.key)
        end
    end)
end)

describe("not audited is", function()
    for what, row in pairs {
        ["anything where the registry does not ask for it"] = { "false", "" },
        ["a group that is left out"] = { "true", "audit = false" },
    } do
        it(what, function()
            local worker = start(row[1], HANDLER, { group = row[2] })
            assert.are.same({ "retry", "later" }, worker:handle { payload = "retry" })
            assert.are.same({}, worker.published)
        end)
    end

    for _, form in ipairs { "true", "function() error 'audited' end" } do
        it("the audit log itself, nor its dead letters: audit = " .. form, function()
            local worker = start(form, "", { more = [[
                local log = app:topic("shove-audit-log", { dlq = true, hold = { "1s" } })
                app:register(log, {}, function() end)
                app:dead_letters(log, function() end)
            ]] })
            assert.are.same({ "ack", "" }, worker:handle { group = 1 })
            assert.are.same({ "ack", "" }, worker:handle { group = 2 })
            assert.are.same({}, worker.published)
            local slot = worker:send { group = 0 }
            if form == "true" then worker:answer(worker:publication(1)) end
            assert.are.equal(form == "true" and "ack" or "error", worker:outcome_of(slot)[1])
        end)
    end

    it("app:on_start", function()
        local worker = start("true", "", { more = "app:on_start(function() shove.sleep(0) end)" })
        worker:submit(C.SHOVE_SUBMIT_START)
        assert.are.equal("", worker:wait_for("started", "on_start"))
        assert.are.same({}, worker.published)
    end)
end)
