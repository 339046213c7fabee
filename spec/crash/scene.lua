-- A queue, messages in it, and shove running over it again and again until all are handled: what crash specs share.

local assert = require "luassert"
local app = require "spec.support.app"
local journal = require "spec.crash.journal"
local kafka = require "spec.support.kafka"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local M = {}
local Scene = {}
Scene.__index = Scene

local RUN_MS = 90000

-- The brokers a crash spec runs on, by name.
M.brokers = {
    embedded = function(dir) return "embedded:" .. dir .. "/queue.db" end,
    kafka = function() return kafka.shared().url end,
}

-- options: url, and those of journal:app.
function M.new(options)
    local scene = setmetatable({ published = 0, processes = {} }, Scene)
    local holder = app.new { source = "" }
    local url = type(options.url) == "function" and options.url(holder.dir) or options.url
    scene.queue = unique "crash"
    scene.journal = journal.new(holder.dir)
    local settings = { broker = url, queue = scene.queue, instance = url:find "^kafka" and "member-1" or nil }
    for name, value in pairs(options) do settings[name] = value end
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
    local p = self.app:run { "--workers", "2", "--drain", "10s", env = env }
    table.insert(self.processes, p)
    return p
end

-- Runs until every message has come to its end, then drains. Returns the exit code.
function Scene:finish(p)
    p = p or self:run()
    wait.until_true(function()
        assert(not p.code, "shove ended by itself\n" .. p:transcript())
        return #self.journal:missing() == 0
    end, RUN_MS, "all messages to be handled")
    return app.drain(p), p
end

function Scene:transcripts()
    local texts = {}
    for _, p in ipairs(self.processes) do table.insert(texts, p.name .. "\n" .. p:transcript()) end
    return table.concat(texts, "\n")
end

-- Nothing lost, nothing invented, no hold early, no retry that nobody asked for, and no more repeated than `allowed`.
function Scene:judge(allowed)
    assert.same({}, self.journal:missing())
    local verdict = self.journal:verdict()
    local transcripts = self:transcripts()
    assert.same({}, verdict.strangers, transcripts)
    assert.same({}, verdict.unasked, transcripts)
    assert.same({}, verdict.early, transcripts)
    assert.is_true(verdict.repeated <= allowed,
        ("%d handlings were repeated, at most %d were allowed"):format(verdict.repeated, allowed))
    return verdict
end

return M
