-- registry.lua: shove.registry { ... }: the app a script builds and returns.
--
-- Worker processes, while the script is loaded; needs no host. What belongs together is checked where its
-- last part is written: a topic against the topics before it, a group against the groups before it.
-- describe.lua reads the state.

local audit = require "shove.audit"
local autoscale = require "shove.autoscale"
local broker = require "shove.broker"
local clusters = require "shove.clusters"
local group = require "shove.group"
local groups = require "shove.groups"
local names = require "shove.names"
local object = require "shove.object"
local topic = require "shove.topic"
local validate = require "shove.validate"

local M = {}

local schema = {
    audit = audit.check,
    broker = broker.check,
    handler_timeout = group.handler_timeout,
    replication_factor = broker.copies,
    kafka = broker.properties,
}

local absent = {
    partitions = "it is an option of app:topic",
    hold = "it is an option of app:topic",
    dlq = "it is an option of app:topic",
    prefetch = "it is an option of shove.group",
    concurrent = "it is an option of shove.group",
    max_retries = "it is an option of shove.group",
    consumers = "it is an option of shove.group",
}

-- What the command says wins over the script: `shove run --broker`.
local function broker_override()
    local host = package.loaded["shove.host"] or (package.preload["shove.host"] and require "shove.host")
    local override = type(host) == "table" and host.broker or nil
    if override == nil then
        return nil
    end
    local checked, text = broker.check(override)
    if not checked then
        error("--broker: " .. text, 0)
    end
    return checked
end

