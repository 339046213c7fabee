-- make chaos: the order of keys at length, on a Kafka of its own: two processes that join and leave, whose workers and
-- control are killed, and a broker that is restarted, until all is settled; then the journal is judged
-- (spec/crash/sequence_scene.lua). Run by spec_runner; fails where the order of a key was broken or a message was lost.
--
-- CHAOS_ROUNDS=20 rounds, CHAOS_SEED: of the first one. Rounds take turns between "skip" and "fail_all".

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local scene = require "spec.crash.sequence_scene"
local wait = require "spec.support.wait"

local ROUNDS = tonumber(os.getenv "CHAOS_ROUNDS" or "4")
local SEED = tonumber(os.getenv "CHAOS_SEED" or tostring(select(2, uv.gettimeofday())))
local KEYS, PER_KEY = 200, 500
local MEMBERS = { "first", "second" }
local SLEEP_MS = 20 -- of each handler, so that there are many at work whatever is hit
local STEP = 4000 -- messages that are finished between two blows
local LOOK_MS, STEP_MS, END_MS = 100, 20000, 300000

local Chaos = {}
Chaos.__index = Chaos

local function start(s, broker)
  local self = setmetatable({ s = s, broker = broker, processes = {}, blows = {} }, Chaos)
  for i in ipairs(MEMBERS) do self.processes[i] = s:run(MEMBERS[i]) end
  return self
end

function Chaos:lag()
  return self.broker:lag(self.s.queue .. "-fifo", self.s.queue)
end

-- Until the lag is `goal` or less, or the time is up. Processes that have ended are started again.
function Chaos:wait_lag(goal, ms)
  local lag
  wait.loop(function()
    for i, p in ipairs(self.processes) do
      if p:has_ended() then self.processes[i] = self.s:run(MEMBERS[i]) end
    end
    lag = self:lag()
    return lag <= goal
  end, ms, LOOK_MS)
  return lag
end

local blows = {}

function blows.worker(self, i)
  local pids = self.processes[i]:children()
  if pids[1] then uv.kill(pids[math.random(#pids)], "sigkill") end
end

function blows.control(self, i)
  self.processes[i]:kill "sigkill"
  self.processes[i]:wait_exit(20000)
end

function blows.drain(self, i)
  self.processes[i]:kill "sigterm"
  self.processes[i]:wait_exit(60000)
end

function blows.broker(self)
  self.broker:kill()
  self.broker:restart()
end

local NAMES = { "worker", "control", "drain", "worker", "control", "drain", "broker" }

-- Messages of the DLQ, by key, each number once.
local function letters_of(s)
  local found = {}
  for _, record in ipairs(driver.records_of(s.broker.url, s.queue .. "-dlq")) do
    local key, n = record.payload:match "^key%-(%d+) (%d+)"
    found[tonumber(key)] = found[tonumber(key)] or {}
    found[tonumber(key)][tonumber(n)] = true
  end
  return found
end

local function judge_letters(s)
  local found = letters_of(s)
  for _, one in ipairs(s.rejected) do
    assert(found[one.key] and found[one.key][one.n], ("key-%d %d was rejected and is no dead letter"):format(one.key, one.n))
  end
  for key = 1, KEYS do
    for n = s.last[key] + 1, PER_KEY do
      assert(found[key] and found[key][n], ("key-%d %d was neither handled nor dead-lettered"):format(key, n))
    end
  end
end

for round = 1, ROUNDS do
  local seed = SEED + round - 1
  local policy = round % 2 == 1 and "skip" or "fail_all"
  it(("the order of each key holds in chaos, round %d: %s (seed %d)"):format(round, policy, seed), function()
    local broker = kafka.private()
    local s = scene.new { kafka = broker, keys = KEYS, per_key = PER_KEY, policy = policy,
      sleep_ms = SLEEP_MS }
    s:declare()
    s:publish(seed)
    local began_ms = uv.now()
    local chaos = start(s, broker)
    local counts = {}
    local lag = KEYS * PER_KEY
    while lag > STEP do
      lag = chaos:wait_lag(lag - STEP, STEP_MS)
      local name = NAMES[math.random(#NAMES)]
      counts[name] = (counts[name] or 0) + 1
      blows[name](chaos, math.random(#MEMBERS))
    end
    assert.equal(0, chaos:wait_lag(0, END_MS), "messages are left")
    uv.update_time()
    local took_s = (uv.now() - began_ms) / 1000
    for _, p in ipairs(chaos.processes) do app.drain(p) end
    local begun = s:judge()
    judge_letters(s)
    print(("chaos round %d, %s, seed %d: %d messages in %.0f s, %d handlers began, all in order; killed: %d workers, "
      .. "%d controls, %d brokers; %d left and joined"):format(round, policy, seed, KEYS * PER_KEY, took_s, begun,
      counts.worker or 0, counts.control or 0, counts.broker or 0, counts.drain or 0))
  end)
end
