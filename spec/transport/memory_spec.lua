-- The conformance suite on the memory transport.
require "spec.transport.conformance" {
    name = "memory",
    broker = function() return "memory:" end,
}
