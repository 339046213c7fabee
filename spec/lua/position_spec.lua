-- Where a mistake is said to be: at the script's own frame nearest to the call.

local script = require "spec.lua.script"
local validate = require "shove.validate"

local function message_of(text, chunk_name)
    local is_ok, message = pcall(assert(loadstring(text, chunk_name or "@app.lua")))
    assert.is_false(is_ok)
    return message
end

describe("A mistake is said to be", function()
    it("where the call is, not where the function is that makes it was called", function()
        assert.equal("app.lua:3: group: prefetch: 0 is not allowed; write a whole number from 1 to 100000",
            script.message_of "local function make()\n    local g = shove.group { prefetch = 0 }\n    return g\nend\nmake()")
    end)

    it("in the file of a module that the script requires", function()
        package.preload["spec.handlers"] = loadstring(
            "local shove = require 'shove'\nlocal g = shove.group { prefetch = 0 }\nreturn g", "@handlers/group.lua")
        finally(function()
            package.preload["spec.handlers"], package.loaded["spec.handlers"] = nil, nil
        end)
        local is_ok, message = script.run "return require 'spec.handlers'"
        assert.is_false(is_ok)
        assert.truthy(message:find("handlers/group.lua:2: group: prefetch: 0", 1, true))
    end)

    it("at the caller's line, when a function of the script ends in the call", function()
        assert.equal("app.lua:3: group: prefetch: 0 is not allowed; write a whole number from 1 to 100000",
            script.message_of "local function make() return shove.group { prefetch = 0 } end\nlocal g = make()\nreturn g")
    end)

    it("at the line of a pcall", function()
        local is_ok, result, message = script.run "local ok, m = pcall(shove.group, { prefetch = 0 })\nreturn ok, m"
        assert.is_true(is_ok)
        assert.is_false(result)
        assert.truthy(message:find("^app.lua:2: group: prefetch"))
    end)

    it("at the line of a coroutine's body", function()
        local _, _, message = script.run("local co = coroutine.create(function()\n"
            .. "    local g = shove.group { prefetch = 0 }\n    return g\nend)\nlocal ok, m = coroutine.resume(co)\nreturn ok, m")
        assert.truthy(message:find("^app.lua:3: group: prefetch"))
    end)

    it("in the script, without a line, when no frame of it is left", function()
        finally(function() validate.script = nil end)
        for script_name, prefix in pairs { ["dir/app.lua"] = "dir/app.lua: ", [false] = "" } do
            validate.script = script_name or nil
            local co = coroutine.create(require("shove").group)
            local is_ok, message = coroutine.resume(co, { prefetch = 0 })
            assert.is_false(is_ok)
            assert.equal(prefix .. "group: prefetch: 0 is not allowed; write a whole number from 1 to 100000", message)
        end
    end)

    it("by the path that the script was given as", function()
        assert.truthy(message_of("local g = require('shove').group(1) return g", "@./some dir/app.lua")
            :find("^%./some dir/app%.lua:1: group"))
    end)

    it("in a chunk that is no file", function()
        assert.truthy(message_of("local g = require('shove').group(1) return g", "=stdin"):find("^stdin:1: group"))
        assert.truthy(message_of("local g = require('shove').group(1) return g", "local g")
            :find('^%[string "local g"%]:1: group'))
    end)
end)

describe("A value in a message", function()
    -- value | shown
    for _, row in ipairs {
        { "text", '"text"' }, { 'a "b" \\', '"a \\34b\\34 \\92"' }, { "a\nb\0", '"a\\10b\\0"' },
        { ("x"):rep(70), '"' .. ("x"):rep(60) .. '..."' },
        { ("x"):rep(59) .. "é" .. "yy", '"' .. ("x"):rep(59) .. '..."' },
        { 1.5, "1.5" }, { 0 / 0, "NaN" }, { -(0 / 0), "NaN" }, { math.huge, "inf" }, { true, "true" }, { {}, "a table" },
        { print, "a function" }, { 1LL, "a cdata" },
    } do
        it("is short and on one line: " .. row[2], function()
            assert.equal(row[2], validate.show(row[1]))
        end)
    end

    it("is shown as nil when it is missing", function()
        assert.equal("nil", validate.show(nil))
    end)
end)
