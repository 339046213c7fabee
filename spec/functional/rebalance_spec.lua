-- Members come and go while handlers run.

local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local mocked = require "spec.support.mocked"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

local JOIN_MS = 20000

local function joined(p)
    p:wait_for("partitions assigned.*partitions=[1-9]", JOIN_MS)
    return p
end

-- How often each message was begun, by name.
local function beginnings(s)
    local counts = {}
    for _, line in ipairs(s:lines()) do
        if line.verb == "began" then counts[line.name] = (counts[line.name] or 0) + 1 end
    end
    return counts
end

-- Which pid handled the message last.
local function handler_of(s, name)
    local pid
    for _, line in ipairs(s:lines()) do
        if line.name == name then pid = line.pid end
    end
    return pid
end

local function count_lines(p, pattern)
    local count = 0
    for _, line in ipairs(p.lines) do
        if line.text:find(pattern) then count = count + 1 end
    end
    return count
end

describe("a second member", function()
    it("gets its share when what was in flight there is finished; nothing is lost and nothing repeated", function()
        local s = steered.new { url = kafka.shared().url, partitions = 2 }
        s:declare()
        for i = 0, 1 do s:publish({ "slow" .. i .. " shut", "b" .. i, "c" .. i }, { partition = i }) end
        local first = joined(s:run())
        s:wait("ended", { "b0", "c0", "b1", "c1" })
        s:wait("began", { "slow0", "slow1" })

        local second = s:run()
        first:wait_for("partitions being given up", JOIN_MS)
        s:open "shut"
        joined(second)
        s:wait("ended", { "slow0", "slow1" })
        for i = 0, 1 do s:publish({ "d" .. i }, { partition = i }) end
        s:wait("ended", { "d0", "d1" })
        assert.are_not.equal(handler_of(s, "d0"), handler_of(s, "d1"))
        for i = 0, 1 do s:wait_position(i, 4) end

        -- The first leaves: its last commit says nothing of what the second has committed meanwhile.
        second:mark()
        assert.equal(0, (app.drain(first)), first:transcript())
        joined(second)
        for i = 0, 1 do s:publish({ "e" .. i }, { partition = i }) end
        s:wait("ended", { "e0", "e1" })
        assert.equal(0, (app.drain(second)), second:transcript())
        for i = 0, 1 do s:wait_position(i, 5) end
        for _, count in pairs(beginnings(s)) do assert.equal(1, count, s:account()) end
    end)
end)

describe("a handler that outlasts the assignment of its partition", function()
    it("completes nothing, neither for another member nor for its own when the partition returns", function()
        local s = steered.new {
            url = kafka.shared().url, partitions = 2, kafka = { ["session.timeout.ms"] = "2000" },
        }
        s:declare()
        for i = 0, 1 do
            s:publish({
                ("x%d x%d"):format(i, i), ("y%d y%d"):format(i, i), ("r%d late retry"):format(i), "b" .. i,
            }, { partition = i })
        end
        local first = joined(s:run())
        s:wait("ended", { "b0", "b1" })

        -- The bounded wait for the handlers passes, and the partition goes to the second with what is finished in it. A
        -- retry that is asked for meanwhile, and would come after a second in place, is the second's too.
        local second = s:run()
        first:wait_for("partitions being given up", JOIN_MS)
        s:open "late"
        joined(second)
        s:wait("ended", { "r0", "r1" }, 2)
        wait.until_true(function() return s:count "began" == 12 end, JOIN_MS, "messages to be begun again")
        local moved = s:count("began", "x0") == 2 and 0 or 1
        local x, y, r = "x" .. moved, "y" .. moved, "r" .. moved
        assert.equal(second:children()[1], handler_of(s, r))
        assert.are_not.equal(handler_of(s, r), handler_of(s, "r" .. 1 - moved))
        for _, line in ipairs(s:lines()) do
            if line.name == r then assert.equal(line.pid == handler_of(s, r) and 1 or 0, line.retry_count) end
        end
        s:open(x .. "-1")
        s:wait("ended", { x })
        s:publish({ "c" }, { partition = moved })
        s:wait("ended", { "c" })
        assert.equal(second:children()[1], handler_of(s, "c"))
        s:wait_position(moved, 0, 3)

        -- Back to the first, where the handler of y still runs.
        first:mark()
        second:kill "sigkill"
        joined(first)
        s:wait("began", { x, y }, 3)
        s:open(y .. "-1")
        s:wait("ended", { y })
        s:publish({ "d" }, { partition = moved })
        s:wait("ended", { "d" })
        s:wait_position(moved, 0, 4)
        s:open(y .. "-3")
        s:wait_position(moved, 0, 5)
        s:open(x .. "-3")
        s:wait_position(moved, 6)

        s:open("x" .. 1 - moved)
        s:open("y" .. 1 - moved)
        s:wait_position(1 - moved, 4)
        assert.equal(0, (app.drain(first)), first:transcript())
        local counts = beginnings(s)
        assert.same({ 3, 3 }, { counts[x], counts[y] })
        counts[x], counts[y], counts.r0, counts.r1 = nil, nil, counts.r0 - 1, counts.r1 - 1
        for name, count in pairs(counts) do assert.equal(1, count, name) end
    end)
end)

