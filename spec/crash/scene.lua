-- A queue, messages in it, and shove running over it again and again until all are handled: what crash specs share.

local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local journal = require "spec.crash.journal"
local kafka = require "spec.support.kafka"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local M = {}
local Scene = {}
Scene.__index = Scene

local RUN_MS = 90000
local LETTERS_MS = 30000
local LOOK_MS = 100
local IN_FLIGHT = 20 -- two consumers of 10
local WORK_SECONDS = 0.05
-- A commit each half second, and as long again as a busy broker may take to store one and nothing else goes wrong.
local UNCOMMITTED_SECONDS = 0.75

M.IN_FLIGHT = IN_FLIGHT

-- The brokers a crash spec runs on, by name.
M.brokers = {
    embedded = function(dir) return "embedded:" .. dir .. "/queue.db" end,
    kafka = function() return kafka.shared().url end,
}

-- options: url, broker (of spec/support/kafka.lua, when it is not the shared one), drain (10s), and those of journal:app.
function M.new(options)
    local scene = setmetatable({ published = 0, processes = {} }, Scene)
    local holder = app.new { source = "" }
    local url = type(options.url) == "function" and options.url(holder.dir) or options.url
    scene.url = url
    scene.broker = options.broker or url:find "^kafka:" and kafka.shared() or nil
    scene.queue = unique "crash"
    scene.journal = journal.new(holder.dir)
    local settings = {
        broker = url, queue = scene.queue, instance = url:find "^kafka" and "member-1" or nil,
        work_seconds = WORK_SECONDS,
    }
    for name, value in pairs(options) do settings[name] = value end
    scene.work_seconds = settings.work_seconds
    scene.drain = options.drain or "10s"
    settings.broker = url
    if options.instance == false then settings.instance = nil end
    scene.app = app.new { source = scene.journal:app(settings) }
    return scene
end

-- Publishes `count` messages; every one that was acknowledged must be handled. Their ids carry the queue's name, so that
-- a message of another scene is a stranger here and cannot be taken for one of these.
function Scene:publish(count)
    local ids = {}
    for i = 1, count do ids[i] = ("%s/m%d"):format(self.queue, self.published + i) end
    self.published = self.published + count
    local result = self.app:command("publish", { self.queue, "--raw", stdin = { text = table.concat(ids, "\n") .. "\n" } },
        RUN_MS)
    assert.equal(0, result.code, result.stderr)
    self.journal:expect(ids)
end

function Scene:run(env)
    local p = self.app:run { "--workers", "2", "--drain", self.drain, env = env }
    table.insert(self.processes, p)
    return p
end

-- Runs until every message has come to its end, then drains. Returns the exit code. A dead letter that a process was
-- about to store when it died comes from another handling of its message, which nothing in the journal announces: so
-- letters are waited for, and those that do not come are named by judge().
function Scene:finish(p)
    p = p or self:run()
    wait.until_true(function()
        assert(not p.code, "shove ended by itself\n" .. p:transcript())
        return #self.journal:missing() == 0
    end, RUN_MS, "all messages to be handled")
    wait.loop(function() return p.code or #self:judge_letters().lost == 0 end, LETTERS_MS, LOOK_MS)
    return app.drain(p), p
end

-- All records of the DLQ; on Kafka by a client that shares no code with shove. One without a payload is nobody's.
function Scene:letters()
    local topic = self.queue .. "-dlq"
    local records = self.broker and self.broker:read(topic) or driver.records_of(self.url, topic)
    local letters = {}
    for i, record in ipairs(records) do
        letters[i] = {
            id = record.value or record.payload or "", reason = driver.header_of(record, "Shove-Death-Reason"),
            retry_count = tonumber(driver.header_of(record, "Shove-Retry-Count") or 0),
        }
    end
    return letters
end

function Scene:judge_letters()
    return self.journal:judge_letters(self:letters())
end

-- How many handlings have begun, in all or in the workers that process `p` has now.
function Scene:handled(p)
    local is_worker = {}
    for _, pid in ipairs(p and p:children() or {}) do is_worker[pid] = true end
    local count = 0
    for _, line in ipairs(self.journal:lines()) do
        if line.verb == "began" and (not p or is_worker[line.pid]) then count = count + 1 end
    end
    return count
end

-- Returns when `count` more handlings have begun, of all or of those of process `p`.
function Scene:go_on(count, p)
    local target = self:handled(p) + count
    wait.until_true(function() return self:handled(p) >= target end, RUN_MS, "work to go on")
end

-- How many handlings the death of a process may repeat at most, which had begun `handled` of them: what was in flight,
-- and what was finished after the last commit that was stored.
function Scene:repeated_after_kill(handled)
    return IN_FLIGHT + math.min(handled, IN_FLIGHT * UNCOMMITTED_SECONDS / self.work_seconds)
end

function Scene:transcripts()
    local texts = {}
    for _, p in ipairs(self.processes) do table.insert(texts, p.name .. "\n" .. p:transcript()) end
    return table.concat(texts, "\n")
end

-- Nothing lost, nothing invented, no hold early, no retry that nobody asked for, no more repeated than `allowed`, and in the
-- DLQ what handlers asked for and nothing else.
function Scene:judge(allowed)
    assert.same({}, self.journal:missing())
    local verdict = self.journal:verdict()
    local transcripts = self:transcripts()
    assert.same({}, verdict.strangers, transcripts)
    assert.same({}, verdict.unasked, transcripts)
    assert.same({}, verdict.early, transcripts)
    assert.is_true(verdict.repeated <= allowed,
        ("%d handlings were repeated, at most %d were allowed"):format(verdict.repeated, allowed))
    local letters = self:judge_letters()
    assert.same({}, letters.lost, transcripts)
    assert.same({}, letters.surplus, transcripts)
    return verdict
end

return M
