-- The description of an app, as a worker process sends it: what control makes of it, and what it refuses.
local ffi = require "ffi"
local cjson = require "cjson"
local C = require("spec.support.c").include("control/topology_json.h", "core/topology.h")

local NULL = cjson.null

local function new_topic(changes)
    local topic = {
        name = "orders", broker = 0, for_group = NULL, holds_ms = { 5000, 30000 }, dlq = true, partitions = 8,
        replication_factor = 1, retention_ms = 0, sequenced = NULL, key = false, codec = "json", external = false,
        allow_message_loss = false, at = "app.lua:12",
    }
    for key, value in pairs(changes or {}) do topic[key] = value end
    return topic
end

local function new_group(changes)
    local group = {
        topic = 0, kind = "consumer", group_id = NULL, consumers_min = 1, consumers_max = 8, prefetch = 20,
        concurrent = true, max_retries = 10, max_crashes = 3, handler_timeout_ms = 30000, timeout_outcome = "retry",
        auto_offset_reset = "earliest", max_message_size_bytes = 10485760, max_pending_per_key = 1000, audit_timeout_ms = 0,
        at = "app.lua:20",
    }
    for key, value in pairs(changes or {}) do group[key] = value end
    return group
end

local function new_document(topics, groups)
    return {
        brokers = { { url = "embedded:./orders.db", kafka = { ["session.timeout.ms"] = "6000" }, at = "app.lua:3" } },
        on_start = false,
        autoscale = { poll_ms = 5000, up = 2, down = 0.5, hysteresis_ms = 10000, cooldown_ms = 30000, strategy = false },
        warnings = { "app.lua:9: look here" }, topics = topics or { new_topic() }, groups = groups or { new_group() },
    }
end

-- The topology, or nil, the code and the words.
local function parse_text(text)
    local topology, err = ffi.gc(ffi.new "struct shove_topology", C.shove_topology_release), ffi.new "struct shove_error"
    local size = #text
    local bytes = ffi.new("char[?]", math.max(size, 1))
    ffi.copy(bytes, text, size)
    local code = C.shove_topology_parse(bytes, size, topology, err)
    if code == 0 then return topology end
    assert.is_true(topology.topics == nil and topology.groups == nil and topology.brokers == nil)
    assert.are.equal(code, C.shove_topology_parse(bytes, size, topology, nil))
    return nil, code, ffi.string(err.text)
end

local function parse(document)
    local topology, _, text = parse_text(cjson.encode(document))
    return topology, text
end

local function parsed(document)
    local topology, text = parse(document)
    assert.is_truthy(topology, text)
    return topology
end

local function refused(words, document)
    local topology, code, text = parse_text(type(document) == "string" and document or cjson.encode(document))
    assert.is_nil(topology)
    assert.are.equal(C.SHOVE_ECONFIG, code)
    for _, word in ipairs(type(words) == "table" and words or { words }) do
        assert.truthy(text:find(word, 1, true), ("%q is not in %q"):format(word, text))
    end
end

local function text_of(pointer)
    return pointer ~= nil and ffi.string(pointer) or nil
end

