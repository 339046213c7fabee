-- A group that dies by an error that may pass is joined again.

local cjson = require "cjson"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local steered = require "spec.support.steered"
local unique = require "spec.support.unique"

local WAIT_MS = 20000

-- A Kafka that refuses what a spec tells it to, a queue of it, and a run.
local function start()
    local mock = kafka_mock.start()
    local queue = mock:create(unique "steered", 1)
    local client = assert(driver.open(mock.url))
    local broker = {}
    function broker.produce(_, topic, records)
        for i, record in ipairs(records) do records[i] = { payload = record.value, partition = record.partition } end
        for _, result in ipairs(client:publish(topic, records)) do assert.equal(0, result.code) end
    end
    local s = steered.new {
        url = mock.url, queue = queue, broker = broker, partitions = false, topic = "external = true,",
        kafka = { ["group.instance.id"] = "one" },
    }
    return s, mock, s:run()
end

local function status(s) return cjson.decode(s.app:command("status", { "--json" }).stdout)[1].groups[1] end

describe("A group that Kafka throws out", function()
    it("is joined again after 2 s and goes on where it was; the exit says that a consumer failed", function()
        local s, mock, p = start()
        s:publish { "a" }
        s:wait("ended", { "a" })
        mock:fail("Heartbeat", "FENCED_INSTANCE_ID")
        p:wait_for('stopped and is started again .*code=EFATAL .*failures=1 +in="2 s"', WAIT_MS)
        local rests = status(s)
        assert.equal("resting", rests.state)
        assert.matches("fenced", rests.error)
        s:publish { "c" }
        s:wait("ended", { "c" })
        assert.same({ "joined", cjson.null }, { status(s).state, status(s).error })
        assert.equal(1, (app.drain(p)), p:transcript())
        assert.equal(1, s:count("began", "c"))
    end)

    it("is not tried again while the app drains, and does not hold the drain up", function()
        local s, mock, p = start()
        s:publish { "a" }
        s:wait("ended", { "a" })
        mock:fail("Heartbeat", "FENCED_INSTANCE_ID")
        p:wait_for("stopped and is started again", WAIT_MS)
        assert.equal(1, (app.drain(p)), p:transcript())
        assert.is_nil(p:text "stderr":find("the consumer group is started again", 1, true))
    end)
end)
