-- The conformance suite on a real Kafka, which the whole run shares.
local kafka = require "spec.support.kafka"

local broker

setup(function() broker = kafka.shared() end)

require "spec.transport.conformance" {
    name = "kafka",
    broker = function() return broker.url end,
    -- How often a member looks for new partitions.
    fast_metadata = { properties = { ["topic.metadata.refresh.interval.ms"] = "500" } },
}
