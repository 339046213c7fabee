-- describe.lua: the app as data, for control and for the worker that runs its handlers.
--
-- Worker processes, after the script is loaded; needs no host. The text of encode() is the same in every
-- process that loads the same script: fields in the order of the tables below, properties sorted.

local cjson = require "cjson"

local audit = require "shove.audit"
local clusters = require "shove.clusters"
local group = require "shove.group"
local groups = require "shove.groups"
local registry = require "shove.registry"
local show = require "shove.show"
local validate = require "shove.validate"

local M = {}

local AUTOSCALE_FIELDS = { "poll_ms", "up", "down", "hysteresis_ms", "cooldown_ms", "strategy" }

local scalar_text = cjson.new().encode

local BROKER_FIELDS = { "url", "kafka", "at" }

local TOPIC_FIELDS = {
    "name", "broker", "for_group", "holds_ms", "dlq", "partitions", "replication_factor", "retention_ms", "sequenced",
    "key", "codec", "external", "allow_message_loss", "at",
}

local GROUP_FIELDS = {
    "topic", "kind", "group_id", "consumers_min", "consumers_max", "prefetch", "concurrent", "max_retries",
    "max_crashes", "handler_timeout_ms", "timeout_outcome", "auto_offset_reset", "max_message_size_bytes",
    "max_pending_per_key", "audit_timeout_ms", "at",
}

local function state_of(app)
    return registry.state_of(app) or error("describe: that is not an app", 3)
end

function M.is_app(value)
    return registry.state_of(value) ~= nil
end

local function broker_document(_, cluster)
    return { url = cluster.url, kafka = cluster.kafka or {}, at = cluster.at }
end

local function topic_document(state, topic)
    return {
        name = topic.name,
        broker = topic.cluster.index,
        for_group = topic.for_group,
        holds_ms = topic.holds_ms,
        dlq = topic.dlq or false,
        partitions = registry.partitions(state, topic.name),
        replication_factor = topic.cluster.replication_factor or 1,
        retention_ms = topic.retention_ms or 0,
        sequenced = topic.sequenced,
        key = topic.key ~= nil,
        codec = topic.codec.name,
        external = topic.external,
        allow_message_loss = topic.allow_message_loss,
        at = topic.at,
    }
end

-- The audit's own topic, and what dies of handling it, is not audited: it would never end.
local function is_audited(state, registered)
    local topic = registered.topic
    return state.audit and group.value_of(group.state_of(registered.group), "audit") and topic.name ~= audit.TOPIC
        and groups.source_of(registered) ~= audit.TOPIC
end

local function group_document(state, registered)
    local settings = group.state_of(registered.group)
    local function value_of(key)
        return group.value_of(settings, key)
    end
    return {
        topic = registered.topic.index - 1,
        kind = registered.kind,
        group_id = settings.given.group_id,
        consumers_min = settings.consumers.min,
        consumers_max = settings.consumers.max,
        prefetch = value_of "prefetch",
        concurrent = value_of "concurrent" or (registered.kind == "consumer" and registered.topic.sequenced ~= nil),
        max_retries = value_of "max_retries",
        max_crashes = value_of "max_crashes",
        handler_timeout_ms = settings.given.handler_timeout or state.handler_timeout_ms
            or group.defaults.handler_timeout_ms,
        timeout_outcome = value_of "on_timeout",
        auto_offset_reset = value_of "auto_offset_reset",
        max_message_size_bytes = value_of "max_message_size",
        max_pending_per_key = value_of "max_pending_per_key",
        audit_timeout_ms = is_audited(state, registered) and state.audit.timeout_ms or 0,
        at = registered.at,
    }
end

local function map(list, convert, state)
    local mapped = {}
    for i, item in ipairs(list) do
        mapped[i] = convert(state, item)
    end
    return mapped
end

local function autoscale_document(rule)
    local document = {}
    for _, field in ipairs(AUTOSCALE_FIELDS) do
        document[field] = rule[field]
    end
    document.strategy = rule.strategy ~= nil
    return document
end

-- Whether the autoscaler could ever give a group more consumers, or fewer.
local function has_range(state)
    for _, registered in ipairs(state.groups) do
        local consumers = group.state_of(registered.group).consumers
        if consumers.min < consumers.max then
            return true
        end
    end
    return false
end

