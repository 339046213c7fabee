-- What of an app may change while it runs.
local ffi = require "ffi"
local C = require("spec.support.c").include "core/topology_change.h"
local build = require "spec.unit.core.topology_builder"

local LARGEST_BYTES = 10485760
local SKIP = C.SHOVE_SEQUENCED_SKIP

-- nil when the change is taken, or why not.
local function check(now, next)
    local err = ffi.new "struct shove_error"
    local code = C.shove_topology_check_change(now, next, LARGEST_BYTES, err)
    if code == 0 then return nil end
    assert.are.equal(C.SHOVE_ECONFIG, code)
    return ffi.string(err.text)
end

local function assert_refused(words, now, next)
    local text = check(now, next)
    assert.is_truthy(text, "it was taken")
    assert.matches(words, text, 1, true)
    assert.matches("restart shove", text, 1, true)
end

local function declares(before, after)
    return C.shove_topology_has_new_topics(build { before }, build { after }, 0)
end

local function rejoins(before, after, group_before, group_after)
    local now, next = build({ before }, { group_before or {} }), build({ after }, { group_after or {} })
    return C.shove_topology_must_rejoin(now, now.groups[0], next, next.groups[0])
end

describe("A reload takes", function()
    for words, case in pairs {
        ["the same app"] = { {}, {} },
        ["other holds"] = { {}, { holds = { 1000 } } },
        ["another DLQ, and none"] = { { dlq = "one" }, { dlq = false } },
        ["more partitions"] = { {}, { partitions = 16 } },
        ["fewer partitions, which change nothing"] = { { partitions = 16 }, {} },
        ["what an external topic is thought to have"] = { { external = true }, { external = true, partitions = 16 } },
        ["another codec"] = { {}, { codec = C.SHOVE_CODEC_RAW } },
    } do
        it(words, function() assert.is_nil(check(build { case[1] }, build { case[2] })) end)
    end

    it("topics and groups that are new, and lets others go", function()
        local now = build({ { name = "a" }, { name = "b" } }, { {}, { topic = 1, group_id = "other" } })
        local next = build({ { name = "a" }, { name = "c" } }, { {}, { topic = 1, group_id = "third" } })
        assert.is_nil(check(now, next))
        assert.is_nil(check(next, now))
    end)

    it("messages as large as there is memory for, whatever the code before it said", function()
        local small = build({ {} }, { { max_message_size_bytes = 1000 } })
        assert.is_nil(check(small, build({ {} }, { { max_message_size_bytes = LARGEST_BYTES } })))
        assert_refused("10485761 bytes, and memory was laid out for messages of 10485760", small,
            build({ {} }, { { max_message_size_bytes = LARGEST_BYTES + 1, at = "app.lua:9" } }))
    end)
end)

describe("A reload refuses, on the user's line, another", function()
    for words, case in pairs {
        ["broker has changed"] = { {}, { broker = 1 } },
        ["replication_factor has changed"] = { {}, { replication_factor = 3 } },
        ["retention has changed"] = { {}, { retention_ms = 5000 } },
        ["sequenced has changed"] = { {}, { sequencing = SKIP } },
        ["shards has changed"] = { { sequencing = SKIP }, { sequencing = SKIP, partitions = 16 } },
        ["external has changed"] = { {}, { external = true } },
    } do
        it(words:match "^%S+", function()
            case[2].at = "app.lua:77"
            assert_refused("app.lua:77: topic 'orders': " .. words, build { case[1] }, build { case[2] })
        end)
    end

    it("order policy, even one of both", function()
        assert_refused("sequenced has changed", build { { sequencing = SKIP } },
            build { { sequencing = C.SHOVE_SEQUENCED_FAIL_ALL } })
    end)

    it("broker of the registry, and brokers that are new, gone or in another order", function()
        local now = build { brokers = { "a:", "b:", "c:" } }
        assert_refused("broker has changed from 'a:' to 'x:'", now, build { brokers = { "x:", "b:", "c:" } })
        assert_refused("the broker 'd:' is new", now, build { brokers = { "a:", "b:", "c:", "d:" } })
        assert_refused("no topic is on the broker 'c:'", now, build { brokers = { "a:", "b:" } })
        assert_refused("another order", now, build { brokers = { "a:", "c:", "b:" } })
    end)

    it("property of a broker, whichever side has it", function()
        local function with(value) return build { {}, property = value and { "client.id", value } } end
        local bare, one, two = with(nil), with "one", with "two"
        assert.is_nil(check(one, with "one"))
        for _, case in ipairs { { bare, one }, { one, bare }, { one, two } } do
            assert_refused("kafka: client.id of 'embedded:a.db' has changed", case[1], case[2])
        end
    end)
end)

describe("Topics are declared at a reload", function()
    it("that are new, on their own broker", function()
        local now, next = build { {} }, build { {}, { name = "more", broker = 1 } }
        assert.is_false(C.shove_topology_has_new_topics(now, next, 0))
        assert.is_true(C.shove_topology_has_new_topics(now, next, 1))
        assert.is_false(C.shove_topology_has_new_topics(next, now, 1))
    end)

    it("when holds, the DLQ or the number of partitions ask for more", function()
        assert.is_false(declares({}, {}))
        assert.is_true(declares({}, { holds = { 1000 } }))
        assert.is_true(declares({ dlq = false }, { dlq = "one" }))
        assert.is_true(declares({}, { partitions = 9 }))
        assert.is_false(declares({}, { partitions = 7 }))
        assert.is_false(declares({ external = true }, { external = true, partitions = 9 }))
    end)
end)

describe("A group leaves and joins again at a reload", function()
    it("when it is to read or write other topics, or begins elsewhere", function()
        assert.is_true(rejoins({}, { holds = { 1000 } }))
        assert.is_true(rejoins({ dlq = "one" }, { dlq = "two" }))
        assert.is_true(rejoins({ dlq = "one" }, { dlq = false }))
        assert.is_true(rejoins({}, {}, {}, { reset = C.SHOVE_RESET_LATEST }))
    end)

    it("and not for anything else", function()
        assert.is_false(rejoins({}, { partitions = 16, codec = C.SHOVE_CODEC_RAW },
            {}, { prefetch = 3, consumers_max = 9, max_retries = 1, handler_timeout_ms = 5 }))
    end)
end)

describe("A group is the same as before", function()
    it("by its name, its kind and its topic", function()
        local now = build({ { name = "a" }, { name = "b" } }, { {}, { topic = 1, group_id = "other" } })
        local next = build({ { name = "b" }, { name = "a" } }, { { topic = 0, group_id = "other" }, { topic = 1 },
            { topic = 0 }, { topic = 1, kind = C.SHOVE_GROUP_DEAD_LETTERS } })
        local function find(i) return tonumber(C.shove_topology_find_group(now, next, next.groups[i])) end
        assert.same({ 1, 0, -1, -1 }, { find(0), find(1), find(2), find(3) })
    end)
end)
