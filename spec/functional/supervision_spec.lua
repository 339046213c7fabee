-- A group that dies by an error that may pass is joined again. (Five times in a row: spec/crash/breaker_spec.lua.)

local cjson = require "cjson"
local assert = require "luassert"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local mocked = require "spec.support.mocked"

local WAIT_MS = 20000

describe("A group that Kafka throws out", function()
    it("is joined again after 2 s and goes on where it was; the exit says that a consumer failed", function()
        local m = mocked.start()
        local s, p = m.s, m.p
        s:publish { "a" }
        s:wait("ended", { "a" })
        m.mock:fail("Heartbeat", "FENCED_INSTANCE_ID")
        p:wait_for('stopped and is started again .*code=EFATAL .*failures=1 +in="2 s"', WAIT_MS)
        local rests = m:status()
        assert.equal("resting", rests.state)
        assert.matches("fenced", rests.error)
        s:publish { "c" }
        s:wait("ended", { "c" })
        local back = m:status()
        assert.same({ "joined", cjson.null }, { back.state, back.error })
        assert.equal(1, (app.drain(p)), p:transcript())
        assert.equal(1, s:count("began", "c"))
    end)

    it("is not tried again while the app drains, and does not hold the drain up", function()
        local m = mocked.start()
        local s, p = m.s, m.p
        s:publish { "a" }
        s:wait("ended", { "a" })
        m.mock:fail("Heartbeat", "FENCED_INSTANCE_ID")
        p:wait_for("stopped and is started again", WAIT_MS)
        assert.equal(1, (app.drain(p)), p:transcript())
        assert.is_nil(p:text "stderr":find("the consumer group is started again", 1, true))
    end)
end)

describe("A commit that Kafka refuses because of a rebalance", function()
    it("is offered again, and the drain waits for that", function()
        local m = mocked.start()
        m.s:publish { "a gate" }
        m.s:wait("began", { "a" })
        local can_count = kafka.is_client_ours()
        if can_count then m.mock:track() end
        m.mock:fail("OffsetCommit", "REBALANCE_IN_PROGRESS", "REBALANCE_IN_PROGRESS", "REBALANCE_IN_PROGRESS")
        m.s:open "gate"
        m.s:wait("ended", { "a" })
        assert.equal(0, (app.drain(m.p)), m.p:transcript())
        if can_count then assert.is_true(m.mock:count_requests "OffsetCommit" >= 4) end
        assert.equal(1, m:committed())
    end)
end)
