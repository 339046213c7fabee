-- Two members of a group in one program: each hears of the rebalance only while it is waited with.
local driver = require "spec.transport.driver"

local M = {}

-- As t:wait, and `other` is at work meanwhile.
function M.wait(t, other, is_done, what)
    t:wait(function()
        driver.C.recorder_run(other.recorder, 5)
        other:drain()
        return is_done()
    end, what)
end

-- Another member joins the group of t, which has `claims` of two partitions; gives the one that is left to t.
function M.share(t, url, group, topic, claims)
    local other = assert(driver.open(url))
    assert(other:subscribe { group = group, topics = { topic } })
    M.wait(t, other, function() return #t.events.revoking > 0 end, "a partition to be asked for")
    local given = t.events.revoking[1].claim
    t:release { given }
    M.wait(t, other, function() return #other.events.assigned > 0 end, "the other member to have it")
    return claims[1].claim == given and claims[2] or claims[1]
end

return M
