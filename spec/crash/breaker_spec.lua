-- What a group that fails again and again waits for, with its delays hurried (runtime/control/abort_point.h).

local assert = require "luassert"
local app = require "spec.support.app"
local mocked = require "spec.support.mocked"

local WAIT_MS = 20000
local HURRIED_MS = "1000"

describe("A group that Kafka throws out five times in a row", function()
    it("is only probed from then on, every 300 s, and goes on where it was when a probe succeeds", function()
        local m = mocked.start { env = { SHOVE_HURRY = HURRIED_MS } }
        local s, p = m.s, m.p
        s:publish { "a" }
        s:wait("ended", { "a" })
        p:mark()
        for failure, delay in ipairs { "2 s", "4 s", "8 s", "16 s", "300 s", "300 s" } do
            m.mock:fail("Heartbeat", "FENCED_INSTANCE_ID")
            local words = failure < 5 and "stopped and is started again" or "is only probed from now on"
            p:wait_for(('%s .*failures=%d +in="%s"'):format(words, failure, delay), WAIT_MS)
            p:wait_for("partitions assigned", WAIT_MS)
            p:mark()
        end
        s:publish { "c" }
        s:wait("ended", { "c" })
        assert.equal("joined", m:status().state)
        assert.equal(1, (app.drain(p)), p:transcript())
        assert.equal(1, s:count("began", "a"))
    end)
end)
