-- What a script gets that says nothing, and what it gets when it says something: the description that control reads.

local script = require "spec.lua.script"
local describe_module = require "shove.describe"

local function topic_of(options)
    return script.document(("app:topic('orders', %s)"):format(options)).topics[1]
end

local function group_of(options, registry_options)
    local body = ("local t = app:topic 'orders'\napp:register(t, %s, print)"):format(options)
    if registry_options then
        body = ("app = shove.registry(%s)\n"):format(registry_options) .. body
    end
    return script.document(body).groups[1]
end

describe("A topic that is given nothing", function()
    -- field | value
    for _, row in ipairs {
        { "for_group", nil }, { "dlq", false }, { "partitions", 8 }, { "replication_factor", 1 }, { "retention_ms", 0 },
        { "sequenced", nil }, { "codec", "json" }, { "external", false }, { "allow_message_loss", false },
        { "at", "app.lua:2" }, { "name", "orders" },
    } do
        it(("has %s = %s"):format(row[1], tostring(row[2])), function()
            assert.equal(row[2], topic_of("nil")[row[1]])
        end)
    end

    it("has no holds", function()
        assert.same({}, topic_of("{}").holds_ms)
    end)

    it("has 8 shards when it is sequenced", function()
        assert.equal(8, topic_of("{ sequenced = 'skip', hold = { 1 }, dlq = true }").partitions)
    end)
end)

describe("A group that is given nothing", function()
    for _, row in ipairs {
        { "topic", 0 }, { "kind", "consumer" }, { "group_id", nil }, { "consumers_min", 1 }, { "consumers_max", 1 },
        { "prefetch", 10 }, { "concurrent", false }, { "max_retries", 10 }, { "max_crashes", 3 },
        { "handler_timeout_ms", 30000 }, { "timeout_outcome", "retry" }, { "auto_offset_reset", "earliest" },
        { "max_message_size_bytes", 10 * 1024 * 1024 }, { "max_pending_per_key", 1000 },
        { "audit_timeout_ms", 0 }, { "at", "app.lua:3" },
    } do
        it(("has %s = %s"):format(row[1], tostring(row[2])), function()
            assert.equal(row[2], group_of("{}")[row[1]])
        end)
    end
end)

describe("What a topic says", function()
    -- sentence | options | field | value
    for _, row in ipairs {
        { "its holds ascend whatever the order they are written in", "{ hold = { '5m', '500ms', 30 }, dlq = true }",
          "holds_ms", { 500, 30000, 300000 } },
        { "a dlq that is true stays true: its name is derived elsewhere", "{ hold = { 1 }, dlq = true }", "dlq", true },
        { "a dlq that is a name is taken verbatim", "{ hold = { 1 }, dlq = 'dead.Letters_1' }", "dlq", "dead.Letters_1" },
        { "a dlq that is false is none", "{ dlq = false }", "dlq", false },
        { "partitions are what it says", "{ partitions = 3 }", "partitions", 3 },
        { "shards are partitions", "{ sequenced = 'fail_all', hold = { 1 }, dlq = true, shards = 3 }", "partitions", 3 },
        { "the kind of sequence", "{ sequenced = 'fail_all', hold = { 1 }, dlq = true }", "sequenced", "fail_all" },
        { "a sequenced topic without holds and dlq, when loss is allowed",
          "{ sequenced = 'skip', allow_message_loss = true }", "allow_message_loss", true },
        { "retention in milliseconds", "{ retention = '1h' }", "retention_ms", 3600000 },
        { "the codec raw", "{ codec = 'raw' }", "codec", "raw" },
        { "a codec of the script's own", "{ codec = { encode = tostring, decode = tostring } }", "codec", "custom" },
        { "external", "{ external = true }", "external", true },
        { "the group it is for", "{ for_group = 'audit' }", "for_group", "audit" },
    } do
        it("is kept: " .. row[1], function()
            assert.same(row[4], topic_of(row[2])[row[3]])
        end)
    end

    it("is kept also when the table is altered afterwards", function()
        local document = script.document("local o = { hold = { 1 }, dlq = true }; app:topic('o', o); o.hold[1] = 9; o.dlq = nil")
        assert.same({ 1000 }, document.topics[1].holds_ms)
        assert.is_true(document.topics[1].dlq)
    end)
end)

