-- What comes back to a key: dead letters that are replayed, and a poisoned key that is cleared.

local cjson = require "cjson"
local assert = require "luassert"
local app = require "spec.support.app"
local sequenced = require "spec.support.sequenced"
local steered = require "spec.support.steered"

local MIB = 1024 * 1024
local WAIT_MS = 20000

-- The course of messages 1 to `last`, and then of those in the list.
local function again(key, last, list)
    local words = { sequenced.straight(key, last) }
    for _, n in ipairs(list) do table.insert(words, ("%s%d %s%d."):format(key, n, key, n)) end
    return table.concat(words, " ")
end

-- What was broken is no more, and everything has another chance; between two runs, because one may take a while to notice.
local function mend(s, p)
    assert.equal(0, (app.drain(p)), p:transcript())
    s:open "mended"
    sequenced.command(s, "poison clear", s.queue)
    p = s:run()
    p:wait_for("partitions assigned", WAIT_MS)
    sequenced.command(s, "dlq replay", s.queue)
    return p
end

for _, broker in ipairs(steered.brokers) do
    describe("a replay, on " .. broker.name .. ",", function()
        it("to a key that was poisoned and is cleared has 3 4 5 handled, in that order, once 3 is mended", function()
            local s = sequenced.new(broker, { policy = "fail_all" })
            s:publish({ "a1", "a2", "a3 broken", "a4", "a5" }, { key = "a" })
            local p = s:run()
            s:wait_letters(3)
            assert.equal(sequenced.straight("a", 3), s:course "a")
            p = mend(s, p)
            s:wait("ended", { "a4", "a5" })
            s:publish({ "a6" }, { key = "a" })
            s:wait("ended", { "a6" })
            assert.equal(again("a", 3, { 3, 4, 5, 6 }), s:course "a")
            assert.equal(3, #s:letters())
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("to several keys, all mixed, keeps the order of each; one that is rejected again ends it for its key", function()
            local s = sequenced.new(broker, { policy = "fail_all", shards = 2 })
            for round = 0, 2 do
                for i, key in ipairs { "a", "b", "c", "d" } do
                    local texts = {}
                    for n = 4 * round + 1, 4 * round + 4 do table.insert(texts, key .. n .. (n == 3 and " broken" or "")) end
                    if key == "d" and round == 1 then texts[2] = "d6 reject" end
                    s:publish(texts, { key = key, partition = i % 2 })
                end
            end
            local p = s:run()
            s:wait_letters(4 * 10)
            p = mend(s, p)
            s:wait("ended", { "a12", "b12", "c12", "d6" })
            s:wait_letters(4 * 10 + 7)
            for _, key in ipairs { "a", "b", "c" } do
                assert.equal(again(key, 3, { 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }), s:course(key))
            end
            assert.equal(again("d", 3, { 3, 4, 5, 6 }), s:course "d")
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("of dead letters that the key has passed keeps their order, and a retry of one of them holds it up", function()
            local s = sequenced.new(broker, { extra = [[
                verbs.mended = function(msg) return verbs.broken() or verbs.retry(msg) end
            ]] })
            s:publish({ "a1", "a2 mended", "a3", "a4 broken", "a5 broken", "a6" }, { key = "a" })
            s:publish({ "b1 broken", "b2", "b3 broken" }, { key = "b" })
            local p = s:run()
            s:wait("ended", { "a6", "b3" })
            s:wait_letters(5)
            assert.equal(sequenced.straight("a", 6), s:course "a")
            assert.equal(sequenced.straight("b", 3), s:course "b")
            s:open "mended"
            sequenced.command(s, "dlq replay", s.queue)
            s:wait("ended", { "a5", "b3" }, 2)
            assert.equal(again("a", 6, { 2 }) .. " a2:1 a2:1. a4 a4. a5 a5.", s:course "a")
            assert.equal(again("b", 3, { 1, 3 }), s:course "b")
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("while nobody consumes has its letters come behind what waits in the queue", function()
            local s = sequenced.new(broker, {})
            s:publish({ "a1 broken", "a2 broken" }, { key = "a" })
            local p = s:run()
            s:wait_letters(2)
            assert.equal(0, (app.drain(p)), p:transcript())
            s:publish({ "a3 retry", "a4" }, { key = "a" })
            s:open "mended"
            sequenced.command(s, "dlq replay", s.queue)
            p = s:run()
            s:wait("ended", { "a2" }, 2)
            assert.equal("a1 a1. a2 a2. a3 a3. a3:1 a3:1. a4 a4. a1 a1. a2 a2.", s:course "a")
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end

it("a key of 1 MiB is poisoned on kafka as any other: over a restart, in the list, until it is cleared", function()
    local s = sequenced.new(steered.brokers[2], { policy = "fail_all" })
    local key = ("k"):rep(MIB)
    local other = ("k"):rep(MIB - 1) .. "l"
    sequenced.write(s, { "a1 reject", "a2" }, key)
    sequenced.write(s, { "b1" }, other)
    local p = s:run()
    s:wait("ended", { "b1" })
    s:wait_letters(2)
    assert.equal(0, (app.drain(p)), p:transcript())
    sequenced.write(s, { "a3" }, key)
    sequenced.write(s, { "b2" }, other)
    p = s:run()
    s:wait("ended", { "b2" })
    s:wait_letters(3)
    assert.equal("a1 rejected, a2 sequence_poisoned, a3 sequence_poisoned", sequenced.letters(s))
    assert.equal(0, (app.drain(p)), p:transcript())
    local found = cjson.decode(sequenced.command(s, "poison list", s.queue, "--json"))
    assert.is_true(found.key == key)
    assert.same({ 0, 0, "rejected" }, { found.partition, found.offset, found.reason })
    sequenced.command(s, "poison clear", s.queue)
    assert.equal("", sequenced.command(s, "poison list", s.queue, "--json"))
    sequenced.write(s, { "a4", "a5" }, key)
    p = s:run()
    s:wait("ended", { "a5" })
    assert.equal("a1 a1. a4 a4. a5 a5.", s:course "a")
    assert.equal(0, (app.drain(p)), p:transcript())
end)
