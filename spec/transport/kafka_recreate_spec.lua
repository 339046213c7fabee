-- A topic that is deleted and created anew under a consumer, again and again.
local uv = require "luv"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local rdkafka = require "spec.support.librdkafka"
local wait = require "spec.support.wait"

require("ffi").cdef "int rd_kafka_version(void);"

local ROUNDS = 8
local NOTICE_MS = 70000 -- README: up to a minute
local STEP = 5

-- Kafka deletes in the background: the name is free a moment later.
local function recreate(broker, topic)
    broker:delete_topic(topic)
    wait.until_true(function() return (pcall(broker.create_topic, broker, topic, { partitions = 1 })) end,
        driver.deadline_ms, "the topic to be created again")
end

-- A librdkafka of the system is as it is; the one that scripts/deps builds is mended, and linked in.
local function is_mended()
    local maps = assert(io.open "/proc/self/maps")
    local is_of_system = maps:read "*a":find("librdkafka.so", 1, true)
    maps:close()
    local version = rdkafka.rd_kafka_version()
    return not is_of_system or version < 0x02040000 or version >= 0x020a0000
end

describe("A consumer of a topic that is created anew", function()
    it("lives, and goes on with it", function()
        if not is_mended() then return pending "librdkafka 2.4 to 2.9 crashes here" end
        local broker = kafka.shared()
        local topic = broker:create_topic(broker:topic "anew", { partitions = 1 })
        local peer = process.spawn { uv.exepath():match "^(.*)/" .. "/transport_peer", broker.url, "consume",
            kafka.unique "group", topic, stdin = "pipe" }
        peer:wait_for("assigned 1", driver.deadline_ms)
        for round = 1, ROUNDS do
            if round > 1 then recreate(broker, topic) end
            -- Each time more than before, so that there is always one it has not read, wherever it goes on.
            local records = {}
            for i = 1, round * STEP do records[i] = { value = ("round %d record %d"):format(round, i), partition = 0 } end
            broker:produce(topic, records)
            peer:wait_for(("took 0 %d round %d "):format(#records - 1, round), NOTICE_MS)
        end
        peer:close_stdin()
        assert.equal(0, (peer:wait_exit(driver.deadline_ms)), peer:transcript())
    end)
end)
