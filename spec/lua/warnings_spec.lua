-- What is allowed, but probably not meant: told once, with the user's line.

local script = require "spec.lua.script"

-- sentence | script from line 2 on | warnings
local ROWS = {
    { "holds without a dlq", "app:topic('o', { hold = { 1 } }); app:on_start(print)",
      { 'app.lua:2: topic "o": it has holds but no dlq: a message that runs out of retries, or is rejected, is dropped' } },
    { "a dlq without holds", "app:topic('o', { dlq = true }); app:on_start(print)",
      { 'app.lua:2: topic "o": it has a dlq but no hold: a retry waits 1s where it is, its offset uncommitted' } },
    { "nothing, for a topic with both", "app:topic('o', { hold = { 1 }, dlq = true }); app:on_start(print)", {} },
    { "nothing, for a topic with neither", "app:topic 'o'; app:on_start(print)", {} },
    { "nothing, where loss is allowed", "app:topic('o', { hold = { 1 }, allow_message_loss = true }); app:on_start(print)",
      {} },
    { "a prefetch that has no effect, once however often the group is used",
      "local g = shove.group { prefetch = 5 }\n"
      .. "app:register(app:topic 'a', g, print)\napp:register(app:topic 'b', g, print)",
      { "app.lua:2: group: prefetch = 5 is 1 in effect without concurrent = true" } },
    { "a prefetch that has no effect, in register's own table",
      "local a = app:topic 'a'\napp:register(a, { prefetch = 5 }, print)",
      { "app.lua:3: group: prefetch = 5 is 1 in effect without concurrent = true" } },
    { "a prefetch that has no effect, though the group is also that of a sequenced topic, where it has",
      "local g = shove.group { prefetch = 5 }\n"
      .. "app:register_fifo(app:topic('a', { sequenced = 'skip', hold = { 1 }, dlq = true }), g, print)\n"
      .. "app:register(app:topic 'b', g, print)",
      { "app.lua:2: group: prefetch = 5 is 1 in effect without concurrent = true" } },
    { "nothing, for the default prefetch", "app:register(app:topic 'a', {}, print)", {} },
    { "nothing, for a prefetch of 1", "app:register(app:topic 'a', { prefetch = 1 }, print)", {} },
    { "nothing, for a prefetch of concurrent handlers",
      "app:register(app:topic 'a', { prefetch = 5, concurrent = true }, print)", {} },
    { "nothing, for consumers that come and go", "app:register(app:topic 'a', { consumers = { min = 0, max = 4 } }, print)",
      {} },
    { "a strategy that is never asked, as no group has consumers to gain",
      "app:register(app:topic 'a', { consumers = { min = 2, max = 2 } }, print)\napp:autoscale { strategy = print }",
      { "app.lua:3: autoscale: strategy: no group has a consumers.min below its consumers.max, so it is never asked" } },
    { "nothing, for a strategy that is asked",
      "app:autoscale { strategy = print }\napp:register(app:topic 'a', { consumers = { max = 2 } }, print)", {} },
    { "nothing to run", "app:topic 'a'",
      { "app.lua:1: registry: no handler is registered, so there is nothing to run" } },
}

describe("A configuration warns of", function()
    for _, row in ipairs(ROWS) do
        it(row[1], function()
            assert.same(row[3], script.document(row[2]).warnings)
        end)
    end
end)

describe("A broker given to the command", function()
    local host

    before_each(function()
        host = package.loaded["shove.host"]
    end)

    after_each(function()
        package.loaded["shove.host"] = host
    end)

    it("wins over the script's", function()
        package.loaded["shove.host"] = { broker = "embedded:./other.db" }
        assert.equal("embedded:./other.db", script.document("app:topic 'o'").brokers[1].url)
    end)

    it("makes up for one that is missing", function()
        package.loaded["shove.host"] = { broker = "memory:" }
        assert.equal("memory:", script.document("app = shove.registry {}; app:topic 'o'").brokers[1].url)
    end)

    it("turns settings of Kafka that it has no use for into warnings", function()
        package.loaded["shove.host"] = { broker = "memory:" }
        local document = script.document([[app = shove.registry { broker = "kafka://h", replication_factor = 3,
            kafka = { ["client.id"] = "x" } }; app:topic "o"; app:on_start(print)]])
        assert.same({
            'app.lua:2: registry: kafka: "memory:" has no librdkafka properties',
            'app.lua:2: registry: replication_factor: "memory:" keeps one copy of each record, not 3',
        }, document.warnings)
        assert.same({}, document.brokers[1].kafka)
        assert.equal(1, document.topics[1].replication_factor)
    end)

    it("is refused by its own name when it is none", function()
        package.loaded["shove.host"] = { broker = "localhost:9092" }
        local is_ok, message = script.run("return app")
        assert.is_false(is_ok)
        assert.equal('--broker: "localhost:9092" is not a broker; write "kafka://localhost:9092"', message)
    end)

    it("is found when the host is preloaded but was not required before", function()
        package.loaded["shove.host"] = nil
        package.preload["shove.host"] = function() return { broker = "embedded:./late.db" } end
        finally(function() package.preload["shove.host"] = nil end)
        assert.equal("embedded:./late.db", script.document("app:topic 'o'").brokers[1].url)
    end)
end)
