-- Which of librdkafka's properties a user may pass, and what he is told about the others.
local driver = require "spec.transport.driver"
local C = driver.C

-- Nothing listens there: properties are judged before anybody is asked.
local NOWHERE = "kafka://127.0.0.1:1"

local function refusal(properties)
    local t, code, text = driver.open(NOWHERE, { properties = properties, timeout_ms = 100 })
    assert.is_nil(t)
    return code, text
end

describe("A Kafka property", function()
    local OWNED = {
        ["bootstrap.servers"] = "broker =", ["group.id"] = "group_id", ["auto.offset.reset"] = "auto_offset_reset",
        ["enable.auto.commit"] = "commits what is finished", ["enable.auto.offset.store"] = "commits what is finished",
        ["enable.idempotence"] = "always idempotent", ["acks"] = "all in%-sync replicas",
        ["partitioner"] = "Java's default partitioner", ["allow.auto.create.topics"] = "declared",
        ["message.max.bytes"] = "max_message_size", ["rebalance_cb"] = "callbacks", ["log.queue"] = "log", ["log_level"] = "log",
        ["transactional.id"] = "not transactional", ["delivery.report.only.error"] = "delivery report",
    }
    for name, reason in pairs(OWNED) do
        it(("that shove owns is refused by name, with the reason: %s"):format(name), function()
            local code, text = refusal { [name] = "1" }
            assert.equal(C.SHOVE_ECONFIG, code)
            assert.matches(('kafka["%s"] cannot be set'):format(name), text, 1, true)
            assert.matches(reason, text)
        end)
    end

    it("that does not exist is refused by name", function()
        local code, text = refusal { ["sesion.timeout.ms"] = "6000" }
        assert.equal(C.SHOVE_ECONFIG, code)
        assert.matches('kafka["sesion.timeout.ms"]', text, 1, true)
        assert.matches("no property of that name", text)
    end)

    it("with a value that cannot be is refused by name, and librdkafka says why", function()
        local code, text = refusal { ["session.timeout.ms"] = "soon" }
        assert.equal(C.SHOVE_ECONFIG, code)
        assert.matches('kafka["session.timeout.ms"]', text, 1, true)
    end)

    it("that contradicts another is refused before anything runs", function()
        local code, text = refusal { ["max.poll.interval.ms"] = "1000", ["session.timeout.ms"] = "6000" }
        assert.equal(C.SHOVE_ECONFIG, code)
        assert.matches("max.poll.interval.ms", text, 1, true)
    end)

    it("that would take the producer's guarantees away is refused", function()
        local code, text = refusal { ["max.in.flight"] = "20" }
        assert.equal(C.SHOVE_ECONFIG, code)
        assert.matches("max.in.flight", text, 1, true)
    end)

    it("of any other kind passes: what remains is that nobody answers", function()
        local code = refusal {
            ["session.timeout.ms"] = "6000", ["partition.assignment.strategy"] = "range",
            ["compression.type"] = "lz4", ["ssl.ca.location"] = "/etc/ssl/certs/ca-certificates.crt",
            ["queued.min.messages"] = "100", ["linger.ms"] = "20", ["group.instance.id"] = "one",
        }
        assert.equal(C.SHOVE_EUNREACHABLE, code)
    end)

    it("may choose the newer group protocol, whose settings are the broker's", function()
        assert.equal(C.SHOVE_EUNREACHABLE, (refusal { ["group.protocol"] = "consumer" }))
    end)
end)
