-- What "latest" means on Kafka for a partition the group has committed nothing for: its end where the group begins, and its
-- beginning where it was added after that.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local members = require "spec.transport.members"

local FAST = { properties = { ["topic.metadata.refresh.interval.ms"] = "200", ["heartbeat.interval.ms"] = "100" } }

describe("A group that begins with what comes", function()
    local broker, topic, group, t

    local function publish(partition, count)
        local records = {}
        for i = 1, count do records[i] = { value = tostring(i), partition = partition } end
        broker:produce(topic, records)
    end

    before_each(function()
        broker = kafka.shared()
        topic = broker:create_topic(broker:topic "latest", { partitions = 2 })
        group = kafka.unique "group"
        for partition = 0, 1 do publish(partition, 5) end
        t = assert(driver.open(broker.url, FAST))
    end)

    it("skips nothing of a partition that is added under way", function()
        local sub = assert(t:subscribe { group = group, topics = { topic }, reset = "latest" })
        for _, event in ipairs(t:wait_claims(sub, 2)) do assert.equal(5, tonumber(event.claim.start_offset)) end
        local operator = assert(driver.open(broker.url))
        assert(operator:declare { { name = topic, partitions = 3 } })
        publish(2, 3)
        local claims = t:wait_claims(sub, 3)
        assert.equal(2, claims[3].partition)
        assert.equal(0, tonumber(claims[3].claim.start_offset))
        assert.equal(3, #t:take(claims, 3))
    end)

    it("skips the past of all its partitions, though another member has begun before", function()
        local sub = assert(t:subscribe { group = group, topics = { topic }, reset = "latest" })
        local claims = t:wait_claims(sub, 2)
        local other = assert(driver.open(broker.url, FAST))
        local second = assert(other:subscribe { group = group, topics = { topic }, reset = "latest" })
        members.wait(t, other, function() return #t.events.revoking > 0 end, "a partition to be asked for")
        local given = t.events.revoking[1].claim
        local kept = claims[1].claim == given and claims[2].claim or claims[1].claim
        assert.equal(-1, (other:committed_get(group, topic, 0))) -- nothing had been, when it subscribed
        assert.same({ 0 }, t:commit(sub, { { claim = kept, offset = 5 } }))
        t:release { given }
        members.wait(t, other, function() return #other.events.assigned > 0 end, "the other member to have it")
        assert.equal(5, tonumber(other:wait_claims(second, 1)[1].claim.start_offset))
    end)
end)