local function warn(state, at, where, text)
    state.warnings[#state.warnings + 1] = ("%s: %s: %s"):format(at, where, text)
end

-- Settings of Kafka beside another broker: refused where the script says both, a warning where the command
-- chose. What is left of them.
local function check_kafka_only(state, given, url, is_overridden)
    if broker.is_kafka(url) then
        return { url = url, kafka = given.kafka, replication_factor = given.replication_factor }
    end
    for _, objection in ipairs(broker.only_for_kafka(url, given)) do
        local text = ("%s: %s"):format(objection.option, objection.text)
        if not is_overridden then
            validate.fail("registry", "%s; leave it out, or write a kafka:// broker", text)
        end
        warn(state, state.at, "registry", text)
    end
    return { url = url }
end

local methods = {}

local class = object.class {
    noun = "app",
    kind = "method",
    methods = methods,
    absent = { audit = "it is an option of shove.registry" },
    describe = function(state) return ("shove.registry at %s"):format(state.at) end,
}

M.state_of = class.state_of

function M.registry(options)
    if options == nil then
        validate.fail("registry", "no options were given; write shove.registry { broker = \"embedded:./shove.db\" }")
    end
    local given = validate.options("registry", options, schema, absent)
    local override = broker_override()
    if not given.broker and not override then
        validate.fail("registry", "broker is missing; " .. broker.ALLOWED)
    end
    local state = {
        at = validate.position() or "?",
        clusters = {}, -- clusters.lua; the first is the registry's broker
        handler_timeout_ms = given.handler_timeout,
        audit = given.audit or nil,
        audit_topic = given.audit and given.audit.to == true and topic.build(audit.TOPIC) or nil,
        topics = {}, -- topic states, in the order they were declared
        groups = {}, -- { topic =, group =, handler =, kind =, group_id =, at = }, in the order they were registered
        warnings = {},
        warned_groups = {}, -- a group warns once, however many topics it is used for
        autoscale = autoscale.defaults,
        autoscale_at = nil,
        on_check = nil,
        on_check_at = nil,
        on_start = nil,
        on_start_at = nil,
        is_closed = false, -- the script is loaded
    }
    clusters.add(state.clusters, "registry",
        check_kafka_only(state, given, override or given.broker, override ~= nil))
    if state.audit_topic then
        state.audit_topic.cluster = state.clusters[1]
    end
    return class.new(state)
end

local function state_for(app, method)
    local state = class.state_of(app)
    if not state then
        validate.fail(method, "call it with a colon, on what shove.registry returned: app:%s(...)", method)
    end
    return state
end

-- What is declared later would be heard by nobody.
local function open_state_for(app, method)
    local state = state_for(app, method)
    if state.is_closed then
        validate.fail(method, "the app is loaded; what belongs to it is said while the script is, not later")
    end
    return state
end

-- Called once, when the script is loaded.
function M.close(app)
    class.state_of(app).is_closed = true
end

-- ---- topics

local SHARED = { -- what two topics on one queue have to say alike, and how it is called
    { "sequenced", "sequenced" }, { "codec_option", "codec" }, { "external", "external" },
    { "retention_ms", "retention" }, { "partitions", "partitions" },
}

-- Two topics on one queue, each for its own group, describe one thing: what either says must not differ.
local function check_shared(added, other)
    for _, pair in ipairs(SHARED) do
        local field, option = pair[1], pair[2]
        local mine, theirs = added[field], other[field]
        local is_open = (field == "partitions" or field == "retention_ms") and (mine == nil or theirs == nil)
        if mine ~= theirs and not is_open then
            validate.fail(added.where, "%s: it differs from the one at %s, which is the same queue", option, other.at)
        end
    end
end

-- "orders-dlq" of `owner` is the queue `queue`. That is allowed where the DLQ was called by its name, so was meant.
local function check_not_queue(added, owner, queue)
    for _, one in ipairs(owner.derived) do
        if one.name == queue.name and not (one.what == "dlq" and type(owner.dlq) == "string") then
            local hint = one.what == "dlq" and ('; if that is meant, write dlq = "%s"'):format(one.name) or ""
            validate.fail(added.where, "%s is both a topic, declared at %s, and a %s of the topic at %s%s",
                validate.show(one.name), queue.at, one.what, owner.at, hint)
        end
    end
end

-- A hold is made for one topic; a DLQ may be shared where one of two topics calls it by its name. Names on different
-- brokers are different topics.
local function check_collision(added, other)
    if added.cluster ~= other.cluster then
        return
    end
    check_not_queue(added, added, other)
    check_not_queue(added, other, added)
    for _, one in ipairs(added.derived) do
        for _, two in ipairs(other.derived) do
            local is_shared_dlq = one.what == "dlq" and two.what == "dlq"
                and (type(added.dlq) == "string" or type(other.dlq) == "string")
            if one.name == two.name and not is_shared_dlq then
                validate.fail(added.where, "%s: the name %s is taken by the topic at %s", one.what,
                    validate.show(one.name), other.at)
            end
        end
    end
end

-- The partitions a queue was given explicitly, and the most consumers that registered groups ask of it.
local function queue_demand(state, name)
    local partitions, consumers, at
    for _, declared in ipairs(state.topics) do
        if declared.name == name then
            partitions = partitions or declared.partitions
        end
    end
    for _, registered in ipairs(state.groups) do
        if registered.kind == "consumer" and registered.topic.name == name then
            local max = group.state_of(registered.group).consumers.max
            if not consumers or max > consumers then
                consumers, at = max, registered.at
            end
        end
    end
    return partitions, consumers, at
end

-- All topics: those that were declared, and the audit's own behind them, unless it is declared.
function M.topics(state)
    local topics, is_declared = {}, false
    for i, declared in ipairs(state.topics) do
        topics[i] = declared
        is_declared = is_declared or declared.name == audit.TOPIC
    end
    topics[#topics + 1] = not is_declared and state.audit_topic or nil
    return topics
end

-- How many partitions a queue gets: what was given, else the default or as many as a group has consumers at
-- most.
function M.partitions(state, name)
    local partitions, consumers = queue_demand(state, name)
    return partitions or math.max(topic.PARTITIONS_DEFAULT, consumers or 0)
end

function methods:topic(name, options)
    local state = open_state_for(self, "topic")
    local added = topic.build(name, options)
    added.cluster = added.broker and clusters.add(state.clusters, added.where, added.broker) or state.clusters[1]
    for _, other in ipairs(state.topics) do
        if other.name == added.name and other.cluster ~= added.cluster then
            validate.fail(added.where, "broker: the topic of this name at %s is on another broker; messages are "
                .. "published to a name, so an app has each once", other.at)
        elseif other.name == added.name and other.for_group == added.for_group then
            validate.fail(added.where, "declared before, at %s; use that topic, or for_group for a second group",
                other.at)
        elseif other.name == added.name then
            check_shared(added, other)
        end
        check_collision(added, other)
    end
    if state.audit_topic and added.dlq_name == audit.TOPIC then
        validate.fail(added.where, "dlq: %s is where the audit of the registry at %s writes its records",
            validate.show(audit.TOPIC), state.at)
    end
    local _, consumers, at = queue_demand(state, added.name)
    if added.partitions and consumers and added.partitions < consumers then
        validate.fail(added.where, "partitions = %d is fewer than the consumers.max = %d of the group at %s",
            added.partitions, consumers, at)
    end
    added.app = state
    state.topics[#state.topics + 1] = added
    added.index = #state.topics
    for _, text in ipairs(added.warnings) do
        warn(state, added.at, added.where, text)
    end
    return topic.new(added)
end

-- ---- groups

local function topic_for(state, value, method)
    local declared = topic.state_of(value)
    if not declared then
        validate.fail(method, "%s is not a topic; give what app:topic(...) returned as the first argument",
            validate.show(value))
    elseif declared.app ~= state then
        validate.fail(method, "%s is of another app, declared at %s", declared.where, declared.at)
    end
    return declared
end

local function check_handler(where, handler)
    if type(handler) == "function" then
        return
    elseif handler == true then
        validate.fail(where, "the handler is true, not a function; does the module you require return its function?")
    elseif handler == nil then
        validate.fail(where, "there is no handler; give a function as the last argument")
    end
    validate.fail(where, "the handler is %s, not a function", validate.show(handler))
end

local function check_groups_before(state, added, where)
    for _, other in ipairs(state.groups) do
        if other.topic == added.topic and other.kind == added.kind then
            if added.kind == "dead_letters" then
                validate.fail(where, "its dead letters have a handler already, at %s", other.at)
            end
            validate.fail(where, "registered before, at %s; a second group needs a topic of its own, with for_group",
                other.at)
        elseif other.group_id == added.group_id and other.topic.cluster == added.topic.cluster then
            validate.fail(where, "the group id %s is taken by the group at %s; give one of them a group_id",
                validate.show(added.group_id), other.at)
        end
    end
end

local function check_options_first(where, method, options, handler)
    if handler == nil and type(options) == "function" then
        validate.fail(where, "the group's options come before the handler: app:%s(topic, {}, function(msg) ... end)",
            method)
    end
end

-- kind: "consumer" or "dead_letters"; group_id: as it is resolved.
local function add_group(state, where, kind, declared, built, handler, group_id)
    local added = {
        topic = declared,
        group = built,
        handler = handler,
        kind = kind,
        group_id = group_id,
        at = validate.position() or "?",
    }
    check_groups_before(state, added, where)
    state.groups[#state.groups + 1] = added
    -- All there is to warn of is prefetch without concurrent, which a sequenced topic has not.
    if state.warned_groups[built] or declared.sequenced and kind == "consumer" then
        return
    end
    state.warned_groups[built] = true
    local built_state = group.state_of(built)
    for _, text in ipairs(built_state.warnings) do
        warn(state, built_state.at, "group", text)
    end
end

function methods:register(registered, options, handler)
    local state = open_state_for(self, "register")
    local declared = topic_for(state, registered, "register")
    local where = "register " .. declared.where
    if declared.sequenced then
        validate.fail(where, "it is sequenced, and register is for topics that are not; write app:register_fifo")
    end
    check_options_first(where, "register", options, handler)
    local built = group.build(where, options)
    check_handler(where, handler)
    local group_state = group.state_of(built)
    if group_state.given.max_pending_per_key then
        validate.fail(where, "max_pending_per_key: only a sequenced topic has keys that wait; leave it out")
    end
    local partitions = queue_demand(state, declared.name)
    if partitions and partitions < group_state.consumers.max then
        validate.fail(where, "consumers.max = %d is more than the topic's partitions = %d; "
            .. "raise partitions or lower it", group_state.consumers.max, partitions)
    end
    add_group(state, where, "consumer", declared, built, handler,
        names.group_id(group_state.given.group_id, declared.name, declared.for_group, false))
end

-- What the order of keys decides by itself: one consumer, which works on all keys in parallel.
local function check_fifo_group(where, group_state)
    if group_state.given.concurrent ~= nil then
        validate.fail(where, "concurrent: a sequenced topic's keys are always handled in parallel, each in order; "
            .. "leave it out")
    elseif group_state.consumers.min ~= 1 or group_state.consumers.max ~= 1 then
        validate.fail(where, "consumers: a sequenced topic has exactly one, which works on all keys in parallel; "
            .. "leave it out, and say with prefetch how many keys are handled at once")
    end
end

function methods:register_fifo(registered, options, handler)
    local state = open_state_for(self, "register_fifo")
    local declared = topic_for(state, registered, "register_fifo")
    local where = "register_fifo " .. declared.where
    if not declared.sequenced then
        validate.fail(where, "it is not sequenced, and register_fifo is for topics that are; "
            .. "write sequenced = \"skip\" in its options, or app:register")
    end
    check_options_first(where, "register_fifo", options, handler)
    local built = group.build(where, options)
    check_handler(where, handler)
    local group_state = group.state_of(built)
    check_fifo_group(where, group_state)
    add_group(state, where, "consumer", declared, built, handler,
        names.group_id(group_state.given.group_id, declared.name, declared.for_group, true))
end

function methods:dead_letters(dead, options, handler)
    local state = open_state_for(self, "dead_letters")
    local declared = topic_for(state, dead, "dead_letters")
    local where = "dead_letters of " .. declared.where
    if handler == nil and type(options) == "function" then
        options, handler = {}, options
    end
    if not declared.dlq_name then
        validate.fail(where, "it has no dlq; declare it with dlq = true")
    end
    local built = group.build(where, options)
    check_handler(where, handler)
    local group_state = group.state_of(built)
    if group_state.given.max_pending_per_key then
        validate.fail(where, "max_pending_per_key: dead letters are not sequenced; leave it out")
    end
    add_group(state, where, "dead_letters", declared, built, handler,
        names.group_id(group_state.given.group_id, declared.dlq_name, nil, false))
end

function methods:autoscale(options)
    local state = open_state_for(self, "autoscale")
    if state.autoscale_at then
        validate.fail("autoscale", "it was given before, at %s", state.autoscale_at)
    end
    state.autoscale = autoscale.build(options)
    state.autoscale_at = validate.position() or "?"
end

-- A function of which an app has one.
local function keep_function(self, name, given)
    local state = open_state_for(self, name)
    if type(given) ~= "function" then
        validate.fail(name, "%s is not a function", validate.show(given))
    elseif state[name] then
        validate.fail(name, "it was given before, at %s", state[name .. "_at"])
    end
    state[name] = given
    state[name .. "_at"] = validate.position() or "?"
end

function methods:groups()
    return groups.of(state_for(self, "groups"))
end

function methods:on_start(start) keep_function(self, "on_start", start) end
function methods:on_check(check) keep_function(self, "on_check", check) end

return M
