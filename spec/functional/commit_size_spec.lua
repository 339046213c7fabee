-- What is still open travels in the commit's metadata, of which a broker may take less than shove would write.

local app = require "spec.support.app"
local assert = require "luassert"
local kafka = require "spec.support.kafka"
local stage = require "spec.support.stage"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

-- Every second message waits, so that each open one is an entry of its own: the text has 60 to 70 characters.
local OPEN = 40

local function texts()
    local list = {}
    for i = 1, OPEN do
        list[2 * i - 1] = ("open-%d gate"):format(i)
        list[2 * i] = ("done-%d"):format(i)
    end
    return list
end

-- Letters of two reasons, of which one is replayed: the marks of that have holes.
local function replays_what_it_can_mark(s)
    local letters = {}
    for i = 1, OPEN do letters[i] = ("letter-%d %s"):format(i, i % 2 == 0 and "reject" or "retry") end
    s:publish(letters)
    local p = s:run()
    s:wait("ended", { "letter-" .. OPEN, "letter-" .. OPEN - 1 })
    assert.equal(0, (app.drain(p)), p:transcript())
    local result = s.app:command("dlq replay", { s.queue, "--reason", "rejected" })
    assert.equal(1, result.code, result.stderr)
    assert.matches("cannot be marked and would be settled again: the broker takes only %d+ characters", result.stderr)
    result = s.app:command("dlq replay", { s.queue })
    assert.equal(0, result.code, result.stderr)
    assert.matches("no dead letters wait", s.app:command("dlq list", { s.queue }).stdout)
end

describe("a Kafka whose offset.metadata.max.bytes is smaller than the text of what is open", function()
    for _, case in ipairs {
        { limit = 50, least = 5, words = "is given as much of it as it takes" },
        { limit = 15, least = 0, words = "is given offsets alone where not even one message fits" },
    } do
        it(case.words .. ", and what follows from it is said", function()
            local broker = kafka.private("offset.metadata.max.bytes=" .. case.limit)
            local s = steered.new {
                url = broker.url, broker = broker, partitions = 2, topic = "dlq = true,",
                group = "prefetch = 100, concurrent = true, max_retries = 0" }
            broker:create_topic(s.queue, { partitions = 2 })
            s:publish { "first" }
            s:publish(texts())
            s:publish({ "other" }, { partition = 1 })
            local p = s:run()
            s:wait("ended", OPEN + 2)
            s:wait_position(1, 1)
            local line = p:wait_for("takes less metadata with a commit", 10000)
            assert.matches("offset.metadata.max.bytes", line, 1, true)
            wait.until_true(function()
                local position = s:position(0)
                return position and position.offset == 1 and #position.finished >= case.least
            end, 10000, "as much to be committed as fits")
            s:open "gate"
            s:wait("ended", 2 * OPEN + 2)
            s:wait_position(0, 2 * OPEN + 1)
            assert.equal(0, (app.drain(p)), p:transcript())
            if case.least == 0 then replays_what_it_can_mark(s) end
        end)
    end
end)

describe("a run on Kafka with more open messages than a commit can list", function()
    it("says how many finished ones would be handled again", function()
        local s = stage.new("kafka", [[
            local shove, stage = require "shove", require "stage"
            local app = shove.registry { broker = stage.broker, handler_timeout = "1h" }
            local topic = app:topic(stage.name "many", { codec = "raw", partitions = 1 })
            app:register(topic, shove.group { prefetch = 6000, concurrent = true }, function(msg)
              if msg.offset % 2 == 0 then shove.sleep "1h" end
            end)
            app:on_start(function()
              local batch = {}
              for i = 1, 6000 do batch[i] = { body = "x" } end
              assert(shove.publish_batch(topic, batch))
            end)
            return app
        ]])
        local p = s:run { "--workers", "1" }
        local _, open, again = p:wait_for("more messages are open than a commit can list.* open=(%d+) +again=(%d+)", 20000)
        assert.equal(3000, tonumber(open))
        assert.is_true(tonumber(again) > 500 and tonumber(again) < 1000, again)
    end)
end)

it("what another version of shove said of what is open is not read, and told so", function()
    local s = steered.new { url = kafka.shared().url }
    s:declare()
    s:publish { "a", "b" }
    s.broker:commit(s.group_id, s.queue, 0, 1, "U0wBAAAAAAAAAAAA")
    local p = s:run()
    local line = p:wait_for("the commit's metadata cannot be read and is ignored", 20000)
    assert.matches("was written by another version of shove", line, 1, true)
    s:wait("ended", { "b" })
    assert.equal(0, (app.drain(p)), p:transcript())
    assert.equal(0, s:count("began", "a"))
end)
