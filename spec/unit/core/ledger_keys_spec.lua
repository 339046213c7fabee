-- The ledger of a sequenced topic: what waits behind a message of its key is not listed, and is not forgotten.
local ffi = require "ffi"
local C, constants = require("spec.support.c").include "core/ledger.h"

local METADATA_MAX = constants.SHOVE_LEDGER_METADATA_MAX

local Ledger = {}
Ledger.__index = Ledger

local function new_ledger(start_offset)
    local self = setmetatable({ entries = {}, keys = {} }, Ledger)
    self.c = ffi.gc(ffi.new "struct shove_ledger", C.shove_ledger_release)
    C.shove_ledger_init(self.c, start_offset or 0)
    return self
end

-- One record after the other, each the name of its key; "-" is one without. Those whose key is open wait. Gives "o" for
-- each that is open, and "f" for each that was finished before.
function Ledger:deliver(offset, keys)
    local verdicts = {}
    for key in keys:gmatch "%S+" do
        local entry = ffi.new "struct shove_ledger_entry"
        local hash = 0
        if key ~= "-" and self.c.keys ~= nil then hash = C.shove_ledger_hash(key, #key) end
        local verdict = C.shove_ledger_deliver(self.c, entry, offset, hash)
        assert.are_not.equal(C.SHOVE_LEDGER_REWOUND, verdict)
        table.insert(verdicts, verdict == C.SHOVE_LEDGER_OPENED and "o" or "f")
        if verdict == C.SHOVE_LEDGER_OPENED then
            self.entries[offset] = entry
            local queue = self.keys[key] or { first = 1, last = 0 }
            entry.is_implied = key ~= "-" and queue.last >= queue.first
            queue.last = queue.last + 1
            queue[queue.last] = offset
            self.keys[key] = queue
        end
        offset = offset + 1
    end
    return table.concat(verdicts)
end

-- The first open message of each of these keys is settled, and the next one has its turn.
function Ledger:settle(keys)
    for key in keys:gmatch "%S+" do
        local queue = self.keys[key]
        C.shove_ledger_close(self.c, self.entries[queue[queue.first]])
        queue.first = queue.first + 1
        local turn = queue[queue.first]
        if turn then self.entries[turn].is_implied = false end
    end
end

function Ledger:metadata(max_chars)
    max_chars = max_chars or METADATA_MAX
    local out, coverage = ffi.new("char[?]", max_chars + 1), ffi.new "struct shove_ledger_coverage"
    C.shove_ledger_metadata(self.c, out, max_chars, coverage)
    return ffi.string(out), coverage
end

function Ledger:frontier()
    return tonumber(C.shove_ledger_frontier(self.c))
end

function Ledger:restart(max_chars)
    local next_ledger, err = new_ledger(self:frontier()), ffi.new "struct shove_error"
    local text = self:metadata(max_chars)
    assert.are.equal(0, C.shove_ledger_restore(next_ledger.c, text, #text, err), ffi.string(err.text))
    assert.are.equal(text, (next_ledger:metadata(max_chars)))
    return next_ledger
end

describe("The ledger of a sequenced topic", function()
    it("lists one message of each key, however many wait behind it", function()
        local ledger = new_ledger()
        ledger:deliver(0, ("a b c "):rep(4000))
        ledger:settle(("c "):rep(4000))
        local text, coverage = ledger:metadata()
        assert.is_true(#text < 40)
        assert.is_true(coverage.speaks_to == 12000 and coverage.listed == 8000 and coverage.may_repeat == 0)
        assert.are.equal(("oof"):rep(4000), ledger:restart():deliver(0, ("a b c "):rep(4000)))
    end)

    it("knows after a restart what waited, even when the message before it was settled meanwhile", function()
        local ledger = new_ledger()
        ledger:deliver(0, "a b a b a b")
        ledger:settle "b b b"
        ledger = ledger:restart()
        assert.are.equal("o", ledger:deliver(0, "a"))
        ledger:settle "a"
        assert.are.equal("fofof", ledger:deliver(1, "b a b a b"))
    end)

    it("stays where it is until all that was restored has been read again, so a second restart forgets nothing", function()
        local ledger = new_ledger()
        ledger:deliver(0, "x a b a b a b")
        ledger:settle "x b b b"
        ledger = ledger:restart()
        assert.are.equal(1, ledger:frontier())
        ledger:deliver(1, "a b")
        ledger:settle "a"
        assert.are.equal(1, ledger:frontier())
        ledger = ledger:restart()
        assert.are.equal("ffo", ledger:deliver(1, "a b a"))
        ledger:settle "a"
        ledger = ledger:restart()
        assert.are.equal("ffffof", ledger:deliver(1, "a b a b a b"))
    end)

    it("goes on as any other once that was read", function()
        local ledger = new_ledger()
        ledger:deliver(0, "a b a b")
        ledger:settle "b b"
        ledger = ledger:restart()
        assert.are.equal("ofof", ledger:deliver(0, "a b a b"))
        assert.is_true(ledger.c.keys == nil)
        assert.are.equal(0, ledger:frontier())
        ledger:settle "a"
        assert.are.equal(2, ledger:frontier())
        ledger:settle "a"
        assert.are.equal("oo", ledger:deliver(4, "a b"))
        assert.are.equal(4, ledger:frontier())
    end)

    it("lists every message without a key", function()
        local ledger = new_ledger()
        ledger:deliver(0, "a - - a -")
        ledger:settle "-"
        assert.are.equal("ofooo", ledger:restart():deliver(0, "a - - a -"))
    end)

    it("lists what waits behind a message of another assignment", function()
        local ledger = new_ledger()
        ledger:deliver(0, "a a b")
        ledger:settle "b"
        ledger.entries[0].is_implied = false
        ledger:settle "a"
        assert.are.equal("of", ledger:restart():deliver(1, "a b"))
    end)

    it("repeats what was cut, and loses none of it", function()
        local ledger, keys = new_ledger(), {}
        for i = 1, 3000 do keys[i] = "k" .. i end
        ledger:deliver(0, table.concat(keys, " "))
        for i = 1, 3000, 2 do ledger:settle("k" .. i) end
        ledger:deliver(3000, table.concat(keys, " "))
        local _, coverage = ledger:metadata(400)
        assert.is_true(coverage.speaks_to < 3000 and coverage.unlisted > 4000)
        local verdicts = ledger:restart(400):deliver(1, table.concat(keys, " ", 2) .. " " .. table.concat(keys, " "))
        local speaks_to = tonumber(coverage.speaks_to)
        for offset = 1, 5999 do
            local is_open = offset >= speaks_to or offset % 2 == 1
            assert.are.equal(is_open and "o" or "f", verdicts:sub(offset, offset), offset)
        end
    end)

    it("keeps until when messages wait, to the second and never early", function()
        local ledger = new_ledger()
        ledger:deliver(0, "a b c d a")
        local due = { [0] = 1795946063001, [1] = 1795946062000, [2] = 1795949663999 }
        for offset, ms in pairs(due) do
            ledger.entries[offset].due_ms, ledger.entries[offset].attempts = ms, offset * 100
        end
        local again = ledger:restart()
        again:deliver(0, "a b c d a")
        for offset, ms in pairs(due) do
            assert.are.equal(math.ceil(ms / 1000) * 1000, tonumber(again.entries[offset].due_ms))
            assert.are.equal(offset * 100 % 256, again.entries[offset].attempts)
        end
        assert.is_true(again.entries[3].due_ms == 0 and again.entries[4].due_ms == 0)
    end)

    it("names five hundred and more waiting retries in what Kafka takes", function()
        local ledger, keys = new_ledger(), {}
        for i = 1, 30000 do keys[i] = "k" .. i end
        ledger:deliver(0, table.concat(keys, " "))
        for i = 1, 30000 do
            if i % 50 ~= 1 then ledger:settle("k" .. i) end
        end
        for offset = 0, 29999, 50 do
            local entry = ledger.entries[offset]
            entry.attempts, entry.due_ms = 2, 1795946063001 + offset * 7
        end
        local _, coverage = ledger:metadata()
        assert.is_true(coverage.listed > 550, tostring(coverage.listed))
    end)

    it("takes two keys of one hash for one, which repeats and loses nothing", function()
        assert.is_true(C.shove_ledger_hash("", 0) ~= 0 and C.shove_ledger_hash("a", 1) ~= C.shove_ledger_hash("b", 1))
        local ledger = new_ledger()
        ledger:deliver(0, "a b b a")
        ledger:settle "b b"
        local again = ledger:restart()
        local entry = ffi.new "struct shove_ledger_entry"
        C.shove_ledger_deliver(again.c, entry, 0, 7)
        assert.are.equal(C.SHOVE_LEDGER_OPENED, C.shove_ledger_deliver(again.c, ffi.new "struct shove_ledger_entry", 1, 7))
    end)
end)
