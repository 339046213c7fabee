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
local MESSAGES = 200
local KILLS = 2
-- Two consumers of 10 in flight each, 2 ms of work: within the half second between commits some thousands could be
-- handled, so of 200 messages all but those committed may come again after each kill.
local REPEATED_AT_MOST = KILLS * (MESSAGES + MESSAGES / 5)

for name, url in pairs(scene.brokers) do
    describe("control killed, on " .. name, function()
        for _, step in ipairs(STEPS) do
            it(("loses nothing and keeps holds when it dies after step %d: %s"):format(step[1], step[2]), function()
                local s = scene.new { url = url }
                s:publish(MESSAGES)
                for kill = 1, KILLS do
                    -- Further into the work each time, except that two commits may already be all there is to do.
                    local passes = step[1] == 8 and 1 or kill * 2
                    local p = s:run { SHOVE_ABORT_AT = ("%d:%d"):format(step[1], passes) }
                    local _, signal = p:wait_exit(60000)
                    assert.equal(9, signal, p:transcript())
                end
                assert.equal(0, (s:finish()))
                s:judge(REPEATED_AT_MOST)
            end)
        end
    end)
end
