-- Partitions of Kafka's that come and go.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local C = driver.C

-- The mock cluster keeps a member it was told to forget until its session is over.
local FAST = { ["heartbeat.interval.ms"] = "100", ["session.timeout.ms"] = "4000" }

local function opened(broker, partitions, options)
    local t = assert(driver.open(broker.url, options))
    local topic = broker:create_topic(broker:topic "topic", { partitions = partitions })
    return t, topic
end

local function texts(from, to, partition)
    local records = {}
    for i = from, to do table.insert(records, { payload = tostring(i), value = tostring(i), partition = partition }) end
    return records
end

local function payloads(records)
    local list = {}
    for i, record in ipairs(records) do list[i] = record.payload end
    return list
end

-- Both transports' loops, in turns, until is_done().
local function together(a, b, is_done, what)
    a:wait(function()
        C.recorder_run(b.recorder, 5)
        b:drain()
        return is_done()
    end, what)
end

local function claims_of(t, sub)
    local held = {}
    for i = sub.assigned_before + 1, #t.events.assigned do
        local event = t.events.assigned[i]
        if driver.address_key(event.subscription) == sub.key then held[event.partition] = event end
    end
    return held
end

local function count(map)
    local n = 0
    for _ in pairs(map) do n = n + 1 end
    return n
end

