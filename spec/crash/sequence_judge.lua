-- The judge of a sequenced topic: reads what handlers wrote into their journal and says whether the order of each key held.
--
-- Of each key
--   the messages begin for the first time in their order, none is left out, and with "fail_all" none begins behind the
--     first that is rejected;
--   none begins while another run of the key is open, be it of the same message: unless the process of that run is known
--     to be dead by then, or its partition was lost without warning;
--   none begins while an earlier one has begun and is not finished: settled, or retried as often as is allowed;
--   what is handled again goes up from there without a gap, and may have been forgotten: its worker was killed before its
--     parent had read that it ended, or the parent was killed, or lost the partition, before it was committed; or the
--     partition has another owner since, and more was finished out of turn in it than a commit's metadata can tell, or it
--     was finished when the broker was away;
--   retry_count begins with 0 and never passes max_retries, rises by one after a run that said "retried" and not otherwise,
--     and goes back, or stays after such a run, only where what that run said may have been forgotten.
--
-- What is finished is committed soon, and is not forgotten from then on. It takes longer where the broker is away, and where
-- members wait in a rebalance: they can commit nothing.
--
-- A process is known to be dead at a line of the journal when the scene killed it, or its parent, before that line was
-- written, and it has written nothing from there on. (A worker dies with its parent, PR_SET_PDEATHSIG; of a parent that
-- was killed the scene has seen the workers gone by `gone_ms`, and nothing is forgiven before.)
--
-- A partition is lost without warning when the broker has not heard of a member for session.timeout.ms: the member says so
-- in its log. A broker that is away for longer may have that effect, and the old owner's runs go on beside the new one's. What
-- it had handed to its workers before may begin for a moment yet.

local M = {}
local Judge = {}
Judge.__index = Judge

-- A member learns from its next heartbeat that the broker has given its partitions to another.
local LOST_MS = 2000
-- A worker begins what it was handed before within that, and the log's time leaves out parts of a millisecond.
local HANDED_MS = 200
-- A parent reads within that what its workers told it.
local READ_MS = 200
-- What is finished is committed within half a second; on a machine that is busy with a broker's start it takes longer.
local COMMIT_MS = 2000
-- A client connects again within that when the broker is back.
local CONNECT_MS = 10000
local SESSION_MS = 6000

local PATTERN = "((%a+) (%S+) (%d+) (%d+) ((%d+)%.(%d+)) (%d+) (%S+) ([%d.]+)\n)"

-- Lines are "VERB KEY N RETRY_COUNT PID.BORN PARENT MEMBER MS"; BORN is when the process began, in ms, since pids are
-- used again. Returns how many bytes of `text` were whole lines.
function M.parse(text, lines)
    local size = 0
    for line, verb, key, n, attempt, process, pid, born, parent, member, ms in text:gmatch(PATTERN) do
        size = size + #line
        table.insert(lines, {
            index = #lines + 1, text = line:sub(1, -2), verb = verb, key = key, n = tonumber(n), attempt = tonumber(attempt),
            process = process, pid = tonumber(pid), born_ms = tonumber(born), parent = tonumber(parent), member = member,
            ms = tonumber(ms),
        })
    end
    return size
end

-- options: max_retries; last: key -> the number of its last message that is handled; deaths: list of { pid, killed_ms,
-- gone_ms }, of workers and of their parents; lost: list of { pid (the parent), ms }; full: list of { partition, ms }, where
-- the metadata of the commit was; outages: list of { killed_ms, back_ms }, of the broker, in their order; session_ms (6000):
-- after that a partition is lost; rebalance_ms (0): for so long members may wait for each other; partition_of: a function of
-- the key; struck_ms: partitions that moved before are not counted.
function M.new(options)
    return setmetatable({ options = options, keys = {}, owners = {}, parents = {}, moved_at = {}, last_line = {},
        refusals = {}, verdict = { begun = 0, repeated = 0, after_kill = 0, after_loss = 0, moved = 0 } }, Judge)
end

-- Excuses

function Judge:is_dead(run, line)
    if self.last_line[run.process] >= line.index then return false end
    for _, death in ipairs(self.options.deaths or {}) do
        if death.pid == run.pid and run.ms <= death.gone_ms and death.killed_ms <= line.ms
            or death.pid == run.parent and run.ms <= death.gone_ms and death.gone_ms <= line.ms then
            return true
        end
    end
    return false
end

local function is_loss_of(loss, run, line)
    return loss.pid == run.parent and run.ms <= loss.ms + HANDED_MS and loss.ms <= line.ms + LOST_MS
end

