-- Consumers that come and go with the backlog. How many a group has is seen from how many of its handlers run at once:
-- each takes one message here, and waits at a gate.

local assert = require "luassert"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"

local QUICK = [[app:autoscale { poll = "100ms", hysteresis = "200ms", cooldown = "300ms" }]]
local WAIT_MS = 20000
local embedded = steered.brokers[1]

local function gated(count, words)
    local texts = {}
    for i = 1, count do texts[i] = ("m%02d gate%s"):format(i, words or "") end
    return texts
end

local function plain(words)
    return (words:gsub("%p", "%%%0"))
end

local function count(text, words)
    local _, times = text:gsub(plain(words), "")
    return times
end

-- Lines about consumers, of one group or all: "1 2" for one that was added to one.
local function changes(p, group)
    local list = {}
    for line, before, after in p:text "stderr":gmatch "(consumers were [^\n]-)before=(%d+) +consumers=(%d+)" do
        if not group or line:find(group, 1, true) then table.insert(list, before .. " " .. after) end
    end
    return list
end

for _, broker in ipairs(steered.brokers) do
    describe("A group whose consumers may be 1 to 4, on " .. broker.name, function()
        it("gets more while more is ready than twice what they take, up to 4, and is back at 1 when all is done", function()
            local s = steered.new { url = broker.url, partitions = 4, group = "consumers = { min = 1, max = 4 }", extra = QUICK }
            s:declare()
            s:publish(gated(12))
            local p = s:run()
            s:wait("began", 1)
            p:wait_for("before=3 +consumers=4", WAIT_MS)
            s:wait("began", 4)
            assert.same({ "1 2", "2 3", "3 4" }, changes(p))
            s:open "gate"
            s:wait("ended", 12)
            p:wait_for("before=2 +consumers=1", WAIT_MS)
            assert.same({ "1 2", "2 3", "3 4", "4 3", "3 2", "2 1" }, changes(p))
            assert.equal(0, (app.drain(p)), p:transcript())
            assert.equal(12, s:count "began")
            assert.equal(1, count(p:text "stderr", "partitions assigned"), "a rebalance: " .. p:transcript())
        end)

        it("keeps those that are busy", function()
            local s = steered.new { url = broker.url, partitions = 4, group = "consumers = { min = 0, max = 2 }", extra = QUICK }
            s:declare()
            s:publish { "a gate", "b gate", "c 1s" }
            local p = s:run()
            s:wait("began", { "a", "b" }) -- from none
            s:open "gate"
            s:wait("ended", { "c" })
            assert.same({ "0 1", "1 2" }, { unpack(changes(p), 1, 2) })
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("is not given more for retries that are not due yet", function()
            local s = steered.new {
                url = broker.url, partitions = 4, group = "consumers = { min = 1, max = 3 }", holds = { "60s" }, extra = QUICK,
            }
            s:declare()
            s:publish(gated(8, " retry"))
            local p = s:run()
            p:wait_for("before=2 +consumers=3", WAIT_MS)
            s:open "gate"
            p:wait_for("before=2 +consumers=1", WAIT_MS)
            assert.same({ "1 2", "2 3", "3 2", "2 1" }, changes(p))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end

describe("A group of whose partitions it is not known yet what is in them", function()
    -- The first answer about a partition that is empty comes when Kafka has waited for records in vain.
    local PATIENT = { ["fetch.wait.max.ms"] = "120000", ["socket.timeout.ms"] = "180000" }
    local OTHER = [[
        local there = "embedded:" .. dir .. "/other.db"
        local other = app:topic(queue_name .. "-other", { broker = there, partitions = 4, codec = "raw" })
        app:register(other, shove.group { consumers = { min = 1, max = 4 }, group_id = queue_name .. "-own" }, handle)
    ]]

    it("keeps its consumers, and the others get and lose theirs, under a group_id of their own, too", function()
        local s = steered.new {
            url = kafka.shared().url, kafka = PATIENT, partitions = 4, group = "consumers = { min = 1, max = 4 }",
            extra = QUICK .. OTHER,
        }
        s:declare()
        local p = s:run()
        p:wait_for("partitions assigned.*" .. plain(s.group_id), WAIT_MS)
        assert.equal(0, s.app:command("scale", { s.group_id, "4" }).code)
        local line = { s.queue .. "-other", "--raw", stdin = { text = table.concat(gated(12), "\n") .. "\n" } }
        assert.equal(0, s.app:command("publish", line).code)
        local own = plain(s.queue .. "-own")
        p:wait_for("group=" .. own .. " .*before=3 +consumers=4", WAIT_MS)
        s:open "gate"
        p:wait_for("group=" .. own .. " .*before=2 +consumers=1", WAIT_MS)
        assert.same({ "1 4" }, changes(p, s.group_id))
        -- Tells what is in each: a request that asked for some of them alone does not end with a record of another.
        for partition = 0, 3 do s:publish({ "a" }, { partition = partition }) end
        p:wait_for("group=" .. plain(s.group_id) .. " .*before=2 +consumers=1", WAIT_MS)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)

-- What is seen of no change is that another group, looked at after the first and ready for less long, changes.
describe("Of a group next to another that gets its first consumer,", function()
    local function start(options)
        options.url, options.partitions = embedded.url, 4
        options.extra = options.extra .. [[
            local other = app:topic(queue_name .. "-other", { partitions = 1, codec = "raw" })
            app:register(other, shove.group { consumers = { min = 0, max = 1 } }, handle)
        ]]
        local s = steered.new(options)
        s.p = s:run()
        s.p:wait_for("partitions assigned.*" .. plain(s.queue .. "-other"), WAIT_MS)
        return s
    end

    local function let_other_change(s)
        assert.equal(0, s.app:command("publish", { s.queue .. "-other", "--raw", stdin = { text = "o end\n" } }).code)
        s.p:wait_for("group=" .. plain(s.queue .. "-other-consumer") .. " .*before=0 +consumers=1", WAIT_MS)
    end

    it("a consumer that is busy is left, though less is ready than half of what it takes", function()
        local s = start { group = "consumers = { min = 0, max = 2 }, prefetch = 10, concurrent = true",
            extra = [[app:autoscale { poll = "100ms", hysteresis = "200ms", cooldown = "100ms" }]] }
        s:publish { "a gate" }
        s:wait("began", { "a" })
        let_other_change(s)
        assert.same({ "0 1" }, changes(s.p, s.group_id))
        s:open "gate"
        s.p:wait_for("group=" .. plain(s.group_id) .. " .*before=1 +consumers=0", WAIT_MS)
        s:open "end"
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("a change that is refused begins no cooldown", function()
        local s = start { group = "consumers = { min = 1, max = 2 }",
            extra = [[app:autoscale { poll = "100ms", hysteresis = "200ms", cooldown = "1h" }]] }
        let_other_change(s) -- the first has nothing to do for longer
        s:publish(gated(12))
        s.p:wait_for("group=" .. plain(s.group_id) .. " .*before=1 +consumers=2", WAIT_MS)
        for _, gate in ipairs { "gate", "end" } do s:open(gate) end
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("consumers that an operator gave it stay for the cooldown, though nothing is ready", function()
        local s = start { group = "consumers = { min = 1, max = 4 }",
            extra = [[app:autoscale { poll = "100ms", hysteresis = "200ms", cooldown = "1h" }]] }
        assert.equal(0, s.app:command("scale", { s.group_id, "3" }).code)
        let_other_change(s)
        assert.same({ "1 3" }, changes(s.p, s.group_id))
        s:open "end"
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("the consumers stay as they are while it is paused", function()
        local s = start { group = "consumers = { min = 1, max = 4 }",
            extra = [[app:autoscale { poll = "100ms", hysteresis = "200ms", cooldown = "100ms" }]] }
        assert.equal(0, s.app:command("pause", { s.group_id }).code)
        s:publish(gated(12))
        let_other_change(s)
        assert.same({}, changes(s.p, s.group_id))
        assert.equal(0, s.app:command("resume", { s.group_id }).code)
        s.p:wait_for("group=" .. plain(s.group_id) .. " .*before=3 +consumers=4", WAIT_MS)
        for _, gate in ipairs { "gate", "end" } do s:open(gate) end
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)
end)

it("A group that may have more consumers since a reload gets them, by the new code's rule", function()
    local s = steered.new { url = embedded.url, partitions = 4, group = "consumers = { min = 1, max = 1 }",
        extra = [[app:autoscale { poll = "1h", hysteresis = "200ms", cooldown = "300ms" }]] }
    s:declare()
    s:publish(gated(12))
    local p = s:run()
    s:wait("began", 1)
    tmp.write(s.app.path, (s.source:gsub('max = 1 }', 'max = 4 }'):gsub('poll = "1h"', 'poll = "100ms"')))
    assert.equal(0, s.app:command("reload").code)
    p:wait_for("before=3 +consumers=4", WAIT_MS)
    assert.same({ "1 2", "2 3", "3 4" }, changes(p))
    s:open "gate"
    assert.equal(0, (app.drain(p)), p:transcript())
end)

-- What is seen of no change is that there was time for several: a line each second says what the drain waits for.
describe("While the app drains, a group", function()
    local function drain_held_up(s, p)
        p:kill "sigterm"
        p:wait_for("draining: nothing new is taken", WAIT_MS)
        p:mark()
        for _ = 1, 2 do
            p:wait_for("still draining", WAIT_MS)
            p:mark()
        end
        s:open "gate"
        assert.equal(0, (p:wait_exit(WAIT_MS)), p:transcript())
        assert.is_nil(p:text("stderr"):match("draining: nothing new is taken.*consumers were "), p:transcript())
    end

    it("is not given more, though more is ready than it takes", function()
        local s = steered.new { url = embedded.url, partitions = 64, group = "consumers = { min = 1, max = 64 }", extra = QUICK }
        s:declare()
        s:publish(gated(300))
        local p = s:run()
        p:wait_for("before=1 +consumers=2", WAIT_MS)
        drain_held_up(s, p)
    end)

    it("is left those that are idle, though less is ready than they take", function()
        local s = steered.new { url = embedded.url, partitions = 64, group = "consumers = { min = 1, max = 64 }", extra = QUICK }
        local p = s:run()
        p:wait_for("partitions assigned", WAIT_MS)
        s:publish { "a gate" }
        s:wait("began", { "a" })
        assert.equal(0, s.app:command("scale", { s.group_id, "64" }).code)
        p:wait_for("before=64 +consumers=63", WAIT_MS)
        drain_held_up(s, p)
    end)
end)
