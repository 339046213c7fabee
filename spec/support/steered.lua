-- A queue whose messages say what is done with them, gates that hold handlers back, and a journal that the handlers
-- keep: what specs about offsets, rebalances and the drain play on.
--
--     local s = steered.new { url = url, partitions = 2, holds = { "1s" }, group = "prefetch = 5, concurrent = true" }
--     s:publish({ "a", "b gate", "c retry" }, { partition = 1 })
--     local p = s:run { "--drain", "5s" }
--     s:wait("began", { "b" }); s:open "gate"; s:wait("ended", { "a", "b" })
--     s:names "ended", s:count("began", "a"), s:position(0)
--
-- A message is "NAME", or "NAME WORD...", done in order:
--     gate      (any word that is none of the following) waits until s:open "gate", or s:open "gate-2" when it is the
--               second time that this message is begun
--     retry     fails on the first attempt only
--     again     fails on every attempt
--     reject    is dead-lettered
--     crash     kills its worker; on the first attempt only
--     spin      never yields again
--     5s        sleeps that long
--     .....     what begins with a dot makes the message larger and does nothing
-- Its handler writes a line to the journal when it begins and when it ends, so what is in the journal was done, whatever
-- shove says.

local ffi = require "ffi"
local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local M = {}
local Steered = {}
Steered.__index = Steered

local WAIT_MS = 20000
local RUN_MS = 20000

-- The brokers most of these specs run on. The second is given a private broker where a spec does harm to it.
M.brokers = {
    { name = "embedded", url = function(dir) return "embedded:" .. dir .. "/queue.db" end },
    { name = "kafka", url = function() return kafka.shared().url end },
}

