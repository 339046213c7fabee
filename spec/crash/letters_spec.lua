-- Control is killed while the DLQ refuses what it is given, and what lies around the dead letters is committed.

local assert = require "luassert"
local acl = require "spec.support.acl"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local steered = require "spec.support.steered"

local WAIT_MS = 30000

-- A queue on the shared Kafka whose DLQ the user of shove may not write to yet.
local function without_dlq()
    local broker = kafka.shared()
    local properties = acl.properties("limited", "limited-secret")
    properties["group.instance.id"] = "member"
    local s = steered.new {
        url = "kafka://" .. broker.sasl, kafka = properties, broker = broker, partitions = false,
        topic = "external = true, dlq = true,", group = "prefetch = 20, concurrent = true, max_retries = 0",
    }
    broker:create_topic(s.queue)
    broker:create_topic(s.queue .. "-dlq")
    acl.allow(broker, "limited", { topic = s.queue, operations = { "read", "describe" } })
    acl.allow(broker, "limited", { group = s.group_id, operations = { "read", "describe" } })
    acl.allow(broker, "limited", { topic = s.queue .. "-dlq", operations = { "describe" } })
    return s
end

-- "message: reason" of each, sorted.
local function letters(s)
    local found = {}
    for i, record in ipairs(s:letters()) do
        found[i] = record.payload .. ": " .. driver.header_of(record, "Shove-Death-Reason")
    end
    table.sort(found)
    return found
end

describe("control killed while the DLQ takes nothing", function()
    it("has finished no message whose dead letter is not stored: all are there once the DLQ takes them", function()
        local s = without_dlq()
        s:publish { "a", "b reject", "c", "d again", "e" }
        local p = s:run()
        p:wait_for("a dead letter could not be stored.*EDENIED", WAIT_MS)
        s:wait("ended", { "a", "b", "c", "d", "e" })
        s:wait_position(0, 1, 2)
        p:kill "sigkill"
        p:wait_exit(WAIT_MS)
        assert.same({}, letters(s))
        acl.allow(s.broker, "limited", { topic = s.queue .. "-dlq", operations = { "write" } })
        p = s:run()
        s:wait_position(0, 5)
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.same({ "b reject: rejected", "d again: max_retries_exceeded" }, letters(s), s:account())
    end)
end)
