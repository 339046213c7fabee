-- groups.lua: app:groups(): the groups of the app: as they are, in a handler; as they are declared, while the script is
-- loaded.
--
-- Worker processes; needs no host until start() is called. What a running app shows is what control knows: the same
-- that `shove status --json` prints.

local cjson = require "cjson"

local group = require "shove.group"
local validate = require "shove.validate"

local M = {}

local decode = cjson.new().decode
local host -- nil until the script is loaded

-- Called once, when handlers can run.
function M.start(given)
    host = given
end

-- What a registered group consumes: the queue, or its DLQ for dead letters.
function M.source_of(registered)
    return registered.kind == "dead_letters" and registered.topic.dlq_name or registered.topic.name
end

local function declared(state)
    local list = {}
    for i, registered in ipairs(state.groups) do
        local consumers = group.state_of(registered.group).consumers
        list[i] = {
            group = registered.group_id,
            topic = M.source_of(registered),
            broker = registered.topic.cluster.url,
            state = "declared",
            min = consumers.min,
            max = consumers.max,
        }
    end
    return list
end

-- Asks control, and waits.
function M.live()
    host.groups_wait()
    local list = decode(host.groups_text())
    for _, one in ipairs(list) do
        for key, value in pairs(one) do
            if value == cjson.null then -- not known now
                one[key] = nil
            end
        end
    end
    return list
end

-- A list in the order of registration.
function M.of(state)
    if not host then
        return declared(state)
    end
    local why = host.why_no_wait "app:groups"
    if why then
        validate.raise(why)
    end
    return M.live()
end

return M
