-- Which topics an app has on the broker: their names, how many partitions, who makes them and who may not.

local cleanup = require "spec.support.cleanup"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local process = require "spec.support.process"
local stage = require "spec.support.stage"
local wait = require "spec.support.wait"

local CONFIG, UNAVAILABLE = 78, 69

-- How many partitions each topic has, false for one that is not there; names as on the broker. Kafka is asked by a
-- stranger. On the embedded broker there is none: an app that may create nothing consumes them, and says what it was
-- assigned; it names the first one that is missing.
local function partitions_on(s, names)
    local found = {}
    if s.kafka then
        for _, name in ipairs(names) do found[name] = s.kafka:partitions(name) or false end
        return found
    end
    local source = { 'local shove = require "shove"', ("local app = shove.registry { broker = %q }"):format(s.url) }
    for _, name in ipairs(names) do
        found[name] = false
        table.insert(source, ('app:register(app:topic(%q, { external = true }), { group_id = %q }, function() end)')
            :format(name, name .. kafka.unique "-viewer"))
    end
    table.insert(source, "return app")
    local p = s:beside(table.concat(source, "\n")):run { "--workers", "1" }
    local lines
    wait.until_true(function()
        assert.is_nil(p.code, p:transcript())
        lines = stage.lines(p, "partitions assigned .*topic=(%S+  partitions=%d+)")
        return #lines == #names
    end, 20000, "all topics to be assigned")
    stage.drain(p)
    for _, line in ipairs(lines) do
        local name, count = line:match "^(%S+)  partitions=(%d+)$"
        found[name] = tonumber(count)
    end
    return found
end

-- With the suffix of the stage behind the queue's name.
local function on_broker(s, expected)
    local names, counts = {}, {}
    for plain, count in pairs(expected) do
        local queue, tail = plain:match "^(%w+)(.*)$"
        local name = s:name(queue, tail)
        table.insert(names, name)
        counts[name] = count
    end
    return counts, partitions_on(s, names)
end

local function refused(s, ...)
    local p = s:run { "--workers", "1" }
    assert.are.same({ CONFIG, 0 }, { p:wait_exit(30000) }, p:transcript())
    local text = p:text "stderr"
    for _, part in ipairs { ... } do assert.matches(part, text, 1, true) end
    return text
end

-- A script of one topic, whose options are Lua text, and a group that notes and acks.
local function one_topic(options)
    return ([[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local topic = app:topic(stage.name "orders", { %s })
app:register(topic, {}, function(msg) stage.note(msg) end)
return app
]]):format(options)
end

