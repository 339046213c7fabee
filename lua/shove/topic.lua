-- topic.lua: the options of app:topic(name, options), and the topic object.
--
-- Checks one topic alone; registry.lua checks it against the app's others. Names of holds, DLQ and groups are
-- only tried for length and collisions here (names.lua): control derives them.

local broker = require "shove.broker"
local codec = require "shove.codec"
local names = require "shove.names"
local object = require "shove.object"
local validate = require "shove.validate"

local M = {}

local HOUR_MS = 60 * 60 * 1000

M.PARTITIONS_DEFAULT = 8
M.PARTITIONS_MAX = 10000

local HOLDS_MAX = 16
-- Kafka keeps a topic for seven days unless told otherwise: a longer hold might be gone before it is due.
local HOLD_MS_MAX = 7 * 24 * HOUR_MS
local RETENTION_MS_MAX = 10 * 365 * 24 * HOUR_MS

local check_hold = validate.duration(1, HOLD_MS_MAX)

-- A list without holes and without other keys?
local function is_list(value)
    local count = 0
    for _ in next, value do
        count = count + 1
    end
    for i = 1, count do
        if rawget(value, i) == nil then
            return false
        end
    end
    return true
end

-- Delays in milliseconds, ascending whatever the order in which they were written: escalation is what they
-- are for.
local function check_holds(value)
    if type(value) ~= "table" or getmetatable(value) ~= nil or not is_list(value) then
        local shown = type(value) == "table" and "the table" or validate.show(value)
        return nil, shown .. ' is not a list of durations; write { "5s", "30s", "5m" }'
    elseif #value > HOLDS_MAX then
        return nil, ("%d delays are more than the %d allowed"):format(#value, HOLDS_MAX)
    end
    local holds_ms, seen = {}, {}
    for i, written in ipairs(value) do
        local ms, text = check_hold(written)
        local path = ("[%d]"):format(i)
        if not ms then
            return nil, text, path
        elseif seen[ms] then
            return nil, ("%s is the same delay as hold[%d]"):format(validate.show(written), seen[ms]), path
        end
        seen[ms] = i
        holds_ms[i] = ms
    end
    table.sort(holds_ms)
    return holds_ms
end

local function check_dlq(value)
    if type(value) == "boolean" then
        return value
    elseif type(value) == "string" then
        return names.topic(value)
    end
    return nil, validate.show(value) .. " is not allowed; write true, false or a topic name"
end

local schema = {
    broker = broker.option,
    hold = check_holds,
    dlq = check_dlq,
    sequenced = validate.one_of { "skip", "fail_all" },
    key = validate.func,
    shards = validate.integer(1, M.PARTITIONS_MAX),
    partitions = validate.integer(1, M.PARTITIONS_MAX),
    codec = codec.check,
    for_group = names.group,
    external = validate.boolean,
    retention = validate.duration(1000, RETENTION_MS_MAX),
    allow_message_loss = validate.boolean,
}

local class = object.class {
    noun = "topic",
    kind = "field",
    getters = {
        name = function(state) return state.name end,
        for_group = function(state) return state.for_group end,
        sequenced = function(state) return state.sequenced end,
    },
    describe = function(state) return state.where end,
}

M.state_of = class.state_of
M.new = class.new

-- How messages name a topic: topic "orders", topic "orders" for group "audit".
local function where_of(name, for_group)
    local where = "topic " .. validate.show(name)
    return for_group and ("%s for group %s"):format(where, validate.show(for_group)) or where
end

local function check_sequenced(where, given)
    if not given.sequenced then
        if given.shards then
            validate.fail(where, "shards: only a sequenced topic has shards; write partitions = %d", given.shards)
        end
        return
    elseif given.partitions then
        validate.fail(where, "partitions: a sequenced topic has shards; write shards = %d", given.partitions)
    elseif given.allow_message_loss then
        return
    end
    local lacks = not given.dlq and "a dlq" or #(given.hold or {}) == 0 and "at least one hold"
    if lacks then
        validate.fail(where, "sequenced: a sequenced topic needs %s, or allow_message_loss = true", lacks)
    end
end

-- state.derived: what is made besides the queue itself: list of { name =, what = "hold" | "dlq" | "poison topic" }.
local function derive(state)
    local derived = {}
    for _, ms in ipairs(state.holds_ms) do
        derived[#derived + 1] = { name = names.hold(state.name, state.for_group, ms), what = "hold" }
    end
    state.dlq_name = state.dlq == true and names.dlq(state.name, state.for_group) or state.dlq or nil
    if state.dlq_name then
        derived[#derived + 1] = { name = state.dlq_name, what = "dlq" }
    end
    if state.sequenced == "fail_all" then
        derived[#derived + 1] = { name = names.poison(state.name, state.for_group), what = "poison topic" }
    end
    return derived
end

local function check_derived(state)
    for _, one in ipairs(state.derived) do
        if #one.name > names.LENGTH_MAX then
            validate.fail(state.where, "%s: the topic's name is too long: %s would have %d characters, of at most %d",
                one.what, validate.show(one.name), #one.name, names.LENGTH_MAX)
        elseif one.name == state.name then
            validate.fail(state.where, "%s: %s is the topic itself", one.what, validate.show(one.name))
        elseif one.what ~= "dlq" and one.name == state.dlq_name then
            validate.fail(state.where, "dlq: %s is the name of a %s of this topic", validate.show(one.name), one.what)
        end
    end
    local group_id = names.group_id(nil, state.name, state.for_group, state.sequenced ~= nil)
    if #group_id > names.LENGTH_MAX then
        validate.fail(state.where, "the topic's name is too long: its group id would have %d characters, of at most %d",
            #group_id, names.LENGTH_MAX)
    end
end

local function warnings_of(state)
    if state.allow_message_loss or state.sequenced then
        return {}
    elseif #state.holds_ms > 0 and not state.dlq then
        return { "it has holds but no dlq: a message that runs out of retries, or is rejected, is dropped" }
    elseif state.dlq and #state.holds_ms == 0 then
        return { "it has a dlq but no hold: a retry waits 1s where it is, its offset uncommitted" }
    end
    return {}
end

-- Checks everything about one topic that can be said without the others and returns its state.
function M.build(name, options)
    local checked_name, text = names.topic(name)
    if not checked_name then
        validate.fail("topic", "%s", text)
    end
    local given = validate.options(where_of(name), options, schema)
    local state = {
        name = name,
        for_group = given.for_group,
        where = where_of(name, given.for_group),
        broker = given.broker, -- nil: the registry's
        holds_ms = given.hold or {},
        dlq = given.dlq or nil,
        sequenced = given.sequenced,
        key = given.key,
        codec = given.codec or codec.json,
        codec_option = options and rawget(options, "codec") or "json",
        partitions = given.sequenced and (given.shards or M.PARTITIONS_DEFAULT) or given.partitions,
        retention_ms = given.retention,
        external = given.external or false,
        allow_message_loss = given.allow_message_loss or false,
        at = validate.position() or "?",
    }
    check_sequenced(state.where, given)
    if state.external and state.retention_ms then
        validate.fail(state.where, "retention: an external topic is never changed; leave it out")
    elseif state.external and given.partitions then
        validate.fail(state.where, "partitions: an external topic has as many as it has; leave it out")
    end
    state.derived = derive(state)
    check_derived(state)
    state.warnings = warnings_of(state)
    return state
end

return M
