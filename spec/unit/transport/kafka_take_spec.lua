-- Records as they come out of Kafka: exact, whoever wrote them and however they were compressed.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local members = require "spec.transport.members"
local wait = require "spec.support.wait"

-- Every kind of payload with every number of headers: what shove knows of headers it reads off the record where it can.
local PAYLOADS = { { "null", nil }, { "empty", "" }, { "zeros", "\0\0\0" }, { "text", '{"id":1}' }, { "ends in zero", "x\0" } }
local HEADERS = {
    {}, { { "a", "1" } }, { { "a", nil } }, { { "a", "" } }, { { "a", "\0\255" }, { "a", "2" }, { "b", nil } },
}
local KEYS = { "none", nil }

local function all_kinds()
    local records = {}
    for _, payload in ipairs(PAYLOADS) do
        for h, headers in ipairs(HEADERS) do
            for k = 1, 3 do
                table.insert(records, {
                    value = payload[2], payload = payload[2], headers = headers, partition = 0,
                    key = k == 1 and "key" or k == 2 and "" or KEYS[2], timestamp_ms = 1700000000000 + #records,
                    what = payload[1] .. " payload, header list " .. h .. ", key " .. k,
                })
            end
        end
    end
    return records
end

-- The records are older than what a broker keeps by default.
local FOR_EVER = { config = { ["retention.ms"] = "-1" } }

