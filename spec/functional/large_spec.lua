-- Large messages: up to max_message_size they pass, whichever way they go.

local stage = require "spec.support.stage"

local MIB = 1024 * 1024

-- Publishes from a handler (on_start), one by one and as a batch; what comes back is noted as size and a checksum.
local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local large = app:topic(stage.name "large", { codec = "raw", hold = { "50ms" }, dlq = true })

app:register(large, shove.group { prefetch = 4, concurrent = true }, function(msg)
  if msg.retry_count == 0 then return shove.retry "once more" end
  local is_same = msg.payload == ("0123456789abcdef"):rep(#msg.payload / 16)
  stage.say(("%d %s"):format(#msg.payload, tostring(is_same)))
end)

app:on_start(function()
  local function body(bytes) return ("0123456789abcdef"):rep(bytes / 16) end
  for _, bytes in ipairs { 1048576, 10485760 } do assert(shove.publish(large, body(bytes))) end
  local batch = {}
  for i = 1, 6 do batch[i] = { body = body(3 * 1048576) } end
  assert(shove.publish_batch(large, batch))
end)
return app
]]

describe("a message of up to 10 MiB", function()
    for _, broker in ipairs { "embedded", "kafka", "memory" } do
        it("is published by a handler, retried and handled, whole, on " .. broker, function()
            local s = stage.new(broker, SOURCE)
            local p = s:run { "--workers", "1" }
            local sizes = {}
            for _, call in ipairs(s:wait_calls(8, { queue = "said" })) do
                local size, is_same = call.said:match "^(%d+) (%a+)$"
                assert.are.equal("true", is_same)
                sizes[#sizes + 1] = tonumber(size)
            end
            table.sort(sizes)
            assert.are.same({ MIB, 3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB, 10 * MIB }, sizes)
            stage.drain(p)
        end)
    end
end)
