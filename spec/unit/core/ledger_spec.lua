-- The ledger by example; ledger_walk.c, run at the end, looks for what nobody thought of.
local ffi = require "ffi"
local walk = require "spec.support.walk"
local C, constants = require("spec.support.c").include "core/ledger.h"

local METADATA_MAX = constants.SHOVE_LEDGER_METADATA_MAX

local Ledger = {}
Ledger.__index = Ledger

local function new_ledger(start_offset)
    local self = setmetatable({ entries = {} }, Ledger)
    self.c = ffi.gc(ffi.new "struct shove_ledger", C.shove_ledger_release)
    C.shove_ledger_init(self.c, start_offset or 0)
    return self
end

local VERDICTS = { [0] = "opened", "finished", "rewound" }

function Ledger:deliver(offset, key_hash)
    local entry = ffi.new "struct shove_ledger_entry"
    local verdict = VERDICTS[tonumber(C.shove_ledger_deliver(self.c, entry, offset, key_hash or 0))]
    if verdict == "opened" then
        assert.is_true(entry.is_open)
        self.entries[offset] = entry
    else
        assert.is_false(entry.is_open)
    end
    return verdict
end

function Ledger:deliver_all(first, last)
    for offset = first, last do assert.are.equal("opened", self:deliver(offset)) end
end

function Ledger:close(...)
    local has_moved
    for _, offset in ipairs { ... } do has_moved = C.shove_ledger_close(self.c, self.entries[offset]) end
    return has_moved
end

function Ledger:frontier()
    return tonumber(C.shove_ledger_frontier(self.c))
end

function Ledger:known_end()
    return tonumber(C.shove_ledger_known_end(self.c))
end

function Ledger:finished_beyond()
    return tonumber(C.shove_ledger_finished_beyond(self.c))
end

-- The text, and the coverage as a table.
function Ledger:metadata(max_chars)
    local out, coverage = ffi.new("char[?]", METADATA_MAX + 1), ffi.new "struct shove_ledger_coverage"
    C.shove_ledger_metadata(self.c, out, max_chars or METADATA_MAX, coverage)
    local text = ffi.string(out)
    assert.is_true(#text <= (max_chars or METADATA_MAX))
    return text, {
        speaks_to = tonumber(coverage.speaks_to), listed = tonumber(coverage.listed),
        unlisted = tonumber(coverage.unlisted), may_repeat = tonumber(coverage.may_repeat),
    }
end

-- 0, or the code and the words.
function Ledger:restore(text)
    local err = ffi.new "struct shove_error"
    local code = C.shove_ledger_restore(self.c, text, text and #text or 0, err)
    return code, ffi.string(err.text)
end

-- What a process finds that starts from the last commit of this one.
function Ledger:restart(max_chars)
    local next_ledger = new_ledger(self:frontier())
    assert.are.equal(0, (next_ledger:restore((self:metadata(max_chars)))))
    return next_ledger
end

-- The verdicts for a range of offsets: "o" opened, "f" finished.
function Ledger:verdicts(first, last)
    local letters = {}
    for offset = first, last do table.insert(letters, self:deliver(offset):sub(1, 1)) end
    return table.concat(letters)
end

describe("The frontier", function()
    it("is where the epoch starts while nothing came by", function()
        assert.are.equal(42, new_ledger(42):frontier())
    end)

    it("is the oldest open offset: an unfinished lower one blocks the commit", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 4)
        assert.is_false(ledger:close(1, 3, 4))
        assert.are.equal(0, ledger:frontier())
        assert.is_true(ledger:close(0))
        assert.are.equal(2, ledger:frontier())
    end)

    it("is the highest delivered offset + 1 with nothing in flight", function()
        local ledger = new_ledger(100)
        ledger:deliver_all(100, 104)
        ledger:close(102, 100, 104, 101, 103)
        assert.are.equal(105, ledger:frontier())
    end)

    it("is not stalled by holes in offsets, which compaction and transaction markers leave", function()
        local ledger = new_ledger()
        for _, offset in ipairs { 3, 7, 8, 1000 } do ledger:deliver(offset) end
        assert.are.equal(3, ledger:frontier())
        ledger:close(3)
        assert.are.equal(7, ledger:frontier())
        ledger:close(8, 7)
        assert.are.equal(1000, ledger:frontier())
        ledger:close(1000)
        assert.are.equal(1001, ledger:frontier())
    end)

    it("never goes back, whatever is closed in whatever order", function()
        local ledger, open, last = new_ledger(), {}, 0
        for offset = 0, 2000 do
            if math.random() < 0.7 and ledger:deliver(offset) == "opened" then table.insert(open, offset) end
            if #open > 0 and math.random() < 0.6 then ledger:close(table.remove(open, math.random(#open))) end
            assert.is_true(ledger:frontier() >= last)
            last = ledger:frontier()
        end
    end)

    it("does not move when an entry is closed twice", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 1)
        assert.is_true(ledger:close(0))
        assert.is_false(ledger:close(0))
        assert.are.equal(1, ledger:frontier())
        assert.are.equal(1, tonumber(ledger.c.open_count))
    end)

    it("takes constant time to move, however many are open", function()
        local ledger = new_ledger()
        local count = 300000
        local entries = ffi.new("struct shove_ledger_entry[?]", count)
        for offset = 0, count - 1 do C.shove_ledger_deliver(ledger.c, entries + offset, offset, 0) end
        for offset = count - 1, 0, -1 do C.shove_ledger_close(ledger.c, entries + offset) end
        assert.are.equal(count, ledger:frontier())
    end)
end)