for _, broker in ipairs(stage.brokers) do
    describe("on " .. broker .. ": the topics of an app", function()
        local s, p

        local function run()
            local started = s:run { "--workers", "1" }
            started:wait_for("running", 20000)
            return started
        end

        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local function note(group, outcome)
  return function(msg)
    stage.note(msg, { group_of = group })
    return outcome(msg)
  end
end
local function ack() return shove.ack end

local orders = app:topic(stage.name "orders", { hold = { "1m", "1500ms", "2s" }, dlq = true })
app:register(orders, {}, note("orders", ack))
local audit = app:topic(stage.name "orders", { for_group = "audit", hold = { "50ms" }, dlq = true })
app:register(audit, { max_retries = 1 }, note("audit", function() return shove.retry "no" end))
app:dead_letters(audit, note("audit-dlq", ack))

app:topic(stage.name "named", { hold = { "250ms" }, dlq = stage.name "graveyard", partitions = 3 })
local wide = app:topic(stage.name "wide", { hold = { "1s" }, dlq = true })
app:register(wide, { consumers = { min = 1, max = 11 } }, ack)
app:topic(stage.name "plain")
return app
]])
                p = run()
                s:publish("orders", { "1", "2", "3" })
                s:wait_calls(3, { group_of = "orders" })
                s:wait_calls(3, { group_of = "audit-dlq" })
                stage.drain(p)
            end)
        end)

        it("are made with names that follow from the queue's, and 8 partitions, or as many as asked for", function()
            local expected, found = on_broker(s, {
                orders = 8, ["orders-hold-1500ms"] = 8, ["orders-hold-2s"] = 8, ["orders-hold-60s"] = 8,
                ["orders-dlq"] = 8, ["orders-audit-hold-50ms"] = 8, ["orders-audit-dlq"] = 8,
                named = 3, ["named-hold-250ms"] = 3, graveyard = 3,
                wide = 11, ["wide-hold-1s"] = 11, ["wide-dlq"] = 11,
                plain = 8,
            })
            assert.are.same(expected, found)
        end)

        it("are not made where nothing was asked for", function()
            for _, name in ipairs { s:name("named", "-dlq"), s:name("plain", "-dlq"), s:name("orders", "-audit") } do
                if s.kafka then
                    assert.is_nil(s.kafka:partitions(name))
                else
                    local source = one_topic("external = true"):gsub('stage.name "orders"', ("%q"):format(name))
                    refused(s:beside(source), name, "does not exist")
                end
            end
        end)

        it("two groups on one queue are each given every message", function()
            assert.are.equal(3, #s:calls { queue = "orders", group_of = "orders" })
            assert.are.equal(3, #s:calls { queue = "orders", group_of = "audit", retry_count = 0 })
        end)

        it("a retry of one group is not seen by the other, nor are its dead letters", function()
            assert.are.equal(3, #s:calls { queue = "orders", group_of = "audit", retry_count = 1 })
            assert.are.equal(0, #s:calls { queue = "orders", group_of = "orders", retry_count = 1 })
            assert.are.equal(3, #s:calls { queue = "orders-audit-dlq" })
            local groups = stage.summary(p)
            assert.are.equal(3, groups[s:name("orders", "-consumer")].acked)
            assert.are.equal(3, groups[s:name("orders", "-audit-consumer")].dead)
            assert.are.equal(3, groups[s:name("orders", "-audit-dlq-consumer")].acked)
        end)

        it("are left as they are when they are declared again, with what is in them and what was committed", function()
            s:publish("orders", { "4" })
            local again = run()
            s:wait_calls(4, { group_of = "orders" })
            s:wait_calls(4, { group_of = "audit-dlq" })
            local groups = stage.drain(again)
            assert.are.equal(1, groups[s:name("orders", "-consumer")].acked)
            assert.are.equal(1, groups[s:name("orders", "-audit-consumer")].dead)
            local expected, found = on_broker(s, { orders = 8, ["orders-dlq"] = 8, ["named-hold-250ms"] = 3 })
            assert.are.same(expected, found)
        end)
    end)

    describe("on " .. broker .. ": a topic that is there", function()
        it("is given more partitions when more are asked for, and is not narrowed", function()
            local s = stage.new(broker, one_topic "partitions = 2, dlq = true, hold = { '1s' }")
            local p = s:run { "--workers", "1" }
            p:wait_for("partitions assigned .*partitions=2$", 20000)
            stage.drain(p)
            local wide = s:beside(one_topic "partitions = 5, dlq = true, hold = { '1s' }")
            p = wide:run { "--workers", "1" }
            p:wait_for("partitions assigned .*partitions=5$", 20000)
            wide:publish("orders", { "1", "--partition", "4" })
            assert.are.equal(4, wide:wait_calls(1, { queue = "orders" })[1].partition)
            stage.drain(p)
            local expected, found = on_broker(s, { orders = 5, ["orders-dlq"] = 5, ["orders-hold-1s"] = 5 })
            assert.are.same(expected, found)
            p = s:run { "--workers", "1" }
            p:wait_for("partitions assigned .*partitions=5$", 20000)
            stage.drain(p)
        end)

        it("and is sequenced keeps its number of partitions: another one is refused, with what to do", function()
            local source = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
app:topic(stage.name "orders", { sequenced = "skip", shards = SHARDS, hold = { "1s" }, dlq = true })
return app
]]
            local s = stage.new(broker, (source:gsub("SHARDS", "3")))
            s:publish("orders", { "1", "-k", "k" })
            local other = s:beside((source:gsub("SHARDS", "5")))
            refused(other, "app.lua:3", s:name "orders", "has 3 partitions and 5 ", " 3, or use a new topic")
            local result = other:command("publish", { s:name "orders", "2", "-k", "k" })
            assert.are.equal(CONFIG, result.code)
            local expected, found = on_broker(s, { orders = 3 })
            assert.are.same(expected, found)
        end)
    end)

    describe("on " .. broker .. ": an external topic", function()
        local EXTERNAL = one_topic "external = true, hold = { '1s' }, dlq = true"

        it("that is missing is refused with the script's line, and nothing is made", function()
            local s = stage.new(broker, EXTERNAL)
            refused(s, "app.lua:3", "'" .. s:name "orders" .. "' is external and does not exist")
            local result = s:command("publish", { s:name "orders", "1" })
            assert.are.equal(CONFIG, result.code)
            refused(s:beside(one_topic "external = true"), "'" .. s:name "orders" .. "' is external")
            if s.kafka then
                assert.is_nil(s.kafka:partitions(s:name "orders"))
                assert.is_nil(s.kafka:partitions(s:name("orders", "-dlq")))
            end
        end)

        it("whose hold or DLQ is missing is refused, and nothing is made or changed", function()
            local s = stage.new(broker, one_topic "partitions = 3")
            s:publish("orders", { "1" })
            refused(s:beside(EXTERNAL), "'" .. s:name("orders", "-hold-1s") .. "' is external and does not exist")
            local expected, found = on_broker(s, { orders = 3 })
            assert.are.same(expected, found)
            refused(s:beside(one_topic "external = true, dlq = true"), "'" .. s:name("orders", "-dlq") .. "' is external")
        end)

        it("that is there is consumed as it is, whatever its number of partitions", function()
            local s = stage.new(broker, one_topic "partitions = 3, hold = { '1s' }, dlq = true")
            local maker = s:run { "--workers", "1" }
            maker:wait_for("partitions assigned", 20000)
            stage.drain(maker)
            local external = s:beside(EXTERNAL)
            external:publish("orders", { "1" })
            local p = external:run { "--workers", "1" }
            external:wait_calls(1, { queue = "orders" })
            stage.drain(p)
            local expected, found = on_broker(s, { orders = 3, ["orders-hold-1s"] = 3, ["orders-dlq"] = 3 })
            assert.are.same(expected, found)
        end)
    end)
end

-- Kafka's own default is to make a topic that somebody publishes to; the one of these specs does.
for _, broker in ipairs { "embedded", "kafka", "memory" } do
    it("on " .. broker .. ": publishing makes no topic", function()
        local s = stage.new(broker, [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
app:topic(stage.name "orders")
app:on_start(function()
  local ok, text, code = shove.publish(stage.name "elsewhere", { id = 1 }, { key = "k" })
  stage.say(tostring(ok) .. " " .. text .. " " .. code)
  stage.say(tostring(select(3, shove.publish(stage.name "elsewhere", { id = 2 }))))
end)
return app
]])
        local p = s:run { "--workers", "1" }
        local said = s:wait_calls(2, { queue = "said" })
        assert.are.equal(('nil publishing to "%s": the topic does not exist ENOTOPIC'):format(s:name "elsewhere"),
            said[1].said)
        assert.are.equal("ENOTOPIC", said[2].said)
        stage.drain(p)
        if s.kafka then assert.is_nil(s.kafka:partitions(s:name "elsewhere")) end
    end)
end

describe("holds and a DLQ", function()
    it("each without the other has a warning on its line", function()
        for options, words in pairs {
            ['hold = { "1s" }'] = "it has holds but no dlq", ["dlq = true"] = "it has a dlq but no hold",
        } do
            local result = stage.new("memory", one_topic(options)):command "check"
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("\nWarnings\n.*app.lua:3: topic \"orders[^\n]*" .. words, result.stdout)
        end
        local result = stage.new("memory", one_topic 'hold = { "1s" }, dlq = true'):command "check"
        assert.is_nil(result.stdout:find("Warnings", 1, true))
    end)
end)

describe("replication factor", function()
    local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker, replication_factor = FACTOR }
app:register(app:topic(stage.name "orders", { partitions = 2 }), {}, function() end)
app:register(app:topic(stage.name "other", { partitions = 2 }), {}, function() end)
return app
]]

    local function staged(factor, options)
        return stage.new("kafka", (SOURCE:gsub("FACTOR", factor)), options)
    end

    it("is 1 by default", function()
        local s = staged "nil"
        local p = s:run { "--workers", "1" }
        p:wait_for("running", 20000)
        assert.are.equal(0, #stage.lines(p, "replication factor"))
        local seen = process.run { "kcat", "-q", "-L", "-b", s.kafka.bootstrap, "-t", s:name "orders" }
        assert.matches("partition 0, leader %d+, replicas: %d+, isrs: %d+\n", seen.stdout)
        stage.drain(p)
    end)

    it("that the cluster cannot give is refused with the script's line, and nothing is made", function()
        local s = staged "3"
        refused(s, "app.lua:3", s:name "orders", "eplication")
        assert.is_nil(s.kafka:partitions(s:name "orders"))
    end)

    it("of 1 on a cluster of several brokers has one warning", function()
        local mock = kafka_mock.start(3)
        local s = staged("nil", { url = mock.url })
        for _, queue in ipairs { "orders", "other" } do mock:create(s:name(queue), 2) end
        local p = s:run { "--workers", "1" }
        p:wait_for("partitions assigned", 20000)
        assert.are.equal(1, #stage.lines(p, "warn +control: .*app.lua:3: .*replication factor 1 on a cluster of 3 brokers"))
        stage.drain(p)
    end)
end)

-- Its topics cannot be looked at, so the program ends before anything is consumed.
describe("a broker that is slow", function()
    it("is waited for, and the time is not taken from what workers have to load the script", function()
        local mock = kafka_mock.start()
        local s = stage.new("kafka", one_topic "partitions = 1", { url = mock.url })
        mock:create(s:name "orders", 1)
        mock:set_rtt(300)
        local p = s:run { "--workers", "1", "--load-timeout", "1s" }
        p:wait_for("running", 20000)
        mock:set_rtt(0)
        stage.drain(p)
    end)
end)

describe("a broker that cannot be used", function()
    for what, url in pairs { Kafka = "kafka://127.0.0.1:1", ["an embedded file"] = "embedded:./nowhere/queue.db" } do
        it("ends the program with 69 and names it: " .. what, function()
            local p = stage.new("embedded", one_topic "dlq = true", { url = url }):run { "--connect-timeout", "1s" }
            assert.are.same({ UNAVAILABLE, 0 }, { p:wait_exit(20000) }, p:transcript())
            assert.matches((url:gsub("^%w+:/*", "")), p:text "stderr", 1, true)
        end)
    end
end)
