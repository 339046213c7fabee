-- The app of `make bench`; the environment says which handler, how many consumers, what prefetch.
local shove = require "shove"
local uv = require "luv"
local meter = require "meter"

local app = shove.registry { broker = shove.env "BENCH_BROKER" }
local is_fifo = shove.env("BENCH_FIFO", "no") == "yes"
local topic = app:topic(shove.env "BENCH_TOPIC", {
  partitions = not is_fifo and 8 or nil, shards = is_fifo and 8 or nil, sequenced = is_fifo and "skip" or nil,
  hold = { "5s" }, dlq = true,
})
local consumers = tonumber(shove.env("BENCH_CONSUMERS", "2"))

local function count()
  if meter.count == 0 then meter.first_ns = uv.hrtime() end
  meter.count = meter.count + 1
end

local handlers = {}

function handlers.noop()
  count()
  return shove.ack
end

function handlers.json(msg)
  if msg.body.id < 0 then return shove.reject("negative id") end
  count()
  return shove.ack
end

function handlers.sleep()
  if meter.count == 0 then meter.first_ns = uv.hrtime() end
  shove.sleep(0.003)
  meter.count = meter.count + 1
  return shove.ack
end

meter.start(shove.env "BENCH_DIR")

local register = is_fifo and app.register_fifo or app.register
register(app, topic, shove.group {
  consumers = not is_fifo and { min = consumers, max = consumers } or nil, -- of a sequenced topic there is one
  prefetch = tonumber(shove.env("BENCH_PREFETCH", "4000")),
  concurrent = not is_fifo or nil,
  group_id = shove.env "BENCH_GROUP",
}, handlers[shove.env("BENCH_HANDLER", "noop")])

return app
