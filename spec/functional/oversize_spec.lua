-- A message larger than max_message_size allows, from a time or an app that allowed more.

local stage = require "spec.support.stage"

local MIB = 1024 * 1024

local QUEUE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "large", { codec = "raw", hold = { "50ms" }, dlq = stage.name %q })
app:register(queue, shove.group { max_message_size = %q }, function(msg) stage.say("handled " .. msg.payload) end)
]]

local LETTERS = QUEUE .. [[
app:dead_letters(queue, { max_message_size = "40MiB" }, function(msg)
  stage.say(("%%s %%d %%s"):format(msg.reason, #msg.payload, tostring(not msg.payload:find "[^x]")))
end)
return app
]]

local function said(s, count)
    local lines = {}
    for _, call in ipairs(s:wait_calls(count, { queue = "said" })) do lines[#lines + 1] = call.said end
    table.sort(lines)
    return lines
end

describe("a message far larger than max_message_size", function()
    for _, broker in ipairs { "embedded", "kafka" } do
        it("is dead-lettered, whole, and the others are handled, on " .. broker, function()
            local generous = stage.new(broker, QUEUE:format("other-graves", "40MiB") .. "return app")
            generous:publish("large", { "--raw", lines = { "before", ("x"):rep(20 * MIB), "after" } })

            local strict = generous:beside(QUEUE:format("graves", "1MiB") .. "return app")
            local p = strict:run { "--workers", "1" }
            assert.are.same({ "handled after", "handled before" }, said(strict, 2))
            p:wait_for("outcome=oversize", 30000)
            local summary = stage.drain(p)
            assert.are.same({ oversize = 1 }, summary[strict:name("large", "-consumer")].reasons)

            local reader = generous:beside(LETTERS:format("graves", "1MiB"))
            p = reader:run { "--workers", "1" }
            assert.are.same({ ("oversize %d true"):format(20 * MIB) }, said(reader, 1))
            stage.drain(p)
        end)
    end
end)
