-- The conformance suite on the embedded transport, each test with a file of its own.
local tmp = require "spec.support.tmp"

local path

before_each(function() path = tmp.dir() .. "/broker.db" end)

require "spec.transport.conformance" {
    name = "embedded",
    broker = function() return "embedded:" .. path end,
}
