-- init.lua: the module `shove`: what a script may use, in one table.
--
-- Loads without the host, so that a script's configuration can be checked by anything that has a Lua state.
-- What speaks to the host (log, sleep, publish) is loaded when it is first touched. A name that does not
-- exist raises instead of being nil: a handler that ends in `return shove.akc` would otherwise acknowledge
-- its message.

local codec = require "shove.codec"
local env = require "shove.env"
local group = require "shove.group"
local object = require "shove.object"
local outcome = require "shove.outcome"
local registry = require "shove.registry"

local M = {
    registry = registry.registry,
    group = group.group,
    env = env.env,
    ack = outcome.ack,
    retry = outcome.retry,
    reject = outcome.reject,
    defer = outcome.defer,
    null = codec.null,
    empty_array = codec.empty_array,
}

-- name -> the module that has it, and the field it is there (nil: the module itself).
local HOSTED = {
    log = { "shove.log" },
    sleep = { "shove.sleep", "sleep" },
    publish = { "shove.publish", "publish" },
    publish_batch = { "shove.publish", "publish_batch" },
}

local ABSENT = { http = true, testing = true }

local function known_names()
    local names = {}
    for name in pairs(HOSTED) do
        names[#names + 1] = name
    end
    for name in next, M do
        if not HOSTED[name] then
            names[#names + 1] = name
        end
    end
    table.sort(names)
    return names
end

return setmetatable(M, {
    __index = function(self, name)
        local hosted = HOSTED[name]
        if not hosted then
            return object.refuse_key("shove", "field", name, known_names(), ABSENT)
        end
        local module = require(hosted[1])
        local value = hosted[2] and module[hosted[2]] or module
        rawset(self, name, value)
        return value
    end,
})
