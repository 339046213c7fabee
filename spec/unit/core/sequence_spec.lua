-- The sequence by example; sequence_walk.c, run at the end, looks for what nobody thought of.
local ffi = require "ffi"
local walk = require "spec.support.walk"
local C = require("spec.support.c").include "core/sequence.h"

local VERDICTS = { [0] = "turn", "waits", "full", "no memory" }

local Sequence = {}
Sequence.__index = Sequence

local function new_sequence()
    return setmetatable({ c = ffi.gc(ffi.new "struct shove_sequence", C.shove_sequence_release), entries = {} }, Sequence)
end

function Sequence:enter(name, key, partition, waiting_max)
    self.entries[name] = ffi.new "struct shove_sequence_entry"
    return VERDICTS[tonumber(C.shove_sequence_enter(self.c, self.entries[name], partition or 0, key, #key,
        waiting_max or 1000))]
end

-- The name of the message whose turn it is now.
function Sequence:leave(name)
    local turn = C.shove_sequence_leave(self.c, self.entries[name])
    self.entries[name] = nil
    for other, entry in pairs(self.entries) do
        if turn == ffi.cast("struct shove_sequence_entry *", entry) then return other end
    end
    assert.is_true(turn == nil)
    return nil
end

describe("a sequence", function()
    it("gives the turn to the first of a key, and then to each in the order in which they entered", function()
        local s = new_sequence()
        assert.are.same({ "turn", "waits", "waits" }, { s:enter("a", "k"), s:enter("b", "k"), s:enter("c", "k") })
        assert.are.equal("b", s:leave "a")
        assert.are.equal("c", s:leave "b")
        assert.is_nil(s:leave "c")
    end)

    it("lets other keys go on", function()
        local s = new_sequence()
        assert.are.same({ "turn", "turn" }, { s:enter("a", "k"), s:enter("b", "l") })
    end)

    it("takes keys for the same only when all their bytes are", function()
        local s = new_sequence()
        for i, key in ipairs { "", "\0", "\0\0", "a\0b", "a\0c", "\xff\xfe", "\xff\xfd", ("x"):rep(1000), ("x"):rep(1001) } do
            assert.are.equal("turn", s:enter(i, key))
        end
        assert.are.equal("waits", s:enter("again", "a\0b"))
    end)

    it("takes the same key in two partitions for two", function()
        local s = new_sequence()
        assert.are.same({ "turn", "turn" }, { s:enter("a", "k", 0), s:enter("b", "k", 1) })
    end)

    it("refuses one that has waiting_max waiting before it, until one leaves", function()
        local s = new_sequence()
        assert.are.same({ "turn", "waits", "full" },
            { s:enter("a", "k", 0, 1), s:enter("b", "k", 0, 1), s:enter("c", "k", 0, 1) })
        assert.are.equal("b", s:leave "a")
        assert.are.equal("waits", s:enter("c", "k", 0, 1))
    end)

    it("counts once that a key is full, until half of its messages have left", function()
        local s = new_sequence()
        local function full_count() return tonumber(s.c.full_count) end
        for _, name in ipairs { "a", "b", "c", "d" } do s:enter(name, "k", 0, 3) end
        assert.are.equal(0, full_count())
        assert.are.equal("full", s:enter("e", "k", 0, 3))
        s:leave "a"
        s:enter("e", "k", 0, 3)
        assert.are.equal("full", s:enter("g", "k", 0, 3))
        assert.are.equal(1, full_count())
        s:leave "b"
        s:leave "c"
        for _, name in ipairs { "g", "h" } do s:enter(name, "k", 0, 3) end
        assert.are.equal("full", s:enter("i", "k", 0, 3))
        assert.are.equal(2, full_count())
    end)

    it("gives the turn to nobody when one leaves that has not had it", function()
        local s = new_sequence()
        s:enter("a", "k")
        s:enter("b", "k")
        s:enter("c", "k")
        assert.is_nil(s:leave "b")
        assert.are.equal("c", s:leave "a")
    end)

    it("keeps nothing of a key whose messages have left", function()
        local s = new_sequence()
        for i = 1, 1000 do
            s:enter("a", "key " .. i)
            s:leave "a"
        end
        assert.are.equal(0, tonumber(s.c.key_count))
        assert.is_true(s.c.keys == nil)
    end)
end)

describe("a random walk of the sequence beside a naive model", function()
    local STEPS = "1000000"
    walk.specs("sequence_walk", { steps = STEPS, seeds = { "1", "20260131" } }, function(result)
        assert.are.equal(STEPS, result.stdout:match "(%d+) steps")
        assert.is_true(tonumber(result.stdout:match "(%d+) refused") > 1000, result.stdout)
    end)
end)

-- The sequence, the ledger, poison and outcomes together, as control puts them together.
describe("a random walk of a sequenced topic beside a naive reference", function()
    local STEPS = "3000000"
    walk.specs("order_walk", { steps = STEPS, seeds = { "1", "20260131" } }, function(result)
        assert.is_true(tonumber(result.stdout:match "(%d+) steps") >= tonumber(STEPS))
        assert.is_true(tonumber(result.stdout:match "(%d+) claims killed") > 100, result.stdout)
        assert.is_true(tonumber(result.stdout:match "(%d+) letters went ahead") > 5000, result.stdout)
        assert.is_true(tonumber(result.stdout:match "(%d+) failures ahead") > 100, result.stdout)
        assert.is_true(tonumber(result.stdout:match "(%d+) letters passed a failure") > 100, result.stdout)
        assert.is_true(tonumber(result.stdout:match "(%d+) turns behind letters after a clearance") > 5, result.stdout)
    end)
end)