describe("A record that comes by again", function()
    it("below what this epoch delivered is rewound, and nothing changes", function()
        local ledger = new_ledger(10)
        ledger:deliver_all(10, 12)
        for _, offset in ipairs { 12, 10, 9, 0 } do assert.are.equal("rewound", ledger:deliver(offset)) end
        assert.are.equal(10, ledger:frontier())
        assert.are.equal(3, tonumber(ledger.c.open_count))
        assert.are.equal("opened", ledger:deliver(13))
    end)
end)

describe("The end of an epoch", function()
    local function abandon(ledger)
        local forgotten = {}
        local forget = ffi.cast("void (*)(void *, struct shove_ledger_entry *)", function(_, entry)
            table.insert(forgotten, tonumber(entry.offset))
        end)
        C.shove_ledger_abandon(ledger.c, forget, nil)
        forget:free()
        return forgotten
    end

    it("forgets the open entries, oldest first", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 5)
        ledger:close(0, 3)
        assert.are.same({ 1, 2, 4, 5 }, abandon(ledger))
    end)

    it("lets a completion from an earlier assignment complete nothing", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 2)
        abandon(ledger)
        assert.is_false(ledger:close(0))
        assert.is_false(ledger:close(1))
        assert.are.equal(0, ledger:frontier())
    end)

    it("leaves the frontier where it was, so that a commit made too late loses nothing", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(0, 1, 5, 6)
        abandon(ledger)
        assert.are.equal(2, ledger:frontier())
        assert.are.equal("", (ledger:metadata()))
    end)

    it("works without anybody to be told", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 2)
        C.shove_ledger_abandon(ledger.c, nil, nil)
        assert.are.equal(0, tonumber(ledger.c.open_count))
    end)
end)

describe("A log that is cut and written anew", function()
    local function rewind(ledger, offset)
        local forgotten = {}
        local forget = ffi.cast("void (*)(void *, struct shove_ledger_entry *)", function(_, entry)
            table.insert(forgotten, tonumber(entry.offset))
        end)
        C.shove_ledger_rewind(ledger.c, offset, forget, nil)
        forget:free()
        return forgotten
    end

    it("is delivered again from there, and what is open below stays open", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(0, 1, 3, 6, 8)
        assert.are.same({ 9, 7 }, rewind(ledger, 6))
        assert.are.equal(2, ledger:frontier())
        assert.are.equal(6, ledger:known_end())
        ledger:deliver_all(6, 7)
        ledger:close(2, 4, 5)
        assert.are.equal(6, ledger:frontier())
        assert.is_true(ledger:close(6))
        assert.are.equal(7, ledger:frontier())
    end)

    it("takes the frontier back where nothing below is open", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
        assert.are.same({}, rewind(ledger, 4))
        assert.are.equal(4, ledger:frontier())
    end)

    it("is not what a commit spoke of: nothing restored is believed beyond", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(1, 2, 3, 5, 6, 7, 8)
        local restarted = ledger:restart()
        assert.are.equal("offf", restarted:verdicts(0, 3))
        rewind(restarted, 2)
        assert.are.equal("oooooooooo", restarted:verdicts(2, 11))
        assert.are.equal(0, restarted:frontier())
    end)
end)