describe("The autoscaler's rule", function()
    local function rule(source) return script.document(source .. " app:topic 'a'").autoscale end

    it("is a poll every 5 s, 2.0 and 0.5 of the capacity, 10 s of hysteresis and 30 s of cooldown by default", function()
        local default = { poll_ms = 5000, up = 2, down = 0.5, hysteresis_ms = 10000, cooldown_ms = 30000, strategy = false }
        assert.same(default, rule "")
        assert.same(default, rule "app:autoscale {}")
    end)

    it("is what the app says, and the default for what it does not", function()
        assert.same({ poll_ms = 250, up = 1.5, down = 0.1, hysteresis_ms = 10000, cooldown_ms = 60000,
            strategy = true }, rule "app:autoscale { poll = '250ms', up = 1.5, down = 0.1, cooldown = '1m', strategy = print }")
    end)
end)

describe("An audit", function()
    -- The topics, and how long the audit of each group may take, of an app with this option.
    local function audited(option, more)
        local document = script.document(("app = shove.registry { broker = 'memory:', audit = %s }\n"):format(option)
            .. "local o = app:topic('o', { hold = { 1 }, dlq = true }); app:register(o, {}, print)\n"
            .. "app:dead_letters(o, print); app:register(app:topic 'left-out', { audit = false }, print)\n" .. (more or ""))
        local names, timeouts = {}, {}
        for i, topic in ipairs(document.topics) do names[i] = topic.name .. " " .. topic.at end
        for i, group in ipairs(document.groups) do timeouts[i] = group.audit_timeout_ms end
        return names, timeouts
    end

    it("to the topic declares it behind the others, at the registry's line", function()
        for _, option in ipairs { "true", "{}", "{ to = true }" } do
            local names, timeouts = audited(option)
            assert.same({ "o app.lua:3", "left-out app.lua:4", "shove-audit-log app.lua:2" }, names)
            assert.same({ 5000, 5000, 0 }, timeouts)
        end
    end)

    it("to a function declares nothing", function()
        for _, option in ipairs { "print", "{ to = print }" } do
            local names, timeouts = audited(option)
            assert.same({ "o app.lua:3", "left-out app.lua:4" }, names)
            assert.same({ 5000, 5000, 0 }, timeouts)
        end
    end)

    it("has the time that it says", function()
        local _, timeouts = audited "{ timeout = '250ms' }"
        assert.same({ 250, 250, 0 }, timeouts)
    end)

    it("that is false is none", function()
        local names, timeouts = audited "false"
        assert.same({ { "o app.lua:3", "left-out app.lua:4" }, { 0, 0, 0 } }, { names, timeouts })
    end)

    it("leaves the audit log alone, which is as the app declares it: its handler, its dead letters, its other groups", function()
        for _, option in ipairs { "true", "print" } do
            local names, timeouts = audited(option, [[
                local log = app:topic("shove-audit-log", { partitions = 3, hold = { 1 }, dlq = true })
                app:register(log, {}, print); app:dead_letters(log, print)
                app:register(app:topic("shove-audit-log", { for_group = "g" }), {}, print)
            ]])
            assert.same({ "o app.lua:3", "left-out app.lua:4", "shove-audit-log app.lua:5", "shove-audit-log app.lua:7" }, names)
            assert.same({ 5000, 5000, 0, 0, 0, 0 }, timeouts)
        end
    end)

    it("to a function leaves a DLQ of that name alone, not the queue behind it", function()
        local _, timeouts = audited("print", "local p = app:topic('p', { hold = { 1 }, dlq = 'shove-audit-log' })\n"
            .. "app:register(p, {}, print); app:dead_letters(p, print)")
        assert.same({ 5000, 5000, 0, 5000, 0 }, timeouts)
    end)
end)

