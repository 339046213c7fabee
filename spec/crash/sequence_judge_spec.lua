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
        full = case.full, outages = case.outages, session_ms = case.session_ms, rebalance_ms = case.rebalance_ms,
        partition_of = function() return 1 end }):judge(lines)
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

-- The last of two messages is finished at `ms` and begins again, in the process `again` (c), at `again_ms`.
local function repeated(options, ms, again_ms, again)
    again = again or "c"
    return with(options, { "began 1/0 a", "settled 1/0 a", "began 2/0 b", "settled 2/0 b " .. ms,
        ("began 2/0 %s %d"):format(again, again_ms), ("settled 2/0 %s %d"):format(again, again_ms + 10) })
end

-- Message 1 is retried at `ms`, and then its count is 0 again.
local function counted(options, ms, again_ms)
    options.last = 1
    return with(options, { "began 1/0 a", "retried 1/0 a " .. ms, "began 1/1 a " .. again_ms - 200,
        "retried 1/1 a " .. again_ms - 190, "began 1/0 c " .. again_ms, "settled 1/0 c " .. again_ms + 10 })
end

-- Of the worker b, and of its parent.
local function killed_b(ms) return { { pid = 102, killed_ms = ms, gone_ms = ms + 1 } } end
local function killed_parent(ms) return { { pid = 100, killed_ms = ms, gone_ms = ms + 3 } } end

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
    { "what was finished right before the broker was away, again by the next owner",
        with({ outages = { { killed_ms = 2035, back_ms = 5000 } } }, after(TWO, "began 2/0 c 5500", "settled 2/0 c 5600")),
        { repeated = 1, moved = 1 } },
    { "a retry_count that goes back after a kill of what had counted",
        with({ deaths = { { pid = 100, killed_ms = 35, gone_ms = 38 } }, last = 1 }, { "began 1/0 a", "retried 1/0 a",
            "began 1/1 a", "began 1/0 c", "settled 1/0 c" }), { after_kill = 1 } },
    { "a run beside one whose partition was lost, and the end of that one",
        with({ lost = LOST, last = 1 }, { "began 1/0 a", "began 1/0 c", "settled 1/0 c", "settled 1/0 a" }),
        { after_kill = 0, after_loss = 1 } },
    { "a run beside one that was handed to its worker before the partition was lost, and began a moment after",
        with({ lost = LOST, last = 1 }, { "began 1/0 a 100", "began 1/0 c 130", "settled 1/0 c 140" }), { after_loss = 1 } },
    { "what was finished right before its worker was killed, again",
        repeated({ deaths = killed_b(1190) }, 1000, 1300, "a"), { repeated = 1 } },
    { "what was finished right before the worker's parent was killed, again",
        repeated({ deaths = killed_parent(2990) }, 1000, 3100), { repeated = 1 } },
    { "what was finished while its member waited in a rebalance, and was killed then, again",
        repeated({ deaths = killed_parent(20990), rebalance_ms = 18000 }, 1000, 21100), { repeated = 1 } },
    { "what was finished when the broker was back, and the worker's parent was killed soon after, again",
        repeated({ deaths = killed_parent(12800), outages = { { killed_ms = 100, back_ms = 900 } } }, 3000, 13000),
        { repeated = 1 } },
    { "what was finished when the broker was back, and then it was away again, again",
        repeated({ deaths = killed_parent(40000), outages = { { killed_ms = 100, back_ms = 900 },
            { killed_ms = 12800, back_ms = 29000 } } }, 3000, 41000), { repeated = 1 } },
    { "what was finished in a rebalance, and the broker was away then, again",
        repeated({ deaths = killed_parent(40000), outages = { { killed_ms = 20990, back_ms = 29000 } },
            rebalance_ms = 18000 }, 1000, 41000), { repeated = 1 } },
    { "what was finished within the session before the partition was lost, again",
        repeated({ lost = { { pid = 100, ms = 8990 } } }, 1000, 9100), { repeated = 1 } },
    { "what was finished within a longer session before the partition was lost, again",
        repeated({ lost = { { pid = 100, ms = 46990 } }, session_ms = 45000 }, 1000, 47100), { repeated = 1 } },
    { "what was finished when the broker was back, and the partition was lost soon after, again",
        repeated({ lost = { { pid = 100, ms = 18800 } }, outages = { { killed_ms = 100, back_ms = 900 } } }, 3000, 19000),
        { repeated = 1 } },
    { "what was finished, again by the same owner, after the metadata was full and another had the partition meanwhile",
        with({ full = { { partition = 1, ms = 45 }, { partition = 1, ms = 65 } }, last = 3 }, after(TWO, "began 3/0 c",
            "settled 3/0 c", "began 2/0 b", "settled 2/0 b", "began 3/0 b", "settled 3/0 b")), { moved = 2 } },
    { "a retry_count that stays after a kill of the worker that had just counted",
        with({ deaths = { { pid = 101, killed_ms = 25, gone_ms = 26 } }, last = 1 }, { "began 1/0 a", "retried 1/0 a",
            "began 1/0 b", "settled 1/0 b" }), { begun = 2 } },
    { "a retry_count that goes back after a kill right after it was made",
        counted({ deaths = killed_parent(2990) }, 1000, 3100), { begun = 3 } },
    { "a retry_count that rises again after it went back",
        with({ deaths = { { pid = 100, killed_ms = 45, gone_ms = 48 } }, last = 1 }, { "began 1/0 a", "retried 1/0 a",
            "began 1/1 a", "retried 1/1 a", "began 1/0 c", "retried 1/0 c", "began 1/1 c", "settled 1/1 c" }), { begun = 4 } },
    { "a retry_count of the owner before, whose partition was lost, beside the next owner's",
        with({ lost = LOST, last = 1 }, { "began 1/0 a", "retried 1/0 a", "began 1/1 a", "retried 1/1 a", "began 1/0 c",
            "retried 1/0 c", "began 1/2 a", "began 1/1 c", "settled 1/1 c", "settled 1/2 a" }), { after_loss = 1 } },
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
    { "a run beside one that began long after its partition was lost", with({ lost = LOST, last = 1 },
        { "began 1/0 a 900", "began 1/0 c 930", "settled 1/0 c 940" }), "line 2: key%-1 1 begins" },
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
    { "what was finished right before the broker was away, again by the same owner",
        with({ outages = { { killed_ms = 2035, back_ms = 5000 } } }, after(TWO, "began 2/0 b 5500", "settled 2/0 b 5600")),
        "line 5: key%-1 2 was finished .line 3." },
    { "what was finished long before the broker was away, again",
        with({ outages = { { killed_ms = 2045, back_ms = 5000 } } }, after(TWO, "began 2/0 c 5500", "settled 2/0 c 5600")),
        "line 5: key%-1 2 was finished .line 3." },
    { "what was finished after the broker was back, again",
        with({ outages = { { killed_ms = 1, back_ms = 20 } }, last = 1 }, { "began 1/0 a", "settled 1/0 a 2100",
            "began 1/0 c 2200", "settled 1/0 c 2300" }), "line 3: key%-1 1 was finished .line 1." },
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
    { "what was finished long before its worker was killed, again",
        repeated({ deaths = killed_b(1210) }, 1000, 1300, "a"), "line 5: key%-1 2 was finished" },
    { "what was finished long before the worker's parent was killed, again",
        repeated({ deaths = killed_parent(3010) }, 1000, 3100), "line 5: key%-1 2 was finished" },
    { "what was finished before its member waited in a rebalance, again",
        repeated({ deaths = killed_parent(21010), rebalance_ms = 18000 }, 1000, 21100), "line 5: key%-1 2 was finished" },
    { "what was finished long before the broker was away, and the worker's parent killed soon after, again",
        repeated({ deaths = killed_parent(40000), outages = { { killed_ms = 3010, back_ms = 29000 } } }, 1000, 41000),
        "line 5: key%-1 2 was finished" },
    { "what was finished when the broker was back, and the worker's parent was killed long after, again",
        repeated({ deaths = killed_parent(13000), outages = { { killed_ms = 100, back_ms = 900 } } }, 3000, 13100),
        "line 5: key%-1 2 was finished" },
    { "what was finished long before the partition was lost, again",
        repeated({ lost = { { pid = 100, ms = 9010 } } }, 1000, 9100), "line 5: key%-1 2 was finished" },
    { "what was finished when the broker was back, and the partition was lost long after, again",
        repeated({ lost = { { pid = 100, ms = 19000 } }, outages = { { killed_ms = 100, back_ms = 900 } } }, 3000, 19100),
        "line 5: key%-1 2 was finished" },
    { "what was finished, again by the same owner, after the metadata was full",
        repeated({ full = { { partition = 1, ms = 1010 } } }, 1000, 1100, "a"), "line 5: key%-1 2 was finished" },
    { "a retry_count that stays long after the kill of another worker", with({ deaths = { { pid = 101, killed_ms = 230,
        gone_ms = 231 } }, last = 1 }, { "began 1/0 a", "retried 1/0 a", "began 1/0 b 240", "settled 1/0 b 250" }),
        "line 3: key%-1 1 begins for retry 0 again" },
    { "a retry_count that goes back after a kill long after it was made",
        counted({ deaths = killed_parent(3010) }, 1000, 3100), "line 5: key%-1 1 goes back from retry 1 .line 3. to 0" },
    { "a retry_count that goes back though only a worker was killed", with({ deaths = { { pid = 101, killed_ms = 35,
        gone_ms = 36 } }, last = 1 }, { "began 1/0 a", "retried 1/0 a", "began 1/1 a", "began 1/0 b", "settled 1/0 b" }),
        "line 4: key%-1 1 goes back from retry 1" },
    { "a first retry_count that is not 0", with({ last = 1 }, { "began 1/1 a", "settled 1/1 a" }),
        "line 1: key%-1 1 begins for the first time, for retry 1" },
    { "a retry_count that rises by two", with({ last = 1 }, { "began 1/0 a", "retried 1/0 a", "began 1/2 a", "settled 1/2 a" }),
        "line 3: key%-1 1 rises from retry 0 .line 1. to 2, and that is more than one" },
    { "a retry_count that rises for a kill", with({ deaths = KILLED_A, last = 1 }, { "began 1/0 a", "began 1/1 b",
        "settled 1/1 b" }), "line 2: key%-1 1 rises from retry 0 .line 1. to 1, and it was not retried" },
    { "a retry_count that rises for what was finished", with({ deaths = killed_parent(25), last = 1 }, after(ONE,
        "began 1/1 c", "settled 1/1 c")), "line 3: key%-1 1 rises from retry 0 .line 1. to 1, and it was not retried" },
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
