-- strategy.lua: calls the autoscaler's strategy in a worker, for each group that can be scaled now.
--
-- Worker processes only: needs the host. It runs in a coroutine of its own, as app:on_start does, so the strategy may
-- wait; control gives it a second for all groups together (runtime/control/strategy.h).

local host = require "shove.host"

local groups = require "shove.groups"

local M = {}

local advise, describe_error = host.advise, host.describe_error
local gsub, ipairs, xpcall = string.gsub, ipairs, xpcall

-- Without the frame of the call below, behind which there is nothing.
local function describe(err)
    return (gsub(describe_error(err), "\n\t%[C%]: in function 'xpcall'$", ""))
end

-- The function to run at each poll; nil for an app without a strategy.
function M.runner(strategy)
    return strategy and function()
        for _, stats in ipairs(groups.live()) do
            local name, broker = stats.group, stats.broker -- the strategy may change its table
            if stats.state == "joined" and not stats.paused and stats.min < stats.max then
                advise(name, broker, xpcall(strategy, describe, stats))
            end
        end
    end
end

return M
