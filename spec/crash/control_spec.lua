-- Control is SIGKILLed at each numbered step of a message's life (runtime/control/abort_point.h), twice, then runs on.

local scene = require "spec.crash.scene"

local STEPS = {
    { 1, "a record came out of its partition's queue" },
    { 2, "its ledger slot is open" },
    { 3, "it is in a worker's arena" },
    { 4, "its next hop is decided" },
    { 5, "its retry is on the way to the hold topic" },
    { 6, "its dead letter is on the way to the DLQ" },
    { 7, "its slot is closed and nothing is committed" },
    { 8, "the commit was sent" },
}
local MESSAGES = 540
-- When nothing is committed yet, and when a good deal more was handled than may be handled again.
local KILLS = { "%d:1", "%d:1:450" }
-- With messages that kill their workers: when nothing is committed yet, and when some of their dead letters are done with.
local CULPRIT_MESSAGES = 420
local CULPRIT_KILLS = { "6:1", "6:1:300" }

for name, url in pairs(scene.brokers) do
    describe("control killed, on " .. name, function()
        for _, step in ipairs(STEPS) do
            it(("loses nothing, keeps holds and repeats little when it dies after step %d: %s"):format(step[1], step[2]),
                function()
                    local s = scene.new { url = url }
                    s:publish(MESSAGES)
                    local repeated_at_most = 0
                    for _, kill in ipairs(KILLS) do
                        local before = s:handled()
                        local p = s:run { SHOVE_ABORT_AT = kill:format(step[1]) }
                        local _, signal = p:wait_exit(60000)
                        assert.equal(9, signal, p:transcript())
                        repeated_at_most = repeated_at_most + s:repeated_after_kill(s:handled() - before)
                    end
                    assert.equal(0, (s:finish()))
                    s:judge(repeated_at_most)
                end)
        end

        it("loses no dead letter of messages that kill their workers", function()
            local s = scene.new { url = url, culprits = true }
            s:publish(CULPRIT_MESSAGES)
            for _, kill in ipairs(CULPRIT_KILLS) do
                local p = s:run { SHOVE_ABORT_AT = kill }
                local _, signal = p:wait_exit(60000)
                assert.equal(9, signal, p:transcript())
            end
            local code, p = s:finish()
            assert.equal(2, code, p:transcript())
            s:judge(math.huge) -- each death of a worker repeats what was beside its culprit
        end)
    end)
end
