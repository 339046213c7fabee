-- make chaos: the order of keys at length, on a Kafka of its own: two processes that join and leave, whose workers and
-- control are killed, and a broker that is restarted, until all is settled; then the journal is judged
-- (spec/crash/sequence_scene.lua). Run by spec_runner; fails where the order of a key was broken or a message was lost.
--
-- CHAOS_ROUNDS=20 rounds, CHAOS_SEED: of the first one. Of four rounds two are "skip" and two "fail_all", of each one with
-- dynamic members and one with static ones. A dynamic member that leaves, or is dead for longer than its session, has its
-- partitions taken over, and takes some back when it joins again; a static one comes back to its own. One message in two
-- thousand has a handler that runs for longer than the member would wait for it when it gives a partition up (the scene's
-- SLOW_SECONDS), so that partitions are given up while one runs.

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
-- A broker that was killed is back after 5 to 15 s: dynamic members have lost their partitions by then, static ones not.
local SESSION_MS = { dynamic = 6000, static = 45000 }
local KINDS = {
    { policy = "skip", membership = "dynamic" }, { policy = "fail_all", membership = "static" },
    { policy = "skip", membership = "static" }, { policy = "fail_all", membership = "dynamic" },
}
local SLEEP_MS = 20 -- of each handler, so that there are many at work whatever is hit
local SLOW = 0.0005
local DRAIN, DRAIN_MS = "40s", 60000 -- several handlers of SLOW_SECONDS, one after the other
local STEP = 4000 -- messages that are finished between two blows
local LOOK_MS, STEP_MS, END_MS, JOIN_MS = 100, 20000, 300000, 30000
local TAKE_OVER_MS = 2 * SESSION_MS.dynamic
local EXIT_DRAIN_TIMED_OUT = 3

local total = { rounds = 0, messages = 0, worker = 0, control = 0, broker = 0, drain = 0, moved = 0, after_kill = 0,
    after_loss = 0, repeated = 0, longest_s = 0 }

local Chaos = {}
Chaos.__index = Chaos

local function start(s, broker, kind)
    local self = setmetatable({ s = s, broker = broker, is_dynamic = kind.membership == "dynamic", processes = {},
        counts = { worker = 0, control = 0, broker = 0, drain = 0 } }, Chaos)
    for i in ipairs(MEMBERS) do
        self.processes[i] = s:run(MEMBERS[i])
        self.processes[i]:wait_for("partitions assigned", JOIN_MS)
    end
    return self
end

function Chaos:lag()
    return self.broker:lag(self.s.queue .. "-fifo", self.s.queue)
end

function Chaos:revive()
    for i, p in ipairs(self.processes) do
        if p:has_ended() then self.processes[i] = self.s:run(MEMBERS[i]) end
    end
end

-- Until the lag is `goal` or less, or the time is up. Processes that have ended are started again.
function Chaos:wait_lag(goal, ms)
    local lag
    wait.loop(function()
        self:revive()
        self.s:look_for_full()
        lag = self:lag()
        return lag <= goal
    end, ms, LOOK_MS)
    return lag
end

