-- A run on a Kafka that refuses what a spec tells it to.
--
--     local m = mocked.start { env = { SHOVE_HURRY = "500" } }
--     m.mock:fail("Heartbeat", "FENCED_INSTANCE_ID")     spec/unit/transport/kafka_mock.lua
--     m.s                                                spec/support/steered.lua: its queue has one partition
--     m.p                                                the run
--     m:committed()                                      where its group goes on: an offset, nil when nothing was committed
--     m:status()                                         what `shove status --json` says of its group

local cjson = require "cjson"
local assert = require "luassert"
local driver = require "spec.transport.driver"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local steered = require "spec.support.steered"
local unique = require "spec.support.unique"

local M = {}
local Mocked = {}
Mocked.__index = Mocked

-- options: of Steered:run. before: given the Kafka before anything is run on it.
function M.start(options, before)
    local mock = kafka_mock.start()
    mock:join_at_once()
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
    if before then before(mock) end
    return setmetatable({ mock = mock, s = s, client = client, p = s:run(options) }, Mocked)
end

function Mocked:committed()
    return (self.client:committed_get(self.s.group_id, self.s.queue, 0))
end

function Mocked:status()
    return cjson.decode(self.s.app:command("status", { "--json" }).stdout)[1].groups[1]
end

return M
