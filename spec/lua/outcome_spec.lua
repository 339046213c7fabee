-- Outcomes, bare and with a reason.

require "spec.lua.script"
local outcome = require "shove.outcome"
local shove = require "shove"

describe("An outcome", function()
    for code, name in ipairs { "ack", "retry", "reject", "defer" } do
        it(("named %s is the number %d, bare and with a reason"):format(name, code), function()
            assert.equal(code, shove[name].code)
            assert.is_nil(shove[name].reason)
            assert.equal(code, shove[name]("why").code)
            assert.equal("why", shove[name]("why").reason)
            assert.is_nil(shove[name].reason)
            assert.is_true(outcome.is_outcome(shove[name]))
            assert.is_true(outcome.is_outcome(shove[name] "why"))
            assert.equal("shove." .. name, tostring(shove[name]))
            assert.equal(('shove.%s("why")'):format(name), tostring(shove[name] "why"))
        end)
    end

    it("has no reason when it is called with nil, as with the error of something that gave none", function()
        assert.is_nil(shove.retry(nil).reason)
        assert.is_nil(shove.retry().reason)
    end)

    it("turns a reason that is no string into one instead of failing", function()
        assert.equal("12", shove.retry(12).reason)
        assert.equal("false", shove.retry(false).reason)
        assert.equal("from tostring", shove.retry(setmetatable({}, {
            __tostring = function() return "from tostring" end,
        })).reason)
        assert.equal("a table", shove.retry(setmetatable({}, { __tostring = function() error "no" end })).reason)
        assert.equal("a table", shove.retry(setmetatable({}, { __tostring = function() return {} end })).reason)
    end)

    it("is nothing else", function()
        for _, value in ipairs { true, false, 1, "ack", {}, { code = 1 }, print, setmetatable({ code = 1 }, {}), shove } do
            assert.is_false(outcome.is_outcome(value))
        end
        assert.is_false(outcome.is_outcome(nil))
    end)

    it("has the numbers of enum shove_outcome", function()
        local header = assert(io.open "runtime/core/outcome.h"):read "*a"
        local names = {}
        for name in header:match("enum shove_outcome (%b{})"):gsub("/%*.-%*/", ""):gmatch "SHOVE_OUTCOME_(%u+)" do
            names[#names + 1] = name
        end
        assert.same({ "ACK", "RETRY", "REJECT", "DEFER" }, { names[1], names[2], names[3], names[4] })
        assert.truthy(header:find("SHOVE_OUTCOME_ACK = 1", 1, true))
    end)
end)

describe("The module", function()
    it("returns what the environment says, also when it is empty, else the default", function()
        assert.equal(os.getenv "PATH", shove.env "PATH")
        assert.equal("default", shove.env("SHOVE_SPEC_UNSET", "default"))
        assert.equal(8080, shove.env("SHOVE_SPEC_UNSET", 8080))
        assert.is_false(shove.env("SHOVE_SPEC_UNSET", false))
    end)

    it("loads what needs the host when it is touched, not before", function()
        local modules = { "shove.log", "shove.sleep", "shove.publish" }
        local loaded = {}
        for _, name in ipairs(modules) do
            loaded[name], package.loaded[name] = package.loaded[name], nil
        end
        package.loaded["shove.log"] = { info = "info" }
        package.loaded["shove.sleep"] = { sleep = "sleep" }
        package.loaded["shove.publish"] = { publish = "publish", publish_batch = "batch" }
        local before = package.loaded["shove"]
        package.loaded["shove"] = nil
        local fresh = require "shove"
        package.loaded["shove"] = before
        for name in pairs(loaded) do
            assert.is_nil(rawget(fresh, name:match "[^.]+$"))
        end
        assert.equal("info", fresh.log.info)
        assert.equal("sleep", fresh.sleep)
        assert.equal("publish", fresh.publish)
        assert.equal("batch", fresh.publish_batch)
        for _, name in ipairs(modules) do
            package.loaded[name] = loaded[name]
        end
    end)

    it("leaves no global behind", function()
        local before = {}
        for name in pairs(_G) do
            before[name] = true
        end
        for name in pairs(package.loaded) do
            if name == "shove" or (name:find "^shove%." and name ~= "shove.host") then
                package.loaded[name] = nil
            end
        end
        require "shove"
        require "shove.describe"
        for name in pairs(_G) do
            assert.is_true(before[name] == true, name)
        end
    end)
end)
