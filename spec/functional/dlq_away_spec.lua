-- `shove dlq` where there is no broker to look at.

local assert = require "luassert"
local app = require "spec.support.app"

local UNAVAILABLE, CONFIG = 69, 78

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "%s" }
app:register(app:topic("orders", { hold = { "1s" }, dlq = true }), shove.group {}, function() end)
return app
]]

local function dlq(a, command, ...)
    return a:command("dlq " .. command, { ... })
end

describe("shove dlq without a broker", function()
    it("exits 69 when Kafka is not there", function()
        local a = app.new { source = SOURCE:format "kafka://127.0.0.1:1" }
        assert.are.equal(UNAVAILABLE, dlq(a, "list", "orders", "--connect-timeout", "1s").code)
    end)

    it("exits 69 when the embedded file is not there, and makes none", function()
        local a = app.new { source = SOURCE:format "embedded:./shove.db" }
        for _, line in ipairs {
            { "list", "orders" }, { "show", "orders", "0:0" }, { "replay", "orders" }, { "replay", "orders", "--dry-run" },
            { "purge", "orders", "--yes" },
        } do
            local result = dlq(a, unpack(line))
            assert.are.equal(UNAVAILABLE, result.code, line[1])
            assert.matches("./shove.db", result.stderr, 1, true)
            assert.is_nil(io.open(a:file "shove.db"))
        end
    end)

    it("refuses a memory broker", function()
        local a = app.new { source = SOURCE:format "memory:" }
        assert.are.equal(CONFIG, dlq(a, "list", "orders").code)
    end)
end)
