local ffi = require "ffi"
local C, constants = require("spec.support.c").include "core/topology.h"

local NAME_MAX = constants.SHOVE_TOPIC_NAME_MAX

local function call(fn, ...)
    local out, err = ffi.new("char[?]", NAME_MAX + 1), ffi.new "struct shove_error"
    local arguments = { ... }
    local count = select("#", ...)
    arguments[count + 1], arguments[count + 2] = out, err
    local code = fn(unpack(arguments, 1, count + 2))
    if code < 0 then
        assert.are.equal(C.SHOVE_EINVAL, code)
        return nil, ffi.string(err.text)
    end
    return ffi.string(out)
end

local function hold(queue, for_group, delay_ms)
    return call(C.shove_topology_hold_name, queue, for_group, delay_ms)
end

local function dlq(queue, for_group)
    return call(C.shove_topology_dlq_name, queue, for_group)
end

local function group_id(explicit_id, queue, for_group, is_fifo)
    return call(C.shove_topology_group_id, explicit_id, queue, for_group, is_fifo or false)
end

local function check_name(name)
    local err = ffi.new "struct shove_error"
    local code = C.shove_topology_check_name(name, err)
    return code == 0, ffi.string(err.text)
end

describe("A hold topic", function()
    it("is named {queue}-hold-{N}s", function()
        assert.are.equal("orders-hold-5s", hold("orders", nil, 5000))
        assert.are.equal("orders-hold-30s", hold("orders", nil, 30000))
        assert.are.equal("orders-hold-300s", hold("orders", nil, 300000))
    end)

    it("is named {queue}-hold-{N}ms when the delay is not whole seconds", function()
        assert.are.equal("orders-hold-500ms", hold("orders", nil, 500))
        assert.are.equal("orders-hold-1500ms", hold("orders", nil, 1500))
    end)

    it("is named {queue}-{group}-hold-{N}s for a second group", function()
        assert.are.equal("orders-audit-hold-5s", hold("orders", "audit", 5000))
        assert.are.equal("orders-audit-hold-1ms", hold("orders", "audit", 1))
    end)

    it("has a delay longer than 0", function()
        for _, delay_ms in ipairs { 0, -1, -5000 } do
            assert.truthy(select(2, hold("orders", nil, delay_ms)):find("longer than 0", 1, true))
        end
    end)
end)

describe("The delay of a hold topic", function()
    local function delay(queue, for_group, name)
        return tonumber(C.shove_topology_hold_delay_ms(queue, for_group, name))
    end

    it("is read from its name", function()
        for _, for_group in ipairs { false, "audit" } do
            for _, delay_ms in ipairs { 1, 999, 1000, 1500, 60000, 86400000 } do
                assert.are.equal(delay_ms, delay("orders", for_group or nil, hold("orders", for_group or nil, delay_ms)))
            end
        end
    end)

    it("is none where the name is not the one that the delay has", function()
        for _, name in ipairs {
            "orders", "orders-hold", "orders-hold-", "orders-hold-5", "orders-hold-s", "orders-hold-05s", "orders-hold-+5s",
            "orders-hold- 5s", "orders-hold--5s", "orders-hold-0s", "orders-hold-5S", "orders-hold-5sec", "orders-hold-1000ms",
            "orders-hold-5ms-old", "orders-hold-5s-hold-1s", "my-orders-hold-5s", "orders2-hold-5s", "orders-dlq", "",
            "orders-hold-9223372036854775807s", "orders-hold-99999999999999999999ms", "orders-hold-5s ", "x-5s",
        } do
            assert.are.equal(0, delay("orders", nil, name), name)
        end
    end)

    it("is none for another group of the queue", function()
        assert.are.equal(0, delay("orders", nil, "orders-audit-hold-5s"))
        assert.are.equal(0, delay("orders", "audit", "orders-hold-5s"))
        assert.are.equal(0, delay("orders", "audit", "orders-billing-hold-5s"))
    end)
end)

