-- Every mistake in a configuration: the whole message, with the user's file and line.

local refusals = require "spec.support.refusals"
local script = require "spec.lua.script"

describe("A configuration is refused at the user's line", function()
    for _, row in ipairs(refusals) do
        it("for " .. row[1], function()
            assert.equal(row[3], script.message_of(row[2]))
        end)
    end
end)
