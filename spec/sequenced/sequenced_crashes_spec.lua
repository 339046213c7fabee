-- A message that kills its workers: what becomes of those that follow it under its key, and of other keys.

local assert = require "luassert"
local app = require "spec.support.app"
local sequenced = require "spec.support.sequenced"
local steered = require "spec.support.steered"

local WAIT_MS = 20000

for _, broker in ipairs(steered.brokers) do
    describe("the order of a key, on " .. broker.name .. ",", function()
        for policy, row in pairs {
            skip = { "goes on", "a1 a1 a1 a2 a2. a3 a3.", "a1 crashed" },
            fail_all = { "ends there", "a1 a1 a1", "a1 crashed, a2 sequence_poisoned, a3 sequence_poisoned" },
        } do
            it(("%s behind what killed its worker max_crashes times, with %q"):format(row[1], policy), function()
                local s = sequenced.new(broker, { policy = policy, group = "prefetch = 20, max_crashes = 3" })
                s:publish({ "a1 kill", "a2", "a3" }, { key = "a" })
                s:publish(sequenced.names("b", 10), { key = "b" })
                local p = s:run()
                s:wait("ended", { "b10" })
                if policy == "skip" then s:wait("ended", { "a3" }) end
                s:wait_letters(policy == "skip" and 1 or 3)
                assert.equal(row[2], s:course "a")
                assert.equal(row[3], sequenced.letters(s))
                sequenced.judge(s, "b", 10)
                assert.equal(2, (app.drain(p)), p:transcript())
            end)

            it(("%s behind what was found guilty when it was alone in its worker, with %q"):format(row[1], policy), function()
                local s = sequenced.new(broker, { policy = policy, group = "prefetch = 20, max_crashes = 1" })
                s:publish({ "a1 bomb", "a2", "a3" }, { key = "a" })
                s:publish({ "b1 shut", "b2", "b3" }, { key = "b" })
                local p = s:run()
                p:wait_for("outcome=crashed", WAIT_MS)
                s:open "shut" -- b1 was beside it twice, and is alone in the worker until it has ended, too
                s:wait("ended", { "b3" })
                if policy == "skip" then s:wait("ended", { "a3" }) end
                s:wait_letters(policy == "skip" and 1 or 3)
                assert.equal(row[2], s:course "a")
                assert.equal(row[3], sequenced.letters(s))
                assert.matches("^b1 [b1 ]*b1%. b2 b2%. b3 b3%.$", s:course "b")
                assert.equal(2, (app.drain(p)), p:transcript())
            end)
        end
    end)
end
