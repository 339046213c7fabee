-- The judge of the order of keys, over journals written by hand: what it refuses, and what a kill or a loss excuses.

local assert = require "luassert"
local judge = require "spec.crash.sequence_judge"

local MAX_RETRIES = 2

-- A line in short, "began 2/1 a 30": message 2 in retry 1, in the process 101 of the parent 100, at 30 ms. Processes a and b
-- have the parent 100 (member "first"), c has the parent 200 ("second").
local PROCESSES = { a = "101.0 100 first", b = "102.0 100 first", c = "201.0 200 second" }

local function verdict_on(case)
    local text = {}
    for i, line in ipairs(case) do
        local verb, n, attempt, process, ms = line:match "^(%a+) (%d+)/(%d+) (%a) ?(%d*)$"
        text[i] = ("%s key-1 %s %s %s %d.5\n"):format(verb, n, attempt, PROCESSES[process], tonumber(ms) or i * 10)
    end
    local lines = {}
    text = table.concat(text)
    assert.equal(#text, judge.parse(text, lines))
    return judge.new({ max_retries = MAX_RETRIES, last = { ["key-1"] = case.last or 2 }, deaths = case.deaths, lost = case.lost,
        full = case.full, partition_of = function() return 1 end }):judge(lines)
end

local ONE = { "began 1/0 a", "settled 1/0 a" }
local TWO = { "began 1/0 a", "settled 1/0 a", "began 2/0 b", "settled 2/0 b" }

local function after(lines, ...)
    local all = { unpack(lines) }
    for _, line in ipairs { ... } do table.insert(all, line) end
    return all
end

local function with(options, lines)
    local case = { unpack(lines) }
    for name, value in pairs(options) do case[name] = value end
    return case
end

local KILLED_A = { { pid = 101, killed_ms = 15, gone_ms = 16 } }
local KILLED_PARENT = { { pid = 100, killed_ms = 15, gone_ms = 18 } }
local LOST = { { pid = 100, ms = 15 } }

-- name, journal, what it counts.
local ACCEPTED = {
    { "one after the other", TWO, { begun = 2, after_kill = 0, moved = 0 } },
    { "a retry before the next", { "began 1/0 a", "retried 1/0 a", "began 1/1 b", "settled 1/1 b", "began 2/0 a",
        "settled 2/0 a" }, { begun = 3 } },
    { "the next after the last retry", { "began 1/0 a", "retried 1/0 a", "began 1/1 a", "retried 1/1 a", "began 1/2 a",
        "retried 1/2 a", "began 2/0 a", "settled 2/0 a" }, { begun = 4 } },
    { "a run again after its worker was killed",
        with({ deaths = KILLED_A, last = 1 }, { "began 1/0 a", "began 1/0 b", "settled 1/0 b" }), { after_kill = 1 } },
    { "a run again after the worker's parent was killed",
        with({ deaths = KILLED_PARENT, last = 1 }, { "began 1/0 a", "began 1/0 c", "settled 1/0 c" }),
        { after_kill = 1, moved = 1 } },
    { "what was finished, again and upwards, after a kill",
        with({ deaths = { { pid = 100, killed_ms = 45, gone_ms = 48 } } },
            after(TWO, "began 1/0 c", "settled 1/0 c", "began 2/0 c", "settled 2/0 c")),
        { begun = 4, repeated = 2, after_kill = 0, moved = 1 } },
    { "what was finished, again, after the metadata was full",
        with({ full = { { partition = 1, ms = 45 } } }, after(TWO, "began 2/0 c", "settled 2/0 c")), { repeated = 1 } },
    { "a retry_count that goes back after a kill of what had counted",
        with({ deaths = { { pid = 100, killed_ms = 35, gone_ms = 38 } }, last = 1 }, { "began 1/0 a", "retried 1/0 a",
            "began 1/1 a", "began 1/0 c", "settled 1/0 c" }), { after_kill = 1 } },
    { "a run beside one whose partition was lost, and the end of that one",
        with({ lost = LOST, last = 1 }, { "began 1/0 a", "began 1/0 c", "settled 1/0 c", "settled 1/0 a" }),
        { after_kill = 0, after_loss = 1 } },
}

-- name, journal, the refusal.
local REFUSED = {
    { "two messages at once", { "began 1/0 a", "began 2/0 b", "settled 1/0 a", "settled 2/0 b" },
        "key%-1 2 begins in process 102.0 while 1 .line 1. runs in process 101.0" },
    { "one message twice at once", with({ last = 1 }, { "began 1/0 a", "began 1/0 c", "settled 1/0 a", "settled 1/0 c" }),
        "line 2: key%-1 1 begins in process 201.0 while 1" },
    { "one message twice at once in one process", with({ last = 1 }, { "began 1/0 a", "began 1/0 a", "settled 1/0 a" }),
        "line 2: key%-1 1 begins" },
    { "a run beside one that never ends, though nothing was killed",
        with({ last = 1 }, { "began 1/0 a", "began 1/0 b", "settled 1/0 b" }), "line 2: key%-1 1 begins" },
    { "a run beside one whose neighbour was killed",
        with({ deaths = { { pid = 102, killed_ms = 15, gone_ms = 16 } }, last = 1 }, { "began 1/0 a", "began 1/0 c",
            "settled 1/0 c" }), "line 2: key%-1 1 begins" },
    { "a run before the kill", with({ deaths = { { pid = 101, killed_ms = 25, gone_ms = 26 } }, last = 1 },
        { "began 1/0 a", "began 1/0 b", "settled 1/0 b" }), "line 2: key%-1 1 begins" },
    { "a run after the parent's kill and before its workers were gone",
        with({ deaths = { { pid = 100, killed_ms = 15, gone_ms = 30 } }, last = 1 }, { "began 1/0 a", "began 1/0 c",
            "settled 1/0 c" }), "line 2: key%-1 1 begins" },
    { "a run beside one in a process that was killed and writes on", with({ deaths = KILLED_A, last = 1 },
        { "began 1/0 a", "began 1/0 b", "settled 1/0 a", "settled 1/0 b" }), "line 2: key%-1 1 begins" },
    { "a kill of another process with the same pid", with({ deaths = { { pid = 101, killed_ms = 2, gone_ms = 3 } }, last = 1 },
        { "began 1/0 a", "began 1/0 b", "settled 1/0 b" }), "line 2: key%-1 1 begins" },
    { "a run beside one whose partition is lost later", with({ lost = { { pid = 100, ms = 9000 } }, last = 1 },
        { "began 1/0 a", "began 1/0 c", "settled 1/0 c", "settled 1/0 a" }), "line 2: key%-1 1 begins" },
    { "a gap", with({ last = 3 }, after(ONE, "began 3/0 a", "settled 3/0 a")), "line 3: key%-1 3 comes before 2" },
    { "a swap", { "began 2/0 a", "settled 2/0 a", "began 1/0 a", "settled 1/0 a" }, "line 1: key%-1 2 comes before 1" },
    { "a message before the last retry of the one before", { "began 1/0 a", "retried 1/0 a", "began 2/0 a", "settled 2/0 a",
        "began 1/1 a", "settled 1/1 a" }, "line 3: key%-1 2 begins and 1 is not finished" },
    { "the next after a run that a kill ended", with({ deaths = KILLED_A }, { "began 1/0 a", "began 2/0 b", "settled 2/0 b" }),
        "line 2: key%-1 2 begins and 1 is not finished" },
    { "what was finished, again, for no reason", after(TWO, "began 2/0 c", "settled 2/0 c"),
        "line 5: key%-1 2 was finished .line 3." },
    { "what was finished, again, after the metadata of another partition was full",
        with({ full = { { partition = 2, ms = 45 } } }, after(TWO, "began 2/0 c", "settled 2/0 c")),
        "line 5: key%-1 2 was finished .line 3." },
    { "what was finished, again, and the metadata was full before that", with({ full = { { partition = 1, ms = 25 } } },
        after(TWO, "began 2/0 c", "settled 2/0 c")), "line 5: key%-1 2 was finished .line 3." },
    { "what was finished, a third time, after one kill",
        with({ deaths = { { pid = 101, killed_ms = 25, gone_ms = 26 } }, last = 1 },
            after(ONE, "began 1/0 b", "settled 1/0 b", "began 1/0 b", "settled 1/0 b")),
        "line 5: key%-1 1 was finished .line 3." },
    { "a gap in what is handled again", with({ deaths = { { pid = 100, killed_ms = 65, gone_ms = 68 } }, last = 3 },
        after(TWO, "began 3/0 a", "settled 3/0 a", "began 1/0 c", "settled 1/0 c", "began 3/0 c", "settled 3/0 c")),
        "line 9: key%-1 3 follows 1" },
    { "a retry_count that goes back", with({ last = 1 }, { "began 1/0 a", "retried 1/0 a", "began 1/1 a", "retried 1/1 a",
        "began 1/0 a", "settled 1/0 a" }), "line 5: key%-1 1 goes back from retry 1" },
    { "a retry_count that stays", with({ last = 1 }, { "began 1/0 a", "retried 1/0 a", "began 1/0 a", "settled 1/0 a" }),
        "line 3: key%-1 1 begins for retry 0 again" },
    { "a retry too many", with({ last = 1 }, { "began 1/0 a", "retried 1/0 a", "began 1/3 a", "settled 1/3 a" }),
        "line 3: key%-1 1 begins for retry 3" },
    { "a message behind the one that poisoned its key", with({ last = 1 }, TWO), "the last that began is 2, not 1" },
    { "a message that never began", ONE, "the last that began is 1, not 2" },
    { "a message that never ended", with({ deaths = KILLED_A, last = 1 }, { "began 1/0 a" }), "1 began and was never finished" },
    { "an end without a beginning", with({ last = 1 }, { "settled 1/0 a" }), "had not begun" },
}

describe("The judge of the order of keys accepts", function()
    for _, case in ipairs(ACCEPTED) do
        it(case[1], function()
            local verdict, refusals = verdict_on(case[2])
            assert.same({}, refusals)
            for name, count in pairs(case[3]) do assert.equal(count, verdict[name], name) end
        end)
    end
end)

describe("The judge of the order of keys refuses", function()
    for _, case in ipairs(REFUSED) do
        it(case[1], function()
            local _, refusals = verdict_on(case[2])
            assert.is_true(#refusals > 0, "nothing was refused")
            assert.matches(case[3], refusals[1].text)
        end)
    end
end)