function Judge:is_lost(run, line)
    for _, loss in ipairs(self.options.lost or {}) do
        if is_loss_of(loss, run, line) then return true end
    end
    return false
end

-- Whether the worker was killed before its parent had read that the run ended.
function Judge:is_unread(run, line)
    for _, death in ipairs(self.options.deaths or {}) do
        if death.pid == run.pid and run.ms <= death.gone_ms and death.killed_ms <= line.ms
            and run.ended_ms >= death.killed_ms - READ_MS then
            return true
        end
    end
    return false
end

-- Whether what the run told its parent may not have been committed by `ms`, when that usually takes `takes_ms`.
function Judge:is_uncommitted(run, ms, takes_ms)
    local from_ms = ms - takes_ms
    local outages, rebalance_ms = self.options.outages or {}, self.options.rebalance_ms or 0
    for i = #outages, 1, -1 do
        local outage = outages[i]
        if outage.killed_ms <= ms and outage.back_ms + CONNECT_MS > from_ms then
            from_ms = math.min(from_ms, outage.killed_ms - COMMIT_MS - rebalance_ms)
        end
    end
    return not run.ended_ms or run.ended_ms >= from_ms
end

-- Whether the partition of the run has had another owner since.
function Judge:has_moved(run, line)
    local moved_at = self.moved_at[self.options.partition_of(run.key)]
    return run.parent ~= line.parent or moved_at ~= nil and moved_at > run.index
end

function Judge:is_forgotten_by_the_dead(run, line)
    local takes_ms = COMMIT_MS + (self.options.rebalance_ms or 0)
    for _, death in ipairs(self.options.deaths or {}) do
        if death.pid == run.parent and run.ms <= death.gone_ms and death.killed_ms <= line.ms
            and self:is_uncommitted(run, death.killed_ms, takes_ms) then
            return true
        end
    end
    return false
end

function Judge:is_forgotten_by_the_lost(run, line)
    local takes_ms = COMMIT_MS + (self.options.session_ms or SESSION_MS)
    for _, loss in ipairs(self.options.lost or {}) do
        if is_loss_of(loss, run, line) and self:is_uncommitted(run, loss.ms, takes_ms) then return true end
    end
    return false
end

function Judge:is_forgotten_by_the_next(run, line)
    if not self:has_moved(run, line) then return false end
    local partition = self.options.partition_of(run.key)
    for _, full in ipairs(self.options.full or {}) do
        if full.partition == partition and run.ms <= full.ms and full.ms <= line.ms then return true end
    end
    for _, outage in ipairs(self.options.outages or {}) do
        local ended_ms = run.ended_ms or run.ms
        if ended_ms >= outage.killed_ms - COMMIT_MS and ended_ms <= outage.back_ms + COMMIT_MS
            and outage.killed_ms <= line.ms then
            return true
        end
    end
    return false
end

-- Whether what the run told its parent may never have arrived at the broker.
function Judge:is_forgotten(run, line)
    return self:is_forgotten_by_the_dead(run, line) or self:is_forgotten_by_the_lost(run, line)
        or self:is_forgotten_by_the_next(run, line)
end

-- Lines

-- `before`: the line it does not go with, if there is one.
function Judge:refuse(line, before, words, ...)
    table.insert(self.refusals, { line = line, before = before,
        text = ("line %d: %s %d %s"):format(line.index, line.key, line.n, words:format(...)) })
end

-- Of a key as a whole.
function Judge:refuse_key(name, words, ...)
    table.insert(self.refusals, { text = name .. ": " .. words:format(...) })
end

-- counted: of each message, its last run; counters: of each, by retry_count, the last run that said
-- "retried".
function Judge:key(name)
    self.keys[name] = self.keys[name]
        or { open = {}, orphans = {}, finished = {}, ended = {}, counted = {}, counters = {}, highest = 0, last = 0 }
    return self.keys[name]
end

function Judge:check_alone(key, line)
    for _, run in ipairs(key.open) do
        if self:is_dead(run, line) then
            self.verdict.after_kill = self.verdict.after_kill + 1
        else
            table.insert(key.orphans, run)
            if self:is_lost(run, line) then
                self.verdict.after_loss = self.verdict.after_loss + 1
            else
                self:refuse(line, run, "begins in process %s while %d (line %d) runs in process %s", line.process, run.n,
                    run.index, run.process)
            end
        end
    end
    key.open = {}
end

