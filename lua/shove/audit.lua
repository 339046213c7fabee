-- audit.lua: what the option `audit` of a registry says: where a record of every handled message goes.
--
-- Worker processes, while the script is loaded; needs no host. The records are made in auditing.lua.

local validate = require "shove.validate"

local M = {}

local HOUR_MS = 60 * 60 * 1000

M.TOPIC = "shove-audit-log"
M.TIMEOUT_MS = 5000

local function check_to(value)
    if value == true or type(value) == "function" then
        return value
    end
    return nil, ('%s is not allowed; write true, for the topic "%s", or a function(record)'):format(
        validate.show(value), M.TOPIC)
end

local schema = {
    to = check_to,
    timeout = validate.duration(1, 24 * HOUR_MS),
}

local absent = {
    topic = ('records go to the topic "%s"; for another, write a function that publishes there'):format(M.TOPIC),
}

-- A checker in the sense of validate.lua: { to = true or a function, timeout_ms = }, or false for none.
function M.check(value)
    local given
    if value == false then
        return false
    elseif value == true or type(value) == "function" then
        given = { to = value }
    elseif type(value) == "table" then
        given = validate.options("registry: audit", value, schema, absent)
    else
        return nil, ("%s is not allowed; write true, a function(record), or { to = true, timeout = \"5s\" }"):format(
            validate.show(value))
    end
    return { to = given.to or true, timeout_ms = given.timeout or M.TIMEOUT_MS }
end

return M
