-- What a scan meets on Kafka alone: holes, rights, brokers that do not answer. The rest is in conformance.lua.
local acl = require "spec.support.acl"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local uv = require "luv"
local C = driver.C

local PATIENCE_MS, LEAST_MS = 15000, 2000

local function now_ms() return tonumber(C.shove_clock_mono_ms()) end

local function threads()
    local count = 0
    local scan = assert(uv.fs_scandir "/proc/self/task")
    while uv.fs_scandir_next(scan) do count = count + 1 end
    return count
end

local function offsets(found)
    assert(found.code == 0, ("%d %s"):format(found.code, found.text))
    local list = {}
    for i, record in ipairs(found.records) do list[i] = record.offset end
    return list
end

describe("A scan on Kafka", function()
    local broker

    before_each(function() broker = kafka.shared() end)

    it("ends where the partition does, though its last offsets are no records", function()
        local topic = broker:create_topic(broker:topic "holes")
        broker:transactions(topic, {
            { verdict = "commit", { value = "a", partition = 0 }, { value = "b", partition = 0 } },
            { verdict = "abort", { value = "c", partition = 0 }, { value = "d", partition = 0 } },
        })
        local t = assert(driver.open(broker.url))
        local found = t:scan(topic, 0, -1)
        assert.same({ 0, 1 }, offsets(found))
        assert.equal(6, found.next_offset)
        assert.is_true(found.is_end)
        broker:transactions(topic, { { verdict = "commit", { value = "e", partition = 0 } } })
        found = t:scan(topic, 0, found.next_offset)
        assert.same({ 6 }, offsets(found))
        assert.equal(8, found.next_offset)
        assert.is_true(found.is_end)
    end)

    it("does not wait for every partition of a topic that is not there", function()
        local t = assert(driver.open(broker.url))
        local missing, began = kafka.unique "missing", now_ms()
        for partition = 0, 63 do assert(t:start_scan(missing, partition, -1)) end
        for _, found in ipairs(t:wait_events("scanned", 64)) do assert.equal(C.SHOVE_ENOTOPIC, found.code) end
        assert.is_true(now_ms() - began < 20000)
    end)

    it("is told that a topic was deleted, and reads one of that name again", function()
        local topic = broker:create_topic(broker:topic "gone")
        broker:produce(topic, { { value = "old" }, { value = "older" } })
        local t = assert(driver.open(broker.url))
        assert.same({ 0, 1 }, offsets(t:scan(topic, 0, -1)))
        broker:delete_topic(topic)
        t:wait(function() return select(2, t:partition_count(topic)) == C.SHOVE_ENOTOPIC end, "the topic to go")
        assert.equal(C.SHOVE_ENOTOPIC, t:scan(topic, 0, -1).code)
        broker:create_topic(topic)
        broker:produce(topic, { { value = "new" } })
        local found = t:scan(topic, 0, 2)
        assert.same({}, offsets(found))
        assert.equal(1, found.next_offset)
        assert.same({ 0 }, offsets(t:scan(topic, 0, -1)))
    end)

    it("is refused to a user who may not read, in the broker's words", function()
        local topic = broker:create_topic(broker:topic "secret")
        broker:produce(topic, { { value = "x" } })
        local properties = acl.properties("limited", "limited-secret")
        local t = assert(driver.open("kafka://" .. broker.sasl, { properties = properties }))
        local began = now_ms()
        assert.not_equal(0, t:scan(topic, 0, -1).code)
        acl.allow(broker, "limited", { topic = topic, operations = { "describe" } })
        local found
        t:wait(function()
            found = t:scan(topic, 0, -1)
            return found.code == C.SHOVE_EDENIED
        end, "the right to see the topic, and no more")
        assert.matches(topic, found.text, 1, true)
        assert.is_true(now_ms() - began < PATIENCE_MS)
        acl.allow(broker, "limited", { topic = topic, operations = { "read", "describe" } })
        t:wait(function() return t:scan(topic, 0, -1).code == 0 end, "the right to read")
    end)

    it("needs a client only as long as one is under way", function()
        local topic = broker:create_topic(broker:topic "client", { partitions = 4 })
        local t = assert(driver.open(broker.url))
        t:publish(topic, { { payload = "x", partition = 0 } })
        local before = threads()
        for partition = 0, 3 do assert(t:start_scan(topic, partition, -1)) end
        t:wait_events("scanned", 4)
        t:wait(function() return threads() <= before end, "the scans' client to go")
        assert.same({ 0 }, offsets(t:scan(topic, 0, -1)))
    end)

    it("reads a topic as soon as it was declared", function()
        local t = assert(driver.open(broker.url))
        for _ = 1, 5 do
            local topic = broker:topic "fresh"
            assert(t:declare { { name = topic, role = "poison", is_keyed = true } })
            local found = t:scan(topic, 0, -1)
            assert.same({}, offsets(found))
            assert.is_true(found.is_end)
        end
    end)
end)

describe("A scan on a Kafka that has trouble", function()
    local mock, t, topic

    before_each(function()
        mock = kafka_mock.start()
        topic = mock:create("poison", 4)
        t = assert(driver.open(mock.url))
        t:publish(topic, { { payload = "x", partition = 0 } })
    end)

    it("asks again where a partition has no leader for a moment", function()
        mock:fail("ListOffsets", "NOT_LEADER_FOR_PARTITION", "NOT_LEADER_FOR_PARTITION")
        assert.same({ 0 }, offsets(t:scan(topic, 0, -1)))
        mock:fail("Fetch", "NOT_LEADER_FOR_PARTITION", "NOT_LEADER_FOR_PARTITION")
        assert.same({ 0 }, offsets(t:scan(topic, 0, -1)))
    end)

    it("fails when no broker can be reached, and so do those behind it, without waiting as long each", function()
        mock:set_down()
        local began = now_ms()
        for partition = 0, 3 do assert(t:start_scan(topic, partition, -1)) end
        t:wait_events("scanned", 4, 2 * PATIENCE_MS + 4 * LEAST_MS)
        for _, found in ipairs(t.events.scanned) do
            assert.is_true(found.code == C.SHOVE_ETIMEOUT or found.code == C.SHOVE_EUNREACHABLE, found.code)
            assert.not_equal("", found.text)
            assert.is_false(found.is_end)
        end
        assert.is_true(now_ms() - began >= PATIENCE_MS - 1000)
        assert.is_true(now_ms() - began < 2 * PATIENCE_MS)
        mock:set_up()
        t:wait(function() return t:scan(topic, 0, -1).code == 0 end, "the broker to come back", 2 * PATIENCE_MS)
    end)

    it("holds up neither the loop nor the end of the transport", function()
        mock:set_rtt(60000)
        local began = now_ms()
        for partition = 0, 3 do assert(t:start_scan(topic, partition, -1)) end
        t:wait(function() return now_ms() - began > 200 end, "a while")
        assert.is_true(now_ms() - began < 1000)
        began = now_ms()
        t:close(1000)
        assert.is_true(now_ms() - began < 5000)
        mock:set_rtt(0)
    end)
end)
