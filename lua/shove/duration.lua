-- duration.lua: "500ms", "5s", "5m", "1h" or a number of seconds, to whole milliseconds and back. Pure.

local show = require "shove.show"

local M = {}

local MS_PER_UNIT = { ms = 1, s = 1000, m = 60 * 1000, h = 60 * 60 * 1000 }

-- Beyond this, a number no longer counts single milliseconds.
local MS_MAX = 2 ^ 53

local function refuse(value)
    return nil, show.value(value) .. ' is not a duration; write "500ms", "5s", "5m", "1h" or a number of seconds'
end

-- Returns milliseconds (which may be zero or negative: a range is the caller's business), or nil and the
-- reason.
function M.parse(value)
    local amount, unit_ms
    if type(value) == "number" then
        amount, unit_ms = value, MS_PER_UNIT.s
    elseif type(value) == "string" then
        local digits, unit = string.match(value, "^(%-?%d+%.?%d*)(%l+)$")
        amount, unit_ms = tonumber(digits), MS_PER_UNIT[unit]
    end
    if not amount or not unit_ms then
        return refuse(value)
    end
    local ms = amount * unit_ms
    if ms ~= ms or ms > MS_MAX or ms < -MS_MAX then
        return refuse(value)
    end
    -- 0.1 * 1000 and its like are not whole, though they mean to be.
    local whole_ms = math.floor(ms + 0.5)
    if math.abs(ms - whole_ms) > 1e-6 then
        return nil, show.value(value) .. " is not a whole number of milliseconds"
    end
    return whole_ms
end

-- The shortest way to write a whole number of milliseconds.
function M.format(ms)
    for _, unit in ipairs { "h", "m", "s" } do
        if ms >= MS_PER_UNIT[unit] and ms % MS_PER_UNIT[unit] == 0 then
            return ("%d%s"):format(ms / MS_PER_UNIT[unit], unit)
        end
    end
    return ("%dms"):format(ms)
end

return M
