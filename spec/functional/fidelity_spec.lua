-- What a message is does not change on its way: on a retry, a dead letter and a replay. Each message is retried once and
-- rejected, replayed and rejected again, replayed and handled. On Kafka others write and read at both ends: kcat, and a
-- client that shares no code with shove; on the embedded broker shove.publish and the handlers are all there is.

local cleanup = require "spec.support.cleanup"
local stage = require "spec.support.stage"

local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "queue", { hold = { "50ms" }, dlq = true, partitions = 3, codec = "raw" })

local lives = {}
app:register(queue, shove.group { prefetch = 50, concurrent = true }, function(msg)
  if msg.retry_count == 0 then lives[msg.id] = (lives[msg.id] or 0) + 1 end
  stage.note(msg, { life = lives[msg.id] })
  if lives[msg.id] == 1 and msg.retry_count == 0 then return shove.retry end
  return lives[msg.id] < 3 and shove.reject "not yet" or shove.ack
end)

app:dead_letters(queue, { prefetch = 50, concurrent = true }, function(dead) stage.note(dead) end)

PUBLISH
return app
]]

local PUBLISH = [[
app:on_start(function()
  local name, null = stage.name "queue", shove.null
  shove.publish(name, "all \0 bytes \255\r\n", { key = "\0key\254", timestamp = 1500000000001, headers = {
    { "a", "1" }, { "b", "\0\255\n" }, { "a", "2" }, { "empty", "" }, { "null", null }, { "A", "3" }, { "a", "1" },
  } })
  shove.publish(name, nil, { key = "gone", tombstone = true, timestamp = 1500000000002, headers = { h = "v" } })
  shove.publish(name, "no key", { timestamp = 1500000000003 })
  shove.publish(name, "", { key = "", timestamp = 1500000000004 })
end)
]]

local MESSAGES = {
    binary = {
        key = "\0key\254", value = "all \0 bytes \255\r\n", timestamp_ms = 1500000000001,
        headers = {
            { "a", "1" }, { "b", "\0\255\n" }, { "a", "2" }, { "empty", "" }, { "null", nil }, { "A", "3" }, { "a", "1" },
        },
    },
    tombstone = { key = "gone", timestamp_ms = 1500000000002, headers = { { "h", "v" } } },
    keyless = { value = "no key", timestamp_ms = 1500000000003 },
    empty = { key = "", value = "", timestamp_ms = 1500000000004 },
}

-- What only a stranger can send: headers that look like shove's own.
local FORGED = {
    block = {
        key = "block", value = "forged", timestamp_ms = 1500000000005,
        headers = {
            { "h", "v" }, { "Shove-Message-Id", "stranger-1" }, { "Shove-Retry-Count", "9" }, { "Shove-Crash-Count", "9" },
        },
    },
    loose = {
        key = "loose", value = "forged", timestamp_ms = 1500000000006,
        headers = { { "Shove-Retry-Count", "9" }, { "h", "v" } },
    },
}

local function split_own(headers)
    local others, own = {}, {}
    for _, header in ipairs(headers) do
        if header[1]:find "^Shove%-" then
            assert.is_nil(own[header[1]], header[1] .. " is there twice")
            own[header[1]] = header[2]
        else
            assert.is_nil(next(own), "a header stands behind shove's own")
            table.insert(others, header)
        end
    end
    return others, own
end

for _, broker in ipairs(stage.brokers) do
    describe("on " .. broker, function()
        local s

        -- Notes of one message: life 1 twice, life 2, life 3; letters are of queue-dlq.
        local function notes_of(message, queue)
            local found = {}
            for _, call in ipairs(s:calls { queue = queue or "queue" }) do
                if call.key == message.key and call.payload == message.value then table.insert(found, call) end
            end
            return found
        end

        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, (SOURCE:gsub("PUBLISH", s_publish)))
            end)
        end)
    end)
end
