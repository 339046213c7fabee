-- group.lua: shove.group { ... }: how a consumer group of an app handles its messages.
--
-- Checked on the line that builds it, immutable, usable for any number of topics. What is not given stays
-- open until it is registered: a registry's handler_timeout goes before the library's default.

local names = require "shove.names"
local object = require "shove.object"
local validate = require "shove.validate"

local M = {}

local HOUR_MS = 60 * 60 * 1000
local MIB = 1024 * 1024

-- defaults[key]: what describe.lua takes when neither group nor registry says anything.
M.defaults = {
    min_consumers = 1,
    prefetch = 10,
    concurrent = false,
    max_retries = 10,
    max_crashes = 3,
    handler_timeout_ms = 30 * 1000,
    on_timeout = "retry",
    auto_offset_reset = "earliest",
    max_message_size = 10 * MIB,
    max_pending_per_key = 1000,
    audit = true,
}

M.handler_timeout = validate.duration(1, 24 * HOUR_MS)

local CONSUMERS_MAX = 1024
local consumers_schema = {
    min = validate.integer(0, CONSUMERS_MAX),
    max = validate.integer(1, CONSUMERS_MAX),
}

local function check_consumers(value)
    if type(value) ~= "table" or getmetatable(value) ~= nil then
        return nil, ("%s is not allowed; write { min = 1, max = 8 }"):format(validate.show(value))
    end
    for key in next, value do
        if key ~= "min" and key ~= "max" then
            return nil, ("unknown key %s; write { min = 1, max = 8 }"):format(validate.show(key))
        end
    end
    for _, key in ipairs { "min", "max" } do
        local number, _, text = rawget(value, key)
        if number ~= nil then
            _, text = consumers_schema[key](number)
        end
        if text then
            return nil, text, "." .. key
        end
    end
    local min = rawget(value, "min") or M.defaults.min_consumers
    local max = rawget(value, "max") or math.max(min, 1)
    if min > max then
        return nil, ("min = %d is more than max = %d"):format(min, max)
    end
    return { min = min, max = max }
end

local function check_audit(value)
    if value ~= false then
        return nil, ("%s is not allowed; shove.registry { audit = ... } says what is audited, and audit = false leaves "
            .. "a group out"):format(validate.show(value))
    end
    return value
end

local schema = {
    audit = check_audit,
    consumers = check_consumers,
    prefetch = validate.integer(1, 100000),
    concurrent = validate.boolean,
    max_retries = validate.integer(0, 255),
    max_crashes = validate.integer(1, 255),
    handler_timeout = M.handler_timeout,
    on_timeout = validate.one_of { "retry", "reject", "defer", "ack" },
    auto_offset_reset = validate.one_of { "earliest", "latest", "none" },
    group_id = names.group_id_given,
    max_message_size = validate.size(1, 512 * MIB),
    max_pending_per_key = validate.integer(1, 1000000),
}

local function value_of(state, key)
    local value = state.given[key]
    if value == nil then
        return M.defaults[key]
    end
    return value
end

local function getter(key)
    return function(state)
        return value_of(state, key)
    end
end

local class = object.class {
    noun = "group",
    kind = "field",
    getters = {
        min_consumers = function(state) return state.consumers.min end,
        max_consumers = function(state) return state.consumers.max end,
        prefetch_count = getter "prefetch",
        effective_prefetch = function(state) return state.effective_prefetch end,
        concurrent_processing = getter "concurrent",
        max_retries = getter "max_retries",
        max_crashes = getter "max_crashes",
        on_timeout = getter "on_timeout",
        auto_offset_reset = getter "auto_offset_reset",
        group_id = function(state) return state.given.group_id end,
        max_message_size = getter "max_message_size",
        max_pending_per_key = getter "max_pending_per_key",
        audit = getter "audit",
        -- Seconds, as a number of a duration is; nil: the registry's, else 30 s.
        handler_timeout = function(state)
            return state.given.handler_timeout and state.given.handler_timeout / 1000
        end,
    },
    describe = function(state)
        return ("shove.group at %s"):format(state.at)
    end,
}

M.state_of = class.state_of

-- What is allowed but probably not meant.
local function warnings_of(state)
    local warnings = {}
    local prefetch = value_of(state, "prefetch")
    if state.given.prefetch and prefetch > state.effective_prefetch then
        warnings[#warnings + 1] = ("prefetch = %d is 1 in effect without concurrent = true"):format(prefetch)
    end
    return warnings
end

-- Builds a group from a table of options, at `where` ("group"); a group is given back as it is.
function M.build(where, options)
    if class.state_of(options) then
        return options
    end
    if options == nil then
        validate.fail(where, "no options were given; write shove.group {} for the defaults")
    end
    local given = validate.options(where, options, schema)
    local state = {
        given = given,
        consumers = given.consumers or { min = M.defaults.min_consumers, max = 1 },
        at = validate.position() or "?",
    }
    state.effective_prefetch = value_of(state, "concurrent") and value_of(state, "prefetch") or 1
    state.warnings = warnings_of(state)
    return class.new(state)
end

function M.value_of(state, key)
    return value_of(state, key)
end

function M.group(options)
    return M.build("group", options)
end

return M
