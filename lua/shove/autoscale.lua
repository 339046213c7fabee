-- autoscale.lua: app:autoscale { ... }: when a group gets a consumer more, and when one less.
--
-- Worker processes, while the script is loaded; needs no host. What is not given is the library's: M.defaults, which
-- hold for an app that says nothing, too. The rule itself is runtime/core/autoscale.c; strategy.lua calls the strategy.

local validate = require "shove.validate"

local M = {}

local HOUR_MS = 60 * 60 * 1000
local TIMES_MAX = 1000000

M.defaults = { poll_ms = 5000, up = 2, down = 0.5, hysteresis_ms = 10000, cooldown_ms = 30000 }

local schema = {
    poll = validate.duration(100, HOUR_MS),
    up = validate.number(0, TIMES_MAX),
    down = validate.number(0, TIMES_MAX),
    hysteresis = validate.duration(1, 24 * HOUR_MS),
    cooldown = validate.duration(1, 24 * HOUR_MS),
    strategy = validate.func,
}

local absent = {
    min = "it is consumers.min of a group",
    max = "it is consumers.max of a group",
}

-- The rule of an app: options as the script gives them -> a table like M.defaults.
function M.build(options)
    if options == nil then
        validate.fail("autoscale", 'no options were given; write { poll = "5s" }, or no call for the defaults')
    end
    local given = validate.options("autoscale", options, schema, absent)
    local rule = {
        poll_ms = given.poll or M.defaults.poll_ms,
        up = given.up or M.defaults.up,
        down = given.down or M.defaults.down,
        hysteresis_ms = given.hysteresis or M.defaults.hysteresis_ms,
        cooldown_ms = given.cooldown or M.defaults.cooldown_ms,
        strategy = given.strategy,
    }
    if rule.up <= rule.down then
        validate.fail("autoscale",
            "up = %g is not more than down = %g: consumers would be added and taken away by turns", rule.up, rule.down)
    end
    return rule
end

return M
