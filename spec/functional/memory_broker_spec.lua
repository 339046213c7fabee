-- The memory broker, whose messages nobody else sees: what an app does to its own.

local stage = require "spec.support.stage"

describe("on memory", function()
    it("what app:on_start publishes is handled, retried, dead-lettered, and gone with the run", function()
        local s = stage.new("memory", [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "queue", { hold = { "40ms" }, dlq = true })
app:register(queue, { max_retries = 2 }, function(msg)
  stage.note(msg)
  return msg.body.kind == "retry" and shove.retry "later" or shove.ack
end)
app:dead_letters(queue, function(dead) stage.note(dead) end)
app:on_start(function()
  for _, kind in ipairs { "ack", "retry" } do
    assert(shove.publish(queue, { kind = kind }, { key = kind, headers = { { "h", "1" }, { "h", "\0" } } }))
  end
end)
return app
]])
        for _ = 1, 2 do
            local p = s:run { "--workers", "1" }
            s:wait_calls(1, { queue = "queue-dlq" })
            local summary = stage.drain(p)
            local retried = s:calls { queue = "queue", key = "retry" }
            assert.are.equal(1, #s:calls { queue = "queue", key = "ack" })
            assert.are.equal(3, #retried)
            for i, call in ipairs(retried) do
                assert.are.equal(i - 1, call.retry_count)
                if i > 1 then assert.is_true(call.at_ms - retried[i - 1].at_ms >= 40) end
            end
            local letter = s:calls({ queue = "queue-dlq" })[1]
            assert.are.same({ "max_retries_exceeded", "later", retried[1].id }, { letter.reason, letter.error, letter.id })
            assert.are.same({ { "h", "1" }, { "h", "\0" } }, letter.headers)
            assert.are.same({ 1, 2, 1, 0 }, {
                summary[s:name("queue", "-consumer")].acked, summary[s:name("queue", "-consumer")].retried,
                summary[s:name("queue", "-consumer")].dead, summary[s:name("queue", "-consumer")].discarded,
            })
            os.remove(s.journal)
        end
    end)

    it("a header that begins with Shove- is refused where it is published, in any case, and nothing is sent", function()
        local s = stage.new("memory", [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "queue")
app:register(queue, {}, function(msg) stage.note(msg) end)
app:on_start(function()
  for _, name in ipairs { "Shove-Message-Id", "shove-x", "SHOVE-" } do
    local ok, text = pcall(shove.publish, queue, 1, { headers = { { "fine", "1" }, { name, "1" } } })
    stage.say(tostring(ok) .. " " .. text)
  end
  shove.publish(queue, 2, { headers = { ["Shovel"] = "1", ["x-Shove-"] = "2" } })
end)
return app
]])
        local p = s:run { "--workers", "1" }
        local call = s:wait_calls(1, { queue = "queue" })[1]
        stage.drain(p)
        assert.are.equal(1, #s:calls { queue = "queue" })
        assert.are.equal("2", call.payload)
        assert.are.same({ { "Shovel", "1" }, { "x-Shove-", "2" } }, call.headers)
        local said = s:calls { queue = "said" }
        assert.are.equal(3, #said)
        for i, name in ipairs { "Shove-Message-Id", "shove-x", "SHOVE-" } do
            assert.matches("^false .*app.lua:7: .*" .. name:gsub("%-", "%%-"), said[i].said)
            assert.matches("shove's own", said[i].said, 1, true)
        end
    end)

    it("what a stop leaves unfinished is not promised to the next run", function()
        local s = stage.new("memory", [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "queue")
app:register(queue, {}, function() print "handling" shove.sleep "20s" end)
app:on_start(function() shove.publish(queue, {}) end)
return app
]])
        for _, row in ipairs { { "30s", "stopping at once" }, { "100ms", "the drain timed out" } } do
            local p = s:run { "--workers", "1", "--drain", row[1] }
            p:wait_for("handling", 15000)
            p:kill "sigint"
            p:wait_for("draining", 10000)
            if row[1] == "30s" then p:kill "sigint" end
            assert.are.equal(3, (p:wait_exit(10000)))
            local line = p:text("stderr"):match(row[2] .. "[^\n]*")
            assert.matches("is gone: the memory broker keeps nothing", line, 1, true)
        end
    end)
end)
