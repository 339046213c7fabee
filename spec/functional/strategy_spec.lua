-- A strategy of the script's own: what it says is done, within bounds; where it fails, the rule decides.
--
-- It is steered by files: mode("many") makes it do what `modes.many` says. How many consumers there are is seen from the
-- log, and from how many handlers run at once.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local http = require "spec.support.http"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000

local EXTRA = [[
local was_late = false
local modes = {
  up = function(group) return group.consumers < 3 and "up" or "stay" end,
  down = function() io.open(dir .. "/down", "w"):close() return "down" end,
  many = function() return 99 end,
  few = function() return -5 end,
  raise = function(group) error("no word on " .. group.group) end,
  nonsense = function() return "sideways" end,
  half = function() return 1.5 end,
  late = function() if not was_late then was_late = true shove.sleep "1h" end end,
  crash = function() uv.kill(uv.os_getpid(), "sigkill") end,
  hang = function() while true do end end,
}
app:autoscale { poll = "100ms", cooldown = "1ms", %s strategy = function(group)
  assert(group.state == "joined" and not group.paused and group.max == 4 and group.consumers <= 4)
  local file = io.open(dir .. "/mode")
  local mode = file and modes[file:read "*a"]
  if file then file:close() end
  if mode then return mode(group) end
end }
]]

-- A group of 1 to 4 consumers that take one message each. The rule: as given, or none that ever decides.
local function start(options)
    local s = steered.new {
        url = options.url or steered.brokers[1].url, partitions = 4,
        group = "consumers = { min = 1, max = 4 }" .. (options.group or ""), topic = options.topic,
        extra = EXTRA:format(options.rule or 'hysteresis = "1h",'),
    }
    function s.mode(name) tmp.write(s.dir .. "/mode", name) end
    s:declare()
    s.mode(options.mode or "")
    local texts = {}
    for i = 1, options.count do texts[i] = ("m%02d gate"):format(i) end
    s:publish(texts)
    s.p = s:run(options.arguments)
    s:wait("began", 1)
    return s
end

-- Lines about the group's consumers: "1 2 WHY".
local function changes(s)
    local list = {}
    for before, after, why in s.p:text "stderr":gmatch 'consumers were [^\n]-before=(%d+) +consumers=(%d+) +why="([^\n]*)"' do
        table.insert(list, ("%s %s %s"):format(before, after, (why:gsub('\\', ""))))
    end
    return list
end

