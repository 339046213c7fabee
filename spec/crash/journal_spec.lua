-- The judge of the other crash specs, over journals written by hand; and that every scene has a queue of its own.

local journal = require "spec.crash.journal"
local tmp = require "spec.support.tmp"

local HOLD = journal.HOLD_MS

-- lines: { id, retry_count, verb, at_ms }.
local function judge(lines, expected)
    local dir = tmp.dir()
    local text = {}
    for _, line in ipairs(lines) do
        table.insert(text, ("%s %d %s %d 1\n"):format(line[1], line[2], line[3], 1e12 + line[4]))
    end
    tmp.write(dir .. "/journal", table.concat(text))
    local j = journal.new(dir)
    j:expect(expected or { "a" })
    return j:verdict(), j:missing()
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
}

describe("the judge of the crash specs", function()
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local verdict = judge(case[2])
            for name, fine in pairs(FINE) do assert.same(case[3][name] or fine, verdict[name], name) end
            assert.equal(case[3].repeated or 0, verdict.repeated)
        end)
    end

    it("misses a message that began and did not end, and none that another scene's ended", function()
        local _, missing = judge({ { "a", 0, "began", 0 }, { "b", 0, "acked", 0 } }, { "a" })
        assert.same({ "a" }, missing)
    end)
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
