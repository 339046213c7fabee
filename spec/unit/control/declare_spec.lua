-- The list of topics behind an app.
local ffi = require "ffi"
local cjson = require "cjson"
local C = require("spec.support.c").include("control/declare.h", "control/topology_json.h", "core/topology.h")

ffi.cdef "void free(void *);"

local NULL = cjson.null
local ROLES = {
    [C.SHOVE_ROLE_MAIN] = "main", [C.SHOVE_ROLE_HOLD] = "hold", [C.SHOVE_ROLE_DLQ] = "dlq", [C.SHOVE_ROLE_POISON] = "poison",
}

local function topology_of(topics)
    for index, changes in ipairs(topics) do
        local topic = {
            name = "orders", broker = 0, for_group = NULL, holds_ms = cjson.empty_array or {}, dlq = false, partitions = 8,
            replication_factor = 1, retention_ms = 0, sequenced = NULL, key = false, codec = "json", external = false,
            allow_message_loss = false, at = "app.lua:" .. index,
        }
        for key, value in pairs(changes) do topic[key] = value end
        topics[index] = topic
    end
    local text = cjson.encode { brokers = { { url = "memory:" }, { url = "embedded:x" } }, on_start = false, topics = topics,
        autoscale = { poll_ms = 5000, up = 2, down = 0.5, hysteresis_ms = 10000, cooldown_ms = 30000, strategy = false } }
    text = text:sub(1, -2) .. ',"warnings":[],"groups":[]}'
    text = text:gsub('"holds_ms":{}', '"holds_ms":[]')
    local topology, err = ffi.gc(ffi.new "struct shove_topology", C.shove_topology_release), ffi.new "struct shove_error"
    local code = C.shove_topology_parse(text, #text, topology, err)
    assert(code == 0, ffi.string(err.text))
    return topology
end

-- A line for each: name role partitions, then what else is said of it.
local function specs_of(topics, broker)
    local topology = topology_of(topics)
    local out, count = ffi.new "struct shove_topic_spec *[1]", ffi.new "size_t[1]"
    assert.are.equal(0, C.shove_declare_specs(topology, broker or 0, out, count, nil))
    local lines = {}
    for i = 0, tonumber(count[0]) - 1 do
        local spec = out[0][i]
        lines[#lines + 1] = ("%s %s %d x%d%s%s%s%s%s %s"):format(ffi.string(spec.name), ROLES[tonumber(spec.role)],
            spec.partitions, spec.replication_factor, spec.is_keyed and " keyed" or "", spec.is_external and " external" or "",
            spec.retention_ms ~= 0 and " " .. tostring(tonumber(spec.retention_ms)) .. "ms" or "",
            spec.hold_ms ~= 0 and " for " .. tostring(tonumber(spec.hold_ms)) .. "ms" or "",
            spec.as_wide_as ~= nil and " as wide as " .. ffi.string(spec.as_wide_as) or "", ffi.string(spec.at))
    end
    ffi.C.free(out[0])
    return lines
end

describe("the topics of an app", function()
    it("are queue, holds and DLQ, in the order of the script, with the queue's partitions", function()
        assert.are.same({
            "orders main 4 x3 60000ms app.lua:1", "orders-hold-1s hold 4 x3 for 1000ms app.lua:1",
            "orders-hold-5s hold 4 x3 for 5000ms app.lua:1", "orders-dlq dlq 4 x3 app.lua:1", "audit main 8 x1 app.lua:2",
        }, specs_of {
            { holds_ms = { 1000, 5000 }, dlq = true, partitions = 4, replication_factor = 3, retention_ms = 60000 },
            { name = "audit" },
        })
    end)

    it("are none for an app without topics", function()
        assert.are.same({}, specs_of {})
    end)

    it("are keyed only where order is kept, and then without holds: retries wait in place", function()
        assert.are.same({ "orders main 8 x1 keyed app.lua:1", "orders-dlq dlq 8 x1 app.lua:1" },
            specs_of { { sequenced = "skip", holds_ms = { 1000 }, dlq = true } })
    end)

    it("are all external when the queue is: nothing is created for it", function()
        assert.are.same({ "orders main 8 x1 external app.lua:1", "orders-dlq dlq 8 x1 external app.lua:1" },
            specs_of { { external = true, dlq = true } })
    end)

    it("have poisoned keys in a topic that must be as wide as the queue, where shove does not make it so", function()
        local sequenced = { sequenced = "fail_all", holds_ms = { 1000 }, dlq = true }
        assert.are.same({
            "orders main 8 x1 keyed app.lua:1", "orders-dlq dlq 8 x1 app.lua:1", "orders-poison poison 8 x1 keyed app.lua:1",
        }, specs_of { sequenced })
        sequenced.external = true
        assert.are.same({
            "orders main 8 x1 keyed external app.lua:1", "orders-dlq dlq 8 x1 external app.lua:1",
            "orders-poison poison 8 x1 keyed external as wide as orders app.lua:1",
        }, specs_of { sequenced })
    end)

    it("are named once where two groups share a queue, which takes the larger number of partitions", function()
        assert.are.same({
            "orders main 12 x1 app.lua:1", "orders-dlq dlq 8 x1 app.lua:1", "orders-audit-dlq dlq 12 x1 app.lua:2",
        }, specs_of { { dlq = true }, { for_group = "audit", dlq = true, partitions = 12 } })
    end)

    it("are named once where queues share a DLQ, and where a DLQ is a queue of its own", function()
        assert.are.same({
            "one main 8 x1 app.lua:1", "errors main 16 x1 5000ms app.lua:3", "two main 16 x1 app.lua:2",
        }, specs_of {
            { name = "one", dlq = "errors" }, { name = "two", dlq = "errors", partitions = 16 },
            { name = "errors", retention_ms = 5000 },
        })
    end)

    it("are those of one broker", function()
        local function topics() return { { dlq = true }, { name = "other", broker = 1, dlq = "orders-dlq" } } end
        assert.are.same({ "orders main 8 x1 app.lua:1", "orders-dlq dlq 8 x1 app.lua:1" }, specs_of(topics(), 0))
        assert.are.same({ "other main 8 x1 app.lua:2", "orders-dlq dlq 8 x1 app.lua:2" }, specs_of(topics(), 1))
    end)
end)