describe("Two members of a group on Kafka", function()
    for _, strategy in ipairs { "cooperative-sticky", "range" } do
        it(("share its partitions, and none is taken before it was released (%s)"):format(strategy), function()
            local broker = kafka.shared()
            local options = { properties = { ["partition.assignment.strategy"] = strategy } }
            local t, topic = opened(broker, 4, options)
            local group = kafka.unique "group"
            local first = assert(t:subscribe { group = group, topics = { topic } })
            t:wait_claims(first, 4)
            local other = assert(driver.open(broker.url, options))
            local second = assert(other:subscribe { group = group, topics = { topic } })
            together(t, other, function() return #t.events.revoking > 0 end, "the first to be asked for partitions")
            local asked = #t.events.revoking
            assert.equal(strategy == "range" and 4 or 2, asked)
            -- As long as they are not released, nobody else has them; the member stays, and so do its other partitions.
            local deadline = tonumber(C.shove_clock_mono_ms()) + 1500
            together(t, other, function() return tonumber(C.shove_clock_mono_ms()) > deadline end, "a second and a half")
            assert.equal(0, #other.events.assigned)
            assert.equal(0, #t.events.lost)
            for i = 1, asked do t:release { t.events.revoking[i].claim } end
            together(t, other, function() return #other.events.assigned == 2 end, "the second to get its share")
            broker:produce(topic, texts(1, 4))
            other:leave(second)
            first.revoking_before = asked
            local left = count(claims_of(t, first))
            assert.is_true(left >= 2)
            t:wait(function() return count(claims_of(t, first)) == 4 end, "the first to have all again")
            t:leave(first)
        end)
    end

    it("go on from each other's commits, metadata included", function()
        local broker = kafka.shared()
        local t, topic = opened(broker, 1)
        broker:produce(topic, texts(1, 10, 0))
        local group = kafka.unique "group"
        local first = assert(t:subscribe { group = group, topics = { topic } })
        local claims = t:wait_claims(first, 1)
        t:take(claims, 10)
        assert.same({ 0 }, t:commit(first, { { claim = claims[1].claim, offset = 6, metadata = "seven is open" } }))
        t:leave(first)
        local other = assert(driver.open(broker.url))
        local second = assert(other:subscribe { group = group, topics = { topic } })
        local theirs = other:wait_claims(second, 1)
        assert.equal(6, theirs[1].offset)
        assert.equal("seven is open", theirs[1].text)
        assert.same({ "7", "8", "9", "10" }, payloads(other:take(theirs, 4)))
        other:leave(second)
    end)
end)

describe("A member that Kafka forgot", function()
    it("loses its partitions without being asked, and gets them again", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 2)
        local t = assert(driver.open(mock.url, { properties = FAST }))
        local sub = assert(t:subscribe { group = "g", topics = { topic } })
        t:wait_claims(sub, 2)
        mock:fail("Heartbeat", "UNKNOWN_MEMBER_ID")
        t:wait_events("lost", 2)
        assert.equal(0, #t.events.revoking)
        for _, event in ipairs(t.events.lost) do
            local records, code = t:take_once(event.claim, 10)
            assert.is_nil(records)
            assert.equal(C.SHOVE_EREVOKED, code)
            assert.same({ C.SHOVE_EREVOKED }, t:commit(sub, { { claim = event.claim, offset = 5 } }))
            t:release { event.claim }
        end
        t:wait_events("assigned", 4)
        local claims = { t.events.assigned[3], t.events.assigned[4] }
        assert.same({ 0, 0 }, { claims[1].offset, claims[2].offset })
        assert.same({ 0 }, t:commit(sub, { { claim = claims[1].claim, offset = 0 } }))
        t.events.lost = {}
        t:leave(sub)
    end)
end)

describe("A member that takes nothing", function()
    it("is not evicted for not polling, and what it was sent is still there", function()
        local broker = kafka.shared()
        local t, topic = opened(broker, 2,
            { properties = { ["max.poll.interval.ms"] = "1500", ["session.timeout.ms"] = "1500",
                ["heartbeat.interval.ms"] = "300" } })
        broker:produce(topic, texts(1, 20))
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic } })
        local claims = t:wait_claims(sub, 2)
        local deadline = tonumber(C.shove_clock_mono_ms()) + 5000
        t:wait(function() return tonumber(C.shove_clock_mono_ms()) > deadline end, "three poll intervals to pass")
        assert.equal(0, #t.events.lost + #t.events.revoking)
        assert.equal(20, #t:take(claims, 20))
        assert.same({ 0 }, t:commit(sub, { { claim = claims[1].claim, offset = 1 } }))
        t:leave(sub)
    end)
end)

describe("Where to begin", function()
    it("is asked again until it is known", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url))
        mock:fail("OffsetFetch", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_LOAD_IN_PROGRESS",
            "COORDINATOR_LOAD_IN_PROGRESS")
        mock:fail("ListOffsets", "KAFKA_STORAGE_ERROR", "KAFKA_STORAGE_ERROR")
        local sub = assert(t:subscribe { group = "g", topics = { topic } })
        t:wait_claims(sub, 1)
        t:leave(sub)
    end)

    it("cannot be learned without permission, and the subscription ends", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url))
        mock:fail("OffsetFetch", "GROUP_AUTHORIZATION_FAILED")
        local sub = assert(t:subscribe { group = "g", topics = { topic } })
        assert.equal(C.SHOVE_EDENIED, t:wait_ended(sub).code)
    end)

    it("need not be known to leave", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url))
        local busy = {}
        for i = 1, 1000 do busy[i] = "COORDINATOR_LOAD_IN_PROGRESS" end
        mock:fail("OffsetFetch", unpack(busy))
        local sub = assert(t:subscribe { group = "g", topics = { topic } })
        local deadline = tonumber(C.shove_clock_mono_ms()) + 1500
        t:wait(function() return tonumber(C.shove_clock_mono_ms()) > deadline end, "the look-up to be under way")
        assert.equal(0, #t.events.assigned)
        assert.equal(0, t:leave(sub).code)
        assert.equal(0, #t.events.assigned)
    end)

    for _, reset in ipairs { "earliest", "latest" } do
        it("moves to the oldest record left when retention took the committed one, with a notice: " .. reset, function()
            local broker = kafka.shared()
            local t, topic = opened(broker, 1)
            broker:produce(topic, texts(1, 10, 0))
            local group = kafka.unique "group"
            assert(t:committed_set(group, topic, 0, 2))
            assert(t:delete_before(topic, 0, 5))
            local sub = assert(t:subscribe { group = group, topics = { topic }, reset = reset })
            local records = t:take(t:wait_claims(sub, 1), 5)
            assert.same({ "6", "7", "8", "9", "10" }, payloads(records))
            t:wait_events("notice", 1)
            assert.equal(C.SHOVE_EOFFSET, t.events.notice[1].code)
            t:leave(sub)
        end)
    end

    it("is unknown under none when retention took the committed record, and the subscription ends", function()
        local broker = kafka.shared()
        local t, topic = opened(broker, 1)
        broker:produce(topic, texts(1, 10, 0))
        local group = kafka.unique "group"
        assert(t:committed_set(group, topic, 0, 2))
        assert(t:delete_before(topic, 0, 5))
        local sub = assert(t:subscribe { group = group, topics = { topic }, reset = "none" })
        local claims = t:wait_claims(sub, 1)
        t:wait(function()
            t:take_once(claims[1].claim, 100)
            return #t.events.lost > 0
        end, "the claims to be lost")
        local ended = t:finish(sub)
        assert.equal(C.SHOVE_EOFFSET, ended.code)
        assert.matches(topic, ended.text, 1, true)
    end)
end)

