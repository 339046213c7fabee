-- broker.lua: which broker an app runs on, and the librdkafka properties it may set.
--
-- Values are never shown here: a broker's address or a property may hold a password, and messages end up in
-- logs.

local show = require "shove.show"

local M = {}

M.ALLOWED = 'write "kafka://host1:9092,host2:9092", "embedded:PATH" or "memory:"'

-- What shove decides itself, and why. The kafka transport refuses the same ones for whoever comes past this.
local OWNED = {
    ["bootstrap.servers"] = "it is what broker says",
    ["metadata.broker.list"] = "it is what broker says",
    ["group.id"] = "it is a group's group_id",
    ["auto.offset.reset"] = "it is a group's auto_offset_reset",
    ["enable.auto.commit"] = "offsets are committed when messages are settled",
    ["auto.commit.enable"] = "offsets are committed when messages are settled",
    ["auto.commit.interval.ms"] = "offsets are committed when messages are settled",
    ["enable.auto.offset.store"] = "offsets are committed when messages are settled",
    ["offset.store.method"] = "offsets are committed when messages are settled",
    ["partition.assignment.strategy"] = "it is cooperative-sticky",
    ["enable.partition.eof"] = "shove does not use it",
    ["allow.auto.create.topics"] = "a topic is never created by publishing",
    ["enable.idempotence"] = "publishing is idempotent",
    ["acks"] = "publishing waits for all replicas",
    ["request.required.acks"] = "publishing waits for all replicas",
    ["partitioner"] = "keys go where Java's clients put them, murmur2_random",
    ["transactional.id"] = "shove uses no transactions",
    ["delivery.report.only.error"] = "every acknowledgement counts",
}

local function check_hosts(hosts)
    if hosts:find "@" then
        return "credentials do not belong in the address; give them as kafka = { [\"sasl.username\"] = ..., ... }"
    elseif hosts == "" or hosts:find "^," or hosts:find ",$" or hosts:find ",," then
        return "the list of hosts has an empty place; " .. M.ALLOWED
    elseif hosts:find "[%s%c/?#]" then
        return "the list of hosts has a space, a slash or another character that no host has; " .. M.ALLOWED
    end
    for host in hosts:gmatch "[^,]+" do
        local name, port = host:match "^(.-):(%d+)$"
        if host:find "^%[.*%]$" or not port then
            name, port = host, "9092"
        end
        local is_port = tonumber(port) >= 1 and tonumber(port) <= 65535
        if name == "" or not is_port or (name:find ":" and not name:find "^%[.+%]$") then
            return ("%s is not host:port"):format(show.value(host))
        end
    end
    return nil
end

local function unknown_broker(broker)
    if broker:find "@" then
        return "that is no broker; " .. M.ALLOWED
    elseif broker:find "^[%w%.%-]+:%d+" then
        return ('%s is not a broker; write "kafka://%s"'):format(show.value(broker), broker:gsub("[%c\"]", "?"))
    end
    return ("%s is not a broker; %s"):format(show.value(broker), M.ALLOWED)
end

-- A checker in the sense of validate.lua.
function M.check(broker)
    if type(broker) ~= "string" then
        return nil, ("%s is not a broker; %s"):format(show.value(broker), M.ALLOWED)
    elseif broker:find "%z" then
        return nil, "a broker has no zero bytes in it; " .. M.ALLOWED
    end
    local text
    if broker:find "^kafka://" then
        text = check_hosts(broker:sub(#"kafka://" + 1))
    elseif broker:find "^embedded:" then
        text = broker == "embedded:" and "the embedded broker needs a path, such as \"embedded:./orders.db\"" or nil
    elseif broker:find "^memory:" then
        text = broker ~= "memory:" and "the memory broker takes nothing after \"memory:\"" or nil
    else
        text = unknown_broker(broker)
    end
    if text then
        return nil, text
    end
    return broker
end

function M.is_kafka(broker)
    return broker:find "^kafka://" ~= nil
end

local function check_property(name, value)
    if type(name) ~= "string" or name == "" or name:find "[^%w%._%-]" then
        return nil, ("%s is not a property's name"):format(show.value(name))
    elseif OWNED[name] then
        return nil, ("the property %s is shove's own: %s"):format(show.value(name), OWNED[name])
    elseif name:find "_cb$" then
        return nil, ("the property %s is a C function, which a script cannot give"):format(show.value(name))
    elseif type(value) == "boolean" then
        return tostring(value)
    elseif type(value) == "number" and value % 1 == 0 and math.abs(value) <= 2 ^ 53 then
        return ("%.0f"):format(value)
    elseif type(value) ~= "string" or value:find "%z" then
        return nil, ("the property %s is not a string, a boolean or a whole number"):format(show.value(name))
    end
    return value
end

-- A checker: a table of librdkafka properties, every value turned into a string.
function M.properties(properties)
    if type(properties) ~= "table" or getmetatable(properties) ~= nil then
        return nil, "the properties are not a plain table; write { [\"session.timeout.ms\"] = \"6000\", ... }"
    end
    local checked = {}
    local names = {}
    for name in next, properties do
        names[#names + 1] = name
    end
    table.sort(names, function(a, b)
        return type(a) == type(b) and type(a) == "string" and a < b or type(a) < type(b)
    end)
    for _, name in ipairs(names) do
        local value, text = check_property(name, rawget(properties, name))
        if text then
            return nil, text
        end
        checked[name] = value
    end
    return checked
end

return M
