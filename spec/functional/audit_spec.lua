-- A record of every handled message: in the topic shove-audit-log, or for a function of the script.

local cjson = require "cjson"
local assert = require "luassert"
local cleanup = require "spec.support.cleanup"
local stage = require "spec.support.stage"
local tmp = require "spec.support.tmp"

local WAIT_MS = 20000

-- What every script here does with a message: as its payload begins.
local HANDLE = [[
local act = {
    retry = function() return shove.retry "billing is down" end,
    reject = function() return shove.reject end,
    raise = function() error("the moon is full", 0) end,
    sleep = function() shove.sleep "20s" end,
}
-- Half a mebibyte is not for the journal.
local function note(msg)
    if msg.key == "large" then return stage.say("large: " .. tostring(msg.topic:find "-dlq" and msg.error or msg.retry_count)) end
    stage.note(msg)
end
local function handle(msg)
    note(msg)
    local verb = msg.payload and act[msg.payload:match "^%a+"]
    return verb and verb()
end
local main = app:topic(stage.name "main", { codec = "raw", hold = { "50ms" }, dlq = true, partitions = 2 })
app:register(main, { prefetch = 50, concurrent = true, max_retries = 1, handler_timeout = "200ms",
    max_message_size = "300KiB" }, handle)
app:dead_letters(main, { prefetch = 50, concurrent = true, max_retries = 0, max_message_size = "300KiB" },
    note)
]]

local TO_TOPIC = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker, audit = true }
]] .. HANDLE .. [[
-- The topic is not this spec's alone.
app:register(app:topic "shove-audit-log", { group_id = stage.name "log", prefetch = 100, concurrent = true,
    max_message_size = "300KiB" }, function(msg)
    local record = msg.body
    if record.topic:find(stage.name "main", 1, true) or record.group == stage.name "log" then
        stage.note(msg, { record = record })
    end
end)
app:on_start(function()
    shove.publish_batch(main, {
        { body = "ack" }, { body = "retry" }, { body = "reject" }, { body = "raise" }, { body = "sleep" },
        { body = "\0\1\255", key = "k\255",
          headers = { { "x-trace-id", "t-1" }, { "b", "\255" }, { "b", "2" }, { "n", shove.null } } },
        { tombstone = true, key = "gone" },
    })
    -- Its record is larger than Kafka is asked to take; the other brokers take records of 16 MiB at least.
    if stage.broker:find "^kafka" then shove.publish(main, ("\255"):rep(290 * 1024), { key = "large" }) end
end)
return app
]]

-- By the first word of the payload, or the key: the outcomes of its records, those of its dead letter behind them.
local RECORDS = {
    ack = { "ack" }, retry = { "retry", "retry", "ack" }, reject = { "reject", "ack" }, raise = { "error", "error", "ack" },
    sleep = { "timeout", "timeout", "ack" }, ["k\255"] = { "ack" }, gone = { "ack" },
}
local RECORD_COUNT = 14

