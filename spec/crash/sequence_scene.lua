-- Messages of a sequenced topic, and the journal that their handlers write: for each key the messages begin for the first
-- time in their order and all of them do, and none begins while an earlier one of its key has begun and has not been
-- settled since. With "fail_all" none begins behind the first that is rejected.

local assert = require "luassert"
local app = require "spec.support.app"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local M = {}

local SHARDS = 4

local SOURCE = [[
local shove = require "shove"
local uv = require "luv"
local app = shove.registry { broker = %q, kafka = { %s } }
local topic = app:topic(%q, { sequenced = %q, hold = { "20ms", "60ms" }, dlq = true, shards = %d, codec = "raw" })
local file = assert(uv.fs_open(%q, "a", tonumber("644", 8)))
local function note(verb, name)
  local line = verb .. " " .. name .. "\n"
  assert(uv.fs_write(file, line, -1) == #line)
end
app:register_fifo(topic, { prefetch = 24 }, function(msg)
  local name, word = msg.payload:match "^(%%S+ %%d+) ?(.*)$"
  note("began", name)
  shove.sleep "%dms"
  if word == "retry" and msg.retry_count < 2 then return shove.retry "as told" end
  note("settled", name)
  if word == "reject" then return shove.reject "as told" end
end)
return app
]]

local PROPERTIES = '["session.timeout.ms"] = "6000", ["heartbeat.interval.ms"] = "300", '
    .. '["group.instance.id"] = shove.env("MEMBER", "first")'

local Scene = {}
Scene.__index = Scene

-- options: kafka (a broker of spec/support/kafka.lua; nil: embedded), keys, per_key, policy ("skip"), sleep_ms (4).
function M.new(options)
    local a = app.new { source = "" }
    local s = setmetatable({ app = a, queue = unique "sequence", journal = a:file "journal", broker = options.kafka,
        keys = options.keys, per_key = options.per_key, policy = options.policy or "skip" }, Scene)
    local url = s.broker and s.broker.url or "embedded:" .. a.dir .. "/queue.db"
    tmp.write(a.path, SOURCE:format(url, s.broker and PROPERTIES or "", s.queue, s.policy, SHARDS, s.journal,
        options.sleep_ms or 4))
    return s
end

function Scene:run(member)
    return self.app:run { "--workers", "2", "--drain", "15s", env = { MEMBER = member or "first" } }
end

function Scene:declare()
    local p = self:run()
    p:wait_for("partitions assigned", 20000)
    assert.equal(0, (app.drain(p)), p:transcript())
end

-- Messages "KEY N", "KEY N retry" and "KEY N reject"; seeded. self.last: of each key the number of its last that is
-- handled; self.rejected: list of { key =, n = }.
function Scene:publish(seed)
    math.randomseed(seed)
    local batches = {}
    self.last, self.rejected = {}, {}
    for key = 1, self.keys do
        batches[key] = {}
        for n = 1, self.per_key do
            local dice = math.random()
            local word = dice < 0.05 and " retry" or dice < 0.06 and " reject" or ""
            batches[key][n] = ("key-%d %d%s"):format(key, n, word)
            if word == " reject" then
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

function Scene:lines()
    local ok, text = pcall(tmp.read, self.journal)
    local lines = {}
    for verb, key, n in (ok and text or ""):gmatch "(%S+) (%S+) (%d+)\n" do
        table.insert(lines, { verb = verb, key = key, n = tonumber(n) })
    end
    return lines
end

function Scene:settled()
    local seen, count = {}, 0
    for _, line in ipairs(self:lines()) do
        local name = line.key .. " " .. line.n
        if line.verb == "settled" and not seen[name] then
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

-- Returns how often handlers began.
function Scene:judge()
    local highest, open, begun = {}, {}, 0
    for i, line in ipairs(self:lines()) do
        local key = line.key
        open[key] = open[key] or {}
        begun = begun + (line.verb == "began" and 1 or 0)
        if line.verb == "settled" then
            open[key][line.n] = nil
        else
            for n in pairs(open[key]) do
                assert(n >= line.n, ("line %d: %s %d begins and %d is not settled"):format(i, key, line.n, n))
            end
            open[key][line.n] = true
            assert(line.n <= (highest[key] or 0) + 1, ("line %d: %s %d comes before %d"):format(i, key, line.n, line.n - 1))
            highest[key] = math.max(highest[key] or 0, line.n)
        end
    end
    for key = 1, self.keys do assert.equal(self.last[key], highest["key-" .. key], "the last of key-" .. key) end
    return begun
end

return M
