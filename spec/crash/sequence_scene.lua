-- Messages of a sequenced topic, processes that handle them and are killed, and the journal that the handlers write: each run
-- of each message, its retry_count, in which process, of which parent, and when. The scene keeps who was killed and when it
-- was gone; the verdict is the judge's (sequence_judge.lua).

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local judge = require "spec.crash.sequence_judge"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local M = {}

local SHARDS = 4
local MAX_RETRIES = 3
local SLOW_SECONDS = 7 -- longer than a member waits for its handlers before it gives a partition up
local HANDLER_TIMEOUT_S = 15
local REBALANCE_MS = (HANDLER_TIMEOUT_S + 3) * 1000 -- so long a dynamic member may wait for another's handlers (README.md)
local SESSION_MS = 6000
local GONE_MS = 5000 -- a worker that was killed, or whose parent was, is gone by then
local FULL_CHARS = 3040 -- of 3,072; what has no room is a few bytes long
local SHOWN, HISTORY = 3, 8 -- refusals, and lines of the key before each
local AROUND_MS = 8000

-- "retry" is retried twice, "stubborn" as often as is allowed.
local SOURCE = [[
local shove = require "shove"
local uv = require "luv"
local member = shove.env("MEMBER", "first")
local properties = { ["session.timeout.ms"] = "%d", ["heartbeat.interval.ms"] = "300" }
if %q == "static" then properties["group.instance.id"] = member end
local app = shove.registry { broker = %q, kafka = %s and properties or nil }
local topic = app:topic(%q, { sequenced = %q, hold = { "20ms", "60ms" }, dlq = true, shards = %d, codec = "raw" })
local file = assert(uv.fs_open(%q, "a", tonumber("644", 8)))
local function wall_ms()
  local seconds, micros = uv.gettimeofday()
  return seconds * 1000 + micros / 1000
end
local born_ms = wall_ms()
local function note(verb, name, attempt)
  local line = ("%%s %%s %%d %%d.%%.0f %%d %%s %%.3f\n"):format(verb, name, attempt, uv.os_getpid(), born_ms, uv.os_getppid(),
    member, wall_ms())
  assert(uv.fs_write(file, line, -1) == #line)
end
app:register_fifo(topic, { prefetch = 24, max_retries = %d, handler_timeout = "%ds" }, function(msg)
  local name, word = msg.payload:match "^(%%S+ %%d+) ?(.*)$"
  note("began", name, msg.retry_count)
  shove.sleep(word == "slow" and %d or %g)
  if word == "stubborn" or word == "retry" and msg.retry_count < 2 then
    note("retried", name, msg.retry_count)
    return shove.retry "as told"
  end
  note("settled", name, msg.retry_count)
  if word == "reject" then return shove.reject "as told" end
end)
return app
]]

local Scene = {}
Scene.__index = Scene

-- options: kafka (a broker of spec/support/kafka.lua; nil: embedded), keys, per_key, policy ("skip"), sleep_ms (4),
-- membership ("static": a member that comes back within the session has its partitions again, and they do not move; or
-- "dynamic"), session_ms (6000), drain ("15s"), slow (the share of messages whose handler takes 7 s: 0).
function M.new(options)
    local a = app.new { source = "" }
    local membership, session_ms = options.membership or "static", options.session_ms or SESSION_MS
    local s = setmetatable({ app = a, queue = unique "sequence", journal = a:file "journal", broker = options.kafka,
        keys = options.keys, per_key = options.per_key, policy = options.policy or "skip", drain = options.drain or "15s",
        slow = options.slow or 0, session_ms = session_ms, rebalance_ms = membership == "dynamic" and REBALANCE_MS or 0,
        processes = {}, deaths = {}, outages = {}, commits = {}, full = {}, read = {}, read_bytes = 0 }, Scene)
    local url = s.broker and s.broker.url or "embedded:" .. a.dir .. "/queue.db"
    tmp.write(a.path, SOURCE:format(session_ms, membership, url,
        s.broker and "true" or "false", s.queue, s.policy, SHARDS, s.journal, MAX_RETRIES, HANDLER_TIMEOUT_S,
        SLOW_SECONDS, (options.sleep_ms or 4) / 1000))
    return s
end

function Scene:run(member)
    local p = self.app:run { "--workers", "2", "--drain", self.drain, env = { MEMBER = member or "first" } }
    table.insert(self.processes, p)
    return p
end

function Scene:declare()
    local p = self:run()
    p:wait_for("partitions assigned", 20000)
    assert.equal(0, (app.drain(p)), p:transcript())
end

local function word_of(dice, slow)
    if dice < 0.05 then return " retry" end
    if dice < 0.06 then return " reject" end
    if dice < 0.062 then return " stubborn" end
    return dice >= 1 - slow and " slow" or ""
end

-- Messages "KEY N", or "KEY N WORD"; seeded. self.last: of each key the number of its last that is handled; self.rejected:
-- list of { key =, n = }, of those that become dead letters.
function Scene:publish(seed)
    math.randomseed(seed)
    local batches = {}
    self.last, self.rejected = {}, {}
    for key = 1, self.keys do
        batches[key] = {}
        for n = 1, self.per_key do
            local word = word_of(math.random(), self.slow)
            batches[key][n] = ("key-%d %d%s"):format(key, n, word)
            if word == " reject" or word == " stubborn" then
                if self.policy == "fail_all" then self.last[key] = self.last[key] or n end
                if n <= (self.last[key] or n) then table.insert(self.rejected, { key = key, n = n }) end
            end
        end
        self.last[key] = self.last[key] or self.per_key
    end
    if self.broker then
        local records = {}
        for n = 1, self.per_key do
            for key = 1, self.keys do
                table.insert(records, { key = "key-" .. key, value = batches[key][n], partition = key % SHARDS })
            end
        end
        self.broker:produce(self.queue, records)
        return
    end
    for key = 1, self.keys do
        local text = table.concat(batches[key], "\n") .. "\n"
        local line = { self.queue, "--raw", "--key", "key-" .. key, stdin = { text = text } }
        local result = self.app:command("publish", line, 20000)
        assert.equal(0, result.code, result.stderr)
    end
end

-- Killing

local function partition_of(key)
    return tonumber(key:match "%d+") % SHARDS
end

local function wall_ms()
    local seconds, micros = uv.gettimeofday()
    return seconds * 1000 + micros / 1000
end

-- One of the workers of `p`, if it has any.
function Scene:kill_worker(p)
    local pids = p:children()
    local pid = pids[1] and pids[math.random(#pids)]
    if not pid then return end
    local killed_ms = wall_ms()
    uv.kill(pid, "sigkill")
    wait.until_true(function() return not process.is_alive(pid) end, GONE_MS, "a worker that was killed to be gone")
    table.insert(self.deaths, { pid = pid, killed_ms = killed_ms, gone_ms = wall_ms() })
end

-- The process and with it its workers: none of them outlives it.
function Scene:kill_control(p)
    local killed_ms = wall_ms()
    p:kill "sigkill"
    p:wait_exit(20000)
    wait.until_true(function() return #process.orphans() == 0 end, GONE_MS, "workers to end with their parent")
    table.insert(self.deaths, { pid = p.pid, killed_ms = killed_ms, gone_ms = wall_ms() })
end

-- The broker, which is back when this returns. Between the two times nothing could be committed.
function Scene:kill_broker()
    local killed_ms = wall_ms()
    self.broker:kill()
    self.broker:restart()
    table.insert(self.outages, { killed_ms = killed_ms, back_ms = wall_ms() })
end

-- The journal

-- What was read once is kept: specs ask again and again.
function Scene:lines()
    local file = io.open(self.journal, "rb")
    if not file then return self.read end
    file:seek("set", self.read_bytes)
    self.read_bytes = self.read_bytes + judge.parse(file:read "*a", self.read)
    file:close()
    return self.read
end

function Scene:settled()
    local seen, count = {}, 0
    for _, line in ipairs(self:lines()) do
        local is_end = line.verb == "settled" or line.verb == "retried" and line.attempt == MAX_RETRIES
        local name = line.key .. " " .. line.n
        if is_end and not seen[name] then
            seen[name] = true
            count = count + 1
        end
    end
    return count
end

function Scene:wait_settled(count, p)
    wait.until_true(function() return self:settled() >= count or p:has_ended() end, 60000,
        count .. " messages to be settled")
    assert.is_false(p:has_ended(), p:transcript())
end

-- Log lines carry the time in UTC.
local function ms_of(text)
    local y, mo, d, h, mi, s, ms = text:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.(%d+)Z"
    if not y then return nil end
    local now = os.time()
    local offset_s = os.difftime(now, os.time(os.date("!*t", now)))
    return (os.time { year = y, month = mo, day = d, hour = h, min = mi, sec = s, isdst = false } + offset_s) * 1000 + ms
end

function Scene:losses()
    local lost = {}
    for _, p in ipairs(self.processes) do
        for _, line in ipairs(p.lines) do
            local is_loss = line.text:find("partitions lost without warning", 1, true)
            if is_loss then table.insert(lost, { pid = p.pid, ms = ms_of(line.text) }) end
        end
    end
    return lost
end

-- What the process of that pid said of its partitions and of its end, and whether it was killed.
function Scene:said(pid, from_ms, to_ms)
    local words = {}
    for _, p in ipairs(self.processes) do
        for _, line in ipairs(p.pid == pid and p.lines or {}) do
            local is_telling = line.text:find "partition" or line.text:find "drain" or line.text:find "process died"
            local ms = is_telling and ms_of(line.text)
            if ms and ms >= from_ms and ms <= to_ms then table.insert(words, ("%d %s"):format(pid, line.text)) end
        end
    end
    for _, death in ipairs(self.deaths) do
        if death.pid == pid then
            table.insert(words, ("%d was killed at %.3f, gone at %.3f"):format(pid, death.killed_ms, death.gone_ms))
        end
    end
    return words
end

-- What was committed meanwhile of the key's partition, as far as it was looked at, and whether the broker was there.
function Scene:seen(key, from_ms, to_ms)
    local words = {}
    for _, outage in ipairs(self.outages) do
        if outage.killed_ms <= to_ms and outage.back_ms >= from_ms then
            table.insert(words, ("the broker was killed at %.3f, back at %.3f"):format(outage.killed_ms, outage.back_ms))
        end
    end
    for _, commit in ipairs(self.commits) do
        if commit.partition == partition_of(key) and commit.ms >= from_ms and commit.ms <= to_ms then
            table.insert(words, ("at %.3f: partition %d, committed %d %s"):format(commit.ms, commit.partition,
                commit.offset, commit.metadata))
        end
    end
    return words
end

-- A refusal with what was written about the key up to its line, and what the processes on both sides said meanwhile.
function Scene:explain(refusal)
    local line, before = refusal.line, refusal.before or refusal.line
    if not line then return refusal.text end
    local words = {}
    for i = line.index, 1, -1 do
        local one = self.read[i]
        if one.key == line.key then table.insert(words, 1, ("line %d: %s"):format(i, one.text)) end
        if #words >= HISTORY then break end
    end
    if refusal.before then table.insert(words, 1, ("line %d: %s"):format(before.index, before.text)) end
    local seen = {}
    for _, pid in ipairs { before.pid, before.parent, line.pid, line.parent } do
        local said = seen[pid] and {} or self:said(pid, before.ms - AROUND_MS, line.ms + AROUND_MS)
        seen[pid] = true
        for _, text in ipairs(said) do table.insert(words, text) end
    end
    for _, text in ipairs(self:seen(line.key, before.ms, line.ms)) do table.insert(words, text) end
    return refusal.text .. "\n    " .. table.concat(words, "\n    ")
end

-- The judge's verdict, and where it refuses, why.
function Scene:verdict()
    local last = {}
    for key = 1, self.keys do last["key-" .. key] = self.last[key] end
    local verdict, refusals = judge.new({
        max_retries = MAX_RETRIES, last = last, deaths = self.deaths, lost = self:losses(), full = self.full,
        outages = self.outages, session_ms = self.session_ms, rebalance_ms = self.rebalance_ms,
        struck_ms = self.struck_ms, partition_of = partition_of,
    }):judge(self:lines())
    assert.equal(uv.fs_stat(self.journal).size, self.read_bytes, "bytes of the journal that are lines")
    local words = {}
    for i, refusal in ipairs(refusals) do words[i] = i <= SHOWN and self:explain(refusal) or refusal.text end
    return verdict, words[1] and #words .. " refused\n" .. table.concat(words, "\n")
end

function Scene:judge()
    local verdict, why = self:verdict()
    assert(not why, why)
    return verdict
end

-- Looks whether the group's commits have room for all that is finished out of turn (README.md, "about 1,000 open messages"):
-- where not, what is finished may be handled again by whoever has the partition next, after a drain as after a kill.
function Scene:look_for_full()
    for partition, commit in pairs(self.broker:committed(self.queue .. "-fifo", self.queue)) do
        local ms = wall_ms()
        table.insert(self.commits, { partition = partition, ms = ms, offset = commit.offset, metadata = commit.metadata })
        if #commit.metadata >= FULL_CHARS then table.insert(self.full, { partition = partition, ms = ms }) end
    end
end

-- From here on partitions that move are counted.
function Scene:strike()
    self.struck_ms = self.struck_ms or wall_ms()
end

return M
