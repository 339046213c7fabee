-- What is set aside is bounded: messages that wait in place, and retries that the broker does not take.

local stage = require "spec.support.stage"
local wait = require "spec.support.wait"

local ASIDE_MAX = 10000 -- SHOVE_BACKLOG_MAX in runtime/control/backlog.h
local PREFETCH = 100

-- Every message is retried once. Says the largest number that had been retried and not come back.
local SOURCE = [[
local shove, stage = require "shove", require "stage"
local COUNT, SIZE, has_said = %d, %d, false
local app = shove.registry { broker = stage.broker }
local topic = app:topic(stage.name "many", { codec = "raw", %s })
local out, most, done = 0, 0, 0

app:register(topic, shove.group { prefetch = %d, concurrent = true }, function(msg)
  if msg.retry_count == 0 then
    out = out + 1
    most = math.max(most, out)
    if out == 10000 and not has_said then
      has_said = true
      stage.say "10,000 are out"
    end
    return shove.retry "once more"
  end
  out, done = out - 1, done + 1
  if done == COUNT then stage.say(most) end
end)

app:on_start(function()
  local body = ("x"):rep(SIZE)
  for _ = 1, COUNT, 1000 do
    local batch = {}
    for i = 1, math.min(COUNT, 1000) do batch[i] = { body = body } end
    assert(shove.publish_batch(topic, batch))
  end
end)
return app
]]

local function new(broker, count, size, options, prefetch)
    return stage.new(broker, SOURCE:format(count, size, options, prefetch))
end

-- The largest backlog, once everything was handled.
local function most(s, p)
    local count
    wait.until_true(function()
        for _, call in ipairs(s:calls { queue = "said" }) do count = tonumber(call.said) or count end
        return count
    end, 30000, "the script to say how long the backlog was")
    stage.drain(p)
    return count
end

describe("a backlog", function()
    it("of messages that wait in place, because there is no hold, is no longer than 10,000", function()
        local s = new("embedded", 25000, 1, "dlq = true", PREFETCH)
        local count = most(s, s:run { "--workers", "1" })
        assert.is_true(count >= ASIDE_MAX and count <= ASIDE_MAX + PREFETCH, tostring(count))
    end)

    it("of messages that wait in place is no larger than 64 MiB", function()
        local s = stage.new("embedded", [[
        local shove, stage = require "shove", require "stage"
        local app = shove.registry { broker = stage.broker }
        local topic = app:topic(stage.name "large", {
          codec = "raw", sequenced = "skip", shards = 1, hold = { "1h" }, dlq = true,
        })
        app:register_fifo(topic, { prefetch = 10 }, function(msg)
          stage.say(msg.key)
          return shove.retry "later"
        end)
        app:on_start(function()
          local body = ("x"):rep(1024 * 1024)
          for i = 1, 100 do assert(shove.publish(topic, body, { key = i })) end
        end)
        return app
        ]])
        local p = s:run { "--workers", "1" }
        p:wait_for("nothing new of a group is handled", 30000)
        local count = #s:calls { queue = "said" }
        assert.is_true(count >= 60 and count <= 64 + 10, tostring(count))
        stage.drain(p)
        assert.are.equal(count, #s:calls { queue = "said" })
    end)

    it("of retries that the broker refuses is no longer than 10,000", function()
        local s = new("kafka", 15000, 1, 'hold = { "50ms" }, dlq = true', PREFETCH)
        s.kafka:create_topic(s:name("many", "-hold-50ms"), {
            partitions = 8, config = { ["cleanup.policy"] = "compact" }, -- which refuses records without a key
        })
        local p = s:run { "--workers", "1", "--drain", "1s" }
        s:wait_calls(1, { queue = "said" })
        p:mark()
        p:wait_for('nothing new of a group is handled: .* for the broker to store=1%d%d%d%d .*'
            .. 'what to do="find out why the broker', 10000)
        p:wait_for("more lines about messages .* were left out", 10000) -- at least most of a second later
        p:kill "sigterm"
        local _, count = p:wait_for("still draining .*on their way=(%d+)", 10000)
        assert.is_true(tonumber(count) >= ASIDE_MAX and tonumber(count) <= ASIDE_MAX + PREFETCH, count)
        assert.are.equal(3, p:wait_exit(10000))
    end)
end)

describe("publishing more at once than waits in memory", function()
    it("is slowed down, not refused, while the broker takes it", function()
        local s = stage.new("kafka", [[
        local shove, stage = require "shove", require "stage"
        local app = shove.registry { broker = stage.broker }
        local queue = app:topic(stage.name "queue", { codec = "raw", partitions = 1 })
        local out = app:topic(stage.name "out", { codec = "raw", partitions = 4 })
        local body = ("x"):rep(512 * 1024)
        app:register(queue, shove.group { prefetch = 400, concurrent = true }, function()
          local ok, _, code = shove.publish(out, body)
          stage.say(ok and "stored" or code)
        end)
        return app
        ]])
        local texts = {}
        for i = 1, 400 do texts[i] = tostring(i) end
        s:publish("queue", { "--raw", lines = texts })
        local p = s:run { "--workers", "1" }
        for _, call in ipairs(s:wait_calls(400, { queue = "said" })) do assert.are.equal("stored", call.said) end
        stage.drain(p)
    end)
end)