describe("A DLQ", function()
    it("is named {queue}-dlq, or {queue}-{group}-dlq for a second group", function()
        assert.are.equal("orders-dlq", dlq("orders", nil))
        assert.are.equal("orders-audit-dlq", dlq("orders", "audit"))
    end)
end)

describe("A group id", function()
    it("is the one that was given, else {queue}-consumer, or {queue}-fifo for fifo", function()
        assert.are.equal("billing", group_id("billing", "orders", nil))
        assert.are.equal("billing", group_id("billing", "orders", "audit", true))
        assert.are.equal("orders-consumer", group_id(nil, "orders", nil))
        assert.are.equal("orders-fifo", group_id(nil, "orders", nil, true))
    end)

    it("is {queue}-{group}-consumer for a second group", function()
        assert.are.equal("orders-audit-consumer", group_id(nil, "orders", "audit"))
        assert.are.equal("orders-audit-fifo", group_id(nil, "orders", "audit", true))
    end)

    it("is neither empty nor too long", function()
        assert.truthy(select(2, group_id("", "orders", nil)):find("empty", 1, true))
        assert.are.equal(("g"):rep(NAME_MAX), group_id(("g"):rep(NAME_MAX), "orders", nil))
        assert.truthy(select(2, group_id(("g"):rep(NAME_MAX + 1), "orders", nil)):find("250", 1, true))
    end)
end)

