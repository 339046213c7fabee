-- Records on their way to Kafka, and what becomes of them when something breaks.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local C = driver.C

local function codes(results)
    local list = {}
    for i, result in ipairs(results) do list[i] = result.code end
    return list
end

describe("A record for a topic that does not exist", function()
    it("comes back, and the topic is not created, though the broker would", function()
        local broker = kafka.shared()
        local t = assert(driver.open(broker.url))
        local topic = broker:topic "never"
        local result = t:publish(topic, { { payload = "x" } })[1]
        assert.equal(C.SHOVE_ENOTOPIC, result.code)
        local again, code = t:produce(topic, { payload = "y" })
        assert.is_nil(again)
        assert.equal(C.SHOVE_ENOTOPIC, code)
        assert.is_nil(broker:partitions(topic))
    end)

    it("is taken once somebody has created it", function()
        local broker = kafka.shared()
        local t = assert(driver.open(broker.url))
        local topic = broker:topic "later"
        assert.equal(C.SHOVE_ENOTOPIC, t:publish(topic, { { payload = "x" } })[1].code)
        broker:create_topic(topic)
        t:wait(function() return t:publish(topic, { { payload = "y" } })[1].code == 0 end, "the topic to be noticed")
    end)

    it("comes back too when the topic was deleted under way, and is not created again", function()
        local broker = kafka.shared()
        local t = assert(driver.open(broker.url))
        local topic = broker:create_topic(broker:topic "deleted")
        assert.equal(0, t:publish(topic, { { payload = "x" } })[1].code)
        broker:delete_topic(topic)
        t:wait(function() return t:publish(topic, { { payload = "y" } })[1].code == C.SHOVE_ENOTOPIC end,
            "the deletion to be noticed")
        assert.is_nil(broker:partitions(topic))
    end)

    it("keeps its place among those that wait for the same answer", function()
        local broker = kafka.shared()
        local t = assert(driver.open(broker.url))
        local topic = broker:create_topic(broker:topic "undeclared")
        local records = {}
        for i = 1, 500 do records[i] = { payload = tostring(i), key = "same" } end
        for _, result in ipairs(t:publish(topic, records)) do assert.equal(0, result.code) end
        for i, record in ipairs(broker:read(topic, { count = 500 })) do assert.equal(tostring(i), record.value) end
    end)
end)

describe("A record that is refused for a moment", function()
    for _, refusal in ipairs { "NOT_LEADER_FOR_PARTITION", "NOT_ENOUGH_REPLICAS" } do
        it("is stored before those that come after it, after " .. refusal, function()
            local mock = kafka_mock.start()
            local topic = mock:create("orders", 1)
            local t = assert(driver.open(mock.url, { properties = { ["linger.ms"] = "0" } }))
            assert.equal(0, t:publish(topic, { { payload = "0" } })[1].code)
            mock:set_rtt(100)
            mock:fail("Produce", refusal)
            for i = 1, 4 do -- each in a request of its own, were it sent at once
                assert(t:produce(topic, { payload = tostring(i) }))
                driver.C.recorder_run(t.recorder, 20)
            end
            t:wait(function() return #t.events.produced == 5 end, "the answers")
            for _, answer in ipairs(t.events.produced) do assert.equal(0, answer.code) end
            mock:set_rtt(0)
            local sub = assert(t:subscribe { group = "g", topics = { topic } })
            local stored = {}
            for i, record in ipairs(t:take(t:wait_claims(sub, 1), 5)) do stored[i] = record.payload end
            assert.same({ "0", "1", "2", "3", "4" }, stored)
            t:leave(sub)
        end)
    end
end)

describe("A producer that fails for good", function()
    local mock, t, topic

    before_each(function()
        mock = kafka_mock.start()
        topic = mock:create("orders", 1)
        t = assert(driver.open(mock.url))
    end)

    it("is made anew: what it had not acknowledged is reported, what comes later gets through", function()
        assert.same({ 0 }, codes(t:publish(topic, { { payload = "1" } })))
        mock:fail("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER")
        local broken = t:publish(topic, { { payload = "2" }, { payload = "3" } })
        assert.same({ C.SHOVE_EFATAL, C.SHOVE_EFATAL }, codes(broken))
        assert.same({ 0, 0 }, codes(t:publish(topic, { { payload = "2" }, { payload = "3" } })))
        local told = t.events.notice[#t.events.notice]
        assert.equal(C.SHOVE_EFATAL, told.code)
        assert.matches("made anew", told.text)
    end)

    it("again and again, each record answered exactly once", function()
        local total, answers = 0, {}
        for round = 1, 5 do
            mock:fail("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER")
            local records = {}
            for i = 1, 50 do records[i] = { payload = round .. "-" .. i } end
            t:publish(topic, records)
            total = total + 50
        end
        t:publish(topic, { { payload = "last" } })
        for _, event in ipairs(t.events.produced) do
            assert.is_nil(answers[event.opaque])
            answers[event.opaque] = event.code
        end
        assert.equal(total + 1, #t.events.produced)
    end)

    it("because it has no right to write tells that, not that it is broken", function()
        mock:fail("InitProducerId", "CLUSTER_AUTHORIZATION_FAILED")
        assert.same({ C.SHOVE_EDENIED }, codes(t:publish(topic, { { payload = "1" } })))
        assert.same({ 0 }, codes(t:publish(topic, { { payload = "1" } })))
    end)
end)

describe("A record that the broker refuses", function()
    it("comes back with the reason, and those around it get through", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url, { properties = { ["linger.ms"] = "0" } }))
        assert.same({ 0 }, codes(t:publish(topic, { { payload = "1" } })))
        mock:fail("Produce", "MSG_SIZE_TOO_LARGE")
        assert.same({ C.SHOVE_ETOOLARGE }, codes(t:publish(topic, { { payload = "2" } })))
        assert.same({ 0 }, codes(t:publish(topic, { { payload = "3" } })))
    end)

    it("because nobody answers, comes back after delivery.timeout.ms", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url, { properties = { ["delivery.timeout.ms"] = "800" } }))
        assert.same({ 0 }, codes(t:publish(topic, { { payload = "1" } })))
        mock:set_down()
        assert.same({ C.SHOVE_ETIMEOUT }, codes(t:publish(topic, { { payload = "2" } })))
        mock:set_up()
        t:wait(function() return t:publish(topic, { { payload = "3" } })[1].code == 0 end, "the broker to be found again")
    end)
end)
