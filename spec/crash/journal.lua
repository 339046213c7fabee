-- What handlers did, in a file they append to themselves, and the verdict that follows from it.
--
-- The app's handler writes one line before it returns: "id retry_count verb wall_ms pid". Lines are appended with one
-- write each, so they survive whatever is killed afterwards, and nothing of shove's own bookkeeping is believed.
--
--     local j = journal.new(dir)
--     local source = j:app { broker = url, queue = "q", ... }   an app whose handler keeps the journal
--     j:expect(ids)                                            what was published and acknowledged
--     j:missing(), j:verdict()


local M = {}
local Journal = {}
Journal.__index = Journal

M.HOLD_MS = 500

-- Of 20 messages one is rejected, two are retried once, one is retried twice.
local SOURCE = [[
local shove = require "shove"
local uv = require "luv"

local app = shove.registry {
  broker = %q,
  kafka = %s,
}
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

app:register(queue, shove.group { consumers = { min = 2, max = 2 }, prefetch = %d, concurrent = true }, function(msg)
  local number = tonumber(msg.payload:match "%%d+$")
  write(msg, "began")
  shove.sleep(%g)
  local retries = ({ [3] = 1, [7] = 1, [11] = 2 })[number %% 20] or 0
  if msg.retry_count < retries then
    write(msg, "retried")
    return shove.retry "as planned"
  end
  if number %% 20 == 15 then
    write(msg, "rejected")
    return shove.reject "as planned"
  end
  write(msg, "acked")
  return shove.ack
end)
return app
]]

function M.new(dir)
    return setmetatable({ path = dir .. "/journal", expected = {}, read = {}, read_bytes = 0 }, Journal)
end

-- options: broker, queue, work_seconds, partitions (4), prefetch (10), and for Kafka session_ms (6000), instance (a static
-- member id, so that a restart after SIGKILL does not wait for the dead member's session).
function Journal:app(options)
    local kafka = "nil"
    if options.broker:find "^kafka:" then
        kafka = ('{ ["session.timeout.ms"] = "%d", ["heartbeat.interval.ms"] = "300"%s }'):format(
            options.session_ms or 6000, options.instance and (', ["group.instance.id"] = %q'):format(options.instance) or "")
    end
    return SOURCE:format(options.broker, kafka, options.queue, M.HOLD_MS, options.partitions or 4, self.path,
        options.prefetch or 10, options.work_seconds)
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

-- ids that were expected and have not come to their end (acked, or rejected).
function Journal:missing()
    local ended = {}
    for _, line in ipairs(self:lines()) do
        if line.verb == "acked" or line.verb == "rejected" then ended[line.id] = true end
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
        if line.verb == "retried" then
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

return M