local function warnings_of(state)
    local warnings = { unpack(state.warnings) }
    if #state.groups == 0 and not state.on_start then
        local text = "%s: registry: no handler is registered, so there is nothing to run"
        warnings[#warnings + 1] = text:format(state.at)
    end
    if state.autoscale.strategy and not has_range(state) then
        local text = "autoscale: strategy: no group has a consumers.min below its consumers.max, so it is never asked"
        warnings[#warnings + 1] = ("%s: %s"):format(state.autoscale_at, text)
    end
    return warnings
end

local own_folder = debug.getinfo(1, "S").source:match "^@(.*[/\\])" or ""
local searchpath = package.searchpath

-- The Lua files that were loaded, as they were found: the script, and modules that are not shove's own; sorted.
local function files()
    local found = { validate.script }
    for name in pairs(package.loaded) do
        local path = type(name) == "string" and searchpath(name, package.path)
        if path and path:sub(1, #own_folder) ~= own_folder then
            found[#found + 1] = path
        end
    end
    table.sort(found)
    return found
end

-- The app as a table; what is null in the JSON is nil here. Refuses an app without any topic.
function M.document(app)
    local state = state_of(app)
    if #state.topics == 0 then
        error(("%s: registry: no topic is declared, so there is nothing to run"):format(state.at), 0)
    end
    return {
        brokers = map(clusters.ordered(state.clusters, registry.topics(state)), broker_document, state),
        at = state.at,
        on_start = state.on_start ~= nil,
        autoscale = autoscale_document(state.autoscale),
        files = files(),
        warnings = warnings_of(state),
        topics = map(registry.topics(state), topic_document, state),
        groups = map(state.groups, group_document, state),
    }
end

local scalar

local function list_text(list, item_text)
    local parts = {}
    for i, item in ipairs(list) do
        parts[i] = item_text(item)
    end
    return "[" .. table.concat(parts, ",") .. "]"
end

local function object_text(object, keys)
    local parts = {}
    for i, key in ipairs(keys) do
        parts[i] = scalar_text(key) .. ":" .. scalar(object[key])
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

function scalar(value)
    if value == nil then
        return "null"
    elseif type(value) == "table" then
        return list_text(value, scalar)
    elseif type(value) == "number" then
        return ("%.17g"):format(value)
    end
    return scalar_text(type(value) == "string" and show.utf8(value) or value)
end

local function sorted_keys(object)
    local keys = {}
    for key in pairs(object) do
        keys[#keys + 1] = key
    end
    table.sort(keys)
    return keys
end

local function broker_text(one)
    local parts = {}
    for i, key in ipairs(BROKER_FIELDS) do
        local value = one[key]
        local text = key == "kafka" and object_text(value, sorted_keys(value)) or scalar(value)
        parts[i] = scalar_text(key) .. ":" .. text
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

-- The app as JSON text.
function M.encode(app)
    local document = M.document(app)
    local parts = {
        '"brokers":' .. list_text(document.brokers, broker_text),
        '"at":' .. scalar(document.at),
        '"on_start":' .. scalar(document.on_start),
        '"autoscale":' .. object_text(document.autoscale, AUTOSCALE_FIELDS),
        '"files":' .. scalar(document.files),
        '"warnings":' .. scalar(document.warnings),
        '"topics":' .. list_text(document.topics, function(one) return object_text(one, TOPIC_FIELDS) end),
        '"groups":' .. list_text(document.groups, function(one) return object_text(one, GROUP_FIELDS) end),
    }
    return "{" .. table.concat(parts, ",") .. "}"
end

-- What runs for the group of each index (from 1): { handler =, codec =, topic = name, source = what it
-- consumes, group_id =, dead_letters = boolean }.
function M.handlers(app)
    return map(state_of(app).groups, function(_, registered)
        return {
            handler = registered.handler,
            codec = registered.topic.codec,
            topic = registered.topic.name,
            source = groups.source_of(registered),
            group_id = registered.group_id,
            dead_letters = registered.kind == "dead_letters",
        }
    end)
end

-- What publishing to a declared topic needs: topic name -> { encode =, decode =, key = function or nil,
-- sequenced = boolean, broker = index from 0 }.
function M.topic_codecs(app)
    local state = state_of(app)
    clusters.ordered(state.clusters, registry.topics(state))
    local codecs = {}
    for _, topic in ipairs(state.topics) do
        local known = codecs[topic.name]
        codecs[topic.name] = {
            broker = topic.cluster.index,
            encode = topic.codec.encode,
            decode = topic.codec.decode,
            key = topic.key or (known and known.key),
            sequenced = topic.sequenced ~= nil,
        }
    end
    return codecs
end

-- What audit.check made of the registry's option; nil: nothing is audited.
function M.audit(app)
    return state_of(app).audit
end

-- What is made besides the queues: topic name -> { what = "hold" | "dlq" | "poison topic", queue = the name of that it
-- belongs to, broker = index from 0, or false where the name is one on several }.
function M.derived(app)
    local derived = {}
    for _, topic in ipairs(state_of(app).topics) do
        for _, one in ipairs(topic.derived) do
            local known = derived[one.name]
            local is_on_one = known == nil or known.broker == topic.cluster.index
            local what = known and known.what == "dlq" and "dlq" or one.what -- that may be published to
            derived[one.name] = { what = what, queue = topic.name, broker = is_on_one and topic.cluster.index }
        end
    end
    return derived
end

function M.on_check(app)
    local state = state_of(app)
    return state.on_check, state.on_check_at
end

function M.strategy(app)
    return state_of(app).autoscale.strategy
end

function M.on_start(app)
    return state_of(app).on_start
end

return M
