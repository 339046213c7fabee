-- Whatever a script gives, it either gets what it asked for or a message at its own line: never an error of the library.

require "spec.lua.script"
local describe_module = require "shove.describe"
local shove = require "shove"

local ROUNDS = 20000
local seed = tonumber(os.getenv "SHOVE_SPEC_SEED") or os.time()

local KEYS = {
    "broker", "handler_timeout", "replication_factor", "kafka", "hold", "dlq", "sequenced", "key", "shards", "partitions",
    "codec", "for_group", "external", "retention", "allow_message_loss", "consumers", "prefetch", "concurrent",
    "max_retries", "max_crashes", "on_timeout", "auto_offset_reset", "group_id", "max_message_size", "max_pending_per_key",
    "audit", "to", "timeout", "holds", "Prefetch", "", "\0", ("k"):rep(300), 1, 0, -1, 1.5, math.huge, true, false, print,
}

local hostile = setmetatable({}, {
    __index = function() error "hostile __index" end,
    __newindex = function() error "hostile __newindex" end,
    __tostring = function() error "hostile __tostring" end,
    __call = function() error "hostile __call" end,
    __eq = function() error "hostile __eq" end,
    __len = function() error "hostile __len" end,
    __lt = function() error "hostile __lt" end,
    __concat = function() error "hostile __concat" end,
})

local VALUES = {
    "memory:", "embedded:./x.db", "kafka://h:9092", "kafka://", "5s", "0s", "5 parsecs", "", "\0\255", "%d%s%n", ("v"):rep(5000),
    "json", "raw", "skip", "fail_all", "earliest", "retry", "10MiB", "orders", "x", 0, 1, -1, 2, 1.5, 5, 255, 1e9, 1e308,
    -1e308, math.huge, -math.huge, 0 / 0, true, false, print, function() end, coroutine.create(print), 1LL, hostile,
    io.stdout, shove.ack, shove.null, shove.empty_array,
}

local function pick(list)
    return list[math.random(#list)]
end

local function random_value(depth)
    local dice = math.random()
    if depth > 3 or dice < 0.6 then
        return pick(VALUES)
    elseif dice < 0.65 then
        return nil
    end
    local made = {}
    for i = 1, math.random(0, 5) do
        local key = math.random() < 0.4 and i or pick(KEYS)
        made[key] = random_value(depth + 1)
    end
    if math.random() < 0.02 then
        made.self = made
    elseif math.random() < 0.03 then
        return setmetatable(made, getmetatable(hostile))
    end
    return made
end

-- Mostly sound, so that the checks beyond the first are reached too.
local SOUND = {
    hold = function() return { math.random(1, 3), math.random(4, 6) } end,
    dlq = function() return pick { true, false, "dead", "orders" } end,
    partitions = function() return math.random(1, 9) end,
    sequenced = function() return pick { "skip", "fail_all" } end,
    for_group = function() return pick { "g", "h" } end,
    consumers = function() return { min = math.random(0, 2), max = math.random(1, 9) } end,
    group_id = function() return pick { "a-consumer", "mine" } end,
    prefetch = function() return math.random(1, 5) end,
    codec = function() return pick { "json", "raw" } end,
}

local function random_options()
    if math.random() < 0.2 then
        return random_value(1)
    end
    local options = {}
    for key, sound in pairs(SOUND) do
        local dice = math.random()
        if dice < 0.12 then
            options[key] = sound()
        elseif dice < 0.13 then
            options[key] = random_value(1)
        end
    end
    return options
end

-- Every call is on a line of its own, of a file that is no part of the library.
local steps = assert(loadstring([[
    local shove, describe_module, random_options, random_value, pick = ...
    local app = shove.registry { broker = "memory:" }
    local topics = {}
    return app, {
        function() local a = shove.registry(random_options()) return a end,
        function() local g = shove.group(random_options()) return g end,
        function() local t = app:topic(pick { "a", "b", "a-g", "dead", random_value(1) or 1 }, random_options())
            topics[#topics + 1] = t end,
        function() local r = app:register(topics[math.random(#topics + 1)] or random_value(1), random_options(), print)
            return r end,
        function() local r = app:register(pick(topics), random_options(), random_value(1)) return r end,
        function() local r = app:dead_letters(topics[math.random(#topics + 1)] or random_value(1), random_options(), print)
            return r end,
        function() local r = app:on_start(random_value(1)) return r end,
        function() local e = shove.env(random_value(1), random_value(1)) return e end,
        function() local x = app[random_value(1)] return x end,
        function() local x = shove[random_value(1)] return x end,
        function() app[random_value(1) or 1] = 1 end,
        function() local o = shove.retry(random_value(1)) return o end,
    }
]], "@fuzz.lua"))

local function is_clean(message)
    -- The script's own mistakes: nil or NaN as a key of an assignment.
    return type(message) == "string" and (message:find "^fuzz%.lua:%d+: " ~= nil) and not message:find "hostile"
        and not message:find "attempt to"
end

describe("A configuration of random values", function()
    it("is accepted, or refused at the script's line", function()
        math.randomseed(seed)
        local accepted, refused = 0, 0
        for _ = 1, ROUNDS / 20 do
            local app, calls = steps(shove, describe_module, random_options, random_value, pick)
            for _ = 1, 20 do
                local is_ok, message = pcall(pick(calls))
                if is_ok then
                    accepted = accepted + 1
                elseif is_clean(message) or message:find "^fuzz%.lua:%d+: bad argument" then
                    refused = refused + 1
                else
                    error(("seed %d: %s"):format(seed, tostring(message)))
                end
            end
            local is_ok, text = pcall(describe_module.encode, app)
            assert.is_true(is_ok or text:find "no topic is declared" ~= nil, ("seed %d: %s"):format(seed, tostring(text)))
        end
        -- Neither side is empty, or the values are not what they are meant to be.
        assert.is_true(accepted > ROUNDS / 20, ("seed %d: %d accepted"):format(seed, accepted))
        assert.is_true(refused > ROUNDS / 20, ("seed %d: %d refused"):format(seed, refused))
    end)
end)