describe("The description of an app", function()
    it("becomes a topology with everything that was said", function()
        local topology = parsed(new_document())
        local broker = topology.brokers[0]
        assert.are.same({ "embedded:./orders.db", "app.lua:3", false, 1, 1, 1, 1, 1 }, {
            text_of(broker.url), text_of(broker.at), topology.has_on_start, topology.broker_count, topology.topic_count,
            topology.group_count, broker.property_count, topology.warning_count,
        })
        assert.are.same({ "session.timeout.ms", "6000", "app.lua:9: look here" }, {
            text_of(broker.properties[0].name), text_of(broker.properties[0].value), text_of(topology.warnings[0]),
        })
        local topic = topology.topics[0]
        assert.are.same({ "orders", "orders-dlq", "orders-hold-5s", "orders-hold-30s", "app.lua:12", 2, 8, 1 }, {
            text_of(topic.name), text_of(topic.dlq), text_of(topic.holds[0]), text_of(topic.holds[1]), text_of(topic.at),
            topic.hold_count, topic.partitions, topic.replication_factor,
        })
        assert.is_true(topic.for_group == nil and topic.holds_ms[1] == 30000 and topic.sequencing == C.SHOVE_UNSEQUENCED)
        local group = topology.groups[0]
        assert.are.same({ "orders-consumer", 1, 8, 20, true, 10, 3, 1000, "app.lua:20" }, {
            text_of(group.group_id), group.consumers_min, group.consumers_max, group.prefetch, group.is_concurrent,
            group.max_retries, group.max_crashes, group.max_pending_per_key, text_of(group.at),
        })
        assert.is_true(group.handler_timeout_ms == 30000 and group.max_message_size_bytes == 10485760)
        assert.is_true(group.audit_timeout_ms == 0)
        assert.is_true(parsed(new_document(nil, { new_group { audit_timeout_ms = 5000 } })).groups[0].audit_timeout_ms == 5000)
    end)

    it("carries every choice there is", function()
        for name, codec in pairs { json = C.SHOVE_CODEC_JSON, raw = C.SHOVE_CODEC_RAW, custom = C.SHOVE_CODEC_CUSTOM } do
            assert.is_true(parsed(new_document { new_topic { codec = name } }).topics[0].codec == codec)
        end
        for name, order in pairs { skip = C.SHOVE_SEQUENCED_SKIP, fail_all = C.SHOVE_SEQUENCED_FAIL_ALL } do
            local topology = parsed(new_document({ new_topic { sequenced = name } }, { new_group { consumers_max = 1 } }))
            assert.is_true(topology.topics[0].sequencing == order)
            assert.are.equal("orders-fifo", text_of(topology.groups[0].group_id))
        end
        for name, reset in pairs { earliest = C.SHOVE_RESET_EARLIEST, latest = C.SHOVE_RESET_LATEST,
                                   none = C.SHOVE_RESET_NONE } do
            local topology = parsed(new_document(nil, { new_group { auto_offset_reset = name } }))
            assert.is_true(topology.groups[0].reset == reset)
        end
        for name, outcome in pairs { ack = C.SHOVE_OUTCOME_ACK, retry = C.SHOVE_OUTCOME_RETRY,
                                     reject = C.SHOVE_OUTCOME_REJECT, defer = C.SHOVE_OUTCOME_DEFER } do
            local topology = parsed(new_document(nil, { new_group { timeout_outcome = name } }))
            assert.is_true(topology.groups[0].timeout_outcome == outcome)
        end
        local topology = parsed(new_document {
            new_topic { external = true, key = true, allow_message_loss = true, retention_ms = 7 },
        })
        local topic = topology.topics[0]
        assert.is_true(topic.is_external and topic.has_key and topic.allows_message_loss and topic.retention_ms == 7)
    end)

    it("has a DLQ by its derived name, by the name that was given, or none", function()
        assert.are.equal("dead", text_of(parsed(new_document { new_topic { dlq = "dead" } }).topics[0].dlq))
        assert.is_nil(text_of(parsed(new_document { new_topic { dlq = false } }).topics[0].dlq))
        assert.is_nil(text_of(parsed(new_document { new_topic { dlq = NULL } }).topics[0].dlq))
    end)

    it("derives names of a second group on the same queue", function()
        local topology = parsed(new_document({ new_topic { for_group = "audit", holds_ms = { 1500 } } }))
        assert.are.same({ "orders-audit-dlq", "orders-audit-hold-1500ms", "orders-audit-consumer" }, {
            text_of(topology.topics[0].dlq), text_of(topology.topics[0].holds[0]), text_of(topology.groups[0].group_id),
        })
    end)

    it("lets a handler of dead letters consume the DLQ as {dlq}-consumer, unless it has a group id", function()
        local groups = { new_group(), new_group { kind = "dead_letters" } }
        local topology = parsed(new_document({ new_topic { for_group = "audit", dlq = "dead" } }, groups))
        assert.are.equal("dead-consumer", text_of(topology.groups[1].group_id))
        assert.are.equal("dead", text_of(C.shove_topology_source(topology, topology.groups[1])))
        groups[2].group_id = "undertaker"
        assert.are.equal("undertaker", text_of(parsed(new_document(nil, groups)).groups[1].group_id))
    end)

    it("may come from Lua's own encoder, whose empty list is {}", function()
        local document = new_document({ new_topic { holds_ms = {} } }, {})
        document.warnings, document.brokers[1].kafka = {}, {}
        assert.truthy(cjson.encode(document):find('"holds_ms":{}', 1, true))
        assert.are.equal(0, parsed(document).topics[0].hold_count)
        assert.is_truthy(parse_text((cjson.encode(document):gsub('"kafka":{}', '"kafka":[]'))))
    end)

    it("may leave out what is null, and write a whole number with an exponent", function()
        local topic, group = new_topic(), new_group()
        topic.for_group, topic.sequenced, group.group_id = nil, nil, nil
        local document = new_document({ topic }, { group })
        document.brokers[1].kafka, document.warnings, document.on_start = nil, nil, nil
        assert.is_truthy(parsed(document))
        local text = cjson.encode(document):gsub('"retention_ms":0', '"retention_ms":1e+15')
        assert.is_true(parse_text(text).topics[0].retention_ms == 1000000000000000LL)
    end)

    it("is what lua/shove describes", function()
        local shove = require "shove"
        local app = shove.registry { broker = "kafka://localhost:1", kafka = { ["client.rack"] = "a" } }
        local orders = app:topic("orders", { hold = { "500ms", "5s" }, dlq = true, partitions = 3 })
        app:register(orders, shove.group { consumers = { min = 2, max = 2 }, prefetch = 5, concurrent = true }, function() end)
        app:dead_letters(orders, function() end)
        local topology, _, text = parse_text(require("shove.describe").encode(app))
        assert.is_truthy(topology, text)
        assert.are.same({ "orders-hold-500ms", "orders-dlq-consumer", 2, 5 }, {
            text_of(topology.topics[0].holds[0]), text_of(topology.groups[1].group_id), topology.groups[0].consumers_min,
            topology.groups[0].prefetch,
        })
    end)
end)

