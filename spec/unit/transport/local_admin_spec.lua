-- The rules about topics and retention that the embedded and memory transports share. Time is an argument.
local ffi = require "ffi"
local C = require("spec.support.c").include("transport/local_store.h", "base/error.h")

ffi.cdef [[
int shove_local_declare_one(const struct shove_topic_spec *spec, const struct shove_store_topic *existing,
                            struct shove_store_topic *out, struct shove_error *error);
bool shove_local_is_deletable(const struct shove_store_topic *topic, int64_t default_retention_ms, int64_t consumed,
                              int64_t block_end, int64_t newest_ms, int64_t now_ms);
]]

local DAY_MS = 86400000
local NONE = -1 -- no group is known

local function topic(fields)
    return ffi.new("struct shove_store_topic", fields)
end

describe("Retention", function()
    -- Whether a block that ends at offset 10, whose newest record is age_ms old, may go.
    local function may_go(fields, consumed, age_ms)
        local now_ms = 1000 * DAY_MS
        return C.shove_local_is_deletable(topic(fields), 7 * DAY_MS, consumed, 10, now_ms - age_ms, now_ms)
    end

    it("keeps what a known group has not consumed, however old", function()
        for _, role in ipairs { C.SHOVE_ROLE_MAIN, C.SHOVE_ROLE_HOLD, C.SHOVE_ROLE_DLQ } do
            assert.is_false(may_go({ role = role, retention_ms = 1 }, 9, 900 * DAY_MS))
            assert.is_false(may_go({ role = role, retention_ms = 1 }, 0, 900 * DAY_MS))
        end
    end)

    it("keeps consumed records for the default time", function()
        assert.is_false(may_go({ role = C.SHOVE_ROLE_MAIN }, 10, 7 * DAY_MS - 1))
        assert.is_true(may_go({ role = C.SHOVE_ROLE_MAIN }, 10, 7 * DAY_MS))
        assert.is_true(may_go({ role = C.SHOVE_ROLE_MAIN }, 50, 8 * DAY_MS))
    end)

    it("follows the topic's own time", function()
        assert.is_false(may_go({ role = C.SHOVE_ROLE_MAIN, retention_ms = 30 * DAY_MS }, 10, 29 * DAY_MS))
        assert.is_true(may_go({ role = C.SHOVE_ROLE_MAIN, retention_ms = 1000 }, 10, 1000))
        assert.is_false(may_go({ role = C.SHOVE_ROLE_MAIN, retention_ms = -1 }, 10, 900 * DAY_MS))
    end)

    it("lets a topic that no group ever consumed go by age alone", function()
        assert.is_false(may_go({ role = C.SHOVE_ROLE_MAIN }, NONE, 7 * DAY_MS - 1))
        assert.is_true(may_go({ role = C.SHOVE_ROLE_MAIN }, NONE, 7 * DAY_MS))
        assert.is_true(may_go({ role = C.SHOVE_ROLE_MAIN, retention_ms = 1000 }, NONE, 1000))
    end)

    it("lets held records go as soon as they are consumed, and never before", function()
        assert.is_true(may_go({ role = C.SHOVE_ROLE_HOLD }, 10, 0))
        assert.is_false(may_go({ role = C.SHOVE_ROLE_HOLD }, NONE, 900 * DAY_MS))
    end)

    it("keeps dead letters for ever unless told otherwise", function()
        assert.is_false(may_go({ role = C.SHOVE_ROLE_DLQ }, 10, 900 * DAY_MS))
        assert.is_false(may_go({ role = C.SHOVE_ROLE_DLQ }, NONE, 900 * DAY_MS))
        assert.is_true(may_go({ role = C.SHOVE_ROLE_DLQ, retention_ms = DAY_MS }, 10, DAY_MS))
        assert.is_true(may_go({ role = C.SHOVE_ROLE_DLQ, retention_ms = DAY_MS }, NONE, DAY_MS))
    end)
end)

