-- The last line of defence before an app runs: whatever arrives, these rules hold.
local ffi = require "ffi"
local C = require("spec.support.c").include "core/topology.h"
local build = require "spec.unit.core.topology_builder"

-- true, or false and why.
local function check(topics, groups)
    local topology, err = build(topics, groups), ffi.new "struct shove_error"
    local code = C.shove_topology_check(topology, err)
    if code == 0 then return true end
    assert.are.equal(C.SHOVE_ECONFIG, code)
    assert.are.equal(C.SHOVE_ECONFIG, C.shove_topology_check(topology, nil))
    return false, ffi.string(err.text)
end

local function refused(words, topics, groups)
    local ok, text = check(topics, groups)
    assert.is_false(ok)
    for _, word in ipairs(type(words) == "table" and words or { words }) do
        assert.truthy(text:find(word, 1, true), ("%q is not in %q"):format(word, text))
    end
end

local function group_refused(words, fields, topic)
    refused(words, { topic or {} }, { fields })
end

describe("An app", function()
    it("with a topic, holds, a DLQ and a group may run", function()
        assert.is_true(check({ {} }, { {} }))
        assert.is_true(check({ {} }, { {}, { kind = C.SHOVE_GROUP_DEAD_LETTERS, group_id = "orders-dlq-consumer" } }))
    end)

    it("is refused with the user's line in front", function()
        refused({ "app.lua:33: ", "partitions" }, { { partitions = 0, at = "app.lua:33" } })
        group_refused({ "handlers.lua:7: ", "prefetch" }, { prefetch = 0, at = "handlers.lua:7" })
    end)
end)

describe("A topic", function()
    it("has at least one partition and one replica, and no negative retention", function()
        refused("0 partitions", { { partitions = 0 } })
        refused("-1 partitions", { { partitions = -1 } })
        refused("replication_factor", { { replication_factor = 0 } })
        refused("replication_factor", { { replication_factor = 40000 } })
        refused("retention", { { retention_ms = -1 } })
    end)

    it("has names that Kafka takes", function()
        refused("character", { { name = "or ders", dlq = "x" } })
        refused("character", { { dlq = "dead letters" } })
        refused("empty", { { dlq = "" } })
        refused("character", { { for_group = "a b" } })
        refused("character", { { hold_name = "hold 5s", holds = { 5 } } })
    end)

    it("has hold delays ordered by escalation", function()
        refused({ "hold delay 2", "30000 ms", "escalate" }, { { holds = { 30000, 5000 } } })
        refused("hold delay 2", { { holds = { 5000, 5000 } } })
        refused("hold delay 1", { { holds = { 0 } } })
        refused("hold delay 1", { { holds = { -5 } } })
    end)

    it("is never its own DLQ", function()
        refused("itself", { { dlq = "orders" } })
    end)

    it("that is sequenced needs a DLQ and a hold, unless message loss is allowed", function()
        for _, sequencing in ipairs { C.SHOVE_SEQUENCED_SKIP, C.SHOVE_SEQUENCED_FAIL_ALL } do
            refused({ "no dlq", "allow_message_loss" }, { { sequencing = sequencing, dlq = false } })
            refused("no hold", { { sequencing = sequencing, holds = {} } })
            assert.is_true(check { { sequencing = sequencing, dlq = false, holds = {}, allows_message_loss = true } })
            assert.is_true(check { { sequencing = sequencing } })
        end
    end)

    it("that is not sequenced may do without holds, without a DLQ, or both", function()
        assert.is_true(check { { holds = {} } })
        assert.is_true(check { { dlq = false } })
        assert.is_true(check { { dlq = false, holds = {} } })
    end)

    it("has a sequencing and a codec that exist", function()
        refused("unknown", { { sequencing = 3 } })
        refused("unknown", { { codec = 3 } })
    end)

    it("is declared once, or once for each group", function()
        refused({ "app.lua:14: ", "declared before", "app.lua:12", "for_group" }, { {}, { at = "app.lua:14" } })
        refused("declared before", { { for_group = "a" }, { for_group = "a" } })
        assert.is_true(check { {}, { for_group = "a", dlq = "orders-a-dlq" }, { for_group = "b", dlq = "orders-b-dlq" } })
    end)

    it("may share a DLQ, and may have a topic of the app as its DLQ", function()
        assert.is_true(check { { dlq = "dead" }, { name = "payments", dlq = "dead" } })
        assert.is_true(check { { dlq = "failed" }, { name = "failed", dlq = false } })
    end)

    it("is on one broker, and is another topic than one of a derived name on another", function()
        refused("broker number 2 of 2", { { broker = 2 } })
        refused({ "app.lua:12", "on another broker" }, { {}, { broker = 1, for_group = "a", dlq = "x" } })
        refused("listed twice", { {}, second_url = "embedded:a.db" })
        assert.is_true(check { { holds = { 5 } }, { name = "orders-hold-5ms", broker = 1, dlq = "orders-dlq", holds = {} } })
    end)

    it("shares its hold topics with nothing", function()
        refused({ "orders-hold-5ms", "hold topic" }, { { holds = { 5 } }, { name = "orders-hold-5ms", dlq = "x" } })
        refused("hold topic", { { name = "orders-hold-5ms", dlq = "x" }, { holds = { 5 } } })
        refused("hold topic", { { holds = { 5 } }, { name = "payments", dlq = "orders-hold-5ms" } })
        refused("hold topic", { { holds = { 5 }, dlq = "orders-hold-5ms" } })
        refused("hold topic", { { name = "a-b", holds = { 5 } }, { name = "a", for_group = "b", holds = { 5 }, dlq = "x" } })
    end)
end)

