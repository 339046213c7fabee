-- size.lua: "10MiB", "64KiB", "500kB" or a number of bytes, to whole bytes and back. Pure.

local show = require "shove.show"

local M = {}

local BYTES_PER_UNIT = {
    B = 1,
    KiB = 1024, MiB = 1024 ^ 2, GiB = 1024 ^ 3,
    kB = 1000, MB = 1000 ^ 2, GB = 1000 ^ 3,
}

-- Beyond this, a number no longer counts single bytes.
local BYTES_MAX = 2 ^ 53

local function refuse(value)
    return nil, show.value(value) .. ' is not a size; write "10MiB", "64KiB", "500kB" or a number of bytes'
end

-- Returns bytes (which may be zero or negative: a range is the caller's business), or nil and the reason.
function M.parse(value)
    local amount, unit_bytes
    if type(value) == "number" then
        amount, unit_bytes = value, 1
    elseif type(value) == "string" then
        local digits, unit = value:match "^(%-?%d+%.?%d*)(%a+)$"
        amount, unit_bytes = tonumber(digits), BYTES_PER_UNIT[unit]
    end
    if not amount or not unit_bytes then
        return refuse(value)
    end
    local bytes = amount * unit_bytes
    if bytes ~= bytes or bytes > BYTES_MAX or bytes < -BYTES_MAX then
        return refuse(value)
    elseif bytes % 1 ~= 0 then
        return nil, show.value(value) .. " is not a whole number of bytes"
    end
    return bytes
end

-- The shortest way to write a whole number of bytes.
function M.format(bytes)
    for _, unit in ipairs { "GiB", "MiB", "KiB" } do
        if bytes >= BYTES_PER_UNIT[unit] and bytes % BYTES_PER_UNIT[unit] == 0 then
            return ("%d%s"):format(bytes / BYTES_PER_UNIT[unit], unit)
        end
    end
    return ("%dB"):format(bytes)
end

return M