-- Until the other member has said that it has more partitions, for a while.
function Chaos:wait_taken_over(i)
    local other = self.processes[#MEMBERS + 1 - i]
    local from = #other.lines
    wait.loop(function()
        self.s:look_for_full()
        for at = from + 1, #other.lines do
            if other.lines[at].text:find("partitions assigned", 1, true) then return true end
        end
        return other:has_ended()
    end, TAKE_OVER_MS, LOOK_MS)
end

local blows = {}

function blows.worker(self, i)
    self.s:kill_worker(self.processes[i])
end

function blows.control(self, i)
    self.s:kill_control(self.processes[i])
    if self.is_dynamic and math.random() < 0.5 then self:wait_taken_over(i) end
end

function blows.drain(self, i)
    local p = self.processes[i]
    assert.not_equal(EXIT_DRAIN_TIMED_OUT, (app.drain(p, DRAIN_MS)), p:transcript())
    self.s:look_for_full()
    if self.is_dynamic then self:wait_taken_over(i) end
end

function blows.broker(self)
    self.s:kill_broker()
end

local NAMES = { "worker", "control", "drain", "worker", "control", "drain", "broker" }

function Chaos:strike(name)
    self.s:strike()
    self.counts[name] = self.counts[name] + 1
    total[name] = total[name] + 1
    blows[name](self, math.random(#MEMBERS))
end

-- The numbers in the DLQ by key, each once, in the order in which they came there: a key's lie in one partition.
local function letters_of(s)
    local found = {}
    for key = 1, KEYS do found[key] = { numbers = {}, has = {}, partition = nil } end
    for _, record in ipairs(driver.records_of(s.broker.url, s.queue .. "-dlq")) do
        local key, n = record.payload:match "^key%-(%d+) (%d+)"
        local letters = found[tonumber(key)]
        letters.partition = letters.partition or record.partition
        assert.equal(letters.partition, record.partition, "where the dead letters of key-" .. key .. " are")
        n = tonumber(n)
        if not letters.has[n] then table.insert(letters.numbers, n) end
        letters.has[n] = true
    end
    return found
end

-- What becomes a dead letter, by key, in its order: what is rejected, and with "fail_all" what follows it.
local function expected_letters(s)
    local expected = {}
    for key = 1, KEYS do expected[key] = {} end
    for _, one in ipairs(s.rejected) do
        table.insert(expected[one.key], one.n)
        for n = one.n + 1, s.policy == "fail_all" and PER_KEY or 0 do table.insert(expected[one.key], n) end
    end
    return expected
end

local function judge_letters(s)
    local found, expected = letters_of(s), expected_letters(s)
    for key = 1, KEYS do
        assert.equal(table.concat(expected[key], " "), table.concat(found[key].numbers, " "), "the dead letters of key-" .. key)
    end
end

local function judge(chaos)
    local verdict, why = chaos.s:verdict()
    for _, name in ipairs { "moved", "after_kill", "after_loss", "repeated" } do total[name] = total[name] + verdict[name] end
    assert(not why, why)
    judge_letters(chaos.s)
    if chaos.is_dynamic then assert.is_true(verdict.moved > 0, "no partition moved") end
    return verdict
end

local function run(kind, seed)
    local broker = kafka.private()
    local s = scene.new { kafka = broker, keys = KEYS, per_key = PER_KEY, policy = kind.policy, sleep_ms = SLEEP_MS,
        membership = kind.membership, session_ms = SESSION_MS[kind.membership], drain = DRAIN, slow = SLOW }
    s:declare()
    s:publish(seed)
    local began = uv.hrtime()
    local chaos = start(s, broker, kind)
    local lag = KEYS * PER_KEY
    while lag > STEP do
        lag = chaos:wait_lag(lag - STEP, STEP_MS)
        chaos:strike(NAMES[math.random(#NAMES)])
    end
    assert.equal(0, chaos:wait_lag(0, END_MS), "messages are left")
    local took_s = (uv.hrtime() - began) / 1e9
    for _, p in ipairs(chaos.processes) do app.drain(p, DRAIN_MS) end
    total.messages = total.messages + KEYS * PER_KEY
    total.longest_s = math.max(total.longest_s, took_s)
    return chaos, took_s
end

for round = 1, ROUNDS do
    local seed = SEED + round - 1
    local kind = KINDS[(round - 1) % #KINDS + 1]
    local words = ("round %d: %s, %s members (seed %d)"):format(round, kind.policy, kind.membership, seed)
    it("the order of each key holds in chaos, " .. words, function()
        total.rounds = total.rounds + 1
        local chaos, took_s = run(kind, seed)
        local verdict, counts = judge(chaos), chaos.counts
        print(("chaos %s: %d messages in %.0f s, %d handlers began, all in order; killed: %d workers, %d controls, "
            .. "%d brokers; %d left and joined; %d partitions moved; %d began again after a kill, %d after a loss, "
            .. "%d that were finished"):format(words, KEYS * PER_KEY, took_s, verdict.begun, counts.worker, counts.control,
            counts.broker, counts.drain, verdict.moved, verdict.after_kill, verdict.after_loss, verdict.repeated))
    end)
end

teardown(function()
    print(("chaos: %d rounds, %d messages; killed: %d workers, %d controls, %d brokers; %d drains; %d partitions moved; "
        .. "overlaps allowed: %d after a kill, %d after a loss; %d handled again; longest round %.0f s"):format(
        total.rounds, total.messages, total.worker, total.control, total.broker, total.drain, total.moved,
        total.after_kill, total.after_loss, total.repeated, total.longest_s))
end)
