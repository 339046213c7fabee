-- The judge of the other crash specs, over journals written by hand; and that every scene has a queue of its own.

local journal = require "spec.crash.journal"
local tmp = require "spec.support.tmp"

local HOLD = journal.HOLD_MS

-- lines: { id, retry_count, verb, at_ms }.
local function journal_of(lines, expected)
    local dir = tmp.dir()
    local text = {}
    for _, line in ipairs(lines) do
        table.insert(text, ("%s %d %s %d 1\n"):format(line[1], line[2], line[3], 1e12 + line[4]))
    end
    tmp.write(dir .. "/journal", table.concat(text))
    local j = journal.new(dir)
    j:expect(expected or { "a" })
    return j
end

-- First attempt at 0 ms, retried at 10; a retry at `at_ms`.
local function retried_once(at_ms)
    return { { "a", 0, "began", 0 }, { "a", 0, "retried", 10 }, { "a", 1, "began", at_ms }, { "a", 1, "acked", at_ms } }
end

local FINE = { strangers = {}, unasked = {}, early = {} }

local CASES = {
    { "lets a retry begin when its hold is over", retried_once(HOLD + 10), {} },
    { "forgives the one millisecond that is rounding", retried_once(HOLD + 9), {} },
    { "says by how much a hold was early", retried_once(HOLD + 8), { early = { "a/1 by 2 ms" } } },
    { "sees a later hold that is early", {
        { "a", 0, "began", 0 }, { "a", 0, "retried", 0 }, { "a", 1, "began", HOLD }, { "a", 1, "retried", HOLD },
        { "a", 2, "began", 2 * HOLD - 50 },
    }, { early = { "a/2 by 50 ms" } } },
    { "measures the retry of a message that was handled twice against the first handling", {
        { "a", 0, "began", 0 }, { "a", 0, "retried", 0 }, { "a", 0, "began", 500 }, { "a", 0, "retried", 500 },
        { "a", 1, "began", HOLD }, { "a", 1, "began", HOLD + 500 },
    }, { repeated = 1 } },
    { "sees a retry that was asked for once and came twice", {
        { "a", 0, "began", 0 }, { "a", 0, "retried", 0 }, { "a", 1, "began", HOLD }, { "a", 1, "began", HOLD },
    }, { repeated = 1 } },
    { "sees a hold that is early after the message was handled twice", {
        { "a", 0, "began", 0 }, { "a", 0, "retried", 0 }, { "a", 0, "began", 500 }, { "a", 0, "retried", 500 },
        { "a", 1, "began", HOLD - 50 },
    }, { early = { "a/1 by 50 ms" }, repeated = 1 } },
    { "tells a retry that nobody asked for from one that is early", {
        { "a", 0, "began", 0 }, { "a", 1, "began", 5 * HOLD },
    }, { unasked = { "a/1" } } },
    { "sees a retry before it was asked for", {
        { "a", 0, "began", 0 }, { "a", 1, "began", 1 }, { "a", 0, "retried", 2 },
    }, { unasked = { "a/1" } } },
    { "knows what nobody published", {
        { "b", 0, "began", 0 }, { "b", 0, "acked", 0 },
    }, { strangers = { "b/0", "b/0" } } },
    { "sees a retry after the last that there may be", {
        { "a", 0, "began", 0 }, { "a", 0, "retried", 0 }, { "a", 1, "began", HOLD }, { "a", 1, "retried", HOLD },
        { "a", 2, "began", 2 * HOLD }, { "a", 2, "retried", 2 * HOLD }, { "a", 3, "began", 3 * HOLD },
    }, { unasked = { "a/3" } } },
}

local ACKED = { { "a", 0, "began", 0 }, { "a", 0, "acked", 1 } }
local REJECTED = { { "a", 0, "began", 0 }, { "a", 0, "rejected", 1 } }
local CRASHED = { { "a", 0, "began", 0 }, { "a", 0, "crashed", 1 } }
local REJECTED_TWICE = { { "a", 0, "rejected", 0 }, { "a", 0, "rejected", 1 } }
local EXHAUSTED = { { "a", 0, "retried", 0 }, { "a", 1, "retried", HOLD }, { "a", 2, "retried", 2 * HOLD } }
local IS_REJECTED, IS_CRASHED = { "a", 0, "rejected" }, { "a", 0, "crashed" }
local IS_EXHAUSTED = { "a", 2, "max_retries_exceeded" }