for _, broker in ipairs(stage.brokers) do
    describe("the audit log on " .. broker, function()
        local s, p, summary, by_message = nil, nil, nil, {}

        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, TO_TOPIC)
                p = s:run { "--workers", "2" }
                s:wait_calls(RECORD_COUNT, { queue = "shove-audit-log" })
                s:wait_calls(4, { queue = "main-dlq" })
                if broker == "kafka" then s:wait_calls(3, { queue = "said" }) end
                summary = stage.drain(p)
                for _, call in ipairs(s:calls { queue = "shove-audit-log" }) do
                    local record = call.record
                    record.log_key = call.key
                    local key = record.metadata.key
                    local name = key ~= cjson.null and (key.base64 and "k\255" or key) or record.payload
                    by_message[name] = by_message[name] or {}
                    table.insert(by_message[name], record)
                end
            end)
        end)

        it("has a record of every attempt, with its outcome, and of every dead letter's handling", function()
            local outcomes = {}
            for name, records in pairs(by_message) do
                table.sort(records, function(a, b) return a.timestamp < b.timestamp end)
                outcomes[name] = {}
                for i, record in ipairs(records) do outcomes[name][i] = record.outcome end
            end
            assert.are.same(RECORDS, outcomes)
            assert.are.equal(RECORD_COUNT, #s:calls { queue = "shove-audit-log" })
        end)

        it("has no record of its own messages, though the app handles them", function()
            assert.is_true(summary[s:name "log"].acked >= RECORD_COUNT)
            for _, call in ipairs(s:calls { queue = "shove-audit-log" }) do
                assert.are_not.equal("shove-audit-log", call.record.topic)
            end
        end)

        it("says the topic, the group, the reason, the attempt and how long it took", function()
            local first, second, letter = unpack(by_message.retry)
            assert.are.same({ s:name "main", s:name("main", "-consumer"), "billing is down", 0, false },
                { first.topic, first.group, first.reason, first.metadata.retry_count, first.metadata.redelivered })
            assert.are.same({ 1, true }, { second.metadata.retry_count, second.metadata.redelivered })
            assert.are.same({ s:name("main", "-dlq"), s:name("main", "-dlq-consumer"), cjson.null },
                { letter.topic, letter.group, letter.reason })
            assert.matches("^the moon is full\nstack traceback:", by_message.raise[1].reason)
            local slept = by_message.sleep[1]
            assert.is_true(slept.duration >= 0.19 and slept.duration < 10, slept.duration)
            local noted = s:calls({ queue = "main", payload = "sleep" })[1]
            assert.is_true(slept.timestamp >= noted.at_ms + 150 and slept.timestamp < noted.at_ms + 10000)
        end)

        it("has one trace id, which is the record's key, on all attempts of a message and its dead letter", function()
            for _, name in ipairs { "retry", "raise", "sleep" } do
                local id = s:calls({ queue = "main", payload = name })[1].id
                for _, record in ipairs(by_message[name]) do
                    assert.are.same({ id, id, id }, { record.trace_id, record.log_key, record.metadata.id })
                end
            end
            assert.are.equal("t-1", by_message["k\255"][1].trace_id)
        end)

        it("has the bytes of payload, key and headers, and what is null", function()
            local record = by_message["k\255"][1]
            assert.are.same({ base64 = "AAH/" }, record.payload)
            assert.are.same({ base64 = "a/8=" }, record.metadata.key)
            assert.are.same({ { "x-trace-id", "t-1" }, { "b", { base64 = "/w==" } }, { "b", "2" }, { "n", cjson.null } },
                record.metadata.headers)
            local noted = s:calls({ queue = "main", payload = "\0\1\255" })[1]
            assert.are.same({ noted.partition, noted.offset, noted.timestamp },
                { record.metadata.partition, record.metadata.offset, record.metadata.timestamp })
            assert.are.equal(cjson.null, by_message.gone[1].payload)
            assert.are.same({ cjson.null, {} }, { by_message.ack[1].metadata.key, by_message.ack[1].metadata.headers })
        end)

        local it_refuses = broker == "kafka" and it or function() end -- the others take records of 16 MiB
        it_refuses("that refuses a record has the message retried, and dead-lettered at last, which says so", function()
            local said = s:calls { queue = "said" }
            assert.are.same({ "large: 0", "large: 1" }, { said[1].said, said[2].said })
            assert.matches('^large: the audit failed: publishing to "shove%-audit%-log": .*%(the handler\'s outcome was ack%)$',
                said[3].said)
            assert.is_nil(by_message.large)
        end)
    end)

    describe("an audit function on " .. broker, function()
        local s, p, summary

        local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker, audit = { timeout = "150ms", to = function(record)
    local audit = record.payload:match " (.*)"
    stage.note(setmetatable({ reason = record.reason, headers = {}, topic = "audit" }, { __index = record.metadata }),
        { of = record.topic, outcome = record.outcome, said = record.payload })
    if audit == "raise" and record.topic == stage.name "main" then error("disk full", 0) end
    if audit == "late" then shove.sleep "20s" end
    if audit == "wait" then shove.sleep "50ms" return shove.publish(stage.name "trail", record.trace_id) end
    if audit == "refused" then return shove.publish(stage.name "nowhere", record.trace_id) end
end } }
local trail = app:topic(stage.name "trail", { partitions = 1 })
app:register(trail, { audit = false }, function(msg) stage.note(msg) end)
]] .. HANDLE .. "return app\n"

        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, SOURCE)
                s:publish("main", { "ack", "ack raise", "reject raise", "ack refused", "ack late", "reject late", "sleep wait" })
                p = s:run { "--workers", "1" }
                s:wait_calls(5, { queue = "main-dlq" })
                s:wait_calls(3, { queue = "trail" })
                p:wait_for("audit not finished", WAIT_MS)
                s:wait_calls(5, { queue = "audit", of = s:name("main", "-dlq") })
                summary = stage.drain(p)
            end)
        end)

        it("is given the record of every attempt, and may wait and publish", function()
            for said, outcomes in pairs { ack = { "ack" }, ["sleep wait"] = { "timeout", "timeout" } } do
                local calls = s:calls { queue = "audit", said = said, of = s:name "main" }
                assert.are.equal(#outcomes, #calls)
                for i, call in ipairs(calls) do assert.are.equal(outcomes[i], call.outcome) end
            end
            assert.are.equal(3, #s:calls { queue = "trail" }) -- two attempts and the dead letter
        end)

        it("makes the message a retry by failing, whatever its handler said, and a dead letter at last", function()
            for said, text in pairs { ["ack raise"] = "^the audit failed: disk full",
                ["reject raise"] = "^the audit failed: disk full",
                ["ack refused"] = "^the audit failed: .*the topic does not exist" } do
                local calls = s:calls { queue = "main", payload = said }
                assert.are.same({ 2, 0, 1 }, { #calls, calls[1].retry_count, calls[2].retry_count })
                local letter = s:calls({ queue = "main-dlq", payload = said })[1]
                assert.are.equal("max_retries_exceeded", letter.reason)
                assert.matches(text, letter.error)
            end
            assert.is_true(stage.said(p, "message not handled.*outcome=error.*the audit failed: disk full"))
        end)

        it("leaves the outcome as it is by taking too long, with a line in the log", function()
            assert.are.equal(1, #s:calls { queue = "main", payload = "ack late" })
            assert.are.equal("rejected", s:calls({ queue = "main-dlq", payload = "reject late" })[1].reason)
            assert.is_true(stage.said(p, "audit not finished in time: the outcome stands .*partition=%d.* why=\"the audit did "
                .. "not finish within 0%.15 s: it was in shove%.sleep\""))
            local of_main = summary[s:name("main", "-consumer")]
            assert.are.same({ 2, 0 }, { of_main.acked, of_main.discarded })
        end)

        it("does not see a group that is left out", function()
            assert.are.same({}, s:calls { queue = "audit", of = s:name "trail" })
        end)
    end)
end

-- Past handler_timeout and the grace after it a handler that does not yield is killed.
it("an audit that does not yield has its own time, beyond its handler's", function()
    local s = stage.new("embedded", [[
        local shove, stage = require "shove", require "stage"
        local uv = require "luv"
        local app = shove.registry { broker = stage.broker, audit = { timeout = "10s", to = function()
            local until_ns = uv.hrtime() + 3.2e9
            while uv.hrtime() < until_ns do end
        end } }
        local main = app:topic(stage.name "main", { codec = "raw", dlq = true, hold = { "50ms" } })
        app:register(main, { handler_timeout = "50ms", on_timeout = "reject" }, stage.note)
        app:on_start(function() shove.publish(main, "ack") end)
        return app]])
    local p = s:run { "--workers", "1" }
    s:wait_calls(1, { queue = "main" })
    stage.drain(p)
    assert.matches("acked=1  retried or deferred=0  dead letters=0", p:text "stderr", 1, true)
end)

it("a reload turns the audit on, changes it, and turns it off", function()
    local function source(option)
        return [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker]] .. option .. [[ }
app:register(app:topic(stage.name "main", { codec = "raw" }), {}, function(msg) stage.note(msg) end)
return app
]]
    end
    local s = stage.new("embedded", source "")
    local env = { XDG_RUNTIME_DIR = tmp.dir() }
    local p = s:run { "--workers", "1", env = env }
    p:wait_for("partitions assigned", WAIT_MS)

    local sent = 0
    local function handle_one()
        sent = sent + 1
        s:publish("main", { "m" .. sent })
        s:wait_calls(sent, { queue = "main" })
    end
    local function reload(option)
        tmp.write(s.app.path, source(option))
        local result = s.app:command("reload", { env = env })
        assert.are.equal(0, result.code, result.stderr)
    end

    handle_one()
    reload ", audit = true"
    handle_one()
    reload ", audit = function(record) stage.say(record.payload) end"
    handle_one()
    s:wait_calls(1, { queue = "said" })
    reload ""
    handle_one()
    assert.are.equal(4, stage.drain(p)[s:name("main", "-consumer")].acked)
    assert.are.equal("m3", s:calls({ queue = "said" })[1].said)
    assert.are.equal(1, #s:calls { queue = "said" })

    -- What the topic has is read by another app.
    local reader = s:beside [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
app:register(app:topic "shove-audit-log", {}, function(msg) stage.note(msg, { record = msg.body }) end)
return app
]]
    tmp.write(reader.app:file "stage.lua", (tmp.read(reader.app:file "stage.lua"):gsub("embedded:[^\"]*", s.url)))
    p = reader:run { "--workers", "1" }
    local records = reader:wait_calls(1)
    stage.drain(p)
    assert.are.same({ 1, "m2" }, { #records, records[1].record.payload })
end)

it("shove check shows the audit log where it goes there, and not where it goes to a function", function()
    for option, is_shown in pairs { ["true"] = true, ["{ timeout = '1s' }"] = true, ["print"] = false, ["false"] = false } do
        local s = stage.new("embedded", [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker, audit = ]] .. option .. [[ }
app:register(app:topic "main", {}, print)
return app
]])
        local result = s:command "check"
        assert.are.equal(0, result.code, result.stderr)
        assert.are.equal(is_shown, result.stdout:find("shove-audit-log  queue", 1, true) ~= nil, result.stdout)
    end
end)
