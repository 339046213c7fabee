-- Control is killed around the storing of a poisoned key (runtime/control/abort_point.h), and runs on: what follows the
-- message that poisoned its key is never handled, and is in the DLQ.

local assert = require "luassert"
local app = require "spec.support.app"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

local STEPS = {
    { 4, "its death is decided" },
    { 6, "its dead letter is on the way to the DLQ" },
    { 7, "its slot is closed and nothing is committed" },
    { 8, "the commit was sent" },
    { 9, "its key's poison is on the way" },
}
local WAIT_MS = 30000

local function new(broker)
    local s = steered.new {
        url = broker.url, fifo = true, partitions = false, holds = { "50ms" },
        topic = 'sequenced = "fail_all", shards = 1,', kafka = { ["group.instance.id"] = "member" },
    }
    s:declare()
    return s
end

-- The names of the messages in the DLQ, each once, in the order in which they came there: it has one partition.
local function letters(s)
    local seen, names = {}, {}
    for _, record in ipairs(s:letters()) do
        local name = record.payload:match "^%S+"
        if not seen[name] then table.insert(names, name) end
        seen[name] = true
    end
    return names
end

local function check_letters(s, names)
    wait.until_true(function() return #letters(s) >= #names end, WAIT_MS, "the dead letters")
    assert.same(names, letters(s), s:account())
end

for _, broker in ipairs(steered.brokers) do
    describe("control that dies while a message poisons its key, on " .. broker.name .. ",", function()
        for _, step in ipairs(STEPS) do
            it(("handles nothing that follows it: after step %d, %s"):format(step[1], step[2]), function()
                local s = new(broker)
                s:publish({ "a1", "a2", "a3 reject", "a4", "a5" }, { key = "a" })
                s:publish({ "b1", "b2" }, { key = "b" })
                -- The outcome of a3 is the third of key a.
                local count = step[1] == 4 and "4:3" or step[1] .. ":1"
                local p = s:run { env = { SHOVE_ABORT_AT = count } }
                local _, signal = p:wait_exit(WAIT_MS)
                assert.equal(9, signal, p:transcript())
                p = s:run()
                s:wait("ended", { "a1", "a2", "a3", "b1", "b2" })
                check_letters(s, { "a3", "a4", "a5" })
                assert.equal(0, s:count("began", "a4") + s:count("began", "a5"), s:account())
                assert.equal(0, (app.drain(p)), p:transcript())
                s:publish({ "a6" }, { key = "a" })
                s:publish({ "b3" }, { key = "b" })
                p = s:run()
                s:wait("ended", { "b3" })
                check_letters(s, { "a3", "a4", "a5", "a6" })
                assert.equal(0, s:count("began", "a6"), s:account())
                assert.equal(0, (app.drain(p)), p:transcript())
            end)
        end
    end)
end

describe("a partition whose keys are poisoned", function()
    it("is handled by its next owner as by the one before", function()
        local s = steered.new {
            url = steered.brokers[2].url, fifo = true, partitions = false, holds = { "50ms" },
            topic = 'sequenced = "fail_all", shards = 2,',
        }
        s:declare()
        local first = s:run()
        first:wait_for("partitions assigned.* partitions=2", WAIT_MS)
        for partition = 0, 1 do
            s:publish({ ("a%d reject"):format(partition) }, { key = "key " .. partition, partition = partition })
        end
        s:wait("ended", { "a0", "a1" })
        first:wait_for("the key is poisoned: .*partition=0", WAIT_MS)
        first:wait_for("the key is poisoned: .*partition=1", WAIT_MS)
        local second = s:run()
        second:wait_for("partitions assigned.* partitions=1", WAIT_MS)
        for partition = 0, 1 do
            s:publish({ "b" .. partition }, { key = "key " .. partition, partition = partition })
            s:publish({ "c" .. partition }, { key = "other", partition = partition })
        end
        s:wait("ended", { "c0", "c1" })
        assert.equal(0, (app.drain(first)), first:transcript())
        for partition = 0, 1 do
            s:publish({ "d" .. partition }, { key = "key " .. partition, partition = partition })
            s:publish({ "e" .. partition }, { key = "other", partition = partition })
        end
        s:wait("ended", { "e0", "e1" })
        for _, name in ipairs { "b0", "b1", "d0", "d1" } do assert.equal(0, s:count("began", name), s:account()) end
        assert.equal(0, (app.drain(second)), second:transcript())
    end)
end)
