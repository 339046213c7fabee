-- The order of a key, whatever becomes of one of its messages: timeouts, defers, dead letters that cannot be stored.
-- What is usual: sequenced_spec.lua and poison_spec.lua.

local assert = require "luassert"
local acl = require "spec.support.acl"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local sequenced = require "spec.support.sequenced"
local steered = require "spec.support.steered"

local WAIT_MS = 20000
local at = sequenced.at

for _, broker in ipairs(steered.brokers) do
    describe("the order of a key, on " .. broker.name .. ",", function()
        it("waits for a retry of what did not end in time, and other keys are handled meanwhile", function()
            local s = sequenced.new(broker, { holds = { "1s" }, group = 'prefetch = 20, handler_timeout = "800ms"' })
            s:open "shut-2"
            s:publish({ "a1 shut", "a2", "a3" }, { key = "a" })
            s:publish(sequenced.names("b", 20), { key = "b" })
            local p = s:run()
            s:wait("ended", { "a3", "b20" })
            assert.equal("a1 a1:1 a1:1. a2 a2. a3 a3.", s:course "a")
            assert.equal(sequenced.straight("b", 20), s:course "b")
            assert.is_true(at(s, "ended", "b20") < at(s, "began", "a1", 2), s:account())
            assert.equal(0, (app.drain(p)), p:transcript())
            p:wait_for("outcome=timeout", 0)
        end)

        it("waits for a retry of what never yielded and was killed, and other keys are handled meanwhile", function()
            local s = sequenced.new(broker, { holds = { "1s" }, group = 'prefetch = 20, handler_timeout = "800ms"' })
            s:publish({ "a1 stuck", "a2", "a3" }, { key = "a" })
            s:publish(sequenced.names("b", 20), { key = "b" })
            local p = s:run { "--workers", "2" }
            s:wait("ended", { "a3", "b20" })
            assert.equal("a1 a1:1 a1:1. a2 a2. a3 a3.", s:course "a")
            sequenced.judge(s, "b", 20)
            assert.is_true(at(s, "ended", "b20") < at(s, "began", "a1", 2), s:account())
            local tries = sequenced.lines_of(s, "a1")
            assert.are_not.equal(tries[1].pid, tries[2].pid)
            assert.equal(2, (app.drain(p)), p:transcript()) -- a worker died
        end)

        it("takes a defer for a retry: the key waits for the first hold, it counts, and a line says so", function()
            local s = sequenced.new(broker, { holds = { "400ms", "500ms" }, extra = [[
                verbs.defer = function(msg)
                  write(msg, "at-" .. uv.hrtime() / 1e6)
                  return msg.retry_count < 2 and shove.defer "not yet" or nil
                end
            ]] })
            s:publish({ "a1 defer", "a2" }, { key = "a" })
            s:publish({ "b1", "b2" }, { key = "b" })
            local p = s:run()
            s:wait("ended", { "a2", "b2" })
            assert.equal("a1 a1. a1:1 a1:1. a1:2 a1:2. a2 a2.", s:course "a")
            assert.is_true(at(s, "ended", "b2") < at(s, "began", "a1", 2), s:account())
            local times = {}
            for _, line in ipairs(sequenced.lines_of(s, "a1")) do table.insert(times, tonumber(line.verb:match "^at%-(.*)")) end
            assert.is_true(times[2] - times[1] >= 400 and times[3] - times[2] >= 500, s:account())
            p:wait_for('message not handled .*outcome=defer .*attempt="1 of 11"', 0)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end

describe("a DLQ that refuses, on kafka,", function()
    it("has its key wait behind the dead letter, and no other; when it accepts, the key goes on", function()
        local broker = kafka.shared()
        local s = steered.new {
            url = "kafka://" .. broker.sasl, kafka = acl.properties("limited", "limited-secret"), broker = broker, fifo = true,
            partitions = false, holds = { "50ms" }, topic = 'external = true, sequenced = "skip",',
        }
        local dlq = { topic = s.queue .. "-dlq", operations = { "write", "describe" } }
        broker:create_topic(s.queue)
        broker:create_topic(dlq.topic)
        acl.allow(broker, "limited", { topic = s.queue, operations = { "read", "describe" } })
        acl.allow(broker, "limited", { group = s.group_id, operations = { "read", "describe" } })
        acl.allow(broker, "limited", dlq)
        s:publish({ "a1 reject", "a2" }, { key = "a" })
        local p = s:run()
        s:wait("ended", { "a2" })
        s:wait_letters(1)
        acl.forbid(broker, "limited", { topic = dlq.topic, operations = { "write" } })
        s:publish({ "a3 reject", "a4", "a5 reject", "a6" }, { key = "a" })
        s:publish({ "b1", "b2 retry", "b3" }, { key = "b" })
        p:wait_for("a dead letter could not be stored", WAIT_MS)
        s:wait("ended", { "a3", "b3" })
        s:publish({ "b4" }, { key = "b" })
        s:wait("ended", { "b4" })
        assert.equal(0, s:count("began", "a4"))
        assert.equal(1, #s:letters())
        acl.allow(broker, "limited", { topic = dlq.topic, operations = { "write" } })
        s:wait("ended", { "a6" })
        s:wait_letters(3)
        assert.equal("a1 rejected, a3 rejected, a5 rejected", sequenced.letters(s))
        assert.equal(sequenced.straight("a", 6), sequenced.course(s, "a"))
        assert.equal("b1 b1. b2 b2. b2:1 b2:1. b3 b3. b4 b4.", sequenced.course(s, "b"))
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)