describe("What a group says", function()
    for _, row in ipairs {
        { "min alone raises max", "{ consumers = { min = 4 } }", "consumers_max", 4 },
        { "max alone leaves min", "{ consumers = { max = 4 } }", "consumers_min", 1 },
        { "min may be 0", "{ consumers = { min = 0, max = 2 } }", "consumers_min", 0 },
        { "its group id", "{ group_id = 'billing/orders v2' }", "group_id", "billing/orders v2" },
        { "a size in words", "{ max_message_size = '64KiB' }", "max_message_size_bytes", 65536 },
        { "a duration in seconds", "{ handler_timeout = 0.25 }", "handler_timeout_ms", 250 },
        { "retries may be 0", "{ max_retries = 0 }", "max_retries", 0 },
        { "the outcome of a timeout", "{ on_timeout = 'reject' }", "timeout_outcome", "reject" },
        { "none as an offset reset", "{ auto_offset_reset = 'none' }", "auto_offset_reset", "none" },
        { "prefetch as configured, not as in effect", "{ prefetch = 20 }", "prefetch", 20 },
    } do
        it("is kept: " .. row[1], function()
            assert.equal(row[4], group_of(row[2])[row[3]])
        end)
    end

    it("goes before what the registry says of handler_timeout, which goes before the default", function()
        local registry = "{ broker = 'memory:', handler_timeout = '7s' }"
        assert.equal(7000, group_of("{}", registry).handler_timeout_ms)
        assert.equal(2000, group_of("{ handler_timeout = 2 }", registry).handler_timeout_ms)
    end)

    it("raises the number of partitions to its consumers when the topic gave none", function()
        local document = script.document("local t = app:topic 'o'\napp:register(t, { consumers = { max = 20 } }, print)")
        assert.equal(20, document.topics[1].partitions)
    end)

    it("raises the partitions of every declaration of its queue", function()
        local document = script.document("local t = app:topic 'o'; app:topic('o', { for_group = 'g' })\n"
            .. "app:register(t, { consumers = { max = 20 } }, print)")
        assert.equal(20, document.topics[2].partitions)
    end)

    it("leaves partitions alone that were given and suffice", function()
        local document = script.document("local t = app:topic('o', { partitions = 4 })\n"
            .. "app:register(t, { consumers = { max = 4 } }, print)")
        assert.equal(4, document.topics[1].partitions)
    end)
end)

describe("A group object", function()
    local shove = require "shove"

    it("can be read back", function()
        local group = shove.group {
            consumers = { min = 2, max = 8 }, prefetch = 20, concurrent = true, max_retries = 4, max_crashes = 2,
            handler_timeout = "1500ms", on_timeout = "ack", auto_offset_reset = "latest", group_id = "x",
            max_message_size = "1KiB", max_pending_per_key = 7, audit = false,
        }
        assert.same({ 2, 8, 20, 20, true, 4, 2, 1.5, "ack", "latest", "x", 1024, 7, false }, {
            group.min_consumers, group.max_consumers, group.prefetch_count, group.effective_prefetch,
            group.concurrent_processing, group.max_retries, group.max_crashes, group.handler_timeout, group.on_timeout,
            group.auto_offset_reset, group.group_id, group.max_message_size, group.max_pending_per_key, group.audit,
        })
    end)

    it("tells the defaults, and nil where the registry or the queue decides", function()
        local group = shove.group {}
        assert.same({ 1, 1, 10, 1, false, 10, 3, "retry", "earliest", 10 * 1024 * 1024, 1000, true }, {
            group.min_consumers, group.max_consumers, group.prefetch_count, group.effective_prefetch,
            group.concurrent_processing, group.max_retries, group.max_crashes, group.on_timeout,
            group.auto_offset_reset, group.max_message_size, group.max_pending_per_key, group.audit,
        })
        assert.is_nil(group.handler_timeout)
        assert.is_nil(group.group_id)
    end)

    it("has an effective prefetch of 1 without concurrent", function()
        assert.equal(1, shove.group({ prefetch = 20 }).effective_prefetch)
    end)

    it("can be used for several topics", function()
        local document = script.document("local g = shove.group { max_retries = 2 }\n"
            .. "app:register(app:topic 'a', g, print)\napp:register(app:topic 'b', g, print)")
        assert.equal(2, document.groups[1].max_retries)
        assert.equal(2, document.groups[2].max_retries)
    end)

    it("passes through shove.group as it is", function()
        local group = shove.group {}
        assert.equal(group, shove.group(group))
    end)
end)

