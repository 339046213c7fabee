-- The order of keys while what handles them changes: another generation of the script, another process.

local assert = require "luassert"
local app = require "spec.support.app"
local sequenced = require "spec.support.sequenced"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

local WAIT_MS = 20000

local function keys_of(count)
    local keys = {}
    for i = 1, count do keys[i] = string.char(("a"):byte() + i - 1) end
    return keys
end

-- The processes that its handlers run in, as a set.
local function workers_of(p)
    local pids = {}
    for _, pid in ipairs(p:children()) do pids[pid] = true end
    return pids
end

-- How many messages were begun in one of those processes, and of which keys.
local function begun_in(s, pids)
    local count, keys = 0, {}
    for _, line in ipairs(s:lines()) do
        if line.verb == "began" and pids[line.pid] then
            count = count + 1
            keys[line.name:match "^%a+"] = true
        end
    end
    return count, keys
end

for _, broker in ipairs(steered.brokers) do
    it("a reload keeps the order of keys: what is in flight, or waits to be retried, comes before the rest, on " .. broker.name,
        function()
            local s = sequenced.new(broker, { holds = { "3s" } })
            s:publish({ "a1 gate", "a2", "a3" }, { key = "a" })
            s:publish({ "b1 retry", "b2" }, { key = "b" })
            s:publish({ "c1 gate retry", "c2" }, { key = "c" })
            local p = s:run { "--workers", "2" }
            s:wait("began", { "a1", "c1" })
            s:wait("ended", { "b1" })
            local old = workers_of(p)
            sequenced.command(s, "reload")
            s:publish({ "d1" }, { key = "d" })
            s:wait("ended", { "d1" })
            assert.equal("a1", s:course "a")
            assert.equal("c1", s:course "c")
            s:open "gate"
            s:wait("ended", { "a3", "b2", "c2" })
            assert.equal(sequenced.straight("a", 3), s:course "a")
            for _, key in ipairs { "b", "c" } do
                assert.equal(("k1 k1. k1:1 k1:1. k2 k2."):gsub("k", key), (s:course(key)))
            end
            local count, keys = begun_in(s, old)
            assert.equal(3, count, s:account())
            assert.same({ a = true, b = true, c = true }, keys)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
end

describe("on kafka,", function()
    it("a retry that waits where its partition goes to another process is handled there, its count kept, and its key behind it",
        function()
            local s = sequenced.new(steered.brokers[2], { shards = 2, holds = { "20ms", "10s" } })
            for partition, key in ipairs { "a", "b" } do
                s:publish({ key .. "1 twice", key .. "2", key .. "3" }, { key = key, partition = partition - 1 })
            end
            local first = s:run()
            s:wait("ended", { "a1", "b1" }, 2)
            local stays = workers_of(first)
            local second = s:run()
            second:wait_for("partitions assigned.* partitions=1", WAIT_MS)
            assert.equal(4, s:count "began", "the retries were due before the partition had moved\n" .. s:account())
            s:wait("ended", { "a3", "b3" })
            for _, key in ipairs { "a", "b" } do
                assert.equal(("k1 k1. k1:1 k1:1. k1:2 k1:2. k2 k2. k3 k3."):gsub("k", key), (s:course(key)))
            end
            assert.equal(4 + 3, (begun_in(s, stays)), s:account())
            assert.equal(0, (app.drain(first)), first:transcript())
            for _, key in ipairs { "a", "b" } do
                s:publish({ key .. "4" }, { key = key, partition = key == "a" and 0 or 1 })
                s:wait("ended", { key .. "4" })
            end
            assert.equal(0, (app.drain(second)), second:transcript())
        end)

    it("no key is handled by two processes at once while one of them leaves, and comes back, and leaves", function()
        local SHARDS, AT_ONCE = 8, 5
        local keys, published = keys_of(24), 0
        local s = sequenced.new(steered.brokers[2], { shards = SHARDS, group = "prefetch = 30" })
        local function publish()
            for i, key in ipairs(keys) do
                local texts = {}
                for n = published + 1, published + AT_ONCE do table.insert(texts, ("%s%d 40ms"):format(key, n)) end
                s:publish(texts, { key = key, partition = i % SHARDS })
            end
            published = published + AT_ONCE
        end
        -- There is always something to do until is_done().
        local function busy_until(is_done)
            local rounds = 0
            repeat
                publish()
                s:wait("ended", #keys * (published - AT_ONCE))
                rounds = rounds + 1
                assert(rounds < 200, "it never came\n" .. s:account())
            until is_done()
        end
        local function has_handled(p, count)
            return function() return begun_in(s, workers_of(p)) >= count end
        end
        local first = s:run()
        busy_until(has_handled(first, 100))
        for _ = 1, 2 do
            local second = s:run { "--workers", "2" }
            busy_until(has_handled(second, 100))
            second:kill "sigterm"
            busy_until(function() return second:has_ended() end)
            assert.equal(0, second.code, second:transcript())
        end
        publish()
        for _, key in ipairs(keys) do s:wait("ended", { key .. published }) end
        assert.equal(0, (app.drain(first)), first:transcript())
        for _, key in ipairs(keys) do sequenced.judge(s, key, published) end
    end)

    it("a message whose partition was lost and came back while it was handled is open for the next process, though it has waited "
        .. "for its turn since", function()
        local s = sequenced.new(steered.brokers[2], { kafka = { ["session.timeout.ms"] = "2000" } })
        s:publish({ "a1 gate", "a2" }, { key = "a" })
        local p = s:run()
        s:wait("began", { "a1" })
        p:mark()
        p:kill "sigstop"
        wait.until_true(function() return #s.broker:group(s.group_id).members == 0 end, WAIT_MS, "the member to be missed")
        p:kill "sigcont"
        p:wait_for("partitions lost without warning", WAIT_MS)
        p:wait_for("partitions assigned", WAIT_MS)
        s:publish({ "b1 gate", "b2" }, { key = "b" })
        s:publish({ "c1" }, { key = "c" })
        s:wait("began", { "b1" })
        s:wait("ended", { "c1" })
        wait.until_true(function()
            local position = s:position(0)
            return position and position.finished[#position.finished] == 4
        end, WAIT_MS, "a commit that says that c1 is finished")
        assert.equal(1, s:count("began", "a1"))
        p:kill "sigkill"
        p:wait_exit(WAIT_MS)
        s:open "gate"
        p = s:run()
        s:wait("ended", { "a2", "b2" })
        assert.equal("a1 a1 a1. a2 a2.", s:course "a")
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)