-- sentence | lines | letters: { id, retry_count, reason } | lost | surplus
local LETTERS = {
    { "is content with a letter for each death", REJECTED, { IS_REJECTED } },
    { "is content without letters where nothing died", ACKED, {} },
    { "is content when two handlings leave two letters", REJECTED_TWICE, { IS_REJECTED, IS_REJECTED } },
    { "is content when two handlings leave one letter", REJECTED_TWICE, { IS_REJECTED } },
    { "is content with the letter of one that ran out of retries", EXHAUSTED, { IS_EXHAUSTED } },
    { "is content with the letter of one that killed its worker", CRASHED, { IS_CRASHED } },
    { "asks for none when the last handling was acked", { { "a", 0, "rejected", 0 }, { "a", 0, "acked", 1 } }, {} },
    { "asks for none of a message that is to be retried", { { "a", 1, "retried", 0 } }, {} },
    { "misses the letter of one that was rejected", REJECTED, {}, { "a/0 rejected" } },
    { "misses the letter of one that was rejected twice", REJECTED_TWICE, {}, { "a/0 rejected" } },
    { "misses the letter of one that ran out of retries", EXHAUSTED, {}, { "a/2 max_retries_exceeded" } },
    { "misses the letter of one that killed its worker", CRASHED, {}, { "a/0 crashed" } },
    { "misses a letter when the last handling was not acked", { { "a", 0, "acked", 0 }, { "a", 0, "rejected", 1 } }, {},
        { "a/0 rejected" } },
    { "takes no other message's letter for it", REJECTED, { { "b", 0, "rejected" } }, { "a/0 rejected" },
        { "b/0 rejected" } },
    { "takes no letter for another reason for it", REJECTED, { { "a", 0, "timeout" } }, { "a/0 rejected" },
        { "a/0 timeout" } },
    { "takes no letter without a reason for it", REJECTED, { { "a", 0 } }, { "a/0 rejected" }, { "a/0 nil" } },
    { "takes no letter of another attempt for it", EXHAUSTED, { { "a", 1, "max_retries_exceeded" } },
        { "a/2 max_retries_exceeded" }, { "a/1 max_retries_exceeded" } },
    { "sees the letter of one that was acked", ACKED, { IS_REJECTED }, {}, { "a/0 rejected" } },
    { "sees the letter of one that nobody handled", {}, { IS_CRASHED }, {}, { "a/0 crashed" } },
    { "sees a second letter from one handling", REJECTED, { IS_REJECTED, IS_REJECTED }, {}, { "a/0 rejected" } },
    { "sees a third letter from two handlings", REJECTED_TWICE, { IS_REJECTED, IS_REJECTED, IS_REJECTED }, {},
        { "a/0 rejected" } },
    { "sees a letter for another reason beside the right one", REJECTED, { IS_REJECTED, IS_CRASHED }, {}, { "a/0 crashed" } },
}

describe("the judge of the crash specs", function()
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local verdict = journal_of(case[2]):verdict()
            for name, fine in pairs(FINE) do assert.same(case[3][name] or fine, verdict[name], name) end
            assert.equal(case[3].repeated or 0, verdict.repeated)
        end)
    end

    it("misses a message that began and did not end, and none that another scene's ended", function()
        local j = journal_of({ { "a", 0, "began", 0 }, { "b", 0, "acked", 0 } }, { "a" })
        assert.same({ "a" }, j:missing())
    end)

    it("takes a message for ended that was acked, rejected, has killed its worker or has no retry left", function()
        for _, lines in ipairs { ACKED, REJECTED, CRASHED, EXHAUSTED } do
            assert.same({}, journal_of(lines):missing())
        end
        assert.same({ "a" }, journal_of({ { "a", 1, "retried", 0 } }):missing())
    end)
end)

describe("the judge of dead letters", function()
    for _, case in ipairs(LETTERS) do
        it(case[1], function()
            local letters = {}
            for i, letter in ipairs(case[3]) do
                letters[i] = { id = letter[1], retry_count = letter[2], reason = letter[3] }
            end
            assert.same({ lost = case[4] or {}, surplus = case[5] or {} }, journal_of(case[2]):judge_letters(letters))
        end)
    end
end)

describe("a scene", function()
    it("has a queue that no scene of another spec file has, though busted loads the module anew for each", function()
        local names, ids = {}, {}
        for _ = 1, 2 do
            package.loaded["spec.crash.scene"] = nil
            package.loaded["spec.support.unique"] = nil
            local s = require("spec.crash.scene").new { url = "memory:" }
            s.app.command = function() return { code = 0 } end
            s:publish(1)
            names[s.queue] = true
            for id in pairs(s.journal.expected) do ids[id] = true end
        end
        local function count(set)
            local n = 0
            for _ in pairs(set) do n = n + 1 end
            return n
        end
        assert.equal(2, count(names))
        assert.equal(2, count(ids))
    end)
end)