describe("After a restart", function()
    it("what was finished beyond the frontier is skipped, and the rest is handled", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(0, 1, 3, 4, 7)
        local restarted = ledger:restart()
        assert.are.equal(2, restarted:frontier())
        assert.are.equal("offoofooooo", restarted:verdicts(2, 12))
    end)

    it("one slow message that held the frontier back by a hundred thousand offsets is handled alone", function()
        local ledger = new_ledger()
        local entries = ffi.new("struct shove_ledger_entry[2]")
        for offset = 0, 100000 do
            C.shove_ledger_deliver(ledger.c, entries + math.min(offset, 1), offset, 0)
            if offset > 0 then C.shove_ledger_close(ledger.c, entries + 1) end
        end
        local text, coverage = ledger:metadata()
        assert.is_true(#text < 40)
        assert.are.same({ speaks_to = 100001, listed = 1, unlisted = 0, may_repeat = 0 }, coverage)
        local restarted = ledger:restart()
        assert.are.equal("o" .. ("f"):rep(100000) .. "o", restarted:verdicts(0, 100001))
    end)

    it("attempts and crashes come back with the message they belong to", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 5)
        ledger.entries[0].attempts, ledger.entries[0].crashes = 3, 0
        ledger.entries[2].attempts, ledger.entries[2].crashes = 0, 2
        ledger.entries[4].attempts, ledger.entries[4].crashes = 255, 255
        ledger:close(1)
        local restarted = ledger:restart()
        assert.are.equal("ofooooo", restarted:verdicts(0, 6))
        local counts = {}
        for _, offset in ipairs { 0, 2, 3, 4, 5, 6 } do
            table.insert(counts, restarted.entries[offset].attempts .. "/" .. restarted.entries[offset].crashes)
        end
        assert.are.same({ "3/0", "0/2", "0/0", "255/255", "0/0", "0/0" }, counts)
    end)

    it("a message that was open says so when it comes by again, a new one does not", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 2)
        ledger:close(1)
        assert.is_false(ledger.entries[0].was_open)
        local restarted = ledger:restart()
        assert.are.equal("ofoo", restarted:verdicts(0, 3))
        local was_open = {}
        for _, offset in ipairs { 0, 2, 3 } do table.insert(was_open, restarted.entries[offset].was_open) end
        assert.are.same({ true, true, false }, was_open)
    end)

    it("what was open and has not come by yet still holds the frontier", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(1, 2, 3)
        local restarted = ledger:restart()
        restarted:deliver(0)
        restarted:close(0)
        assert.are.equal(4, restarted:frontier())
        assert.are.equal("fffo", restarted:verdicts(1, 4))
        assert.are.equal(4, restarted:frontier())
    end)

    it("a commit made while the finished region is read again forgets nothing of it", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 99)
        for offset = 1, 99 do if offset ~= 50 and offset ~= 80 then ledger:close(offset) end end
        local first = ledger:restart()
        for offset = 0, 20 do first:deliver(offset) end
        local second = first:restart()
        assert.are.equal("o" .. ("f"):rep(49) .. "o" .. ("f"):rep(29) .. "o" .. ("f"):rep(19) .. "o",
            second:verdicts(0, 100))
    end)

    it("the metadata written before anything came by is the metadata restored", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 99)
        for offset = 3, 99, 3 do ledger:close(offset) end
        ledger.entries[4].attempts, ledger.entries[4].crashes = 7, 1
        local restarted = ledger:restart()
        assert.are.equal((ledger:metadata()), (restarted:metadata()))
        assert.are.equal(ledger:finished_beyond(), restarted:finished_beyond())
        assert.are.equal(ledger:known_end(), restarted:known_end())
    end)

    it("when all that was open is finished, the frontier is past all that is known to be finished", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        for offset = 1, 9 do ledger:close(offset) end
        local restarted = ledger:restart()
        restarted:deliver(0)
        restarted:close(0)
        assert.are.equal(10, restarted:frontier())
        assert.are.equal("", (restarted:metadata()))
        assert.are.equal("fffffffffo", restarted:verdicts(1, 10))
    end)

    it("an open message that retention or compaction removed holds nothing once it is passed", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(1, 5)
        local restarted = ledger:restart()
        assert.are.equal("opened", restarted:deliver(6))
        assert.are.equal(6, restarted:frontier())
        assert.are.equal("o", restarted:verdicts(9, 9))
        restarted:close(6, 9)
        assert.are.equal(10, restarted:frontier())
    end)

    it("when retention moved the log past all that was known, everything is new", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 9)
        ledger:close(5)
        local restarted = ledger:restart()
        assert.are.equal("opened", restarted:deliver(5000))
        assert.are.equal(5000, restarted:frontier())
        restarted:close(5000)
        assert.are.equal(5001, restarted:frontier())
    end)

    it("of a log that was truncated, records written anew are not taken for finished ones", function()
        local ledger = new_ledger()
        ledger:deliver_all(0, 99)
        for offset = 1, 99 do if offset ~= 60 then ledger:close(offset) end end
        local restarted = ledger:restart()
        C.shove_ledger_clip(restarted.c, 50)
        assert.are.equal(50, restarted:known_end())
        assert.are.equal("o" .. ("f"):rep(49) .. ("o"):rep(30), restarted:verdicts(0, 79))
        restarted = ledger:restart()
        C.shove_ledger_clip(restarted.c, 100)
        assert.are.equal(100, restarted:known_end())
    end)

    it("a partition that leaves and returns goes on, and never runs what is finished again", function()
        local ledger, handled = new_ledger(), {}
        for epoch = 1, 20 do
            local offset, open = ledger:frontier(), {}
            for at = offset, offset + 40 do
                if ledger:deliver(at) == "opened" then table.insert(open, at) end
            end
            for _ = 1, math.random(0, #open) do
                local at = table.remove(open, math.random(#open))
                assert.is_nil(handled[at], ("%d was handled in epochs %s and %d"):format(at, handled[at], epoch))
                handled[at] = epoch
                ledger:close(at)
            end
            ledger = ledger:restart()
        end
    end)
end)

describe("Lag", function()
    it("does not count what is finished beyond the frontier", function()
        local ledger = new_ledger(10)
        assert.are.equal(0, ledger:finished_beyond())
        ledger:deliver_all(10, 19)
        assert.are.equal(0, ledger:finished_beyond())
        ledger:close(12, 13, 17)
        assert.are.equal(3, ledger:finished_beyond())
        ledger:close(10, 11)
        assert.are.equal(14, ledger:frontier())
        assert.are.equal(1, ledger:finished_beyond())
        ledger:close(14, 15, 16, 18, 19)
        assert.are.equal(0, ledger:finished_beyond())
    end)
end)

describe("What waits behind an open message of its key", function()
    local A, B = 1, 2 -- hashes of keys

    -- Of each record its key, by offset from 0; what is not the first of its key waits.
    local function sequenced(keys)
        local ledger, first = new_ledger(), {}
        for i, key in ipairs(keys) do
            ledger:deliver(i - 1)
            ledger.entries[i - 1].is_implied = first[key] ~= nil
            first[key] = first[key] or i
        end
        return ledger
    end

    it("is open after a restart, and need not be listed", function()
        local ledger = sequenced { A, B, A, B, A }
        ledger:close(1, 3)
        local restarted = ledger:restart()
        assert.are.equal("opened", restarted:deliver(0, A))
        assert.are.equal("finished", restarted:deliver(1, B))
        assert.are.equal("opened", restarted:deliver(2, A))
        assert.are.equal("finished", restarted:deliver(3, B))
        assert.are.equal("opened", restarted:deliver(4, A))
    end)

    it("is not taken for finished when the message that implies it is gone", function()
        local ledger = sequenced { B, A, B, A, A }
        ledger:close(0, 2)
        local restarted = ledger:restart()
        assert.are.equal("opened", restarted:deliver(3, A))
        assert.are.equal(3, restarted:frontier())
        assert.are.equal("opened", restarted:deliver(4, A))
        assert.is_true(restarted:close(3))
        assert.are.equal(4, restarted:frontier())
    end)

    it("keeps the attempts of what is read after one that is gone", function()
        local ledger = sequenced { A, B, A }
        ledger.entries[1].attempts = 2
        local restarted = ledger:restart()
        assert.are.equal("opened", restarted:deliver(1, B))
        assert.are.equal(2, restarted.entries[1].attempts)
        assert.are.equal("opened", restarted:deliver(2, A))
    end)

    it("is not claimed to be known beyond what was read after one that is gone", function()
        local ledger = sequenced { A, B, A, B, A }
        local restarted = ledger:restart()
        assert.are.equal("opened", restarted:deliver(1, B))
        local text, coverage = restarted:metadata()
        assert.are_not.equal("", text)
        assert.are.same({ speaks_to = 2, listed = 1, unlisted = 0, may_repeat = 0 }, coverage)
        assert.are.equal(0, restarted:finished_beyond())
        restarted:close(1)
        assert.are.equal(2, restarted:frontier())
        assert.are.equal("", (restarted:metadata()))
        for offset = 2, 4 do assert.are.equal("opened", restarted:deliver(offset, offset % 2 == 0 and A or B)) end
    end)

    it("is listed where it was tried before, or is due at a time", function()
        local ledger = sequenced { A, A, A, A }
        ledger.entries[1].attempts = 3
        ledger.entries[2].crashes = 1
        ledger.entries[3].due_ms = 7000
        local restarted = ledger:restart()
        for offset = 0, 3 do assert.are.equal("opened", restarted:deliver(offset, A)) end
        assert.are.equal(3, restarted.entries[1].attempts)
        assert.are.equal(1, restarted.entries[2].crashes)
        assert.are.equal(7000, tonumber(restarted.entries[3].due_ms))
    end)
end)

describe("A random walk of the ledger agrees with a naive model", function()
    local STEPS = "3000000"
    local seeds = { "1", "20260131", "18446744073709551615" }
    walk.specs("ledger_walk", { steps = STEPS, seeds = seeds }, function(result, seed)
        assert.truthy(result.stdout:find("seed " .. seed, 1, true), result.stdout)
        assert.is_true(tonumber(result.stdout:match "(%d+) steps") >= tonumber(STEPS))
        assert.is_true(tonumber(result.stdout:match "(%d+) longer than Kafka takes") > 100, result.stdout)
    end)
end)
