-- `shove dlq` where several groups consume one queue.

local app = require "spec.support.app"
local wait = require "spec.support.wait"

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
app:register(app:topic("events", { hold = { "1s" }, dlq = true }), {}, function(msg) print("main " .. msg.payload) end)
app:register(app:topic("events", { hold = { "1s" }, dlq = true, for_group = "audit" }), {}, function()
    return shove.reject "not allowed"
end)
return app
]]

local function dlq(a, ...)
    local result = a:command(...)
    assert.equal(0, result.code, result.stderr)
    return result.stdout
end

describe("A replay to a queue of two groups", function()
    it("is given to both, which it says, and says before it is done", function()
        local a = app.new { source = SOURCE }
        dlq(a, "publish", { "events", "1" })
        local p = a:run { "--workers", "1" }
        wait.until_true(function() return dlq(a, "dlq list", { "events-audit-dlq" }):find "not allowed" end, 30000,
            "a dead letter")
        local both = "every group of events is given them, not only the one they died in: events-consumer, "
            .. "events-audit-consumer"
        assert.matches(both, dlq(a, "dlq replay", { "events-audit-dlq", "--dry-run" }), 1, true)
        p:wait_for("main 1", 10000)
        p:mark()
        assert.matches(both, dlq(a, "dlq replay", { "events-audit-dlq" }), 1, true)
        p:wait_for("main 1", 10000)
        assert.equal(0, app.drain(p))
    end)
end)
