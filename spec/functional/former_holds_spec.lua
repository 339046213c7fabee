-- Delays that are taken out of `hold`: what waits there is handled all the same.

local acl = require "spec.support.acl"
local app = require "spec.support.app"
local cleanup = require "spec.support.cleanup"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local stage = require "spec.support.stage"
local steered = require "spec.support.steered"

local HOLD_MS = 3000

-- Two tiers of every queue, and topics whose names are not quite those of holds, or are and are something else.
local BEFORE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
for _, queue in ipairs { "some", "none" } do
  local name = stage.name(queue)
  app:register(app:topic(name, { hold = { "100ms", "3s" }, dlq = true, partitions = 2 }), {}, function(msg)
    stage.note(msg)
    return shove.retry
  end)
  for _, tail in ipairs { "-g-hold-3s", "-hold-03s", "-hold-3000ms", "-hold-7s", "x-hold-3s" } do
    app:topic(name .. tail, { partitions = 1 })
  end
end
return app
]]

-- The second queue has no hold left; a stranger's queue is called like a hold.
local AFTER = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
for _, queue in ipairs { "some", "none" } do
  local hold = queue == "some" and { "100ms" } or nil
  app:register(app:topic(stage.name(queue), { hold = hold, dlq = true, partitions = 2 }), {}, function(msg)
    stage.note(msg)
    return msg.retry_count < 3 and shove.retry or shove.ack
  end)
  app:register(app:topic(stage.name(queue) .. "-hold-7s", { partitions = 1 }), {}, function(msg) stage.note(msg) end)
end
return app
]]

local function record_count(t, topic)
    local count = 0
    for partition = 0, t:partition_count(topic) - 1 do
        count = count + select(2, t:watermarks(topic, partition))
    end
    return count
end

for _, broker in ipairs(stage.brokers) do
    describe("on " .. broker .. ": a retry that waits in a delay that was taken out of `hold`", function()
        local before, after, calls, said, seconds = nil, nil, {}, nil, {}

        setup(function()
            cleanup.for_block(function()
                before = stage.new(broker, BEFORE)
                local p = before:run { "--workers", "1" }
                for _, queue in ipairs { "some", "none" } do
                    p:wait_for("partitions assigned.*topic=" .. before:pattern(queue) .. "%s", 20000)
                    before:publish(queue, { "1" })
                    before:wait_calls(2, { queue = queue })
                end
                stage.drain(p)
                after = before:beside(AFTER)
                p = after:run { "--workers", "1" }
                for _, queue in ipairs { "some", "none" } do
                    after:wait_calls(2, { queue = queue })
                    calls[queue] = before:calls { queue = queue }
                    for _, call in ipairs(after:calls { queue = queue }) do table.insert(calls[queue], call) end
                end
                stage.drain(p)
                said = p
                local t = assert(driver.open(after.url, { must_exist = true }))
                for _, queue in ipairs { "some", "none" } do
                    seconds[queue] = record_count(t, after:name(queue) .. "-hold-3s")
                    calls[queue].firsts = record_count(t, after:name(queue) .. "-hold-100ms")
                end
                t:close()
            end)
        end)

        for _, queue in ipairs { "some", "none" } do
            local title = queue == "some" and "" or ", also where no hold is left"
            it("is handled when it is due and not before, with its count" .. title, function()
                local counts = {}
                for i, call in ipairs(calls[queue]) do counts[i] = call.retry_count end
                assert.are.same({ 0, 1, 2, 3 }, counts)
                local waited_ms = calls[queue][3].at_ms - calls[queue][2].at_ms
                assert.is_true(waited_ms >= HOLD_MS, waited_ms)
            end)
        end

        it("goes to a delay that is declared when it fails again", function()
            assert.are.same({ some = 1, none = 1 }, seconds)
            assert.are.same({ 2, 1 }, { calls.some.firsts, calls.none.firsts })
            assert.is_true(calls.some[4].at_ms - calls.some[3].at_ms < HOLD_MS)
        end)

        it("is announced once for each group, which takes no topic that is something else", function()
            local found = {}
            for _, line in ipairs(stage.lines(said, "holds that are not declared any more are read as well.*(holds=.*)$")) do
                local holds, queue = line:match '^holds="?([^"]-)"?%s+queue=(%S+)'
                local list = {}
                for hold in holds:gmatch "[^%s,]+" do table.insert(list, (hold:sub(#queue + 1))) end
                table.sort(list)
                table.insert(found, after:plain(queue) .. " " .. table.concat(list, " "))
            end
            table.sort(found)
            assert.are.same({ "none -hold-100ms -hold-3s", "some -hold-3s" }, found)
        end)
    end)
end

describe("on kafka: a delay that was taken out of `hold`", function()
    local broker = kafka.shared()

    it("is left alone with a warning when its topic may not be read, and the group consumes", function()
        local s = steered.new {
            url = "kafka://" .. broker.sasl, kafka = acl.properties("limited", "limited-secret"), partitions = false,
            topic = "external = true,", broker = broker,
        }
        broker:create_topic(s.queue)
        broker:create_topic(s.queue .. "-hold-9s")
        acl.allow(broker, "limited", { topic = s.queue, operations = { "read", "describe" } })
        acl.allow(broker, "limited", { topic = s.queue .. "-hold-9s", operations = { "describe" } })
        acl.allow(broker, "limited", { group = s.group_id, operations = { "read", "describe" } })
        local p = s:run()
        assert.matches("hold=" .. s.queue .. "-hold-9s code=EDENIED",
            p:wait_for("a hold that is not declared any more cannot be read", 20000):gsub("  +", " "), 1, true)
        s:publish { "a" }
        s:wait("ended", { "a" })
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("may be deleted with its topic while the group consumes", function()
        local quick = { ["topic.metadata.refresh.interval.ms"] = "500", ["topic.metadata.propagation.max.ms"] = "500" }
        local s = steered.new { url = broker.url, kafka = quick }
        s:declare()
        local hold = broker:create_topic(s.queue .. "-hold-9s")
        local p = s:run()
        p:wait_for("are read as well.*" .. hold:gsub("%-", "%%-"), 20000)
        p:wait_for("partitions assigned", 20000)
        broker:delete_topic(hold)
        p:wait_for("Subscribed topic not available: " .. hold:gsub("%-", "%%-"), 20000)
        s:publish { "a", "b retry" }
        s:wait("ended", { "a", "b" })
        s:wait("ended", { "b" }, 2)
        assert.is_nil(broker:partitions(hold))
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)