describe("A topic on Kafka", function()
    it("that is missing ends the subscription, and is not created", function()
        local broker = kafka.shared()
        local t = assert(driver.open(broker.url))
        local topic = broker:topic "missing"
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic } })
        local ended = t:wait_ended(sub)
        assert.equal(C.SHOVE_ENOTOPIC, ended.code)
        assert.matches(topic, ended.text, 1, true)
        assert.is_nil(broker:partitions(topic))
    end)

    it("that is a hold and is missing is a notice, and is not created; the others are consumed", function()
        local broker = kafka.shared()
        local t, topic = opened(broker, 1)
        local missing = broker:topic "missing"
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic, missing }, holds = 1 })
        -- As long as it is waited for a topic that may yet come.
        assert.equal(C.SHOVE_ENOTOPIC, t:wait_ended(assert(t:subscribe {
            group = kafka.unique "group", topics = { broker:topic "missing" },
        })).code)
        local claims = t:wait_claims(sub, 1)
        t:wait(function()
            for _, event in ipairs(t.events.notice) do
                if event.code == C.SHOVE_ENOTOPIC and event.text:find(missing, 1, true) then return true end
            end
        end, "a notice")
        broker:produce(topic, texts(1, 3, 0))
        assert.same({ "1", "2", "3" }, payloads(t:take(claims, 3)))
        assert.is_nil(t:has_ended(sub))
        assert.is_nil(broker:partitions(missing))
        t:leave(sub)
    end)

    it("that is deleted under way is given up with a notice; the others go on", function()
        local broker = kafka.shared()
        local t, topic = opened(broker, 1, { properties = { ["topic.metadata.refresh.interval.ms"] = "300" } })
        local doomed = broker:create_topic(broker:topic "doomed")
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic, doomed } })
        local claims = t:wait_claims(sub, 2)
        broker:delete_topic(doomed)
        t:wait(function()
            for _, event in ipairs(t.events.notice) do
                if event.code == C.SHOVE_ENOTOPIC and event.text:find(doomed, 1, true) then return true end
            end
        end, "a notice")
        t:wait(function() return #t.events.revoking + #t.events.lost >= 1 end, "the partition to be taken away")
        for _, kind in ipairs { "revoking", "lost" } do
            for _, event in ipairs(t.events[kind]) do
                assert.equal(1, event.claim.topic_index)
                t:release { event.claim }
            end
        end
        sub.revoking_before, t.events.lost = #t.events.revoking, {}
        broker:produce(topic, texts(1, 3, 0))
        local kept = claims[1].topic == topic and claims[1] or claims[2]
        assert.same({ "1", "2", "3" }, payloads(t:take({ kept }, 3)))
        t:leave(sub)
    end)
end)