local function assert_same_record(expected, found)
    assert.equal(expected.payload, found.payload, expected.what)
    assert.equal(expected.key, found.key, expected.what)
    assert.equal(expected.timestamp_ms, found.timestamp_ms, expected.what)
    assert.equal(#expected.headers, #found.headers, expected.what)
    for i, header in ipairs(expected.headers) do
        assert.equal(header[1], found.headers[i][1], expected.what)
        assert.equal(header[2], found.headers[i][2], expected.what)
    end
end

describe("Records taken from Kafka", function()
    local function take_all(t, topic, count)
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic } })
        local records = t:take(t:wait_claims(sub, 1), count)
        t:leave(sub)
        return records
    end

    it("are what a stranger wrote", function()
        local broker = kafka.shared()
        local topic = broker:create_topic(broker:topic "kinds", FOR_EVER)
        local expected = all_kinds()
        broker:produce(topic, expected)
        local t = assert(driver.open(broker.url))
        local found = take_all(t, topic, #expected)
        assert.equal(#expected, #found)
        for i, record in ipairs(expected) do assert_same_record(record, found[i]) end
    end)

    for _, codec in ipairs { "none", "gzip", "snappy", "lz4", "zstd" } do
        it("are what was published, compressed with " .. codec, function()
            local broker = kafka.shared()
            local topic = broker:create_topic(broker:topic "codec", FOR_EVER)
            local expected = all_kinds()
            local t = assert(driver.open(broker.url, { properties = { ["compression.type"] = codec, ["linger.ms"] = "50" } }))
            for _, result in ipairs(t:publish(topic, expected)) do assert.equal(0, result.code) end
            local found = take_all(t, topic, #expected)
            for i, record in ipairs(expected) do assert_same_record(record, found[i]) end
            for i, record in ipairs(broker:read(topic, { count = #expected })) do
                assert.equal(expected[i].payload, record.value)
                assert.equal(#expected[i].headers, #record.headers)
            end
        end)
    end

    it("come once each while other members come and go", function()
        local broker = kafka.shared()
        local topic = broker:create_topic(broker:topic "busy", { partitions = 4 })
        local group = kafka.unique "group"
        local t = assert(driver.open(broker.url))
        local sub = assert(t:subscribe { group = group, topics = { topic } })
        t:wait_claims(sub, 4)
        local next_offset, taken, released = {}, 0, 0
        local function work()
            for i = released + 1, #t.events.revoking do t:release { t.events.revoking[i].claim } end
            released = #t.events.revoking
            for _, event in ipairs(t.events.assigned) do
                local claim = not event.is_gone and event.claim
                for i = 1, released do
                    if driver.address_key(t.events.revoking[i].claim) == driver.address_key(event.claim)
                        and t.events.revoking[i].call > event.call then
                        claim, event.is_gone = nil, true
                    end
                end
                if claim then
                    for _, record in ipairs(t:take_once(claim, 7) or {}) do
                        local key = driver.address_key(claim) .. "/" .. event.call
                        assert.is_true(record.offset >= (next_offset[key] or 0),
                            "a record came twice in one assignment: " .. record.offset)
                        next_offset[key] = record.offset + 1
                        taken = taken + 1
                    end
                end
            end
        end
        for _ = 1, 3 do
            local other = assert(driver.open(broker.url))
            local second = assert(other:subscribe { group = group, topics = { topic } })
            members.wait(t, other, function()
                local records = {}
                for i = 1, 40 do records[i] = { value = tostring(i) } end
                broker:produce(topic, records)
                work()
                return #other.events.assigned > 0
            end, "another member to come in")
            other:leave(second)
            other:close()
            t:wait(function()
                work()
                return taken > 100
            end, "records")
        end
        sub.revoking_before = #t.events.revoking
        t:leave(sub)
    end)
end)

-- Records of the claims until is_done(records), while nothing that librdkafka tells is read.
local function take_deaf(t, claims, is_done)
    local records = {}
    wait.until_true(function()
        for _, event in ipairs(claims) do
            for _, record in ipairs(assert(t:take_once(event.claim, 100))) do table.insert(records, record) end
        end
        return is_done(records)
    end, driver.deadline_ms, "the records")
    return records
end

local function offsets_of(records, partition)
    local offsets = {}
    for _, record in ipairs(records) do
        if record.partition == partition then table.insert(offsets, record.offset) end
    end
    return offsets
end

describe("A topic that is made anew under way, before that is noticed", function()
    local broker, topic, t, group, claims

    local function publish(from, to)
        for partition = 0, 1 do
            local records = {}
            for i = from, to do table.insert(records, { value = tostring(i), partition = partition }) end
            broker:produce(topic, records)
        end
    end

    before_each(function()
        broker = kafka.shared()
        topic = broker:create_topic(broker:topic "anew", { partitions = 2 })
        t = assert(driver.open(broker.url, { properties = {
            ["topic.metadata.propagation.max.ms"] = "120000", ["heartbeat.interval.ms"] = "100",
        } }))
        publish(1, 20)
        group = kafka.unique "group"
        claims = t:wait_claims(assert(t:subscribe { group = group, topics = { topic } }), 2)
        t:take(claims, 40)
        broker:delete_topic(topic)
        broker:create_topic(topic, { partitions = 2 })
        publish(1, 5)
    end)

    it("is read from its beginning, and on from there when another member comes", function()
        local records = t:take(claims, 10)
        for partition = 0, 1 do assert.same({ 0, 1, 2, 3, 4 }, offsets_of(records, partition)) end
        publish(6, 40) -- more than the old one had, and fetched before the other member comes
        assert.equal(5, t:take({ members.share(t, broker.url, group, topic, claims) }, 1)[1].offset)
    end)

    it("is read from its beginning by who is kept from everything else meanwhile", function()
        local records = take_deaf(t, claims, function(list) return #list >= 10 end)
        for partition = 0, 1 do assert.same({ 0, 1, 2, 3, 4 }, offsets_of(records, partition)) end
        t:wait_events("notice", 2) -- which is told later
    end)

    it("is read from its beginning when another member comes before anything of it was taken", function()
        t:wait(function()
            local resets = 0
            for _, notice in ipairs(t.events.notice) do
                resets = resets + (notice.code == driver.C.SHOVE_EOFFSET and 1 or 0)
            end
            return resets == 2
        end, "the resets to be told")
        publish(6, 40)
        assert.equal(0, t:take({ members.share(t, broker.url, group, topic, claims) }, 1)[1].offset)
    end)
end)

describe("A partition whose next records have expired", function()
    it("is not read again from its beginning when another member comes, though that was told late", function()
        local broker = kafka.shared()
        local topic = broker:create_topic(broker:topic "expired", { partitions = 2 })
        local function publish(partition, count)
            for i = 1, count do broker:produce(topic, { { value = ("%05d"):format(i):rep(500), partition = partition } }) end
        end
        for partition = 0, 1 do publish(partition, 20) end
        -- One record at a time: what was fetched before is given whatever has expired.
        local t = assert(driver.open(broker.url, { properties = {
            ["queued.min.messages"] = "1", ["fetch.message.max.bytes"] = "1000", ["heartbeat.interval.ms"] = "100",
        } }))
        local group = kafka.unique "group"
        local claims = t:wait_claims(assert(t:subscribe { group = group, topics = { topic } }), 2)
        t:take(claims, 2, 1)
        for partition = 0, 1 do broker:delete_records(topic, partition, 15) end
        take_deaf(t, claims, function(records)
            local ends = 0
            for _, record in ipairs(records) do ends = ends + (record.offset == 19 and 1 or 0) end
            return ends == 2
        end)
        t:wait_events("notice", 2)
        local left = members.share(t, broker.url, group, topic, claims)
        publish(left.partition, 1)
        assert.equal(20, t:take({ left }, 1)[1].offset)
    end)
end)