describe("A malformed description is refused", function()
    it("when it is not JSON, or not an object", function()
        for _, text in ipairs { "", "{", "nonsense", "{} {}", "\0", '{"broker":"a","broker":"b"}', '{"a":1e999}', '"\255"' } do
            refused("not JSON", text)
        end
        for _, text in ipairs { "[]", "3", "null", '"x"', "true" } do
            local topology, code = parse_text(text)
            assert.is_nil(topology)
            assert.are.equal(C.SHOVE_ECONFIG, code)
        end
        refused("not JSON", ("["):rep(100000))
    end)

    it("when something is missing, with its path", function()
        for key in pairs(new_topic()) do
            if key ~= "for_group" and key ~= "sequenced" and key ~= "dlq" then
                local topic = new_topic()
                topic[key] = nil
                refused({ "topics[0]." .. key, "missing" }, new_document { topic })
            end
        end
        for key in pairs(new_group()) do
            if key ~= "group_id" then
                local group = new_group()
                group[key] = nil
                refused({ "groups[1]." .. key, "missing" }, new_document(nil, { new_group(), group }))
            end
        end
        for _, key in ipairs { "brokers", "topics", "groups" } do
            local document = new_document()
            document[key] = nil
            refused({ key, "missing" }, document)
        end
    end)

    it("when something has another type, with its path and what it is", function()
        local wrong = { "text", 1, true, { 1 }, { a = 1 } }
        local kinds = { "a string", "a number", "a boolean", "an array", "an object" }
        local allowed = { dlq = { true, false, true }, holds_ms = { false, false, false, true } }
        local function try(path, make)
            local key = path:match "([%w_]+)$"
            local is = type(make())
            for i, value in ipairs(wrong) do
                local is_allowed = allowed[key] and allowed[key][i] or type(value) == is
                    or ((key == "for_group" or key == "sequenced" or key == "group_id") and i == 1)
                if not is_allowed then refused({ path, kinds[i] }, make(value)) end
            end
        end
        for key, value in pairs(new_topic()) do
            try("topics[0]." .. key, function(other)
                if other == nil then return value end
                return new_document { new_topic { [key] = other } }
            end)
        end
        for key, value in pairs(new_group()) do
            try("groups[0]." .. key, function(other)
                if other == nil then return value end
                return new_document(nil, { new_group { [key] = other } })
            end)
        end
        refused({ "topics[0]", "a number" }, new_document { 5 })
        refused({ "holds_ms[1]", "a string" }, new_document { new_topic { holds_ms = { 5, "x" } } })
    end)

    it("when a number is a fraction or out of range", function()
        refused({ "prefetch", "fraction" }, new_document(nil, { new_group { prefetch = 1.5 } }))
        refused({ "partitions", "range" }, new_document { new_topic { partitions = 0 } })
        refused({ "partitions", "range" }, new_document { new_topic { partitions = 2147483648 } })
        refused({ "replication_factor", "range" }, new_document { new_topic { replication_factor = 0 } })
        refused({ "retention_ms", "range" }, new_document { new_topic { retention_ms = -1 } })
        refused({ "retention_ms", "fraction" }, (cjson.encode(new_document()):gsub('"retention_ms":0', '"retention_ms":1e300')))
        refused({ "topic", "range" }, new_document(nil, { new_group { topic = -1 } }))
        refused({ "holds_ms[0]", "range" }, new_document { new_topic { holds_ms = { 0 } } })
        refused({ "max_retries", "range" }, new_document(nil, { new_group { max_retries = 4294967296 } }))
    end)

    it("when a choice is not one of its values", function()
        for _, key in ipairs { "kind", "timeout_outcome", "auto_offset_reset" } do
            refused({ "groups[0]." .. key, "sideways" }, new_document(nil, { new_group { [key] = "sideways" } }))
        end
        for _, key in ipairs { "sequenced", "codec" } do
            refused({ "topics[0]." .. key, "sideways" }, new_document { new_topic { [key] = "sideways" } })
        end
    end)

    it("when it has a key that nobody reads", function()
        refused({ "topics[0].shards", "not known" }, new_document { new_topic { shards = 8 } })
        refused({ "groups[0].speed", "not known" }, new_document(nil, { new_group { speed = "fast" } }))
        local document = new_document()
        document.speed = true
        refused({ "speed", "not known" }, document)
    end)

    it("when a Kafka property or a warning is not text", function()
        local document = new_document()
        document.brokers[1].kafka = { ["fetch.min.bytes"] = 1 }
        refused({ "brokers[0].kafka", "a number for fetch.min.bytes" }, document)
        document = new_document()
        document.brokers[1].kafka = { 1 }
        refused({ "brokers[0].kafka", "an array" }, document)
        document = new_document()
        document.warnings = { true }
        refused({ "warnings", "a boolean" }, document)
    end)

    it("when it has no broker, one without an address, one twice, or more than 64", function()
        local document = new_document()
        document.brokers = cjson.decode "[]"
        refused({ "brokers", "empty" }, (cjson.encode(document):gsub('"brokers":{}', '"brokers":[]')))
        document.brokers = { { at = "app.lua:3" } }
        refused("brokers[0].url", document)
        document.brokers = { { url = "memory:" }, { url = "memory:" } }
        refused({ "memory:", "twice" }, document)
        for i = 1, 65 do document.brokers[i] = { url = "embedded:" .. i } end
        refused("65 brokers", document)
    end)

    it("when a group refers to a topic that is not there", function()
        refused({ "groups[0].topic", "no topic number 1" }, new_document(nil, { new_group { topic = 1 } }))
        refused("no topic number 0", new_document({}, { new_group() }))
    end)
end)

