-- broker.lua: which broker an app, or a topic of it, is on, and the librdkafka properties it may set.
--
-- Values are never shown here: a broker's address or a property may hold a password, and messages end up in
-- logs.

local show = require "shove.show"
local suggest = require "shove.suggest"
local validate = require "shove.validate"

local M = {}

local REPLICATION_MAX = 32767

M.copies = validate.integer(1, REPLICATION_MAX) -- a checker, of a replication factor

M.ALLOWED = 'write "kafka://host1:9092,host2:9092", "embedded:PATH" or "memory:"'

-- What shove decides itself, by the reason. runtime/transport/kafka_config.c refuses the same names, for whoever comes
-- past this; a spec compares the two.
local OWNED_BY_REASON = {
    ["it is what broker says"] = { "bootstrap.servers", "metadata.broker.list" },
    ["it is group_id of a group"] = { "group.id" },
    ["it is auto_offset_reset of a group"] = { "auto.offset.reset" },
    ["it follows max_message_size of the groups"] = { "message.max.bytes" },
    ["offsets are committed when messages are settled"] = {
        "enable.auto.commit", "auto.commit.enable", "auto.commit.interval.ms", "enable.auto.offset.store",
        "offset.store.method", "offset.store.path", "offset.store.sync.interval.ms",
    },
    ["publishing is idempotent and waits for all in-sync replicas"] = {
        "enable.idempotence", "acks", "request.required.acks", "enable.gapless.guarantee", "produce.offset.report",
        "delivery.report.only.error",
    },
    ["with more than one request under way a refused record can pass for stored"] = {
        "max.in.flight", "max.in.flight.requests.per.connection",
    },
    ["there are no transactions"] = { "transactional.id", "transaction.timeout.ms" },
    ["keys go where Java's clients put them"] = { "partitioner", "partitioner_cb" },
    ["order is by partition"] = { "msg_order_cmp", "queuing.strategy" },
    ["a topic is created by being declared, never by being used"] = { "allow.auto.create.topics" },
    ["it is how shove reads librdkafka"] = {
        "enable.partition.eof", "consume.callback.max.messages", "enabled_events", "log.queue", "opaque", "dr_cb",
        "dr_msg_cb", "error_cb", "throttle_cb", "stats_cb", "log_cb", "consume_cb", "rebalance_cb", "offset_commit_cb",
        "background_event_cb", "socket_cb", "connect_cb", "closesocket_cb", "open_cb", "resolve_cb", "log_level",
        "oauthbearer_token_refresh_cb", "ssl.certificate.verify_cb", "default_topic_conf",
    },
    ["foreign code would decide over messages"] = { "plugin.library.paths", "interceptors" },
}

M.owned = {} -- property -> why it cannot be set
for reason, names in pairs(OWNED_BY_REASON) do
    for _, name in ipairs(names) do
        M.owned[name] = reason
    end
end

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
    elseif broker:find "%c" or show.utf8(broker) ~= broker then
        return nil, "a broker is UTF-8 without control characters; " .. M.ALLOWED
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
    elseif M.owned[name] then
        return nil, ("the property %s is shove's own: %s"):format(show.value(name), M.owned[name])
    elseif type(value) == "boolean" then
        return tostring(value)
    elseif type(value) == "number" and value % 1 == 0 and math.abs(value) <= 2 ^ 53 then
        return ("%.0f"):format(value)
    elseif type(value) ~= "string" then
        return nil, ("the property %s is not a string, a boolean or a whole number"):format(show.value(name))
    elseif value:find "%z" or show.utf8(value) ~= value then
        return nil, ("the property %s is not UTF-8 text"):format(show.value(name))
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

local CHECKERS = { url = M.check, kafka = M.properties, replication_factor = M.copies }
local OPTIONS = { "url", "kafka", "replication_factor" } -- in the order they are checked

local function unknown_key(value)
    for name in next, value do
        if not CHECKERS[name] then
            return ("unknown key %s%s; allowed: kafka, replication_factor, url"):format(
                show.value(name), suggest.hint(name, OPTIONS))
        end
    end
    return nil
end

-- What { kafka =, replication_factor = } says that another broker has no use for: list of { option =, text = }.
function M.only_for_kafka(url, given)
    local objections = {}
    if given.kafka and next(given.kafka) then
        objections[1] = { option = "kafka", text = ("%s has no librdkafka properties"):format(show.value(url)) }
    end
    if (given.replication_factor or 1) > 1 then
        objections[#objections + 1] = {
            option = "replication_factor",
            text = ("%s keeps one copy of each record, not %d"):format(show.value(url), given.replication_factor),
        }
    end
    return objections
end

-- A checker: a broker, or { url =, kafka =, replication_factor = }; always a table afterwards.
function M.option(value)
    if type(value) ~= "table" then
        local url, text = M.check(value)
        return url and { url = url }, text
    elseif getmetatable(value) ~= nil then
        return nil, "the table has a metatable, whose values would not be seen; give a plain table"
    end
    local unknown = unknown_key(value)
    if unknown then
        return nil, unknown
    elseif rawget(value, "url") == nil then
        return nil, "the table has no url; " .. M.ALLOWED .. " as its url"
    end
    local checked = {}
    for _, name in ipairs(OPTIONS) do
        local given = rawget(value, name)
        local text
        if given ~= nil then
            checked[name], text = CHECKERS[name](given)
        end
        if text then
            return nil, text, "." .. name
        end
    end
    local objection = not M.is_kafka(checked.url) and M.only_for_kafka(checked.url, checked)[1]
    if objection then
        return nil, objection.text .. "; leave it out", "." .. objection.option
    end
    return checked
end

return M