local SOURCE = [[
local shove = require "shove"
local uv = require "luv"

local app = shove.registry { broker = %q, handler_timeout = "60s", kafka = { %s } }
local queue_name = %q
local queue = app:topic(queue_name, { %s codec = "raw" })
local dir = %q
local file = assert(uv.fs_open(dir .. "/journal", "a", tonumber("644", 8)))

local function write(msg, verb)
  local line = string.format("%%s %%s %%d %%d %%d %%d\n", verb, msg.payload:match "^%%S+", msg.partition, msg.offset,
    msg.retry_count, uv.os_getpid())
  assert(uv.fs_write(file, line, -1) == #line)
end

local verbs = {
  retry = function(msg) return msg.retry_count == 0 and shove.retry "as told" or nil end,
  again = function() return shove.retry "as told" end,
  reject = function() return shove.reject "as told" end,
  crash = function(msg) if not msg.redelivered then uv.kill(uv.os_getpid(), "sigkill") end end,
  spin = function() while true do end end,
}

local function wait_at(gate, msg)
  local name, nth = msg.payload:match "^%%S+", 0
  for line in io.lines(dir .. "/journal") do
    if line:match "^began (%%S+)" == name then nth = nth + 1 end
  end
  gate = dir .. "/gate-" .. gate
  while not uv.fs_stat(gate) and not uv.fs_stat(gate .. "-" .. nth) do shove.sleep "5ms" end
end

local function handle(msg)
  write(msg, "began")
  local outcome
  for word in msg.payload:gsub("^%%S+", ""):gmatch "%%S+" do
    if verbs[word] then
      outcome = verbs[word](msg)
    elseif word:find "^%%d+m?s$" then
      shove.sleep(word)
    elseif word:sub(1, 1) ~= "." then
      wait_at(word, msg)
    end
  end
  write(msg, "ended")
  return outcome
end

app:%s(queue, shove.group { %s }, handle)
%s
return app
]]

-- kafka: properties by name, added to those that make a group quick to notice a death.
local function properties(url, given)
    if not url:find "^kafka:" then return "" end
    local all = { ["session.timeout.ms"] = "6000", ["heartbeat.interval.ms"] = "300" }
    for name, value in pairs(given or {}) do all[name] = value end
    local list = {}
    for name, value in pairs(all) do table.insert(list, ("[%q] = %q"):format(name, value)) end
    return table.concat(list, ", ")
end

-- options: url (a text, or a function of its directory), partitions (1; false: nothing is said), holds (none),
-- topic and group (further options, as Lua text), fifo (true: registered with register_fifo; `topic` says sequenced),
-- kafka (properties), extra (Lua text before the app is returned; `app`,
-- `queue`, `queue_name`, `handle` and `dir` are at hand), queue (a name; otherwise one of its own), broker (of
-- spec/support/kafka.lua, when it is not the shared one).
function M.new(options)
    local holder = app.new { source = "" }
    local dir = holder.dir
    local url = type(options.url) == "function" and options.url(dir) or options.url
    local s = setmetatable({
        processes = {}, highest = {}, dir = dir, url = url, queue = options.queue or unique "steered",
    }, Steered)
    s.group_id = s.queue .. (options.fifo and "-fifo" or "-consumer")
    local topic = options.partitions == false and "" or ("partitions = %d, "):format(options.partitions or 1)
    if options.holds then
        topic = topic .. ('hold = { "%s" }, dlq = true, '):format(table.concat(options.holds, '", "'))
    end
    s.source = SOURCE:format(url, properties(url, options.kafka), s.queue, topic .. (options.topic or ""), dir,
        options.fifo and "register_fifo" or "register",
        options.group or options.fifo and "prefetch = 20" or "prefetch = 20, concurrent = true", options.extra or "")
    tmp.write(holder.path, s.source)
    s.app = holder
    s.broker = options.broker or url:find "^kafka:" and kafka.shared() or nil
    return s
end

-- texts in their order into one partition (0), with a key or none, from another process.
function Steered:publish(texts, options)
    options = options or {}
    local partition = options.partition or 0
    if self.broker then
        local records = {}
        for _, text in ipairs(texts) do
            table.insert(records, { value = text, key = options.key, partition = partition })
        end
        self.broker:produce(self.queue, records)
        return
    end
    local line = {
        self.queue, "--raw", "--partition", tostring(partition), stdin = { text = table.concat(texts, "\n") .. "\n" },
    }
    if options.key then
        table.insert(line, "--key")
        table.insert(line, options.key)
    end
    local result = self.app:command("publish", line, RUN_MS)
    assert.equal(0, result.code, result.stderr)
end

-- Creates the topics by a run that is over at once, so that strangers can publish before the run that counts.
function Steered:declare()
    local p = self:run()
    p:wait_for("partitions assigned", RUN_MS)
    assert.equal(0, (app.drain(p)), p:transcript())
end

function Steered:run(options)
    local line = { "--workers", "1", "--drain", "15s" }
    for _, argument in ipairs(options or {}) do table.insert(line, argument) end
    line.env = options and options.env
    local p = self.app:run(line)
    table.insert(self.processes, p)
    return p
end

-- The journal, and what all the runs said, for failures.
function Steered:account()
    local texts = {}
    for _, line in ipairs(self:lines()) do
        table.insert(texts, ("%s %s %d@%d retry %d pid %d"):format(line.verb, line.name, line.partition, line.offset,
            line.retry_count, line.pid))
    end
    for _, p in ipairs(self.processes) do table.insert(texts, p.name .. "\n" .. p:transcript()) end
    return table.concat(texts, "\n")
end

-- Until look() is true. A failure says what all the runs said, and comes at once when none of them is left.
local function wait_for(s, look, what)
    local has_ended = false
    local ok, result = pcall(wait.until_true, function()
        local value = look()
        if value then return value end
        has_ended = #s.processes > 0
        for _, p in ipairs(s.processes) do has_ended = has_ended and p:has_ended() end
        return has_ended
    end, WAIT_MS, what())
    if ok and not has_ended then return result end
    error((ok and "ended before " .. what() or result .. "\n" .. what()) .. "\n" .. s:account(), 3)
end

-- All records of its DLQ.
function Steered:letters()
    local driver = require "spec.transport.driver"
    return driver.records_of(self.broker and self.broker.url or self.url, self.queue .. "-dlq")
end

function Steered:wait_letters(count)
    return wait_for(self, function() return #self:letters() >= count end, function() return count .. " dead letters" end)
end

function Steered:open(gate)
    tmp.write(self.dir .. "/gate-" .. gate, "")
end

function Steered:is_open(gate)
    return uv.fs_stat(self.dir .. "/gate-" .. gate) ~= nil
end

-- { verb, name, partition, offset, retry_count, pid } in the order written.
function Steered:lines()
    local ok, text = pcall(tmp.read, self.dir .. "/journal")
    local lines = {}
    local pattern = "(%S+) (%S+) (%d+) (%d+) (%d+) (%d+)\n"
    for verb, name, partition, offset, retries, pid in (ok and text or ""):gmatch(pattern) do
        table.insert(lines, {
            verb = verb, name = name, partition = tonumber(partition), offset = tonumber(offset),
            retry_count = tonumber(retries), pid = tonumber(pid),
        })
    end
    return lines
end

function Steered:count(verb, name)
    local count = 0
    for _, line in ipairs(self:lines()) do
        if line.verb == verb and (not name or line.name == name) then count = count + 1 end
    end
    return count
end

-- The names with that verb from line `from` (1) of the journal on, sorted, each as often as it is there.
function Steered:names(verb, from)
    local names = {}
    for i, line in ipairs(self:lines()) do
        if line.verb == verb and i >= (from or 1) then table.insert(names, line.name) end
    end
    table.sort(names)
    return names
end

-- Until each of the names has that verb at least once (or `times`), or until there are `names` lines with it.
function Steered:wait(verb, names, times)
    local is_number = type(names) == "number"
    return wait_for(self, function()
        if is_number then return self:count(verb) >= names end
        for _, name in ipairs(names) do
            if self:count(verb, name) < (times or 1) then return false end
        end
        return true
    end, function()
        return ("%s %s; so far: %s"):format(is_number and names or table.concat(names, ", "), verb,
            table.concat(self:names(verb), ", "))
    end)
end

-- Positions

local function read_position(s, partition)
    if s.broker then
        local found = s.broker:committed(s.group_id, s.queue)[partition]
        if found then return found.offset, found.metadata end
        return nil
    end
    local driver = require "spec.transport.driver"
    local t = assert(driver.open(s.url, { must_exist = true }))
    local offset, metadata = t:committed_get(s.group_id, s.queue, partition)
    t:close()
    if offset and offset >= 0 then return offset, metadata or "" end
end

-- The offsets finished beyond `offset`; offset -> attempts of those that are open.
local function read_metadata(offset, metadata)
    local C = require("spec.support.c").include "core/ledger.h"
    local ledger, err = ffi.new "struct shove_ledger", ffi.new "struct shove_error"
    C.shove_ledger_init(ledger, offset)
    local rc = C.shove_ledger_restore(ledger, metadata, #metadata, err)
    local finished, attempts = {}, {}
    local entries = {}
    if rc == 0 then
        for at = offset, tonumber(C.shove_ledger_known_end(ledger)) - 1 do
            local entry = ffi.new "struct shove_ledger_entry"
            table.insert(entries, entry)
            if C.shove_ledger_deliver(ledger, entry, at, 0) == C.SHOVE_LEDGER_FINISHED then table.insert(finished, at)
            else attempts[at] = entry.attempts end
        end
    end
    C.shove_ledger_release(ledger)
    assert(rc == 0, ffi.string(err.text))
    return finished, attempts
end

-- What is committed for a partition: { offset, metadata, finished = { offsets finished beyond it }, attempts = { offset ->
-- attempts of one that is open } }; nil: nothing is.
function Steered:position(partition)
    local offset, metadata = read_position(self, partition)
    if not offset then return nil end
    local finished, attempts = read_metadata(offset, metadata)
    return { offset = offset, metadata = metadata, finished = finished, attempts = attempts }
end

-- Until the partition's position is at that offset, with so many finished beyond it (0). Gives the position. The offset
-- may not go back meanwhile, nor between one wait and the next.
function Steered:wait_position(partition, offset, finished)
    local last = "none"
    return wait_for(self, function()
        local position = self:position(partition)
        if not position then return false end
        last = ("%d, with %d finished beyond it"):format(position.offset, #position.finished)
        local highest = self.highest[partition] or -1
        assert(position.offset >= highest, ("the position went back from %d to %s"):format(highest, last))
        self.highest[partition] = position.offset
        return position.offset == offset and #position.finished == (finished or 0) and position
    end, function()
        return ("position of partition %d at %d, with %d finished beyond it; it is %s"):format(partition, offset,
            finished or 0, last)
    end)
end

return M