describe("A topic object", function()
    it("tells its name, its group and its sequence, and nothing else", function()
        local _, topic = script.run("return (app:topic('o', { for_group = 'g' }))")
        assert.same({ "o", "g" }, { topic.name, topic.for_group })
        assert.is_nil(topic.sequenced)
        assert.equal('topic "o" for group "g"', tostring(topic))
    end)
end)

describe("The description of an app", function()
    it("numbers the topics of its groups from 0, in the order of registration", function()
        local document = script.document("local a, b = app:topic('a', { dlq = true, hold = { 1 } }), app:topic 'b'\n"
            .. "app:register(b, {}, print)\napp:dead_letters(a, print)\napp:register(a, {}, print)")
        local seen = {}
        for i, group in ipairs(document.groups) do
            seen[i] = group.topic .. " " .. group.kind
        end
        assert.same({ "1 consumer", "0 dead_letters", "0 consumer" }, seen)
    end)

    it("takes options for dead letters", function()
        local document = script.document("local a = app:topic('a', { dlq = true, hold = { 1 } })\n"
            .. "app:dead_letters(a, { group_id = 'undertaker', max_retries = 1 }, print)")
        assert.equal("undertaker", document.groups[1].group_id)
        assert.equal(1, document.groups[1].max_retries)
    end)

    it("has every Kafka property as a string", function()
        local document = script.document([[app = shove.registry { broker = "kafka://a:1,[::1]:2,c",
            kafka = { ["session.timeout.ms"] = 6000, ["socket.keepalive.enable"] = true, ["client.id"] = "x" } }
            app:topic "o"]])
        assert.same({ ["session.timeout.ms"] = "6000", ["socket.keepalive.enable"] = "true", ["client.id"] = "x" },
            document.brokers[1].kafka)
        assert.equal("kafka://a:1,[::1]:2,c", document.brokers[1].url)
    end)

    it("says whether there is an on_start", function()
        assert.is_false(script.document("app:topic 'o'").on_start)
        assert.is_true(script.document("app:topic 'o'; app:on_start(print)").on_start)
    end)

    it("is refused for an app without any topic", function()
        local is_ok, app = script.run("return app")
        assert.is_true(is_ok)
        local has_document, message = pcall(describe_module.document, app)
        assert.is_false(has_document)
        assert.equal("app.lua:1: registry: no topic is declared, so there is nothing to run", message)
    end)

    it("lets two topics share a dlq that both call by its name, or one that is a topic of its own", function()
        local document = script.document("app:topic('a', { hold = { 1 }, dlq = 'dead' })\n"
            .. "app:topic('b', { hold = { 1 }, dlq = 'dead' }); app:topic 'dead'")
        assert.equal(3, #document.topics)
    end)

    it("knows an app from anything else", function()
        local _, app = script.run("return app")
        assert.is_true(describe_module.is_app(app))
        for _, value in ipairs { {}, "app", 1, print, require("shove").ack } do
            assert.is_false(describe_module.is_app(value))
        end
        assert.is_false(describe_module.is_app(nil))
    end)
end)

describe("The text of a description", function()
    local cjson = require "cjson"

    local APP = [[
        app = shove.registry { broker = "kafka://h", kafka = { b = "2", a = "1", c = "3\"\\" } }
        local o = app:topic("o", { hold = { 1, "250ms" }, dlq = true })
        app:topic("o", { for_group = "g", dlq = "x" })
        app:register(o, { group_id = "me", prefetch = 3 }, print)
        return app]]

    local function text_of(body)
        local is_ok, app = script.run(body)
        assert(is_ok, app)
        return describe_module.encode(app)
    end

    it("is the document, with null where it has nothing and [] where a list is empty", function()
        local decoded = cjson.decode(text_of(APP))
        local _, app = script.run(APP)
        local document = describe_module.document(app)
        assert.equal(cjson.null, decoded.topics[1].for_group)
        assert.equal(cjson.null, decoded.topics[1].sequenced)
        for i, topic in ipairs(document.topics) do
            topic.for_group = topic.for_group or cjson.null
            topic.sequenced = topic.sequenced or cjson.null
            assert.same(topic, decoded.topics[i])
        end
        assert.same(document.groups, decoded.groups)
        assert.same(document.warnings, decoded.warnings)
        assert.same(document.brokers, decoded.brokers)
        assert.truthy(text_of("app:topic 'o'; app:on_start(print); return app"):find(
            '"warnings":[],"topics":[{"name":"o","broker":0,"for_group":null,"holds_ms":[]', 1, true))
        assert.truthy(text_of("app:topic 'o'; return app"):find('"kafka":{}', 1, true))
    end)

    it("is the same every time", function()
        assert.equal(text_of(APP), text_of(APP))
    end)

    it("is UTF-8 also when a file's name is not", function()
        local app = assert(loadstring([[local shove = require "shove"
            local app = shove.registry { broker = "memory:" } app:topic "o" return app]], "@b\255d.lua"))()
        assert.truthy(describe_module.encode(app):find('"at":"b?d.lua:2"', 1, true))
    end)
end)

describe("What the worker runs", function()
    it("has a handler per group, with its codec", function()
        local is_ok, app = script.run([[
            local a = app:topic("a", { hold = { 1 }, dlq = true, codec = "raw" })
            local b = app:topic "b"
            app:dead_letters(a, function() return "dead" end)
            app:register(b, {}, function() return "b" end)
            return app]])
        assert.is_true(is_ok)
        local handlers = describe_module.handlers(app)
        assert.equal(2, #handlers)
        assert.same({ "dead", "a", true }, { handlers[1].handler(), handlers[1].topic, handlers[1].dead_letters })
        assert.same({ "b", "b", false }, { handlers[2].handler(), handlers[2].topic, handlers[2].dead_letters })
        assert.equal("{}", handlers[1].codec.decode("{}"))
        assert.same({}, handlers[2].codec.decode("{}"))
    end)

    it("has a codec and a key per topic, also when the queue is declared twice", function()
        local is_ok, app = script.run([[
            app:topic("a", { key = function(body) return body.account end })
            app:topic("a", { for_group = "g" })
            app:topic("b", { sequenced = "skip", allow_message_loss = true, codec = "raw" })
            app:on_start(function() return "started" end)
            return app]])
        assert(is_ok, app)
        local codecs = describe_module.topic_codecs(app)
        assert.equal("x", codecs.a.key { account = "x" })
        assert.is_false(codecs.a.sequenced)
        assert.equal('{"a":1}', codecs.a.encode { a = 1 })
        assert.is_true(codecs.b.sequenced)
        assert.is_nil(codecs.b.key)
        assert.equal("raw", codecs.b.encode "raw")
        assert.equal("started", describe_module.on_start(app)())
    end)
end)
