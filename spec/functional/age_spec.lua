-- A message that stays open for long is warned about when the broker may delete it: by what its topic keeps, which only
-- the broker knows.

local cleanup = require "spec.support.cleanup"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local stage = require "spec.support.stage"

local HOUR_MS = 3600 * 1000
local DAY_MS = 24 * HOUR_MS

local function ago(ms) return math.floor(os.time() * 1000 - ms) end

-- Every message stays open until the drain is over. Queues are watched in this order.
local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
for _, queue in ipairs { "kept", "compacted", "young", "asked", "week", "hour" } do
  local options = queue == "asked" and { partitions = 1, retention = "2h" } or { external = true }
  local topic = app:topic(stage.name(queue), options)
  app:register(topic, {}, function(msg)
    stage.note(msg)
    shove.sleep "25s"
  end)
end
return app
]]

local TOPICS = {
    kept = { config = { ["retention.ms"] = -1 }, age_ms = 300 * DAY_MS },
    compacted = { config = { ["cleanup.policy"] = "compact", ["retention.ms"] = HOUR_MS }, age_ms = 300 * DAY_MS },
    young = { config = { ["retention.ms"] = HOUR_MS }, age_ms = 10 * 60 * 1000 },
    asked = { config = { ["retention.ms"] = 100 * DAY_MS }, age_ms = DAY_MS },
    week = { config = { ["retention.ms"] = 7 * DAY_MS }, age_ms = 4 * DAY_MS },
    hour = { config = { ["retention.ms"] = HOUR_MS }, age_ms = 40 * 60 * 1000 },
}

describe("on kafka: a message that stays open", function()
    local s, p

    setup(function()
        cleanup.for_block(function()
            s = stage.new("kafka", SOURCE)
            for queue, topic in pairs(TOPICS) do s.kafka:create_topic(s:name(queue), { config = topic.config }) end
            p = s:run { "--workers", "1", "--drain", "100ms" }
            local function send(queue)
                s.kafka:produce(s:name(queue), { { key = "k", value = "1", timestamp_ms = ago(TOPICS[queue].age_ms) } })
                s:wait_calls(1, { queue = queue })
            end
            for _, queue in ipairs { "kept", "compacted", "young", "asked", "week" } do send(queue) end
            send "hour"
            -- One round looks at all groups, so whoever was to be warned about has been by then.
            p:wait_for("open for more than half .*" .. s:pattern "hour", 10000)
            stage.drain(p, 3)
        end)
    end)

    local function warnings(queue)
        return stage.lines(p, "warn +control: (a message has been open for more than half .*" .. s:pattern(queue) .. "/.*)")
    end

    for queue, retention in pairs { hour = "3600 s", week = "604800 s" } do
        it("for more than half of what its topic keeps has a warning that names it: " .. queue, function()
            local lines = warnings(queue)
            assert.are.equal(1, #lines)
            assert.matches("message=" .. s:name(queue) .. "/0@0 ", lines[1], 1, true)
            assert.matches('retention="' .. retention .. '"', lines[1], 1, true)
        end)
    end

    it("for less has none", function()
        assert.are.equal(0, #warnings "young")
    end)

    it("has none where the broker deletes nothing by age", function()
        assert.are.equal(0, #warnings "kept")
        assert.are.equal(0, #warnings "compacted")
    end)

    it("is judged by what the topic keeps, not by what the script asks for, which is said", function()
        assert.are.equal(0, #warnings "asked")
        local lines = stage.lines(p, "warn +control: (.*app.lua:5: topic " .. s:pattern "asked" .. " keeps .*)")
        assert.are.equal(1, #lines)
        assert.matches("8640000 s", lines[1], 1, true)
        assert.matches("7200 s", lines[1], 1, true)
    end)
end)

-- librdkafka's mock does not answer what a topic keeps, as a broker does not to a client without the right to ask.
describe("on a Kafka that does not tell what it keeps: a message that stays open", function()
    it("is judged by what the script says, else by 7 days", function()
        local mock = kafka_mock.start()
        local s = stage.new("kafka", [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local asked = app:topic(stage.name "asked", { partitions = 1, retention = "24h" })
local silent = app:topic(stage.name "silent", { partitions = 1 })
for _, topic in ipairs { asked, silent } do
  app:register(topic, {}, function(msg) shove.sleep "25s" end)
end
app:on_start(function()
  for _, topic in ipairs { asked, silent } do
    shove.publish(topic, 1, { timestamp = (os.time() - 4 * 24 * 3600) * 1000 })
  end
end)
return app
]], { url = mock.url })
        for _, queue in ipairs { "asked", "silent" } do mock:create(s:name(queue), 1) end
        local p = s:run { "--workers", "1", "--drain", "100ms" }
        for queue, retention in pairs { asked = "86400 s", silent = "604800 s" } do
            p:wait_for(('open for more than half .*%s/.*retention="%s"'):format(s:pattern(queue), retention), 20000)
        end
        stage.drain(p, 3)
    end)
end)

describe("on embedded: a message that stays open", function()
    it("is never deleted before its group has finished it, so there is no warning", function()
        local s = stage.new("embedded", [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local topic = app:topic(stage.name "orders", { retention = "1h" })
app:register(topic, {}, function(msg)
  stage.note(msg)
  shove.sleep "600ms" -- longer than it takes to look at every message that is open
  stage.say "done"
end)
app:on_start(function()
  shove.publish(topic, 1, { timestamp = (os.time() - 30 * 24 * 3600) * 1000 })
end)
return app
]])
        local p = s:run { "--workers", "1" }
        s:wait_calls(1, { queue = "said" })
        stage.drain(p)
        assert.are.equal(0, #stage.lines(p, "open for more than half"))
    end)
end)
