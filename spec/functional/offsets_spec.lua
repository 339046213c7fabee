-- What is committed, and what follows from it for the next run.

local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

-- Everything handled exactly once so far, in whatever order.
local function numbered(from, to)
    local names = {}
    for i = from, to do table.insert(names, ("m%03d"):format(i)) end
    return names
end

for _, broker in ipairs(steered.brokers) do
    describe("offsets on " .. broker.name, function()
        it("are held back by an unfinished lower one, and a restart handles that one alone", function()
            -- A static member's place is its own again at once after a SIGKILL.
            local s = steered.new { url = broker.url, kafka = { ["group.instance.id"] = "only" } }
            s:declare()
            s:publish { "a", "b", "slow shut", "c", "d retry", "e reject", "f" }
            -- Without holds a retry waits where it is, so it is unfinished too until its second attempt.
            local p = s:run()
            s:wait("ended", { "a", "b", "c", "e", "f" })
            s:wait("ended", { "d" }, 2)
            local position = s:wait_position(0, 2, 4)
            assert.same({ 3, 4, 5, 6 }, position.finished)
            p:kill "sigkill"
            p:wait_exit(5000)
            local lines = #s:lines()
            p = s:run()
            s:wait("began", { "slow" }, 2)
            s:publish { "g" }
            s:wait("ended", { "g" })
            s:open "shut"
            s:wait("ended", { "slow" })
            assert.equal("", s:wait_position(0, 8).metadata)
            assert.same({ "g", "slow" }, s:names("ended", lines + 1))
            assert.equal(0, (app.drain(p)))
        end)

        it("never go back, and are highest + 1 when nothing is in flight", function()
            local s = steered.new { url = broker.url }
            s:declare()
            -- Handled from the last to the first: every completion but the last lies beyond the frontier.
            s:publish { "m1 g1", "m2 g2", "m3 g3", "m4 g4" }
            local p = s:run()
            s:wait("began", { "m1", "m2", "m3", "m4" })
            for i = 4, 2, -1 do
                s:open("g" .. i)
                s:wait_position(0, 0, 5 - i)
            end
            s:open "g1"
            s:wait_position(0, 4)
            assert.equal(0, (app.drain(p)))
            s:wait_position(0, 4)
        end)

        it("of a partition without messages are committed too, so that what comes meanwhile is not missed", function()
            local s = steered.new { url = broker.url, partitions = 3, group = 'auto_offset_reset = "latest"' }
            s:declare()
            for partition = 0, 2 do assert.equal(0, s:position(partition).offset) end
            s:publish({ "meanwhile" }, { partition = 2 })
            local p = s:run()
            s:wait("ended", { "meanwhile" })
            s:wait_position(2, 1)
            assert.equal(0, (app.drain(p)))
        end)

        it("of every partition are committed before a drain is over", function()
            local s = steered.new { url = broker.url, partitions = 6, group = "prefetch = 100, concurrent = true" }
            s:declare()
            for partition = 0, 5 do
                local texts = {}
                for _, name in ipairs(numbered(1, 10)) do table.insert(texts, name .. " shut") end
                s:publish(texts, { partition = partition })
            end
            local p = s:run()
            s:wait("began", 60)
            p:kill "sigterm"
            p:wait_for("draining", 5000)
            s:open "shut" -- all is finished within much less than the half second between commits
            assert.equal(0, (p:wait_exit(10000)))
            for partition = 0, 5 do
                local position = s:position(partition)
                assert.same({ 10, "" }, { position.offset, position.metadata })
            end
            assert.equal(60, s:count "began")
        end)
    end)
end

describe("a hole in offsets", function()
    local broker = kafka.shared()

    local function values(count, prefix)
        local records = {}
        for i = 1, count do records[i] = { value = prefix .. i, partition = 0 } end
        return records
    end

    it("left by transactions blocks nothing", function()
        local s = steered.new { url = broker.url }
        s:declare()
        broker:produce(s.queue, values(2, "before"))    -- 0, 1
        local aborted, committed = values(3, "aborted"), values(2, "committed")
        aborted.verdict, committed.verdict = "abort", "commit"
        broker:transactions(s.queue, { aborted, committed })    -- 2 to 4, marker 5, 6, 7, marker 8
        s:publish { "slow shut", "after" }                                -- 9, 10
        local p = s:run()
        s:wait("ended", { "before1", "before2", "committed1", "committed2", "after" })
        s:wait_position(0, 9, 1)
        s:open "shut"
        s:wait_position(0, 11)
        assert.equal(0, (app.drain(p)))
        assert.same({ "after", "before1", "before2", "committed1", "committed2", "slow" }, s:names "began")
    end)

    it("left by compaction blocks nothing, before and after a restart", function()
        local s = steered.new {
            url = broker.url, partitions = false, topic = "external = true,", kafka = { ["group.instance.id"] = "only" },
        }
        broker:create_topic(s.queue, { config = {
            ["cleanup.policy"] = "compact", ["segment.ms"] = "50", ["min.cleanable.dirty.ratio"] = "0.001",
            ["delete.retention.ms"] = "1",
        } })
        local records = {}
        for i = 1, 30 do records[i] = { key = "k" .. i % 3, value = "m" .. i, partition = 0 } end
        broker:produce(s.queue, records)
        -- What a segment that is still written to holds is not compacted; each record here begins a new one.
        local serial = 0
        wait.until_true(function()
            serial = serial + 1
            broker:produce(s.queue, { { key = "roll", value = "roll" .. serial, partition = 0 } })
            return broker:read(s.queue)[1].offset >= 27
        end, 30000, "the topic to be compacted")
        broker:produce(s.queue, {
            { key = "slow", value = "slow shut", partition = 0 }, { key = "last", value = "last", partition = 0 },
        })
        local high = broker:watermarks(s.queue)[0].high
        local p = s:run()
        s:wait("ended", { "m28", "m29", "m30", "last" })
        s:wait_position(0, high - 2, 1)
        assert.equal(0, s:count("began", "m1"))
        p:kill "sigkill"
        p:wait_exit(5000)
        local lines = #s:lines()
        s:open "shut"
        p = s:run()
        s:wait_position(0, high)
        assert.equal(0, (app.drain(p)))
        assert.same({ "slow" }, s:names("began", lines + 1))
    end)
end)

it("what a commit says of offsets beyond the end of the log is forgotten: other records may come there, on kafka", function()
    local broker = kafka.shared()
    local before, s = steered.new { url = broker.url }, steered.new { url = broker.url }
    before:declare()
    before:publish { "slow shut", "a", "b", "c" }
    local p = before:run()
    before:wait("ended", { "a", "b", "c" })
    local metadata = before:wait_position(0, 0, 3).metadata
    before:open "shut"
    assert.equal(0, (app.drain(p)), p:transcript())
    -- As when the topic was cut or made anew, with fewer records.
    s:declare()
    s:publish { "d" }
    broker:commit(s.group_id, s.queue, 0, 0, metadata)
    p = s:run()
    s:wait("ended", { "d" })
    s:publish { "e", "f" }
    s:wait("ended", { "e", "f" })
    s:wait_position(0, 3)
    assert.equal(0, (app.drain(p)), p:transcript())
end)
