-- sleep.lua: shove.sleep: waits without holding up other messages.
--
-- Worker processes only: needs the host.

local host = require "shove.host"

local duration = require "shove.duration"
local validate = require "shove.validate"

local M = {}

local sleep, why_no_wait = host.sleep, host.why_no_wait

-- Waits for a duration ("500ms", "5s", or seconds). Raises outside of a handler.
function M.sleep(length)
    local why = why_no_wait "shove.sleep"
    if why then
        validate.raise(why)
    end
    local ms, text = duration.parse(length)
    if not ms then
        validate.raise("shove.sleep: " .. text)
    elseif ms < 0 then
        validate.raise(("shove.sleep: %s is negative"):format(validate.show(length)))
    end
    sleep(ms)
end

return M
