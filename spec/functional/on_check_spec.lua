-- app:on_check: the app's own word on whether it may run.

local assert = require "luassert"
local app = require "spec.support.app"
local process = require "spec.support.process"

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./queue.db" }
local queue = app:topic("orders", { partitions = 1 })
app:register(queue, {}, function() end)
app:on_check(function() %s end)
return app
]]

local function new(check) return app.new { source = SOURCE:format(check) } end

describe("app:on_check", function()
    for what, row in pairs {
        ["returns false and a reason"] = { "return false, 'no billing'", "app.lua:5: on_check: no billing" },
        ["returns false"] = { "return false", "app.lua:5: on_check: it returned false" },
        ["returns nil and a reason"] = { "return nil, 'no billing'", "app.lua:5: on_check: no billing" },
        ["declares a topic"] = { "app:topic 'late'", "app.lua:5: topic: the app is loaded" },
        ["raises"] = { "error 'not today'", "app.lua:5: on_check: .*app.lua:5: not today" },
        ["raises what is no text"] = { "error {}", "app.lua:5: on_check: " },
        ["waits"] = { "shove.sleep '1s'", "app.lua:5: on_check: .*shove.sleep" },
        ["ends the process"] = { "os.exit(0)", "os.exit" },
    } do
        it("keeps the app from running when it " .. what .. ", with the reason and exit code 78", function()
            local a = new(row[1])
            for _, command in ipairs { "check", "run" } do
                local result = a:command(command, {}, 20000)
                assert.equal(78, result.code, command)
                assert.matches(row[2], result.stderr)
            end
        end)
    end

    for _, verdict in ipairs { "", "return true", "return nil", "return 'fine'" } do
        it("lets the app run when it says: " .. (verdict == "" and "nothing" or verdict), function()
            local a = new(verdict)
            assert.equal(0, a:command("check").code)
            local p = a:run {}
            p:wait_for("partitions assigned", 20000)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end

    it("is bounded by the load timeout", function()
        local result = new("while true do end"):command("check", { "--load-timeout", "1s" }, 20000)
        assert.equal(78, result.code)
        assert.matches("did not finish loading within 1 s", result.stderr)
    end)

    it("is asked once, not by every worker, and not by shove publish", function()
        local a = new [[local f = io.open("asked", "a") f:write "asked\n" f:close()]]
        local p = a:run { "--workers", "3" }
        p:wait_for("partitions assigned", 20000)
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.equal(0, a:command("publish", { "orders", "{}" }).code)
        local result = process.run { "cat", a:file "asked" }
        assert.equal("asked\n", result.stdout)
    end)
end)
