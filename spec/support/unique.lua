-- Names that nobody else uses: no other spec, no other file of this run, no earlier run on a broker that is still there.
--
--     local queue = unique "crash"
--
-- Nothing is counted here, because a count does not last: busted forgets a spec file's modules when the file ends, and
-- the next file's would begin again at 1, in the same process and on the same broker. Two specs on one topic read
-- each other's leavings, and that looks like a message delivered early, or like one that was not lost.

local uv = require "luv"

return function(prefix)
    return ("%s-%d-%.0f"):format(prefix, uv.os_getpid(), uv.hrtime())
end
