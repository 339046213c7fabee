-- A topic that is deleted and created anew under a consumer, again and again.
local uv = require "luv"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local members = require "spec.transport.members"
local process = require "spec.support.process"
local rdkafka = require "spec.support.librdkafka"

require("ffi").cdef "int rd_kafka_version(void);"

local ROUNDS = 8
local NOTICE_MS = 70000 -- README: up to a minute
local STEP = 5

local function recreate(broker, topic, partitions)
    broker:delete_topic(topic)
    broker:create_topic(topic, { partitions = partitions or 1 })
end

local function lives()
    local version = rdkafka.rd_kafka_version()
    return kafka.is_client_ours() or version < 0x02040000 or version >= 0x020a0000
end

describe("A consumer of a topic that is created anew", function()
    local function consume(broker, topic)
        local peer = process.spawn { uv.exepath():match "^(.*)/" .. "/transport_peer", broker.url, "consume",
            kafka.unique "group", topic, stdin = "pipe" }
        peer:wait_for("assigned 1", driver.deadline_ms)
        return peer
    end

    -- As many records as that, until the last one was taken.
    local function pass(broker, topic, peer, round, count)
        local records = {}
        for i = 1, count do records[i] = { value = ("round %d record %d"):format(round, i), partition = 0 } end
        broker:produce(topic, records)
        local ok, problem = pcall(peer.wait_for, peer, ("took 0 %d round %d "):format(count - 1, round), NOTICE_MS)
        assert(ok, ok or ("%s\nthe log ends at %d"):format(problem, broker:watermarks(topic)[0].high))
    end

    it("lives, and goes on with it", function()
        if not lives() then return pending "librdkafka 2.4 to 2.9 crashes here" end
        local broker = kafka.shared()
        local topic = broker:create_topic(broker:topic "anew", { partitions = 1 })
        local peer = consume(broker, topic)
        for round = 1, ROUNDS do
            if round > 1 then recreate(broker, topic) end
            -- Each time more than before, so that there is always one it has not read, wherever it goes on.
            pass(broker, topic, peer, round, round * STEP)
        end
        peer:close_stdin()
        assert.equal(0, (peer:wait_exit(driver.deadline_ms)), peer:transcript())
    end)

    it("reads it from its beginning, though it has more than was read of the old one", function()
        if not kafka.is_client_ours() then return pending "librdkafka goes on from the old position here" end
        local broker = kafka.shared()
        local topic = broker:create_topic(broker:topic "anew", { partitions = 1 })
        local peer = consume(broker, topic)
        for round = 1, 3 do
            if round > 1 then recreate(broker, topic) end
            pass(broker, topic, peer, round, 4 * round)
        end
        local taken = {}
        for line in peer:text "stdout":gmatch "took 0 ([^\n]+)" do table.insert(taken, line) end
        local expected = {}
        for round = 1, 3 do
            for i = 1, 4 * round do table.insert(expected, ("%d round %d record %d"):format(i - 1, round, i)) end
        end
        assert.same(expected, taken)
    end)

    -- Takes without a turn of the loop in between, which would deliver what librdkafka says of the partitions.
    local function take_at_once(t, claims, count)
        local till = uv.hrtime() + NOTICE_MS * 1e6
        while count > 0 and uv.hrtime() < till do
            for _, claim in ipairs(claims) do count = count - #assert(t:take_once(claim.claim, 100)) end
            uv.sleep(5)
        end
        assert.equal(0, count)
    end

    local function take_in_turns(t, claims, count) t:take(claims, count) end

    for how, take in pairs { ["in turns of the loop"] = take_in_turns, ["at once"] = take_at_once } do
        it("is given each record once, though nothing was in the old one, and another member comes, taken " .. how, function()
            if not kafka.is_client_ours() then return pending "librdkafka may read nothing here" end
            local broker, group = kafka.shared(), kafka.unique "group"
            local topic = broker:create_topic(broker:topic "anew", { partitions = 2 })
            local t = assert(driver.open(broker.url))
            local claims = t:wait_claims(assert(t:subscribe { group = group, topics = { topic } }), 2)
            recreate(broker, topic, 2)
            local function publish(count)
                for partition = 0, 1 do
                    local records = {}
                    for i = 1, count do records[i] = { value = tostring(i), partition = partition } end
                    broker:produce(topic, records)
                end
            end
            publish(3)
            take(t, claims, 6)
            local left = members.share(t, broker.url, group, topic, claims)
            publish(1)
            assert.equal(3, t:take({ left }, 1)[1].offset)
        end)
    end

    it("reads all of it also for a group that begins with what comes", function()
        if not kafka.is_client_ours() then return pending "librdkafka may read nothing here" end
        local broker = kafka.shared()
        local topic = broker:create_topic(broker:topic "anew", { partitions = 1 })
        broker:produce(topic, { { value = "before", partition = 0 } })
        local t = assert(driver.open(broker.url))
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic }, reset = "latest" })
        local claims = t:wait_claims(sub, 1)
        recreate(broker, topic)
        broker:produce(topic, { { value = "a", partition = 0 }, { value = "b", partition = 0 }, { value = "c", partition = 0 } })
        assert.equal(0, t:take(claims, 3)[1].offset)
    end)

    it("goes on with it when the old one had been led by more than one broker, or by one that was started again", function()
        if not kafka.is_client_ours() then return pending "librdkafka waits for as many leaders as the old one had" end
        local broker = kafka.private()
        local topic = broker:create_topic(broker:topic "anew", { partitions = 1 })
        broker:restart()
        local peer = consume(broker, topic)
        pass(broker, topic, peer, 1, 3)
        recreate(broker, topic)
        pass(broker, topic, peer, 2, 2)
        recreate(broker, topic)
        pass(broker, topic, peer, 3, 4)
    end)
end)
