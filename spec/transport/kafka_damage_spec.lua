-- What Kafka has but cannot give as it was written: never passed over, and never waited for in silence.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local tmp = require "spec.support.tmp"
local C = driver.C

local function numbered(from, to)
    local records = {}
    for i = from, to do table.insert(records, { payload = ("record %03d "):format(i) .. ("x"):rep(50), partition = 0 }) end
    return records
end

-- Each list of records is a batch of its own in the log.
local function publish(broker, topic, codec, lists)
    local t = assert(driver.open(broker.url, { properties = { ["compression.type"] = codec, ["linger.ms"] = "50" } }))
    for _, list in ipairs(lists) do
        for _, result in ipairs(t:publish(topic, list)) do assert.equal(0, result.code) end
    end
    t:close()
end

-- Turns round a byte in the middle of batch number `which` of partition 0, in the file.
local function damage(broker, topic, which)
    local path = ("%s/data/%s-0/%020d.log"):format(broker.dir, topic, 0)
    local bytes = tmp.read(path)
    local at, length = 0, 0
    local function size_at(from)
        local a, b, c, d = bytes:byte(from + 1, from + 4)
        return ((a * 256 + b) * 256 + c) * 256 + d + 12
    end
    for _ = 1, which do at, length = at + length, size_at(at + length + 8) end
    local middle = at + 61 + math.floor((length - 61) / 2)
    local file = assert(io.open(path, "r+b"))
    assert(file:seek("set", middle))
    assert(file:write(string.char((bytes:byte(middle + 1) + 128) % 256)))
    file:close()
end

local CASES = {
    { "a batch that cannot be unpacked", "gzip", {} },
    { "a batch that fails its checksum, when those are looked at", "none", { ["check.crcs"] = "true" } },
}

describe("A damaged batch in Kafka", function()
    for _, case in ipairs(CASES) do
        it("ends the group there, and nothing beyond it is given: " .. case[1], function()
            local broker = kafka.shared()
            local topic = broker:create_topic(broker:topic "damaged", { partitions = 1 })
            publish(broker, topic, case[2], { numbered(0, 4), numbered(5, 9), numbered(10, 14) })
            damage(broker, topic, 2)
            local t = assert(driver.open(broker.url, { properties = case[3] }))
            local group = kafka.unique "group"
            local sub = assert(t:subscribe { group = group, topics = { topic } })
            local claim = t:wait_claims(sub, 1)[1].claim
            local taken = {}
            t:wait(function()
                local records = t:take_once(claim, 100)
                for _, record in ipairs(records or {}) do table.insert(taken, record.offset) end
                return not records
            end, "the damage to be found")
            assert.same({ 0, 1, 2, 3, 4 }, taken)
            t:wait_events("lost", 1)
            t:release { claim }
            t:wait_events("ended", 1)
            local ended = t.events.ended[1]
            assert.equal(C.SHOVE_ECORRUPT, ended.code)
            assert.matches(topic .. " [0]", ended.text, 1, true)
            assert.matches("move group '" .. group .. "' past it", ended.text, 1, true)
        end)

        it("is where reading ends, as often as it is tried: " .. case[1], function()
            local broker = kafka.shared()
            local topic = broker:create_topic(broker:topic "damaged", { partitions = 1 })
            publish(broker, topic, case[2], { numbered(0, 4), numbered(5, 9), numbered(10, 14) })
            damage(broker, topic, 2)
            local t = assert(driver.open(broker.url, { properties = case[3] }))
            local read = {}
            for _, record in ipairs(assert(t:read(topic, 0, 0, 100))) do table.insert(read, record.offset) end
            assert.same({ 0, 1, 2, 3, 4 }, read)
            for _ = 1, 2 do
                local records, code, text = t:read(topic, 0, 5, 100)
                assert.is_nil(records)
                assert.equal(C.SHOVE_ECORRUPT, code)
                assert.matches(topic .. " [0] from offset 5: ", text, 1, true)
            end
        end)
    end
end)

describe("A fetch that Kafka refuses for no reason shove knows", function()
    it("is told of, and tried again", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url))
        local claims = t:wait_claims(assert(t:subscribe { group = "g", topics = { topic } }), 1)
        mock:fail("Fetch", "POLICY_VIOLATION", "POLICY_VIOLATION")
        t:wait(function()
            t:take_once(claims[1].claim, 10)
            return #t.events.notice > 0
        end, "a notice")
        assert.equal(C.SHOVE_ECONFIG, t.events.notice[1].code)
        assert.matches("orders [0]: ", t.events.notice[1].text, 1, true)
        for _, result in ipairs(t:publish(topic, numbered(1, 3))) do assert.equal(0, result.code) end
        assert.equal(3, #t:take(claims, 3))
    end)
end)

describe("A topic of Kafka's that begins again", function()
    it("is given whole, also where its offsets are those of the last take", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url))
        for _, result in ipairs(t:publish(topic, numbered(0, 99))) do assert.equal(0, result.code) end
        local claims = t:wait_claims(assert(t:subscribe { group = "g", topics = { topic } }), 1)
        local claim = claims[1].claim
        local first = {}
        t:wait(function() -- in portions, and the rest waits in librdkafka's queue when it resets the offset
            for _, record in ipairs(t:take_once(claim, 20 - #first)) do table.insert(first, record) end
            return #first == 20 and tonumber(t:backlog(claim)) == 80
        end, "the first portion")
        local refuse_at = 0
        t:wait(function() -- an error of the fetch that tells of the end is overlooked
            local now = tonumber(C.shove_clock_mono_ms())
            if now >= refuse_at then
                mock:fail("Fetch", "OFFSET_OUT_OF_RANGE")
                refuse_at = now + 1000
            end
            return #t.events.notice > 0
        end, "the reset to be told")
        local again = {}
        for _ = 1, 4 do assert.equal(20, #assert(t:take_once(claim, 20))) end
        t:wait(function()
            C.recorder_run(t.recorder, 50) -- all of it comes in one take
            for _, record in ipairs(t:take_once(claim, 200)) do table.insert(again, record.offset) end
            return #again >= 80
        end, "the records again")
        local expected = {}
        for i = 0, 99 do expected[i + 1] = i end
        assert.same(expected, again)
    end)
end)