describe("a key of a sequenced topic whose partition is taken away", function()
    -- Position in the journal.
    local function at(s, verb, name)
        for i, line in ipairs(s:lines()) do
            if line.verb == verb and line.name == name then return i end
        end
        error(("%s %s is not in the journal:\n%s"):format(verb, name, s:account()))
    end

    it("is waited for as long as its handler may take, and goes on elsewhere when that has ended", function()
        local s = steered.new {
            url = kafka.shared().url, fifo = true, partitions = false, topic = 'sequenced = "skip", shards = 2,',
            holds = { "50ms" },
        }
        s:declare()
        for i = 0, 1 do s:publish({ ("x%d shut"):format(i), "y" .. i }, { partition = i, key = "k" }) end
        local first = joined(s:run())
        s:wait("began", { "x0", "x1" })
        local second = s:run()
        first:wait_for("partitions being given up", JOIN_MS)
        for i = 0, 1 do s:publish({ "c" .. i }, { partition = i, key = "c" }) end
        for second_passed = 1, 7 do -- one a second
            first:mark()
            local line, left = first:wait_for('given up wait for .*partitions=1 .*handlers=1 .*at most="(%d+) ms"', 5000)
            assert.is_true(tonumber(left) <= 63000 - (second_passed - 1) * 900, line)
        end
        -- Nor is anything read of the one that stays: librdkafka stops until it is answered.
        assert.equal(2, s:count "began")
        s:open "shut"
        joined(second)
        s:wait("ended", { "x0", "x1", "y0", "y1", "c0", "c1" })
        for i = 0, 1 do assert.is_true(at(s, "ended", "x" .. i) < at(s, "began", "y" .. i), s:account()) end
        assert.are_not.equal(handler_of(s, "y0"), handler_of(s, "y1"))
        for _, count in pairs(beginnings(s)) do assert.equal(1, count, s:account()) end
        for _, p in ipairs { second, first } do assert.equal(0, (app.drain(p)), p:transcript()) end
    end)

    it("has a warning where Kafka does not wait for so long, in a check and at the start", function()
        local s = steered.new {
            url = kafka.shared().url, fifo = true, partitions = false, topic = 'sequenced = "skip",', holds = { "50ms" },
            kafka = { ["max.poll.interval.ms"] = "30000" },
        }
        local warning = "app.lua:%d+: group " .. s.group_id:gsub("%-", "%%-") .. ": a partition that moves to another process "
            .. 'is waited for 20000 ms, and a handler may take 63000 ms: .*raise kafka%["max.poll.interval.ms"%] to 73000'
        assert.matches("\nWarnings\n.*" .. warning, s.app:command("check", {}).stdout)
        local p = joined(s:run())
        p:wait_for(warning, 0)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)

describe("a member that drains when another joins", function()
    it("finishes what it has in the partitions that are taken away; nothing is repeated", function()
        local s = steered.new { url = kafka.shared().url, partitions = 2 }
        s:declare()
        for i = 0, 1 do s:publish({ "slow" .. i .. " shut", "b" .. i }, { partition = i }) end
        local first = joined(s:run())
        s:wait("ended", { "b0", "b1" })
        s:wait("began", { "slow0", "slow1" })
        first:kill "sigterm"
        first:wait_for("draining", 5000)
        local second = s:run()
        first:wait_for("partitions being given up", JOIN_MS)
        first:wait_for("still draining.*handlers=2", 5000)
        s:open "shut"
        assert.equal(0, (first:wait_exit(10000)), first:transcript())
        joined(second)
        for i = 0, 1 do s:publish({ "c" .. i }, { partition = i }) end
        s:wait("ended", { "c0", "c1" })
        for i = 0, 1 do s:wait_position(i, 3) end
        assert.equal(0, (app.drain(second)), second:transcript())
        for name, count in pairs(beginnings(s)) do assert.equal(1, count, name .. "\n" .. s:account()) end
    end)
end)

describe("a member that drains while the group is being joined", function()
    it("waits for its generation, and commits with it", function()
        local url = kafka.shared().url
        local first = steered.new {
            url = url, partitions = 2, kafka = { ["heartbeat.interval.ms"] = "100", debug = "cgrp" },
        }
        -- Hears of a rebalance late.
        local second = steered.new {
            url = url, partitions = 2, queue = first.queue, kafka = { ["heartbeat.interval.ms"] = "1500" },
        }
        first:declare()
        for i = 0, 1 do first:publish({ "a" .. i .. " shut", "b" .. i }, { partition = i }) end
        local p = joined(first:run { "--log-level", "debug" })
        first:wait("ended", { "b0", "b1" })
        first:open "shut"
        joined(second:run())
        -- A third one makes the first join again. The partition that it keeps has something to commit by then.
        local kept = p:children()[1]
        p:mark()
        second:run()
        p:wait_for("Joining group", JOIN_MS)
        for i = 0, 1 do first:publish({ "c" .. i }, { partition = i }) end
        first:wait("ended", 5)
        assert.equal(kept, handler_of(first, "c0") or handler_of(first, "c1"))
        assert.equal("PreparingRebalance", kafka.shared():group(first.group_id).state)
        assert.equal(0, (app.drain(p)), p:text "stderr":gsub("[^\n]*librdkafka[^\n]*\n", ""))
        for i = 0, 1 do first:wait_position(i, 3) end
    end)

    it("leaves when it has been given partitions and does not know yet where to begin", function()
        local m = mocked.start(nil, function(mock)
            local busy = {}
            for i = 1, 1000 do busy[i] = "COORDINATOR_LOAD_IN_PROGRESS" end
            mock:fail("OffsetFetch", unpack(busy))
            if kafka.is_client_ours() then mock:track() end
        end)
        m.p:wait_for("running", JOIN_MS)
        if kafka.is_client_ours() then
            wait.until_true(function() return m.mock:count_requests "OffsetFetch" >= 5 end, JOIN_MS, "the offset to be asked for")
        end
        assert.equal(0, (app.drain(m.p)), m.p:transcript())
    end)
end)

describe("a member of a group with a max.poll.interval.ms of two seconds", function()
    it("is not evicted for handlers and holds that take much longer, full or idle", function()
        local broker = kafka.shared()
        local properties = { ["session.timeout.ms"] = "2000", ["max.poll.interval.ms"] = "2000" }
        local full = steered.new { url = broker.url, kafka = properties, group = "prefetch = 1" }
        local idle = steered.new { url = broker.url, kafka = properties, holds = { "5s" } }
        full:declare()
        idle:declare()
        full:publish { "long 5s", "next" }
        idle:publish { "held retry" }
        local runs = { [full] = joined(full:run()), [idle] = joined(idle:run()) }
        full:wait("ended", { "next" })
        idle:wait("ended", { "held" }, 2)
        for s, p in pairs(runs) do
            s:wait_position(0, full == s and 2 or 1)
            assert.equal(1, count_lines(p, "partitions assigned"), p:transcript())
            assert.equal(0, count_lines(p, "partitions lost"), p:transcript())
            assert.equal(0, count_lines(p, "being given up"), p:transcript())
            assert.equal("Stable", broker:group(s.group_id).state)
            assert.equal(0, (app.drain(p)), p:transcript())
        end
        assert.equal(2, full:count "began")
        assert.equal(2, idle:count "began")
    end)
end)

describe("on the embedded broker a second member", function()
    it("is refused with the pid of the first, who goes on", function()
        local s = steered.new { url = steered.brokers[1].url }
        local first = joined(s:run())
        local second = s:run()
        assert.equal(69, (second:wait_exit(5000)))
        assert.matches("pid " .. first.pid, second:text "stderr", 1, true)
        assert.matches(s.group_id, second:text "stderr", 1, true)
        s:publish { "a" }
        s:wait("ended", { "a" })
        assert.equal(0, (app.drain(first)), first:transcript())
    end)
end)
