-- The annotations for editors say what the library takes and has: no more, no less.

local script = require "spec.lua.script"

local META = "lua/shove/_meta/shove.lua"

local function read(path)
    local file = assert(io.open(path))
    local text = file:read "*a"
    file:close()
    return text
end

-- Class name -> sorted list of its fields.
local function annotated_classes()
    local classes, class = {}, nil
    for line in read(META):gmatch "[^\n]+" do
        local name = line:match "^%-%-%-@class (%S+)"
        if name then
            class = {}
            classes[name] = class
        elseif not line:find "^%-%-%-" then
            class = nil
        end
        local field = class and line:match "^%-%-%-@field ([%w_]+)"
        if field then
            class[#class + 1] = field
        end
    end
    for _, fields in pairs(classes) do
        table.sort(fields)
    end
    return classes
end

-- What follows "allowed: " or "it has: " in the message of a script that uses a name which nothing resembles.
local function told(body)
    local list = script.message_of(body):match "[:;] it has: (.*)$" or script.message_of(body):match "allowed: (.*)$"
    local names = {}
    for name in list:gmatch "[%w_]+" do
        names[#names + 1] = name
    end
    return names
end

local function functions_of(object)
    local names = {}
    for name in read(META):gmatch("\nfunction " .. object .. "[.:]([%w_]+)%(") do
        names[#names + 1] = name
    end
    return names
end

describe("The annotations have", function()
    local classes = annotated_classes()

    -- what | class | a script that makes the library tell
    for _, row in ipairs {
        { "every option of a registry", "shove.RegistryOptions", "shove.registry { qqqqq = 1 }" },
        { "every option of an audit", "shove.AuditOptions", "shove.registry { broker = 'memory:', audit = { qqqqq = 1 } }" },
        { "every option of a topic", "shove.TopicOptions", "app:topic('o', { qqqqq = 1 })" },
        { "every option of a group", "shove.GroupOptions", "shove.group { qqqqq = 1 }" },
        { "every field of a group", "shove.Group", "local g = shove.group {}; g = g.qqqqq" },
        { "every field of a topic", "shove.Topic", "local t = app:topic 'o'; t = t.qqqqq" },
    } do
        it(row[1] .. ", and nothing else", function()
            assert.same(told(row[3]), classes[row[2]])
        end)
    end

    it("every method of an app, and nothing else", function()
        local methods = functions_of "App"
        table.sort(methods)
        assert.same(told "app:qqqqq()", methods)
    end)

    -- The fields are C's (runtime/control/status.c).
    it("every field of a group's state, and nothing else", function()
        local fields = {}
        local body = read "runtime/control/status.c":match "static json_t %*flow_status%b() (%b{})"
        for name in body:gmatch '"([%l_]+)"' do fields[#fields + 1] = name end
        table.sort(fields)
        assert.same(fields, classes["shove.GroupState"])
    end)

    it("every name of the module, and nothing else", function()
        local names = functions_of "shove"
        for name in read(META):gmatch "\nshove%.([%w_]+) =" do
            names[#names + 1] = name
        end
        table.sort(names)
        assert.same(told "local x = shove.qqqqq", names)
    end)

    -- The message's fields are C's (runtime/worker/message_binding.c), as { name, push, of dead letters only }.
    it("every field of messages and of dead letters, and nothing else", function()
        local of_messages, of_dead_letters = {}, {}
        for name, is_of_dead in read "runtime/worker/message_binding.c":gmatch '{"([%w_]+)", push_[%w_]+, (%l+)}' do
            table.insert(is_of_dead == "true" and of_dead_letters or of_messages, name)
        end
        table.sort(of_messages)
        table.sort(of_dead_letters)
        assert.same(of_messages, classes["shove.Message"])
        assert.same(of_dead_letters, classes["shove.DeadLetter"])
    end)

    it("every option of publish, and nothing else", function()
        local options = {}
        for name in read "lua/shove/publish.lua":match("local OPTIONS = (%b{})"):gmatch '"([%w_]+)"' do
            options[#options + 1] = name
        end
        assert.same(options, classes["shove.PublishOptions"])
    end)

    it("the word meta first, so that nobody loads them", function()
        assert.truthy(read(META):find "^%-%-%-@meta shove\n")
    end)
end)
