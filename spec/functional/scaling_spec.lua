-- Consumers that come and go with the backlog. How many a group has is seen from how many of its handlers run at once:
-- each takes one message here, and waits at a gate.

local assert = require "luassert"
local app = require "spec.support.app"
local steered = require "spec.support.steered"

local QUICK = [[app:autoscale { poll = "100ms", hysteresis = "200ms", cooldown = "300ms" }]]
local WAIT_MS = 20000

local function gated(count, words)
    local texts = {}
    for i = 1, count do texts[i] = ("m%02d gate%s"):format(i, words or "") end
    return texts
end

local function count(text, words)
    local _, times = text:gsub(words:gsub("%p", "%%%0"), "")
    return times
end

-- Lines about the group's consumers: "1 2" for one that was added to one.
local function changes(p)
    local list = {}
    for before, after in p:text "stderr":gmatch "consumers were [^\n]-before=(%d+) +consumers=(%d+)" do
        table.insert(list, before .. " " .. after)
    end
    return list
end

for _, broker in ipairs(steered.brokers) do
    describe("A group whose consumers may be 1 to 4, on " .. broker.name, function()
        it("gets more while more is ready than twice what they take, up to 4, and is back at 1 when all is done", function()
            local s = steered.new { url = broker.url, partitions = 4, group = "consumers = { min = 1, max = 4 }", extra = QUICK }
            s:declare()
            s:publish(gated(12))
            local p = s:run()
            s:wait("began", 1)
            p:wait_for("before=3 +consumers=4", WAIT_MS)
            s:wait("began", 4)
            assert.same({ "1 2", "2 3", "3 4" }, changes(p))
            s:open "gate"
            s:wait("ended", 12)
            p:wait_for("before=2 +consumers=1", WAIT_MS)
            assert.same({ "1 2", "2 3", "3 4", "4 3", "3 2", "2 1" }, changes(p))
            assert.equal(0, (app.drain(p)), p:transcript())
            assert.equal(12, s:count "began")
            assert.equal(1, count(p:text "stderr", "partitions assigned"), "a rebalance: " .. p:transcript())
        end)

        it("keeps those that are busy, and has no more than it had while it drains", function()
            local s = steered.new { url = broker.url, partitions = 4, group = "consumers = { min = 0, max = 2 }", extra = QUICK }
            s:declare()
            s:publish { "a gate", "b gate", "c 1s" }
            local p = s:run()
            s:wait("began", { "a", "b" }) -- from none
            p:kill "sigterm"
            p:wait_for("draining", WAIT_MS)
            s:open "gate"
            assert.equal(0, (p:wait_exit(WAIT_MS)), p:transcript())
            assert.same({ "0 1", "1 2" }, changes(p))
            assert.equal(0, s:count("began", "c"))
        end)

        it("is not given more for retries that are not due yet", function()
            local s = steered.new {
                url = broker.url, partitions = 4, group = "consumers = { min = 1, max = 3 }", holds = { "60s" }, extra = QUICK,
            }
            s:declare()
            s:publish(gated(8, " retry"))
            local p = s:run()
            p:wait_for("before=2 +consumers=3", WAIT_MS)
            s:open "gate"
            p:wait_for("before=2 +consumers=1", WAIT_MS)
            assert.same({ "1 2", "2 3", "3 2", "2 1" }, changes(p))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end
