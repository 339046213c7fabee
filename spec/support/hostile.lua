-- An app with a group that misbehaves ("bad") and one that does not ("good") in the same processes. Handlers write down
-- what became of each message, so nothing of shove's own bookkeeping is believed.
--
--     local s = hostile.new { broker = "embedded", handler = "error 'no'", group = "max_retries = 0" }
--     s:publish("bad", { "a" }, "dead")        what must become of them: "acked" or "dead"
--     s:publish_good(20)
--     local p = s:run()
--     assert.are.equal(0, s:finish(p))         waits until it has, drains, judges: see Scene:judge
--     s:lines_of("a", "dead")[1].error
--
-- Options: broker: "embedded" or "kafka"; handler: the body of the bad group's function(msg), which may use
-- kind (the payload up to a blank), note(verb, msg, more), shove, bad, good (topics), uv, ffi; group: what is written into its
-- shove.group; good_retries: that of the good group (0); top: Lua before the app is made; more: Lua at its end; topic: what
-- is written into its topic's options.

local assert = require "luassert"
local cjson = require "cjson"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local M = {}
local Scene = {}
Scene.__index = Scene

local FINISH_MS = 30000

-- A line is one write to a descriptor of its own, so that it survives whatever its handler does next. Locals, so that
-- the good handler goes on whatever the bad one does to globals and strings.
local SOURCE = [[
local shove = require "shove"
local uv = require "luv"
local ffi = require "ffi"
$TOP
local open, write, close, getpid = uv.fs_open, uv.fs_write, uv.fs_close, uv.os_getpid
local encode, match, next, assert = require("cjson").new().encode, string.match, next, assert
local app = shove.registry { broker = $BROKER, $KAFKA }

local function note(verb, msg, more)
  local line = { verb = verb, payload = msg.payload, retries = msg.retry_count, redelivered = msg.redelivered,
    pid = getpid() }
  for key, value in next, more or {} do line[key] = value end
  local file = assert(open($JOURNAL, "a", 420))
  assert(write(file, encode(line) .. "\n", -1))
  close(file)
end

local function returned(msg, ...)
  note("returned", msg)
  return ...
end

local bad = app:topic($BAD, { hold = { "100ms" }, dlq = true, partitions = 1, codec = "raw", $TOPIC })
local good = app:topic($GOOD, { hold = { "100ms" }, dlq = true, partitions = 2, codec = "raw" })

app:register(bad, shove.group { $GROUP }, function(msg)
  note("began", msg)
  local kind = match(msg.payload, "^%S+")
  return returned(msg, (function() $HANDLER end)())
end)

app:dead_letters(bad, { prefetch = 4, concurrent = true, handler_timeout = "1s" }, function(dead)
  note("dead", dead, { reason = dead.reason, error = dead.error, deaths = dead.death_count })
end)

local group = shove.group { prefetch = 4, concurrent = true, handler_timeout = "1s", max_retries = $RETRIES }
app:register(good, group, function(msg)
  note("began", msg)
  shove.sleep "20ms"
  note("returned", msg)
end)

$MORE
return app
]]

-- A member that was killed is followed by one of the same name, which need not wait for its session to end.
local MEMBER = 'kafka = { ["group.instance.id"] = "member", ["session.timeout.ms"] = "6000" }'

local function broker_url(name, a)
    return name == "kafka" and kafka.shared().url or "embedded:" .. a.dir .. "/queue.db"
end

function M.new(options)
    local a = app.new { source = "" }
    local scene = setmetatable({ app = a, fates = { bad = {}, good = {} }, order = {}, journal = a:file "journal" }, Scene)
    scene.good_retries = options.good_retries or 0
    scene.bad, scene.good = kafka.unique "bad", kafka.unique "good"
    local words = {
        TOP = options.top or "", MORE = options.more or "", HANDLER = options.handler, GROUP = options.group or "",
        TOPIC = options.topic or "", RETRIES = tostring(options.good_retries or 0),
        BROKER = ("%q"):format(broker_url(options.broker, a)), KAFKA = options.broker == "kafka" and MEMBER or "",
        JOURNAL = ("%q"):format(scene.journal),
        BAD = ("%q"):format(scene.bad), GOOD = ("%q"):format(scene.good),
    }
    tmp.write(a.path, (SOURCE:gsub("%$(%u+)", words)))
    return scene
end

