-- A message larger than max_message_size allows, from a time or an app that allowed more.

local stage = require "spec.support.stage"

local MIB = 1024 * 1024

local QUEUE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "large", { codec = "raw", hold = { "50ms" }, dlq = stage.name %q })
app:register(queue, shove.group { max_message_size = %q }, function(msg) stage.say("handled " .. msg.payload) end)
]]

local LETTERS = QUEUE .. [[
app:dead_letters(queue, { max_message_size = "40MiB" }, function(msg)
  stage.say(("%%s %%d %%s"):format(msg.reason, #msg.payload, tostring(not msg.payload:find "[^x]")))
end)
return app
]]

local function said(s, count)
    local lines = {}
    for _, call in ipairs(s:wait_calls(count, { queue = "said" })) do lines[#lines + 1] = call.said end
    table.sort(lines)
    return lines
end

describe("a message far larger than max_message_size", function()
    for _, broker in ipairs { "embedded", "kafka" } do
        it("is dead-lettered, whole, and the others are handled, on " .. broker, function()
            local generous = stage.new(broker, QUEUE:format("other-graves", "40MiB") .. "return app")
            generous:publish("large", { "--raw", lines = { "before", ("x"):rep(20 * MIB), "after" } })

            local strict = generous:beside(QUEUE:format("graves", "1MiB") .. "return app")
            local p = strict:run { "--workers", "1" }
            assert.are.same({ "handled after", "handled before" }, said(strict, 2))
            p:wait_for("outcome=oversize", 30000)
            local summary = stage.drain(p)
            assert.are.same({ oversize = 1 }, summary[strict:name("large", "-consumer")].reasons)

            local reader = generous:beside(LETTERS:format("graves", "1MiB"))
            p = reader:run { "--workers", "1" }
            assert.are.same({ ("oversize %d true"):format(20 * MIB) }, said(reader, 1))
            stage.drain(p)
        end)
    end
end)

describe("a retry that is too large for its hold", function()
    -- `big` is retried for ever, `small` once.
    local SOURCE = [[
    local shove, stage = require "shove", require "stage"
    local app = shove.registry { broker = stage.broker }
    local queue = app:topic(stage.name "queue", { codec = "raw", hold = { %s }, dlq = true, partitions = 1 })
    app:register(queue, shove.group { max_retries = 2, prefetch = 10, concurrent = true }, function(msg)
      stage.note(msg)
      if #msg.payload > 5 or msg.retry_count == 0 then return shove.retry(("why "):rep(200)) end
    end)
    return app
    ]]

    local function new(...)
        local s = stage.new("kafka", SOURCE:format(('"%s"'):format(table.concat({ ... }, '", "'))))
        s.kafka:create_topic(s:name "queue")
        for _, hold in ipairs { ... } do
            s.kafka:create_topic(s:name("queue", "-hold-" .. hold), { config = { ["max.message.bytes"] = "2000" } })
        end
        return s
    end

    it("waits where it is, counts, and is dead-lettered in the end; others pass it", function()
        local s = new "100ms"
        local body = ("x"):rep(3000)
        s.kafka:produce(s:name "queue", { { value = body }, { value = "small" } })
        local p = s:run { "--workers", "1" }
        local counts = {}
        for i, call in ipairs(s:wait_calls(3, { payload = body })) do counts[i] = call.retry_count end
        assert.are.same({ 0, 1, 2 }, counts)
        local first, second = unpack(s:wait_calls(2, { payload = "small" }))
        assert.is_true(second.at_ms - first.at_ms >= 100)
        for _, name in ipairs { "queue", "hold" } do assert.matches(name, p:wait_for("larger than its hold takes", 10000)) end
        local letter = s.kafka:read(s:name("queue", "-dlq"), { count = 1 })[1]
        assert.are.equal(body, letter.value)
        local summary = stage.drain(p)
        assert.are.same({ max_retries_exceeded = 1 }, summary[s:name("queue", "-consumer")].reasons)
        assert.are.equal(2, s.kafka:committed(s:name("queue", "-consumer"), s:name "queue")[0].offset)
    end)

    it("is not late because another one waits for longer", function()
        local s = new("100ms", "3600s")
        local function body(letter) return letter:rep(3000) end
        s.kafka:produce(s:name "queue", { { value = body "a" } })
        local p = s:run { "--workers", "1" }
        p:wait_for("larger than its hold takes.*hold=" .. s:pattern "queue" .. "%-hold%-3600s", 20000)
        s.kafka:produce(s:name "queue", { { value = body "b" } })
        s:wait_calls(2, { payload = body "b" }, 10000)
        stage.drain(p)
    end)

    it("does not keep a drain, and goes on waiting in the next run, its count kept", function()
        local s = new "3s"
        s.kafka:produce(s:name "queue", { { value = ("x"):rep(3000) } })
        local p = s:run { "--workers", "1" }
        p:wait_for("larger than its hold takes", 20000)
        stage.drain(p)
        p = s:run { "--workers", "1" }
        local first, second = unpack(s:wait_calls(2))
        assert.are.equal(1, second.retry_count)
        assert.is_true(second.at_ms - first.at_ms >= 3000, second.at_ms - first.at_ms .. " ms")
        p:wait_for("larger than its hold takes", 20000)
        stage.drain(p)
    end)
end)

describe("dead letters and retries that are too large for their topics only together", function()
    it("are stored one by one, on Kafka", function()
        local s = stage.new("kafka", [[
        local shove, stage = require "shove", require "stage"
        local app = shove.registry { broker = stage.broker }
        local queue = app:topic(stage.name "queue", { codec = "raw", hold = { "100ms" }, dlq = true, partitions = 1 })
        app:register(queue, shove.group { max_retries = 2, prefetch = 100, concurrent = true }, function(msg)
          stage.note(msg)
          shove.sleep "20ms"
          return msg.retry_count == 0 and shove.retry "again" or shove.reject "no"
        end)
        return app
        ]])
        s.kafka:create_topic(s:name "queue")
        for _, tail in ipairs { "-hold-100ms", "-dlq" } do
            s.kafka:create_topic(s:name("queue", tail), { config = { ["max.message.bytes"] = "2000" } })
        end
        local records = {}
        for i = 1, 30 do records[i] = { value = ("x"):rep(500) } end
        s.kafka:produce(s:name "queue", records)
        local p = s:run { "--workers", "1" }
        s:wait_calls(60)
        s.kafka:read(s:name("queue", "-dlq"), { count = 30 })
        local summary = stage.drain(p)
        assert.are.same({ rejected = 30 }, summary[s:name("queue", "-consumer")].reasons)
    end)
end)
