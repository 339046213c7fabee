-- `shove check`: the app as a table, or what is wrong with it.

local uv = require "luv"
local app = require "spec.support.app"

local CONFIG = 78

local function names_in(dir)
    local names = {}
    local scan = assert(uv.fs_scandir(dir))
    for name in function() return uv.fs_scandir_next(scan) end do table.insert(names, name) end
    return names
end

local function check(source, options)
    local a = app.new { source = source }
    local result = a:command("check", options)
    return result, a
end

local function assert_refused(source, ...)
    local result = check(source)
    assert.are.equal(CONFIG, result.code, result.stdout)
    assert.are.equal("", result.stdout)
    assert.matches("^shove: ", result.stderr)
    for _, text in ipairs { ... } do assert.matches(text, result.stderr, 1, true) end
end

describe("shove check", function()
    local GOOD = [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
local orders = app:topic("orders", { hold = { "5s", "30s", "5m" }, dlq = true })
app:register(orders, shove.group { consumers = { min = 1, max = 8 }, prefetch = 20, concurrent = true }, function() end)
app:topic("audit", { codec = "raw" })
print "the script prints this"
return app
]]

    it("prints topics with their holds and DLQs, and groups with their ids", function()
        local result = check(GOOD)
        assert.are.equal(0, result.code, result.stderr)
        for _, text in ipairs {
            "embedded:./shove.db", "orders-hold-5s", "orders-hold-30s", "orders-hold-300s", "orders-dlq",
            "orders-consumer", "audit", "app.lua:3",
        } do
            assert.matches(text, result.stdout, 1, true)
        end
    end)

    it("keeps what the script prints out of its own output", function()
        local result = check(GOOD)
        assert.is_nil(result.stdout:find("the script prints this", 1, true))
        assert.matches("the script prints this", result.stderr, 1, true)
    end)

    it("writes nothing", function()
        local result, a = check(GOOD)
        assert.are.equal(0, result.code, result.stderr)
        assert.are.same({ "app.lua" }, names_in(a.dir))
    end)

    it("does not need the broker", function()
        local result = check(GOOD, { "--broker", "kafka://127.0.0.1:1" })
        assert.are.equal(0, result.code, result.stderr)
        assert.matches("kafka://127.0.0.1:1", result.stdout, 1, true)
    end)

    it("refuses a broker that is none", function()
        local result = check(GOOD, { "--broker", "rabbit://somewhere" })
        assert.are.equal(CONFIG, result.code)
        assert.matches("rabbit://somewhere", result.stderr, 1, true)
    end)

    it("prints warnings and passes", function()
        local result = check [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
app:register(app:topic("orders", { hold = { "1s" } }), shove.group {}, function() end)
return app
]]
        assert.are.equal(0, result.code, result.stderr)
        assert.matches("[Ww]arning", result.stdout)
        assert.matches("orders", result.stdout:match "[Ww]arning.*", 1, true)
    end)

    it("names file and line of a syntax error", function()
        assert_refused("local a = 1\nlocal b = = 2\n", "app.lua:2:")
    end)

    it("names file and line of an error at load", function()
        assert_refused("local a = 1\nerror 'the moon is full'\n", "app.lua:2:", "the moon is full")
    end)

    it("refuses a script that returns no app", function()
        assert_refused("local shove = require 'shove'\n", "app.lua", "return")
        assert_refused("return 42\n", "app.lua", "return")
    end)

    it("refuses an unknown key on the user's own line, with the one that was meant", function()
        assert_refused([[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
app:topic("orders", { hld = { "1s" } })
return app
]], "app.lua:3:", "hld", "hold")
    end)

    it("refuses a property that librdkafka does not have on the registry's line, with the one that was meant", function()
        assert_refused([[
local shove = require "shove"
local app = shove.registry { broker = "kafka://127.0.0.1:1", kafka = { ["sasl.mecanism"] = "PLAIN" } }
app:topic "orders"
return app
]], "app.lua:2: registry: ", 'kafka["sasl.mecanism"]', '(did you mean "sasl.mechanism"?)')
    end)

    it("refuses a value that librdkafka does not take on the registry's line", function()
        assert_refused([[
local shove = require "shove"
local app = shove.registry {
    broker = "kafka://127.0.0.1:1", kafka = { ["security.protocol"] = "SASL_TLS" },
}
app:topic "orders"
return app
]], "app.lua:2: registry: ", 'kafka["security.protocol"]', "SASL_TLS")
    end)

    local LIBRDKAFKA = "librdkafka refuses the configuration: "
    for what, row in pairs {
        ["a session longer than the poll interval"] = {
            LIBRDKAFKA, "`max.poll.interval.ms`", '["max.poll.interval.ms"] = "1000", ["session.timeout.ms"] = "6000"' },
        ["a producer that waits for longer than a message lives"] = {
            LIBRDKAFKA, "`linger.ms`", '["linger.ms"] = "5000", ["delivery.timeout.ms"] = "1000"' },
        ["certificates that are not there"] = {
            'kafka["ssl.ca.location"]: ', "/nowhere: No such file",
            '["security.protocol"] = "SSL", ["ssl.ca.location"] = "/nowhere"' },
    } do
        it("refuses properties that do not go together as run does, on the registry's line: " .. what, function()
            assert_refused(([[
local shove = require "shove"
local app = shove.registry { broker = "kafka://127.0.0.1:1", kafka = { %s } }
app:register(app:topic "a", {}, function() end)
return app
]]):format(row[3]), "app.lua:2: registry: " .. row[1], row[2])
        end)
    end

    it("refuses a duration of shove's where librdkafka wants a number: it would take \"6s\" for 6 ms", function()
        for _, value in ipairs { "6s", "10MiB", "5 000" } do
            assert_refused(([[
local shove = require "shove"
local app = shove.registry { broker = "kafka://127.0.0.1:1", kafka = { ["session.timeout.ms"] = %q } }
app:topic "orders"
return app
]]):format(value), "app.lua:2: registry: ", 'kafka["session.timeout.ms"]: "' .. value .. '" is not a number')
        end
    end)

    it("takes texts that begin with a digit for texts", function()
        local result = check [[
local shove = require "shove"
local app = shove.registry { broker = "kafka://127.0.0.1:1",
    kafka = { ["client.rack"] = "6s", ["sasl.password"] = "1x", ["session.timeout.ms"] = 6000, ["linger.ms"] = "0.5" } }
app:topic "orders"
return app
]]
        assert.are.equal(0, result.code, result.stderr)
    end)

    it("refuses min > max on the user's own line", function()
        assert_refused([[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
shove.group {
    consumers = { min = 3, max = 2 },
}
return app
]], "app.lua:3:", "3", "2")
    end)
end)
