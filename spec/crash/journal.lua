-- What handlers did, in a file they append to themselves, and the verdict that follows from it.
--
-- The app's handler writes one line before it returns: "id retry_count verb wall_ms pid". Lines are appended with one
-- write each, so they survive whatever is killed afterwards, and nothing of shove's own bookkeeping is believed.
--
--     local j = journal.new(dir)
--     local source = j:app { broker = url, queue = "q", ... }   an app whose handler keeps the journal
--     j:expect(ids)                                            what was published and acknowledged
--     j:missing(), j:verdict(), j:judge_letters(letters)

local M = {}
local Journal = {}
Journal.__index = Journal

M.HOLD_MS = 500
M.MAX_RETRIES = 2

-- Of 20 messages one is rejected, two are retried once, one is retried twice, and one until it has no retry left. Where
-- there are culprits, another one kills its worker.
local SOURCE = [[
local shove = require "shove"
local uv = require "luv"

local app = shove.registry {
  broker = %q,
  kafka = %s,
}
local has_culprits = %s
local queue = app:topic(%q, { hold = { "%dms" }, dlq = true, partitions = %d, codec = "raw" })
local file = assert(uv.fs_open(%q, "a", tonumber("644", 8)))

local function wall_ms()
  local seconds, micros = uv.gettimeofday()
  return seconds * 1000 + micros / 1000
end

local function write(msg, verb)
  local line = string.format("%%s %%d %%s %%.0f %%d\n", msg.payload, msg.retry_count, verb, wall_ms(), uv.os_getpid())
  assert(uv.fs_write(file, line, -1) == #line)
end

local group = shove.group {
  consumers = { min = 2, max = 2 }, prefetch = %d, concurrent = true, max_retries = %d,
  max_crashes = has_culprits and 1 or nil,
}

app:register(queue, group, function(msg)
  local number = tonumber(msg.payload:match "%%d+$")
  write(msg, "began")
  shove.sleep(%g)
  local retries = ({ [3] = 1, [7] = 1, [11] = 2, [19] = math.huge })[number %% 20] or 0
  if msg.retry_count < retries then
    write(msg, "retried")
    return shove.retry "as planned"
  end
  if number %% 20 == 15 then
    write(msg, "rejected")
    return shove.reject "as planned"
  end
  if has_culprits and number %% 20 == 1 then
    write(msg, "crashed")
    uv.kill(uv.os_getpid(), "sigkill")
  end
  write(msg, "acked")
  return shove.ack
end)
return app
]]

function M.new(dir)
    return setmetatable({ path = dir .. "/journal", expected = {}, read = {}, read_bytes = 0 }, Journal)
end

-- options: broker, queue, work_seconds, partitions (4), prefetch (10), culprits (true: there are some), and for Kafka
-- session_ms (6000), instance (a static member id, so that a restart after SIGKILL does not wait for the dead member's
-- session).
function Journal:app(options)
    local kafka = "nil"
    if options.broker:find "^kafka:" then
        kafka = ('{ ["session.timeout.ms"] = "%d", ["heartbeat.interval.ms"] = "300"%s }'):format(
            options.session_ms or 6000, options.instance and (', ["group.instance.id"] = %q'):format(options.instance) or "")
    end
    return SOURCE:format(options.broker, kafka, options.culprits == true, options.queue, M.HOLD_MS, options.partitions or 4,
        self.path, options.prefetch or 10, M.MAX_RETRIES, options.work_seconds)
end

function Journal:expect(ids)
    for _, id in ipairs(ids) do self.expected[id] = true end
end

-- What was read once is kept: specs ask again and again.
function Journal:lines()
    local file = io.open(self.path, "rb")
    if not file then return self.read end
    file:seek("set", self.read_bytes)
    local text = file:read "*a"
    file:close()
    for line, id, retry_count, verb, wall_ms, pid in text:gmatch "((%S+) (%d+) (%a+) (%d+) (%d+)\n)" do
        self.read_bytes = self.read_bytes + #line
        table.insert(self.read, {
            id = id, retry_count = tonumber(retry_count), verb = verb, wall_ms = tonumber(wall_ms), pid = tonumber(pid),
        })
    end
    return self.read
end

local function name_of(id, retry_count, reason)
    return ("%s/%d %s"):format(id, retry_count, reason)
end

-- The dead letter that a line asks for; nil: none.
local function death_of(line)
    local reason = line.verb
    if line.verb == "retried" and line.retry_count >= M.MAX_RETRIES then
        reason = "max_retries_exceeded"
    elseif line.verb ~= "rejected" and line.verb ~= "crashed" then
        return nil
    end
    return name_of(line.id, line.retry_count, reason)
end

-- ids that were expected and have not come to their end: acked, or about to be a dead letter.
function Journal:missing()
    local ended = {}
    for _, line in ipairs(self:lines()) do
        if line.verb == "acked" or death_of(line) then ended[line.id] = true end
    end
    local missing = {}
    for id in pairs(self.expected) do
        if not ended[id] then table.insert(missing, id) end
    end
    return missing
end

-- { handled, repeated, strangers, unasked, early }: handled: lines that began; repeated: beginnings beyond the first of the
-- same message at the same retry count; strangers: ids nobody published; unasked: retries before which no handler had
-- said retry; early: those that began before their hold was over.
--
-- A message may be handled twice, and asks for its retry twice then, in two holds: the second retry is what was asked
-- for and no repetition of its own. Which of them a retry came from it cannot tell, so it is measured against the
-- earlier one.
function Journal:verdict()
    local began, asked, first_retry_ms = {}, {}, {}
    local verdict = { handled = 0, repeated = 0, strangers = {}, unasked = {}, early = {} }
    for _, line in ipairs(self:lines()) do
        local attempt = line.id .. "/" .. line.retry_count
        if not self.expected[line.id] then table.insert(verdict.strangers, attempt) end
        if line.verb == "retried" and not death_of(line) then
            asked[attempt] = (asked[attempt] or 0) + 1
            first_retry_ms[attempt] = math.min(first_retry_ms[attempt] or math.huge, line.wall_ms)
        elseif line.verb == "began" then
            local before = line.id .. "/" .. (line.retry_count - 1)
            verdict.handled = verdict.handled + 1
            began[attempt] = (began[attempt] or 0) + 1
            if began[attempt] > math.max(1, asked[before] or 0) then verdict.repeated = verdict.repeated + 1 end
            local asked_ms = first_retry_ms[before]
            local early_ms = asked_ms and asked_ms + M.HOLD_MS - line.wall_ms or 0
            if line.retry_count > 0 and not asked_ms then table.insert(verdict.unasked, attempt) end
            -- Two lines, each rounded to a millisecond.
            if early_ms > 1 then table.insert(verdict.early, ("%s by %.0f ms"):format(attempt, early_ms)) end
        end
    end
    return verdict
end

-- What was found in the DLQ, a list of { id, retry_count, reason }, judged: { lost, surplus }, both sorted. lost: dead
-- letters that are not there, of messages whose last handling to come to an end asked for one; surplus: those that are
-- there and that no handling asked for, be it because the message was acked, because it died of something else or at
-- another retry count, or because as many as handlings asked for are there already.
function Journal:judge_letters(letters)
    local asked, last = {}, {}
    for _, line in ipairs(self:lines()) do
        local death = death_of(line)
        if death then asked[death] = (asked[death] or 0) + 1 end
        if death or line.verb == "acked" then last[line.id] = death or false end
    end
    local found, verdict = {}, { lost = {}, surplus = {} }
    for _, letter in ipairs(letters) do
        local name = name_of(letter.id, letter.retry_count, letter.reason)
        found[name] = (found[name] or 0) + 1
        if found[name] > (asked[name] or 0) then table.insert(verdict.surplus, name) end
    end
    for _, death in pairs(last) do
        if death and not found[death] then table.insert(verdict.lost, death) end
    end
    table.sort(verdict.lost)
    table.sort(verdict.surplus)
    return verdict
end

return M