local function until_changes(s, count)
    wait.until_true(function() return #changes(s) >= count end, WAIT_MS, count .. " changes")
end

for _, broker in ipairs(steered.brokers) do
    describe("A strategy of the autoscaler, on " .. broker.name, function()
        it("says how many consumers a group has, within its bounds, without a rebalance", function()
            local s = start { url = broker.url, count = 6 }
            s.mode "up"
            s:wait("began", 3)
            s.mode "many"
            s:wait("began", 4)
            s.mode "down" -- all are busy
            wait.until_true(function() return uv.fs_stat(s.dir .. "/down") end, WAIT_MS, "the strategy to be asked")
            s.mode "few"
            until_changes(s, 4)
            s:open "gate"
            s:wait("ended", 6)
            s.mode "up"
            until_changes(s, 6)
            s.mode "down"
            until_changes(s, 8)
            assert.equal(0, (app.drain(s.p)), s.p:transcript())
            assert.same({ '1 2 the strategy said "up"', '2 3 the strategy said "up"', "3 4 the strategy said 99",
                "4 1 the strategy said -5", '1 2 the strategy said "up"', '2 3 the strategy said "up"',
                '3 2 the strategy said "down"', '2 1 the strategy said "down"' }, changes(s))
            local _, assignments = s.p:text "stderr":gsub("partitions assigned", "")
            assert.equal(1, assignments, s.p:transcript())
        end)
    end)
end

describe("Where the strategy of the autoscaler", function()
    local RULE = 'hysteresis = "1ms", up = 2,'

    -- A line of the log that says so of the group.
    local function until_told(s, error_pattern)
        local pattern = "the strategy of app:autoscale failed: up, down and hysteresis decide  group="
            .. s.group_id:gsub("%p", "%%%0") .. '  error="[^"\n]*' .. error_pattern
        wait.until_true(function()
            return s.p:text("stderr"):gsub("\\n", "\n"):gsub('\\"', '"'):find(pattern)
        end, WAIT_MS, error_pattern)
    end

    local function failures(s)
        return tonumber(http.request(http.port_of(s.p), "/metrics").body:match(
            "\nshove_autoscaler_strategy_failures_total{[^}]*} (%d+)"))
    end

    local function finish(s)
        assert.same({ "1 2 3 messages are ready" }, changes(s)) -- more than twice what one takes
        s:open "gate"
        s:wait("ended", 3)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end

    it("raises or returns nonsense, the rule decides, and the log and a metric say so", function()
        local s = start { count = 3, rule = RULE, mode = "raise", arguments = { "--listen", "0" } }
        s:wait("began", 2)
        until_told(s, "app.lua:%d+: no word on " .. s.group_id:gsub("%p", "%%%0") .. "\nstack traceback:\n")
        s.mode "nonsense"
        until_told(s, 'it returned a string %("sideways"%): return "up", "down", "stay", a whole number of consumers, or')
        s.mode "half"
        until_told(s, "it returned a number %(1.5%): ")
        assert.is_true(failures(s) >= 3)
        finish(s)
    end)

    it("takes longer than a second, and where it says nothing, the rule decides", function()
        local s = start { count = 3, rule = RULE, mode = "late", arguments = { "--listen", "0" } }
        s:wait("began", 2)
        until_told(s, "it did not answer within a second")
        assert.equal(1, failures(s))
        finish(s)
    end)

    it("cannot be asked, for want of a worker, the rule decides, and the log and a metric say so", function()
        local s = start { count = 3, rule = RULE, arguments = { "--listen", "0" } }
        s:wait("began", 2)
        tmp.write(s.app.path, "(")
        uv.kill(s.p:children()[1], "sigkill")
        until_told(s, "no worker is there that could be asked")
        assert.is_true(failures(s) >= 1)
        tmp.write(s.app.path, s.source)
        s:open "gate"
        s:wait("ended", 3)
        assert.equal(2, (app.drain(s.p)), s.p:transcript())
    end)

    local function start_fatal(mode)
        local s = start { count = 3, rule = RULE, group = ", max_crashes = 1", topic = [[hold = { "1s" }, dlq = true,]] }
        s.mode(mode)
        return s
    end

    local function finish_fatal(s)
        s.p:wait_for('was handling="the strategy of app:autoscale"', WAIT_MS)
        s.p:wait_for("it is not asked for 60 s", WAIT_MS)
        s.p:wait_for("before=1 +consumers=2", WAIT_MS)
        s:open "gate"
        s:wait("ended", { "m01", "m02", "m03" })
        s.p:wait_for("before=2 +consumers=1", WAIT_MS)
        assert.equal(2, (app.drain(s.p)), s.p:transcript()) -- a worker died
        for _, line in ipairs(s:lines()) do assert.equal(0, line.retry_count) end
        local t = driver.open(s.url, { must_exist = true })
        assert.same({ 0 }, { #t:read_all(s.queue .. "-dlq") })
        t:close()
        assert.matches("dead letters=0 ", s.p:text "stderr")
    end

    it("never yields its process ends, no message is blamed or lost, and the rule goes on", function()
        local s = start_fatal "hang"
        s.p:wait_for("did not answer within a second", WAIT_MS)
        s.p:wait_for("why=\"the strategy of app:autoscale did not yield\"", WAIT_MS)
        finish_fatal(s)
    end)

    it("crashes it is the same", function() finish_fatal(start_fatal "crash") end)
end)