describe("Declaring", function()
    -- The verdict, what is to be stored, and the words.
    local function declare(spec, existing)
        spec.partitions = spec.partitions or 1
        local out, err = ffi.new "struct shove_store_topic", ffi.new "struct shove_error"
        local rc = C.shove_local_declare_one(ffi.new("struct shove_topic_spec", spec), existing and topic(existing), out, err)
        return rc, out, ffi.string(err.text)
    end

    it("makes a topic as it is asked for", function()
        local rc, out = declare { name = "orders", partitions = 8, role = C.SHOVE_ROLE_DLQ, retention_ms = 5, is_keyed = true }
        assert.equal(1, rc)
        assert.equal("orders", ffi.string(out.name))
        assert.equal(8, out.partitions)
        assert.equal(C.SHOVE_ROLE_DLQ, out.role)
        assert.equal(5, tonumber(out.retention_ms))
        assert.is_true(out.is_keyed)
    end)

    it("keeps poisoned keys for ever, whatever was asked for or is there", function()
        local rc, out = declare { name = "p", role = C.SHOVE_ROLE_POISON, retention_ms = 5, is_keyed = true }
        assert.equal(1, rc)
        assert.equal(-1, tonumber(out.retention_ms))
        assert.is_false(C.shove_local_is_deletable(out, 0, 10, 10, 0, 9000 * DAY_MS))
        assert.is_false(C.shove_local_is_deletable(out, 0, NONE, 10, 0, 9000 * DAY_MS))
        rc, out = declare({ name = "p", role = C.SHOVE_ROLE_POISON }, { partitions = 1, role = C.SHOVE_ROLE_MAIN })
        assert.equal(1, rc)
        assert.is_false(C.shove_local_is_deletable(out, 0, 10, 10, 0, 9000 * DAY_MS))
        assert.equal(0, (declare({ name = "p", role = C.SHOVE_ROLE_POISON }, out)))
    end)

    it("leaves a topic alone that is as it should be", function()
        assert.equal(0, (declare({ name = "t", partitions = 4 }, { partitions = 4 })))
        assert.equal(0, (declare({ name = "t", partitions = 2 }, { partitions = 4 })))
    end)

    it("grows a topic and changes its retention, and keeps its number and role", function()
        local rc, out = declare({ name = "t", partitions = 6, role = C.SHOVE_ROLE_MAIN, retention_ms = 9 },
            { id = 3, partitions = 4, role = C.SHOVE_ROLE_DLQ })
        assert.equal(1, rc)
        assert.equal(6, out.partitions)
        assert.equal(9, tonumber(out.retention_ms))
        assert.equal(3, out.id)
        assert.equal(C.SHOVE_ROLE_DLQ, out.role)
    end)

    it("never re-partitions a keyed topic, whichever side calls it keyed", function()
        for _, case in ipairs { { true, false }, { false, true }, { true, true } } do
            local rc, _, text = declare({ name = "t", partitions = 6, is_keyed = case[1], at = "a.lua:1" },
                { partitions = 4, is_keyed = case[2] })
            assert.equal(C.SHOVE_ECONFIG, rc)
            assert.matches("a.lua:1", text, 1, true)
            assert.matches("4", text, 1, true)
            assert.matches("6", text, 1, true)
        end
        local rc, out = declare({ name = "t", partitions = 4, is_keyed = true }, { partitions = 4 })
        assert.equal(1, rc)
        assert.is_true(out.is_keyed)
    end)

    it("only looks at an external topic", function()
        local rc, _, text = declare { name = "t", is_external = true }
        assert.equal(C.SHOVE_ECONFIG, rc)
        assert.matches("external", text, 1, true)
        assert.equal(0, (declare({ name = "t", partitions = 9, retention_ms = 4, is_external = true }, { partitions = 4 })))
        assert.equal(0, (declare({ name = "t", partitions = 9, is_external = true }, { partitions = 4, is_keyed = true })))
    end)

    it("refuses no partitions, and names Kafka would refuse", function()
        assert.equal(C.SHOVE_ECONFIG, (declare { name = "t", partitions = 0 }))
        assert.is_true((declare { name = "a b" }) < 0)
        assert.is_true((declare { name = "" }) < 0)
        assert.is_true((declare { name = ".." }) < 0)
    end)
end)
