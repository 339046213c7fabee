-- object.lua: things a script holds but cannot alter: the app, topics, groups.
--
-- An object is an empty table; what it knows is in a table of its own that only its module reaches, so
-- neither assigning to it nor altering the options it was made from changes it. Reading a field that does not
-- exist raises, with the name that was probably meant: nil would be taken for an answer.

local show = require "shove.show"
local suggest = require "shove.suggest"
local validate = require "shove.validate"

local M = {}

local function keys_of(...)
    local keys = {}
    for _, map in ipairs { ... } do
        for key in pairs(map) do
            keys[#keys + 1] = key
        end
    end
    table.sort(keys)
    return keys
end

-- Raises that `noun` has no `kind` of that name. `known`: sorted list of names it has; `absent`: names for which none
-- of these was meant: true, a later release has it; a text, what to do instead.
function M.refuse_key(noun, kind, key, known, absent)
    if absent and type(absent[key]) == "string" then
        validate.raise(("%s has no %s %s: %s"):format(noun, kind, show.value(key), absent[key]))
    elseif absent and absent[key] then
        validate.raise(("%s has no %s %s in this release"):format(noun, kind, show.value(key)))
    end
    local hint = suggest.hint(key, known)
    if hint == "" then
        hint = "; it has: " .. table.concat(known, ", ")
    end
    validate.raise(("%s has no %s %s%s"):format(noun, kind, show.value(key), hint))
end

-- A class of objects. definition: noun ("app"), methods (name -> function(self, ...)), getters (name ->
-- function(state)), describe (function(state) -> text of tostring), kind ("method" or "field": what a missing
-- name is called), absent (as of refuse_key). The class has new(state), and
-- state_of(value), which is nil for whatever is not of the class.
function M.class(definition)
    local methods, getters = definition.methods or {}, definition.getters or {}
    local states = setmetatable({}, { __mode = "k" })
    local metatable = { __metatable = "shove." .. definition.noun }

    function metatable.__index(self, key)
        if methods[key] then
            return methods[key]
        elseif getters[key] then
            return getters[key](states[self])
        end
        M.refuse_key(definition.noun, definition.kind, key, keys_of(methods, getters), definition.absent)
    end

    function metatable.__newindex(_, key)
        validate.raise(("%s cannot be altered: %s was assigned to it"):format(
            definition.noun == "app" and "an app" or "a " .. definition.noun, show.value(key)))
    end

    function metatable.__tostring(self)
        return definition.describe(states[self])
    end

    local class = {}

    function class.new(state)
        local object = setmetatable({}, metatable)
        states[object] = state
        return object
    end

    function class.state_of(value)
        return value ~= nil and states[value] or nil
    end

    return class
end

return M