describe("A derived name", function()
    it("may be as long as Kafka allows, and no longer", function()
        local queue = ("q"):rep(NAME_MAX - #"-dlq")
        assert.are.equal(queue .. "-dlq", dlq(queue, nil))
        local name, text = dlq(queue .. "q", nil)
        assert.is_nil(name)
        assert.truthy(text:find("250 characters and at most 249", 1, true), text)
        assert.is_nil((hold(queue, nil, 5000)))
        assert.is_nil((group_id(nil, queue, nil)))
    end)

    it("is the same in Lua, which checks it at the user's line", function()
        local names = require "shove.names"
        for _, for_group in ipairs { false, "audit" } do
            for _, delay_ms in ipairs { 1, 500, 999, 1000, 1500, 60000, 300000, 86400000 } do
                assert.are.equal(hold("orders", for_group or nil, delay_ms),
                    names.hold("orders", for_group or nil, delay_ms))
            end
            assert.are.equal(dlq("orders", for_group or nil), names.dlq("orders", for_group or nil))
            for _, explicit_id in ipairs { false, "billing" } do
                for _, is_fifo in ipairs { false, true } do
                    assert.are.equal(group_id(explicit_id or nil, "orders", for_group or nil, is_fifo),
                        names.group_id(explicit_id or nil, "orders", for_group or nil, is_fifo))
                end
            end
        end
    end)
end)

describe("Names", function()
    it("are derived in core/topology.c and nowhere else in C, so no two places can differ", function()
        local offenders = {}
        for path in io.popen("find runtime -name '*.c' -o -name '*.h'"):lines() do
            local file = assert(io.open(path))
            local code = file:read("*a"):gsub("/%*.-%*/", "")
            file:close()
            -- Formats that end in a derived name; looking for "-hold-" in a name is not making one.
            if path ~= "runtime/core/topology.c" and
                (code:find '"[^"]*%-hold%-%%' or code:find '"[^"]*%-dlq"' or code:find '"[^"]*%-consumer"' or
                 code:find '"[^"]*%-fifo"') then
                table.insert(offenders, path)
            end
        end
        assert.are.same({}, offenders)
    end)
end)

describe("A topic name", function()
    it("has letters, digits, '.', '_' and '-'", function()
        for _, name in ipairs { "orders", "Orders_2.v-1", "0", "...", "a.b", ("n"):rep(NAME_MAX) } do
            assert.is_true(check_name(name), name)
        end
    end)

    it("is refused when empty, too long, '.', '..', or with any other character, which is shown", function()
        assert.is_false((check_name(nil)))
        for _, name in ipairs { "", ".", "..", ("n"):rep(NAME_MAX + 1), "a b", "a/b", "größe", "a\n", "*" } do
            assert.is_false((check_name(name)), name)
        end
        local _, text = check_name "or ders"
        assert.truthy(text:find("position 3", 1, true), text)
    end)
end)

describe("A group", function()
    local function new_group(fields)
        return ffi.new("struct shove_group", fields)
    end

    it("has its prefetch in effect only when it is concurrent, else 1", function()
        assert.are.equal(20, C.shove_group_effective_prefetch(new_group { prefetch = 20, is_concurrent = true }))
        assert.are.equal(1, C.shove_group_effective_prefetch(new_group { prefetch = 20 }))
        assert.are.equal(1, C.shove_group_effective_prefetch(new_group { prefetch = 1, is_concurrent = true }))
    end)

    it("has a capacity of consumers times the prefetch in effect", function()
        assert.is_true(C.shove_group_capacity(new_group { prefetch = 20, is_concurrent = true }, 8) == 160)
        assert.is_true(C.shove_group_capacity(new_group { prefetch = 20 }, 8) == 8)
        assert.is_true(C.shove_group_capacity(new_group { prefetch = 20 }, 0) == 0)
        local largest = new_group { prefetch = 4294967295, is_concurrent = true }
        assert.is_true(C.shove_group_capacity(largest, 4294967295) == 18446744065119617025ULL)
    end)
end)

describe("What a group consumes, and by which policy", function()
    local topic, topology, anchors

    before_each(function()
        anchors = { ffi.new("char[7]", "orders"), ffi.new("char[5]", "dead"), ffi.new("int64_t[2]", { 5000, 30000 }) }
        topic = ffi.new "struct shove_topic[1]"
        topic[0].name, topic[0].dlq, topic[0].holds_ms, topic[0].hold_count = anchors[1], anchors[2], anchors[3], 2
        topic[0].sequencing = C.SHOVE_SEQUENCED_SKIP
        topology = ffi.new("struct shove_topology", { topics = topic, topic_count = 1 })
    end)

    it("are the queue, its holds and its DLQ", function()
        local group = ffi.new("struct shove_group", {
            max_retries = 7, max_crashes = 2, timeout_outcome = C.SHOVE_OUTCOME_DEFER,
        })
        assert.are.equal("orders", ffi.string(C.shove_topology_source(topology, group)))
        local policy = C.shove_topology_policy(topology, group)
        assert.is_true(policy.holds_ms == anchors[3] and policy.hold_count == 2)
        assert.are.same({ 7, 2, true, true }, { policy.max_retries, policy.max_crashes, policy.has_dlq, policy.is_sequenced })
        assert.are.equal(tonumber(C.SHOVE_OUTCOME_DEFER), tonumber(policy.timeout_outcome))
    end)

    it("are the DLQ alone for a handler of dead letters: no holds, no DLQ of its own, any order", function()
        local group = ffi.new("struct shove_group", { kind = C.SHOVE_GROUP_DEAD_LETTERS, max_retries = 7 })
        assert.are.equal("dead", ffi.string(C.shove_topology_source(topology, group)))
        local policy = C.shove_topology_policy(topology, group)
        assert.are.same({ 0, 7, false, false },
            { policy.hold_count, policy.max_retries, policy.has_dlq, policy.is_sequenced })
    end)

    it("are without a DLQ or an order where the topic has none", function()
        topic[0].dlq, topic[0].sequencing = nil, C.SHOVE_UNSEQUENCED
        local policy = C.shove_topology_policy(topology, ffi.new "struct shove_group")
        assert.are.same({ false, false }, { policy.has_dlq, policy.is_sequenced })
    end)
end)

describe("A topology", function()
    it("that is zeroed is valid, empty, and may be released twice", function()
        local topology, err = ffi.new "struct shove_topology", ffi.new "struct shove_error"
        assert.are.equal(0, C.shove_topology_check(topology, err))
        C.shove_topology_release(topology)
        C.shove_topology_release(topology)
        assert.are.equal(0, topology.topic_count)
    end)
end)