describe("An app that may not run is refused", function()
    it("with the user's line", function()
        refused({ "app.lua:12: ", "itself" }, new_document { new_topic { dlq = "orders" } })
        refused({ "app.lua:12: ", "249" }, new_document { new_topic { name = ("n"):rep(249) } })
        refused({ "app.lua:12: ", "249" }, new_document { new_topic { name = ("n"):rep(249), holds_ms = {} } })
        refused({ "app.lua:20: ", "249" },
            new_document({ new_topic { name = ("n"):rep(249), holds_ms = {}, dlq = false } }, { new_group() }))
        refused({ "app.lua:20: ", "group_id" }, new_document(nil, { new_group { group_id = "" } }))
        refused({ "app.lua:20: ", "no dlq" },
            new_document({ new_topic { dlq = false } }, { new_group { kind = "dead_letters" } }))
        refused({ "app.lua:31: ", "app.lua:20" }, new_document(nil, { new_group(), new_group { at = "app.lua:31" } }))
    end)
end)

describe("Whatever bytes a worker sends", function()
    it("control survives them, and gives everything back", function()
        local text = cjson.encode(new_document({ new_topic(), new_topic { name = "payments", sequenced = "skip" } },
            { new_group(), new_group { topic = 1, consumers_max = 1 }, new_group { kind = "dead_letters" } }))
        local pieces = { "null", "true", "-1", "1e400", "99999999999999999999", '""', "[]", "{}", '"\\u0000"', '"\\ud800"', ",",
                         ":", "}", "{", "[", "\255", "\0", '"', "0.5", '"dead_letters"' }
        local taken, refusals = 0, 0
        for _ = 1, 5000 do
            local changed = text
            for _ = 1, math.random(1, 3) do
                local at, how = math.random(1, #changed), math.random(4)
                if how == 1 then
                    changed = changed:sub(1, at - 1) .. string.char(math.random(0, 255)) .. changed:sub(at + 1)
                elseif how == 2 then
                    changed = changed:sub(1, at - 1) .. pieces[math.random(#pieces)] .. changed:sub(at)
                elseif how == 3 then
                    local from, to = changed:find('[%d%a"]+', at)
                    if from then changed = changed:sub(1, from - 1) .. pieces[math.random(#pieces)] .. changed:sub(to + 1) end
                elseif math.random(10) == 1 then
                    changed = changed:sub(1, at)
                end
            end
            local topology, code = parse_text(changed)
            if topology then
                taken = taken + 1
                C.shove_topology_release(topology)
            else
                refusals = refusals + 1
                assert.are.equal(C.SHOVE_ECONFIG, code)
            end
        end
        assert.is_true(taken > 50 and refusals > 1000, ("%d taken, %d refused"):format(taken, refusals))
    end)
end)
