-- app:groups(): what a script sees of its groups.

local cjson = require "cjson"
local assert = require "luassert"
local app = require "spec.support.app"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"

-- The word `groups` writes down what app:groups() says then, as does the script while it is loaded.
local EXTRA = [[
local function write_groups(name)
  local file = assert(io.open(dir .. "/groups-" .. name, "w"))
  file:write(require("cjson").encode(app:groups()))
  file:close()
end
verbs.groups = function(msg) write_groups(msg.payload:match "^%S+") end
write_groups "load"
app:autoscale { poll = "1h" }
]]

for _, broker in ipairs(steered.brokers) do
    describe("app:groups, on " .. broker.name, function()
        it("shows in a handler what is so now, and while the script is loaded what is declared", function()
            local s = steered.new {
                url = broker.url, partitions = 4, group = "consumers = { min = 1, max = 4 }", extra = EXTRA,
            }
            local function groups(name) return cjson.decode(tmp.read(s.dir .. "/groups-" .. name)) end
            s:declare()
            s:publish { "a groups", "b gate groups" }
            local p = s:run()
            s:wait("began", { "b" })
            local declared = { group = s.group_id, topic = s.queue, broker = s.url, state = "declared", min = 1, max = 4 }
            assert.same({ declared }, groups "load")
            local expected = {
                group = s.group_id, topic = s.queue, broker = s.url, state = "joined", paused = false, consumers = 1,
                min = 1, max = 4, capacity = 1, in_flight = 1, partitions = 4, ready = 2, lag = 2, waiting = 0, storing = 0,
                acked = 0, delayed = 0, dead_letters = 0, discarded = 0,
            }
            assert.same({ expected }, groups "a")
            assert.equal(0, s.app:command("pause", { s.group_id }).code)
            assert.equal(0, s.app:command("scale", { s.group_id, "3" }).code)
            s:open "gate"
            s:wait("ended", { "b" })
            expected.paused, expected.consumers, expected.capacity = true, 3, 3
            expected.ready, expected.lag, expected.acked = 1, 1, 1
            assert.same({ expected }, groups "b")
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end
