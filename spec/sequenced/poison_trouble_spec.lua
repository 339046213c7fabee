-- What becomes of sequenced = "fail_all" where the topic of the poisoned keys cannot be read or written: messages wait,
-- and none is handled that might follow the one that poisoned its key.

local assert = require "luassert"
local acl = require "spec.support.acl"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
local CONFIG = 78

-- A queue that is not shove's to make, for a user who may do everything but read and write its poisoned keys.
local function limited(broker, partitions)
    local s = steered.new {
        url = "kafka://" .. broker.sasl, kafka = acl.properties("limited", "limited-secret"), broker = broker, fifo = true,
        partitions = false, holds = { "50ms" }, topic = 'external = true, sequenced = "fail_all",',
    }
    broker:create_topic(s.queue, { partitions = partitions or 1 })
    broker:create_topic(s.queue .. "-dlq")
    broker:create_topic(s.queue .. "-poison")
    -- Where nothing is there is nothing to read.
    broker:produce(s.queue .. "-poison", {
        { key = "z", value = '{"offset":0,"reason":"rejected","poisoned_at":0}', partition = 0 },
    })
    acl.allow(broker, "limited", { topic = s.queue, operations = { "read", "describe" } })
    acl.allow(broker, "limited", { topic = s.queue .. "-dlq", operations = { "write", "describe" } })
    acl.allow(broker, "limited", { topic = s.queue .. "-poison", operations = { "describe" } })
    acl.allow(broker, "limited", { group = s.group_id, operations = { "read", "describe" } })
    return s
end

local function may(broker, s, operation)
    acl.allow(broker, "limited", { topic = s.queue .. "-poison", operations = { operation } })
end

describe("poisoned keys that", function()
    local broker = kafka.shared()

    it("cannot be read: nothing is handled until they can, and the line says what to do", function()
        local s = limited(broker)
        s:publish({ "a1" }, { key = "a" })
        local p = s:run()
        local line = p:wait_for("the poisoned keys of a partition cannot be read", WAIT_MS)
        assert.matches("topic=" .. s.queue .. "-poison", line, 1, true)
        assert.matches("EDENIED", line, 1, true)
        assert.matches("grant this user Read and Describe on the topic", line, 1, true)
        p:wait_for("the poisoned keys of a partition cannot be read", WAIT_MS)
        assert.equal(0, s:count "began")
        may(broker, s, "read")
        s:wait("ended", { "a1" })
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("cannot be read do not hold up a drain, and what waits is handled by the next run", function()
        local s = limited(broker)
        s:publish({ "a1" }, { key = "a" })
        local p = s:run()
        p:wait_for("the poisoned keys of a partition cannot be read", WAIT_MS)
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.equal(0, s:count "began")
        may(broker, s, "read")
        p = s:run()
        s:wait("ended", { "a1" })
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.equal(1, s:count "began")
    end)

    it("cannot be written: the dead letter waits, its key with it, and other keys are handled", function()
        local s = limited(broker)
        may(broker, s, "read")
        s:publish({ "a1 reject", "a2" }, { key = "a" })
        s:publish({ "b1" }, { key = "b" })
        local p = s:run()
        s:wait("ended", { "a1", "b1" })
        p:wait_for("a poisoned key could not be stored.*EDENIED.*grant this user Write on the topic", WAIT_MS)
        s:publish({ "b2" }, { key = "b" })
        s:wait("ended", { "b2" })
        assert.equal(0, #s:letters())
        assert.equal(0, s:count("began", "a2"))
        may(broker, s, "write")
        s:wait_letters(2)
        assert.equal(0, s:count("began", "a2"))
        assert.equal(1, s:count("began", "a1"))
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("are stored in a topic that was made anew count, though its offsets begin again", function()
        local s = steered.new { url = broker.url, kafka = { ["topic.metadata.refresh.interval.ms"] = "300" }, fifo = true,
            partitions = false, holds = { "50ms" }, topic = 'shards = 1, sequenced = "fail_all",' }
        s:declare()
        s:publish({ "a1 reject" }, { key = "a" })
        local p = s:run()
        s:wait_letters(1)
        assert.equal(0, (app.drain(p)), p:transcript())
        s:publish({ "a2" }, { key = "a" })
        p = s:run()
        s:wait_letters(2) -- it has read that a is poisoned
        local topic = s.queue .. "-poison"
        broker:delete_topic(topic)
        wait.until_true(function() return (pcall(broker.create_topic, broker, topic)) end, WAIT_MS, "the topic to be free")
        s:publish({ "b1 reject", "b2", "b3" }, { key = "b" })
        s:wait_letters(5)
        assert.equal(0, s:count("began", "b2") + s:count("began", "b3"))
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("have fewer partitions than their queue are refused, with how many they want", function()
        local s = limited(broker, 3)
        local p = s:run()
        assert.equal(CONFIG, (p:wait_exit(WAIT_MS)), p:transcript())
        p:wait_for("app.lua:%d+: topic '[^']+%-poison' is external and has fewer partitions %(1%) than its queue "
            .. "'[^']+' %(3%): .*so give it 3", 0)
    end)
end)