-- group: "bad" or "good"; fate: "acked" or "dead". Payloads differ from each other, also between the groups.
function Scene:publish(group, payloads, fate)
    for _, payload in ipairs(payloads) do
        self.fates[group][payload] = fate
        if group == "bad" then table.insert(self.order, payload) end
    end
    local result = self.app:command("publish", {
        self[group], "--raw", stdin = { text = table.concat(payloads, "\n") .. "\n" },
    })
    assert.are.equal(0, result.code, result.stderr)
end

function Scene:publish_good(count)
    local payloads = {}
    for i = 1, count do payloads[i] = "good " .. i end
    self:publish("good", payloads, "acked")
end

-- With one worker unless the arguments say otherwise: the two groups share it.
function Scene:run(...)
    return self.app:run { "--workers", "1", ... }
end

-- Every line the handlers wrote, or those about one message, or those of one verb.
function Scene:lines_of(payload, verb)
    local is_there, text = pcall(tmp.read, self.journal)
    local found = {}
    for text_line in (is_there and text or ""):gmatch "([^\n]*)\n" do
        local line = cjson.decode(text_line)
        if (not payload or line.payload == payload) and (not verb or line.verb == verb) then table.insert(found, line) end
    end
    return found
end

local ORPHANS_MS = 2000
local VERB_OF = { acked = "returned", dead = "dead" }

-- The messages that have not met their fate yet.
function Scene:open()
    local seen, open = {}, {}
    for _, line in ipairs(self:lines_of()) do seen[line.payload .. "\0" .. line.verb] = true end
    for _, group in pairs(self.fates) do
        for payload, fate in pairs(group) do
            if not seen[payload .. "\0" .. VERB_OF[fate]] then table.insert(open, payload) end
        end
    end
    table.sort(open)
    return open
end

function Scene:wait(p, deadline_ms)
    local is_over = pcall(wait.until_true, function() return p.code ~= nil or #self:open() == 0 end,
        deadline_ms or FINISH_MS)
    if not is_over or p.code then
        error(("these did not come to their end: %s\n%s"):format(table.concat(self:open(), ", "), p:transcript()), 2)
    end
end

-- Waits until all messages have met their fates; drains; judges. Returns the exit code.
function Scene:finish(p, deadline_ms)
    self:wait(p, deadline_ms)
    local code = app.drain(p)
    self:judge(p)
    return code
end

local function count(set, fate)
    local n = 0
    for _, one in pairs(set) do
        if not fate or one == fate then n = n + 1 end
    end
    return n
end

local function assert_told(p, topic, word, expected)
    local pattern = ("group=%s%%-consumer .*%s=(%%d+)"):format(topic:gsub("%-", "%%-"), word)
    local told
    for _, line in ipairs(p.lines) do told = told or line.text:match(pattern) end
    assert.are.equal(tostring(expected), told, ("%s of %s\n%s"):format(word, topic, p:transcript()))
end

-- Every published message met its fate and no other; control counted the same; the good group's messages were never
-- retried (unless good_retries allows it), none of them died; nothing is left running. p ran alone from the
-- beginning, and has ended.
function Scene:judge(p)
    for payload, fate in pairs(self.fates.bad) do
        local dead = self:lines_of(payload, "dead")
        assert.are.equal(fate == "dead", #dead > 0, payload .. "\n" .. p:transcript())
    end
    for _, line in ipairs(self:lines_of()) do
        local is_good = self.fates.good[line.payload] ~= nil
        assert.is_truthy(is_good or self.fates.bad[line.payload], "nobody published " .. line.payload)
        assert.is_false(is_good and (line.verb == "dead" or line.retries > self.good_retries),
            line.payload .. " was not left alone")
    end
    assert_told(p, self.good, "acked", count(self.fates.good))
    assert_told(p, self.good, "dead letters", 0)
    assert_told(p, self.bad, "acked", count(self.fates.bad, "acked"))
    assert_told(p, self.bad, "dead letters", count(self.fates.bad, "dead"))
    assert_told(p, self.bad .. "-dlq", "acked", count(self.fates.bad, "dead"))
    -- What was killed last may still be dying.
    wait.loop(function() return #process.orphans() == 0 end, ORPHANS_MS)
    assert.are.same({}, process.orphans(), "something was left running")
end

-- What an operator sees of the bad group's: payload -> { reason, retry_count, crash_count, ... }
function Scene:dead_letters()
    local result = self.app:command("dlq list", { self.bad, "--json" })
    assert.are.equal(0, result.code, result.stderr)
    local letters = {}
    for line in result.stdout:gmatch "[^\n]+" do
        local letter = cjson.decode(line)
        letters[self.order[letter.original_offset + 1]] = letter -- the topic has one partition
    end
    return letters
end

return M
