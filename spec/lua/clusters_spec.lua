-- The brokers of an app: which spellings mean the same, and what belongs to which.
local uv = require "luv"
local script = require "spec.lua.script"
local tmp = require "spec.support.tmp"

-- { url, ... } of the app's brokers, the registry's first.
local function urls(document)
    local found = {}
    for i, broker in ipairs(document.brokers) do found[i] = broker.url end
    return found
end

describe("An app's brokers", function()
    it("are the registry's and those of its topics, each once, in an order that is not that of the topics", function()
        assert.same({ "memory:", "embedded:/tmp/b.db", "kafka://a,b:9092", "kafka://c" }, urls(script.document [[
            app:topic("c", { broker = "kafka://c" })
            app:topic("b", { broker = "kafka://a,b:9092" })
            app:topic("again", { broker = { url = "kafka://B,a:9092" } })
            app:topic("e", { broker = "embedded:/tmp/b.db" })
            app:topic("m", { broker = "memory:" })
            app:topic "none"]]))
    end)

    it("are one file where paths lead to the same, by links or by folders, also before it is there", function()
        local dir = uv.fs_realpath(tmp.dir())
        assert(uv.fs_mkdir(dir .. "/real", tonumber("755", 8)))
        assert(uv.fs_symlink(dir .. "/real", dir .. "/link"))
        tmp.write(dir .. "/real/there.db", "")
        assert(uv.fs_symlink(dir .. "/real/there.db", dir .. "/other.db"))
        local source = ([[
            app:topic("a", { broker = "embedded:%s/real/new.db" }); app:topic("b", { broker = "embedded:%s/link/new.db" })
            app:topic("c", { broker = "embedded:%s/link/there.db" }); app:topic("d", { broker = "embedded:%s/other.db" })
        ]]):gsub("%%s", dir)
        local document = script.document(source)
        assert.same({ 1, 1, 2, 2 }, { document.topics[1].broker, document.topics[2].broker, document.topics[3].broker,
            document.topics[4].broker })
        assert.same({ "memory:", "embedded:" .. dir .. "/real/new.db", "embedded:" .. dir .. "/link/there.db" },
            urls(document))
    end)

    it("have the properties and the copies that stand beside them, whoever says so, and no others", function()
        local document = script.document [[
            app = shove.registry { broker = "kafka://h", kafka = { ["sasl.password"] = "secret" }, replication_factor = 3 }
            app:topic "mine"
            app:topic("other", { broker = "kafka://o" })
            app:topic("said", { broker = { url = "kafka://o", kafka = { ["client.id"] = "x" }, replication_factor = 2 } })
            app:topic("file", { broker = "embedded:/tmp/b.db" })]]
        assert.same({ { ["sasl.password"] = "secret" }, {}, { ["client.id"] = "x" } },
            { document.brokers[1].kafka, document.brokers[2].kafka, document.brokers[3].kafka })
        local copies = {}
        for i, topic in ipairs(document.topics) do copies[i] = topic.replication_factor end
        assert.same({ 3, 2, 2, 1 }, copies)
    end)

    it("other than the registry's are not changed by the command", function()
        local host = package.loaded["shove.host"]
        finally(function() package.loaded["shove.host"] = host end)
        package.loaded["shove.host"] = { broker = "embedded:/tmp/other.db" }
        assert.same({ "embedded:/tmp/other.db", "kafka://h" },
            urls(script.document "app:topic 'o'; app:topic('p', { broker = 'kafka://h' })"))
    end)

    it("that no topic is on are left out, except for the registry's", function()
        assert.same({ "memory:" }, urls(script.document [[
            pcall(app.topic, app, "o", { broker = "kafka://h", dlq = "o" }); app:topic "p"
            pcall(app.topic, app, "p", { broker = "kafka://g" })]]))
    end)
end)

describe("Names on different brokers", function()
    it("may be the same for holds, DLQs and groups", function()
        local document = script.document [[
            local a = app:topic("a", { dlq = "dead" })
            local b = app:topic("b", { dlq = "dead", broker = "kafka://h" })
            app:topic("a-dlq", { broker = "kafka://h" })
            app:register(a, { group_id = "g" }, print); app:register(b, { group_id = "g" }, print)
            app:dead_letters(a, print); app:dead_letters(b, print)]]
        assert.equal(4, #document.groups)
    end)

    it("say where a publish goes; one that is a topic on several brokers does not", function()
        local is_ok, app = script.run [[
            app:topic("a", { dlq = "dead", hold = { 1 } })
            app:topic("b", { dlq = "dead", hold = { 1 }, broker = "kafka://h" })
            return app]]
        assert.is_true(is_ok)
        local describe_module = require "shove.describe"
        local codecs = describe_module.topic_codecs(app)
        assert.same({ 0, 1 }, { codecs.a.broker, codecs.b.broker })
        assert.same({
            dead = { what = "dlq", queue = "b", broker = false },
            ["a-hold-1s"] = { what = "hold", queue = "a", broker = 0 },
            ["b-hold-1s"] = { what = "hold", queue = "b", broker = 1 },
        }, describe_module.derived(app))
    end)
end)
