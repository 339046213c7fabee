-- Commits that Kafka refuses, and what the subscriber hears of them.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local members = require "spec.transport.members"
local C = driver.C

-- The mock cluster keeps a member it was told to forget until its session is over.
local FAST = { ["heartbeat.interval.ms"] = "100", ["session.timeout.ms"] = "4000" }

describe("A commit on Kafka", function()
    local mock, t, sub, claims

    before_each(function()
        mock = kafka_mock.start()
        local topic = mock:create("orders", 2)
        t = assert(driver.open(mock.url, { properties = FAST }))
        sub = assert(t:subscribe { group = "g", topics = { topic } })
        claims = t:wait_claims(sub, 2)
    end)

    it("refused during a rebalance is told, and can be offered again", function()
        mock:fail("OffsetCommit", "REBALANCE_IN_PROGRESS")
        assert.same({ C.SHOVE_EAGAIN }, t:commit(sub, { { claim = claims[1].claim, offset = 1 } }))
        assert.same({ 0 }, t:commit(sub, { { claim = claims[1].claim, offset = 1 } }))
        t:leave(sub)
    end)

    for _, name in ipairs { "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID" } do
        it(("refused with %s means that the partitions are gone"):format(name), function()
            mock:fail("OffsetCommit", name)
            assert.same({ C.SHOVE_EREVOKED }, t:commit(sub, { { claim = claims[1].claim, offset = 1 } }))
            t:wait_events("lost", 2)
            for _, event in ipairs(t.events.lost) do t:release { event.claim } end
            t.events.lost = {}
            t:wait_events("assigned", 4)
            t:leave(sub)
        end)
    end

    it("that met a coordinator on the move arrives all the same, in order", function()
        mock:fail("OffsetCommit", "NOT_COORDINATOR")
        local opaques = {}
        for offset = 1, 5 do
            table.insert(opaques, t:start_commit(sub, { { claim = claims[1].claim, offset = offset } }))
        end
        for _, opaque in ipairs(opaques) do assert.same({ 0 }, t:wait_commit(opaque, 1)) end
        local order = {}
        for _, event in ipairs(t.events.committed) do table.insert(order, event.opaque) end
        assert.same(opaques, order)
        t:leave(sub)
        assert.equal(5, (t:committed_get("g", "orders", claims[1].partition)))
    end)

    it("says nothing of a claim that was released before the answer", function()
        mock:set_rtt(300)
        t:call("unsubscribe", sub.handle)
        t:wait_events("revoking", 2)
        local opaque = t:start_commit(sub, {
            { claim = claims[1].claim, offset = 1 }, { claim = claims[2].claim, offset = 2 },
        })
        t:release { claims[1].claim }
        t:wait_commit(opaque, 1)
        t:release { claims[2].claim }
        t:wait_ended(sub)
        for _, event in ipairs(t.events.committed) do
            assert.equal(driver.address_key(claims[2].claim), driver.address_key(event.claim))
        end
    end)

    it("under way when the connection broke, and sent again behind a rebalance, does no harm to those that follow", function()
        if not kafka.is_client_ours() then return pending "librdkafka forgets its generation for it" end
        mock:join_at_once()
        local slow = { ["retry.backoff.ms"] = "5000", ["retry.backoff.max.ms"] = "5000", ["reconnect.backoff.max.ms"] = "100" }
        for name, value in pairs(FAST) do slow[name] = value end
        local one = assert(driver.open(mock.url, { properties = slow }))
        local topic = mock:create("moved", 2)
        local joined = assert(one:subscribe { group = "moving", topics = { topic } })
        local held = one:wait_claims(joined, 2)
        mock:track()
        mock:set_rtt(60000)
        local both = { { claim = held[1].claim, offset = 1 }, { claim = held[2].claim, offset = 1 } }
        local opaque = one:start_commit(joined, both)
        one:wait(function() return mock:count_requests "OffsetCommit" == 1 end, "the commit to be sent")
        mock:set_down()
        mock:set_rtt(0)
        mock:set_up()
        local left = members.share(one, mock.url, "moving", topic, held)
        assert.equal(C.SHOVE_EAGAIN, one:wait_commit(opaque, 1)[1])
        assert.same({ 0 }, one:commit(joined, { { claim = left.claim, offset = 2 } }))
        assert.equal(0, #one.events.lost)
    end)
end)