function Judge:check_order(key, line)
    local n = line.n
    local before = key.finished[n]
    if n > key.highest + 1 then
        self:refuse(line, nil, "comes before %d", key.highest + 1)
    elseif key.unfinished and n > key.unfinished then
        self:refuse(line, key.counted[key.unfinished], "begins and %d is not finished", key.unfinished)
    elseif n > key.last + 1 then
        self:refuse(line, key.counted[key.last], "follows %d, those between are not handled again", key.last)
    end
    if before then
        self.verdict.repeated = self.verdict.repeated + 1
        key.finished[n] = nil
        if not self:is_unread(before, line) and not self:is_forgotten(before, line) then
            self:refuse(line, before, "was finished (line %d)", before.index)
        end
    end
end

-- What a lost partition's owner had handed to its workers has the count that this owner made.
function Judge:check_rise(before, line)
    local highest = before and before.attempt + (before.is_retried and 1 or 0) or 0
    if line.attempt <= highest or self:is_lost(line, line) then return end
    if not before then return self:refuse(line, nil, "begins for the first time, for retry %d", line.attempt) end
    self:refuse(line, before, "rises from retry %d (line %d) to %d, and %s", before.attempt, before.index, line.attempt,
        before.is_retried and "that is more than one" or "it was not retried")
end

-- What counts is when the count was made that is missing. One that a later run had was read.
function Judge:check_fall(before, counter, line)
    if line.attempt < before.attempt then
        if self:is_forgotten(counter or before, line) then return end
        self:refuse(line, before, "goes back from retry %d (line %d) to %d", before.attempt, before.index, line.attempt)
    elseif before.is_retried and line.attempt == before.attempt then
        if self:is_unread(before, line) or self:is_forgotten(before, line) then return end
        self:refuse(line, before, "begins for retry %d again (line %d)", line.attempt, before.index)
    end
end

function Judge:check_count(key, line)
    local before = key.counted[line.n]
    local counters = key.counters[line.n] or {}
    key.counted[line.n], key.counters[line.n] = line, counters
    if line.attempt > self.options.max_retries then self:refuse(line, before, "begins for retry %d", line.attempt) end
    self:check_rise(before, line)
    if before then self:check_fall(before, counters[line.attempt], line) end
end

function Judge:count_move(line)
    local partition = self.options.partition_of(line.key)
    local owner = self.owners[partition]
    if owner and owner ~= line.member and line.ms >= (self.options.struck_ms or 0) then
        self.verdict.moved = self.verdict.moved + 1
    end
    self.owners[partition] = line.member
    if self.parents[partition] ~= line.parent then self.moved_at[partition] = line.index end
    self.parents[partition] = line.parent
end

function Judge:begin(line)
    local key = self:key(line.key)
    self.verdict.begun = self.verdict.begun + 1
    self:check_alone(key, line)
    self:check_order(key, line)
    self:check_count(key, line)
    self:count_move(line)
    key.open = { line }
    key.unfinished = line.n
    key.last, key.highest = line.n, math.max(key.highest, line.n)
end

local function take(runs, line)
    for i, run in ipairs(runs) do
        if run.process == line.process and run.n == line.n and run.attempt == line.attempt then
            return table.remove(runs, i)
        end
    end
end

function Judge:finish(line)
    local key = self:key(line.key)
    if take(key.orphans, line) then return end -- beside the next owner's, whose word counts
    local run = take(key.open, line)
    if not run then return self:refuse(line, nil, "ends in process %s, where it had not begun", line.process) end
    run.is_retried, run.ended_ms = line.verb == "retried", line.ms
    if run.is_retried then key.counters[run.n][run.attempt] = run end
    if line.verb == "settled" or line.attempt == self.options.max_retries then
        key.finished[line.n], key.ended[line.n] = run, true
        key.unfinished = nil
    end
end

function Judge:check_end(name, last)
    local key = self:key(name)
    if key.highest ~= last then self:refuse_key(name, "the last that began is %d, not %d", key.highest, last) end
    if key.unfinished and not key.ended[key.unfinished] then
        self:refuse_key(name, "%d began and was never finished", key.unfinished)
    end
end

-- lines: see M.parse. Returns { begun = how often handlers began, repeated = of messages that were finished, after_kill =
-- beginnings beside a run that a kill had ended, after_loss = beside one whose partition was lost, moved = how often the
-- messages of a partition went on with another member }, and a list of refusals: { text =, line =, before = }.
function Judge:judge(lines)
    for _, line in ipairs(lines) do self.last_line[line.process] = line.index end
    for _, line in ipairs(lines) do
        if line.verb == "began" then self:begin(line) else self:finish(line) end
    end
    for name, last in pairs(self.options.last) do self:check_end(name, last) end
    return self.verdict, self.refusals
end

return M