describe("A group", function()
    it("has at least one consumer, and no more at least than at most", function()
        group_refused("consumers from 5 to 2", { consumers_min = 5, consumers_max = 2 })
        group_refused("consumers from 0 to 0", { consumers_min = 0, consumers_max = 0 })
        assert.is_true(check({ {} }, { { consumers_min = 0, consumers_max = 4 } }))
    end)

    it("has a prefetch, a timeout, a message size and a bound per key that are not 0", function()
        group_refused("prefetch", { prefetch = 0 })
        group_refused("handler_timeout", { handler_timeout_ms = 0 })
        group_refused("handler_timeout", { handler_timeout_ms = -1 })
        group_refused("max_message_size", { max_message_size_bytes = 0 })
        group_refused("max_message_size", { max_message_size_bytes = -1 })
        group_refused("max_pending_per_key", { max_pending_per_key = 0 })
    end)

    it("has an audit of at most a day, or none", function()
        group_refused("the audit's timeout for group 'orders-consumer'", { audit_timeout_ms = -1 })
        group_refused("audit's timeout", { audit_timeout_ms = 86400001 })
        assert.is_true(check({ {} }, { { audit_timeout_ms = 86400000 } }))
    end)

    it("has no more retries and crashes than can be counted durably", function()
        group_refused("max_retries", { max_retries = 256 })
        group_refused("max_crashes", { max_crashes = 256 })
        group_refused("max_crashes", { max_crashes = 0 })
        assert.is_true(check({ {} }, { { max_retries = 0, max_crashes = 255 } }))
    end)

    it("has a timeout outcome a handler could have given, and a reset policy that exists", function()
        for _, outcome in ipairs { 0, 5, 6, 9, 10, 1000 } do
            group_refused("timeout_outcome", { timeout_outcome = outcome })
        end
        for outcome = 1, 4 do assert.is_true(check({ {} }, { { timeout_outcome = outcome } })) end
        group_refused("auto_offset_reset", { reset = 3 })
    end)

    it("has a group id and a topic that is there", function()
        group_refused("no group id", { group_id = false })
        group_refused("no group id", { group_id = "" })
        group_refused("topic number 1 of 1", { topic = 1 })
        group_refused("unknown kind", { kind = 2 })
    end)

    it("of dead letters needs a DLQ", function()
        group_refused("no dlq", { kind = C.SHOVE_GROUP_DEAD_LETTERS }, { dlq = false })
    end)

    it("of a sequenced topic has exactly one consumer", function()
        group_refused("exactly one", { consumers_max = 2 }, { sequencing = C.SHOVE_SEQUENCED_SKIP })
        assert.is_true(check({ { sequencing = C.SHOVE_SEQUENCED_SKIP } }, { { group_id = "orders-fifo" } }))
    end)

    it("is the only one of its topic", function()
        refused({ "app.lua:21: ", "registered before", "app.lua:20" }, { {} },
            { {}, { group_id = "other", at = "app.lua:21" } })
    end)

    it("shares its group id with no other, for each would take the other's partitions", function()
        refused({ "orders-consumer", "group_id" }, { {}, { name = "payments" } }, { {}, { topic = 1 } })
        local topics = { { holds = {} }, { name = "other", holds = {}, broker = 1 } }
        assert.is_true(check(topics, { {}, { topic = 1 } }))
        topics[2].broker = 0
        refused("orders-consumer", topics, { {}, { topic = 1 } })
    end)
end)
