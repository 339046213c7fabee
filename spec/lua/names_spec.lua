-- Lua refuses by rules that C decides by: the two are compared, so that they cannot drift apart.

require "spec.lua.script"
local broker = require "shove.broker"
local names = require "shove.names"

local function read(path)
    local file = assert(io.open(path))
    local text = file:read "*a"
    file:close()
    return text
end

-- The C functions, where this runs inside spec_runner.
local function topology()
    local C = require("spec.support.c").include "core/topology.h"
    local is_there = pcall(function() return C.shove_topology_dlq_name end)
    return is_there and C or nil
end

describe("A derived name", function()
    local ffi = require "ffi"

    local function c_name(call)
        local C = topology()
        if not C then
            pending "plain busted has no C code: run it in spec_runner"
            return nil
        end
        local out = ffi.new("char[250]")
        return function(...)
            local arguments = { ... }
            arguments[#arguments + 1] = out
            local rc = call(C, arguments)
            return rc == 0 and ffi.string(out) or nil
        end
    end

    it("of a hold is the one that control uses", function()
        local name_of = c_name(function(C, a) return C.shove_topology_hold_name(a[1], a[2] or nil, a[3], a[4], nil) end)
        if name_of then
            for _, ms in ipairs { 1, 500, 999, 1000, 1500, 5000, 30000, 300000, 604800000 } do
                assert.equal(name_of("orders", false, ms), names.hold("orders", nil, ms))
                assert.equal(name_of("orders", "audit", ms), names.hold("orders", "audit", ms))
            end
        end
    end)

    it("of a DLQ is the one that control uses", function()
        local name_of = c_name(function(C, a) return C.shove_topology_dlq_name(a[1], a[2] or nil, a[3], nil) end)
        if name_of then
            assert.equal(name_of("orders", false), names.dlq("orders", nil))
            assert.equal(name_of("orders", "audit"), names.dlq("orders", "audit"))
        end
    end)

    it("of a group is the one that control uses", function()
        local name_of = c_name(function(C, a)
            return C.shove_topology_group_id(a[1] or nil, a[2], a[3] or nil, a[4], a[5], nil)
        end)
        if name_of then
            for _, row in ipairs { { false, "o", false, false }, { false, "o", "g", false }, { "mine", "o", "g", false },
                                   { false, "o", false, true }, { false, "o", "g", true } } do
                assert.equal(name_of(unpack(row)), names.group_id(row[1] or nil, row[2], row[3] or nil, row[4]))
            end
        end
    end)

    it("is as long as control allows", function()
        assert.equal(tonumber(read("runtime/core/topology.h"):match "#define SHOVE_TOPIC_NAME_MAX (%d+)"), names.LENGTH_MAX)
    end)

    it("has the characters that control allows", function()
        local C = topology()
        if not C then
            pending "plain busted has no C code: run it in spec_runner"
            return
        end
        for byte = 1, 255 do
            local name = "a" .. string.char(byte)
            assert.equal(C.shove_topology_check_name(name, nil) == 0, names.topic(name) ~= nil, "byte " .. byte)
        end
        for _, name in ipairs { "", ".", "..", "...", ("n"):rep(249), ("n"):rep(250) } do
            assert.equal(C.shove_topology_check_name(name, nil) == 0, names.topic(name) ~= nil, name)
        end
    end)
end)

describe("A Kafka property", function()
    it("is shove's own here if and only if the kafka transport says so", function()
        local theirs = {}
        local rows = read("runtime/transport/kafka_config.c"):match "owned_properties%[%] = (%b{})"
        for name in rows:gmatch '{%s*"([^"]+)"' do
            theirs[name] = true
        end
        local mine = {}
        for name in pairs(broker.owned) do
            mine[name] = true
        end
        assert.same(theirs, mine)
    end)

    it("is a string, a boolean or a whole number", function()
        assert.same({ a = "1", b = "true", c = "text", d = "-1" },
            (broker.properties { a = 1, b = true, c = "text", d = -1 }))
        for _, value in ipairs { 1.5, 0 / 0, math.huge, print, {} } do
            assert.is_nil((broker.properties { a = value }))
        end
        assert.is_nil((broker.properties { a = "x\0y" }))
        assert.is_nil((broker.properties { a = "\255" }))
    end)
end)

describe("A broker", function()
    for _, address in ipairs {
        "kafka://h", "kafka://h:9092", "kafka://a:1,b:2,c", "kafka://10.0.0.1:9092", "kafka://[::1]:9092", "kafka://[::1]",
        "embedded:x", "embedded:./orders.db", "embedded:/var/lib/shove/my orders.db", "memory:",
    } do
        it("may be " .. address, function()
            assert.equal(address, broker.check(address))
        end)
    end

    for _, address in ipairs {
        "kafka:h", "kafka:/h", "KAFKA://h", "kafka://::1", "kafka://h:", "kafka://h:0", "kafka://h/topic", "kafka://h?x=1",
        "kafka://:9092", "embedded", "memory", "memory://", " memory:", "embedded:a\nb", "embedded:a\0b", "embedded:\255",
    } do
        it(("may not be %q"):format(address), function()
            assert.is_nil((broker.check(address)))
        end)
    end
end)
