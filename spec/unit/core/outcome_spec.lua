-- The one decision function: what becomes of a message after its handler, or the runtime, has spoken.
local ffi = require "ffi"
local C = require("spec.support.c").include "core/outcome.h"

local ALL = { "ACK", "RETRY", "REJECT", "DEFER", "ERROR", "TIMEOUT", "OVERSIZE", "UNDECODABLE", "CRASHED",
    "POISONED" }
local KINDS = { [0] = "done", "hold", "wait", "again", "dead", "discard" }

-- A group with holds of 5 s, 30 s and 5 min, a DLQ, and 10 retries, unless told otherwise.
local function decide(outcome, attempt, options)
    options = options or {}
    local delays = options.holds or { 5000, 30000, 300000 }
    local holds = ffi.new("int64_t[?]", #delays + 1, delays)
    local policy = ffi.new("struct shove_policy", {
        holds_ms = holds, hold_count = #delays,
        max_retries = options.max_retries or 10, max_crashes = options.max_crashes or 3,
        timeout_outcome = C["SHOVE_OUTCOME_" .. (options.on_timeout or "RETRY")],
        has_dlq = options.has_dlq ~= false, is_sequenced = options.is_sequenced or false,
        poisons = options.poisons or false,
    })
    local hop = C.shove_outcome_decide(policy, ffi.new("struct shove_attempt", {
        outcome = type(outcome) == "number" and outcome or C["SHOVE_OUTCOME_" .. outcome],
        retry_count = attempt and attempt.retry_count or 0, crashes = attempt and attempt.crashes or 0,
    }))
    return {
        kind = KINDS[tonumber(hop.kind)], reason = ffi.string(C.shove_reason_name(hop.reason)), tier = hop.tier,
        retry_count = hop.retry_count, delay_ms = tonumber(hop.delay_ms), warns = hop.warns_defer_sequenced,
        poisons = hop.poisons,
    }
end

-- How often the handler is called when it always says the same, and how it ends.
local function play(outcome, options)
    local calls, hop = 0, { retry_count = 0 }
    repeat
        calls = calls + 1
        hop = decide(outcome, { retry_count = hop.retry_count }, options)
    until (hop.kind ~= "hold" and hop.kind ~= "wait") or calls > 1000
    return calls, hop
end

describe("Ack", function()
    it("is done, with or without holds and a DLQ", function()
        assert.are.equal("done", decide("ACK").kind)
        assert.are.equal("done", decide("ACK", nil, { holds = {}, has_dlq = false, is_sequenced = true }).kind)
    end)
end)

describe("Retry", function()
    it("goes to the hold of tier min(retry_count, last) and counts", function()
        local expected = { { 0, 5000 }, { 1, 30000 }, { 2, 300000 }, { 2, 300000 }, { 2, 300000 } }
        for i, tier in ipairs(expected) do
            local hop = decide("RETRY", { retry_count = i - 1 })
            assert.are.same({ "hold", tier[1], tier[2], i }, { hop.kind, hop.tier, hop.delay_ms, hop.retry_count })
        end
    end)

    it("N times makes 1 + N calls, then a dead letter with reason max_retries_exceeded", function()
        for _, max_retries in ipairs { 0, 1, 2, 10, 255 } do
            local calls, hop = play("RETRY", { max_retries = max_retries })
            assert.are.equal(1 + max_retries, calls)
            assert.are.same({ "dead", "max_retries_exceeded" }, { hop.kind, hop.reason })
        end
    end)

    it("is dead at once when max_retries is 0", function()
        assert.are.equal("dead", decide("RETRY", nil, { max_retries = 0 }).kind)
    end)

    it("of a message that was retried more often than is now allowed is dead", function()
        assert.are.equal("dead", decide("RETRY", { retry_count = 4294967295 }).kind)
        assert.are.equal("dead", decide("RETRY", { retry_count = 11 }).kind)
    end)

    it("of a group without holds waits a second where it is", function()
        local hop = decide("RETRY", { retry_count = 4 }, { holds = {} })
        assert.are.same({ "wait", 1000, 5 }, { hop.kind, hop.delay_ms, hop.retry_count })
        assert.are.equal(11, (play("RETRY", { holds = {} })))
    end)

    it("of a sequenced topic waits in place, for the delay of its tier", function()
        for i, delay_ms in ipairs { 5000, 30000, 300000, 300000 } do
            local hop = decide("RETRY", { retry_count = i - 1 }, { is_sequenced = true })
            assert.are.same({ "wait", delay_ms, i }, { hop.kind, hop.delay_ms, hop.retry_count })
        end
    end)

    it("is what a Lua error is, and a return value that is no outcome", function()
        for retry_count = 0, 12 do
            assert.are.same(decide("RETRY", { retry_count = retry_count }),
                decide("ERROR", { retry_count = retry_count }))
        end
    end)

    it("is what a number is that a worker made up", function()
        for _, number in ipairs { 0, 11, 12, 255, 4294967295 } do
            assert.are.same(decide("RETRY"), decide(number))
        end
    end)
end)

describe("Reject", function()
    it("is dead at once with reason rejected, whatever the retry count", function()
        for _, retry_count in ipairs { 0, 3, 10 } do
            local hop = decide("REJECT", { retry_count = retry_count })
            assert.are.same({ "dead", "rejected", retry_count }, { hop.kind, hop.reason, hop.retry_count })
        end
    end)
end)

describe("Defer", function()
    it("goes to the first hold and does not count", function()
        for _, retry_count in ipairs { 0, 2, 10, 200 } do
            local hop = decide("DEFER", { retry_count = retry_count })
            assert.are.same({ "hold", 0, 5000, retry_count, false },
                { hop.kind, hop.tier, hop.delay_ms, hop.retry_count, hop.warns })
        end
    end)

    it("never ends in a dead letter", function()
        assert.are.equal(1001, (play "DEFER"))
    end)

    it("of a group without holds waits a second where it is and does not count", function()
        local hop = decide("DEFER", { retry_count = 2 }, { holds = {} })
        assert.are.same({ "wait", 1000, 2 }, { hop.kind, hop.delay_ms, hop.retry_count })
    end)

    it("on a sequenced topic is a retry with a warning", function()
        for retry_count = 0, 11 do
            local hop = decide("DEFER", { retry_count = retry_count }, { is_sequenced = true })
            assert.is_true(hop.warns)
            hop.warns = false
            assert.are.same(decide("RETRY", { retry_count = retry_count }, { is_sequenced = true }), hop)
        end
    end)
end)

describe("Oversize and undecodable", function()
    it("are dead at once, with reasons oversize and deserialize", function()
        for outcome, reason in pairs { OVERSIZE = "oversize", UNDECODABLE = "deserialize" } do
            for _, is_sequenced in ipairs { false, true } do
                local hop = decide(outcome, nil, { is_sequenced = is_sequenced, on_timeout = "ACK" })
                assert.are.same({ "dead", reason }, { hop.kind, hop.reason })
            end
        end
    end)
end)

describe("Timeout", function()
    it("is a retry unless configured, and dies of it as max_retries_exceeded", function()
        assert.are.same(decide("RETRY"), decide("TIMEOUT"))
        local calls, hop = play("TIMEOUT", { max_retries = 3 })
        assert.are.same({ 4, "dead", "max_retries_exceeded" }, { calls, hop.kind, hop.reason })
    end)

    it("configured as reject is dead with reason timeout", function()
        local hop = decide("TIMEOUT", nil, { on_timeout = "REJECT" })
        assert.are.same({ "dead", "timeout" }, { hop.kind, hop.reason })
    end)

    it("configured as defer or ack is that", function()
        for _, is_sequenced in ipairs { false, true } do
            assert.are.same(decide("DEFER", nil, { is_sequenced = is_sequenced }),
                decide("TIMEOUT", nil, { is_sequenced = is_sequenced, on_timeout = "DEFER" }))
        end
        assert.are.equal("done", decide("TIMEOUT", nil, { on_timeout = "ACK" }).kind)
    end)
end)

describe("A crash", function()
    it("hands the message to another worker at once, its retry count unchanged", function()
        for crashes = 1, 2 do
            local hop = decide("CRASHED", { retry_count = 4, crashes = crashes })
            assert.are.same({ "again", 4, 0 }, { hop.kind, hop.retry_count, hop.delay_ms })
        end
    end)

    it("makes a dead letter with reason crashed when max_crashes is reached", function()
        for _, crashes in ipairs { 3, 4, 255 } do
            local hop = decide("CRASHED", { crashes = crashes })
            assert.are.same({ "dead", "crashed" }, { hop.kind, hop.reason })
        end
        assert.are.equal("dead", decide("CRASHED", { crashes = 1 }, { max_crashes = 1 }).kind)
    end)

    it("count does not make a message that comes through fail", function()
        assert.are.equal("done", decide("ACK", { crashes = 3 }).kind)
        assert.are.equal("hold", decide("RETRY", { crashes = 3 }).kind)
    end)
end)

describe("Without a DLQ", function()
    it("what would be dead is discarded, under the same reason", function()
        local attempt = { retry_count = 10, crashes = 3 }
        for _, outcome in ipairs(ALL) do
            for _, on_timeout in ipairs { "RETRY", "REJECT" } do
                local kept = decide(outcome, attempt, { on_timeout = on_timeout })
                local hop = decide(outcome, attempt, { on_timeout = on_timeout, has_dlq = false })
                if kept.kind == "dead" then
                    assert.are.equal("discard", hop.kind)
                    kept.kind = "discard"
                end
                assert.are.same(kept, hop)
            end
        end
    end)
end)

describe("A hop whose topic takes no record of that size", function()
    it("is a wait in place when it is a retry; a dead letter stays one", function()
        for _, row in ipairs { { "HOLD", "wait" }, { "DEAD", "dead" } } do
            local hop = C.shove_outcome_refused(ffi.new("struct shove_hop", {
                kind = C["SHOVE_HOP_" .. row[1]], tier = 2, retry_count = 3, delay_ms = 1000,
            }))
            assert.are.same({ row[2], 2, 3, 1000 },
                { KINDS[tonumber(hop.kind)], hop.tier, hop.retry_count, tonumber(hop.delay_ms) })
        end
    end)
end)

describe("Every decision", function()
    it("of every policy and attempt is sound", function()
        for _, outcome in ipairs(ALL) do
            for _, holds in ipairs { {}, { 1 }, { 1000, 2000, 3000 } } do
                for _, on_timeout in ipairs { "ACK", "RETRY", "REJECT", "DEFER" } do
                    for flags = 0, 3 do
                        for retry_count = 0, 4 do
                            local options = { holds = holds, on_timeout = on_timeout, max_retries = 3,
                                              has_dlq = flags % 2 == 1, is_sequenced = flags >= 2 }
                            local hop = decide(outcome, { retry_count = retry_count, crashes = retry_count }, options)
                            local is_end = hop.kind == "dead" or hop.kind == "discard"
                            assert.are.equal(is_end, hop.reason ~= "")
                            assert.are.equal(hop.kind == "hold" or hop.kind == "wait", hop.delay_ms > 0)
                            assert.is_true(hop.kind ~= "hold" or (hop.tier < #holds and not options.is_sequenced))
                            assert.is_true(hop.kind ~= "dead" or options.has_dlq)
                            assert.is_true(hop.kind ~= "discard" or not options.has_dlq)
                            assert.is_true(hop.retry_count == retry_count or hop.retry_count == retry_count + 1)
                        end
                    end
                end
            end
        end
    end)
end)

describe("The decision", function()
    it("is made in core/outcome.c and nowhere else", function()
        local offenders = {}
        for path in io.popen("find runtime -name '*.c'"):lines() do
            local file = assert(io.open(path))
            local code = file:read("*a"):gsub("/%*.-%*/", "")
            file:close()
            if path ~= "runtime/core/outcome.c" and
                (code:find "kind%s*=%s*SHOVE_HOP_" or code:find "SHOVE_REASON_MAX_RETRIES" or
                 code:find "%s[<>]=?%s[%w_%->.]*max_retries" or code:find "%s[<>]=?%s[%w_%->.]*max_crashes") and
                path ~= "runtime/core/topology_check.c" then
                table.insert(offenders, path)
            end
        end
        assert.are.same({}, offenders)
    end)
end)

describe("A dead letter of a topic that is fail_all", function()
    it("poisons its key, with and without a DLQ, unless its key is poisoned; nothing else does", function()
        for _, has_dlq in ipairs { true, false } do
            for _, outcome in ipairs(ALL) do
                local attempt = { retry_count = 10, crashes = 3 }
                local options = { poisons = true, is_sequenced = true, has_dlq = has_dlq, on_timeout = "REJECT" }
                local hop = decide(outcome, attempt, options)
                local dies = hop.kind == "dead" or hop.kind == "discard"
                assert.are.equal(outcome ~= "ACK", dies, outcome)
                assert.are.equal(dies and outcome ~= "POISONED", hop.poisons, outcome)
                options.poisons = false
                assert.is_false(decide(outcome, attempt, options).poisons)
            end
        end
        assert.is_false(decide("RETRY", nil, { poisons = true, is_sequenced = true }).poisons)
    end)

    it("of a key that is poisoned has that as its reason", function()
        local hop = decide("POISONED", { retry_count = 2 }, { poisons = true, is_sequenced = true })
        assert.are.same({ "dead", "sequence_poisoned", 2 }, { hop.kind, hop.reason, hop.retry_count })
    end)
end)

describe("Names", function()
    it("of outcomes are those of the Lua side and the metrics", function()
        local names = {}
        for i = 0, 11 do names[i] = ffi.string(C.shove_outcome_name(i)) end
        assert.are.same({ [0] = "unknown", "ack", "retry", "reject", "defer", "error", "timeout", "oversize",
                          "undecodable", "crashed", "poisoned", "unknown" }, names)
    end)

    it("of death reasons are those of Shove-Death-Reason and the metric label", function()
        local names = {}
        for i = 0, 8 do names[i] = ffi.string(C.shove_reason_name(i)) end
        assert.are.same({ [0] = "", "rejected", "max_retries_exceeded", "oversize", "deserialize", "crashed", "timeout",
                          "sequence_poisoned", "unknown" }, names)
    end)
end)
