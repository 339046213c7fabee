-- What a consumer has before it is what can still come: the offsets at the end of a log that have no record are none of it.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"

describe("The backlog of a partition on Kafka", function()
    local broker, topic, group, t

    before_each(function()
        broker = kafka.shared()
        topic = broker:create_topic(broker:topic "backlog", { partitions = 1 })
        group = kafka.unique "group"
        t = assert(driver.open(broker.url))
    end)

    local function records(count)
        local made = {}
        for i = 1, count do made[i] = { value = tostring(i), partition = 0 } end
        return made
    end

    local function transaction(count, verdict)
        local made = records(count)
        made.verdict = verdict
        return made
    end

    local function join()
        return t:wait_claims(assert(t:subscribe { group = group, topics = { topic } }), 1)
    end

    local function take_exactly(claims, count)
        local left = count
        t:wait(function()
            left = left - #t:take_once(claims[1].claim, left)
            return left == 0
        end, count .. " records")
    end

    local function expect(claims, backlog)
        t:wait(function()
            t:take_once(claims[1].claim, 10) -- must give nothing
            return t:backlog(claims[1].claim) == backlog
        end, ("a backlog of %d"):format(backlog))
    end

    it("is empty behind the last record of a transaction, though its marker has an offset, too", function()
        broker:transactions(topic, { transaction(3, "commit") })
        local claims = join()
        t:take(claims, 3)
        expect(claims, 0)
        assert.equal(4, broker:watermarks(topic)[0].high)
    end)

    it("is empty where the log ends with what was aborted", function()
        broker:produce(topic, records(2))
        broker:transactions(topic, { transaction(5, "abort") })
        local claims = join()
        t:take(claims, 2)
        expect(claims, 0)
    end)

    it("is empty where all that was left to read has expired", function()
        broker:produce(topic, records(20))
        broker:commit(group, topic, 0, 5, "")
        broker:delete_records(topic, 0, 20)
        local claims = join()
        assert.equal(5, tonumber(claims[1].claim.start_offset))
        expect(claims, 0)
    end)

    it("counts what comes after that", function()
        broker:transactions(topic, { transaction(3, "commit") })
        local claims = join()
        t:take(claims, 3)
        expect(claims, 0)
        broker:produce(topic, records(12))
        take_exactly(claims, 2)
        t:wait(function() return t:backlog(claims[1].claim) == 10 end, "a backlog of 10")
        t:take(claims, 10)
        expect(claims, 0)
    end)

    it("counts anew in a topic that was made anew with less", function()
        broker:produce(topic, records(20))
        local claims = join()
        t:take(claims, 20)
        expect(claims, 0)
        broker:delete_topic(topic)
        broker:create_topic(topic, { partitions = 1 })
        broker:produce(topic, records(8))
        take_exactly(claims, 3)
        t:wait(function() return t:backlog(claims[1].claim) == 5 end, "a backlog of 5")
    end)
end)
