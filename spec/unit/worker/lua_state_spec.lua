-- How a worker process loads a script, and what it says when that fails.
local rig = require "spec.unit.worker.rig"
local tmp = require "spec.support.tmp"

local SCRIPT = [[
local shove = require "shove"
local app = shove.registry { broker = "memory:" }
app:register(app:topic "orders", {}, function() end)
return app
]]

local function load_error(text)
    local message, code = rig.load_error(text)
    assert.are.equal(78, code)
    return message
end

describe("a worker that loads a script", function()
    it("describes the app, and says that it is ready", function()
        local worker = rig.start "app:register(orders, { prefetch = 5 }, function() end)"
        assert.truthy(worker.description:find('"name":"orders"', 1, true))
        assert.truthy(worker.description:find('"prefetch":5', 1, true))
        assert.are.equal(0, worker:stop())
        assert.is_true(worker.is_stopping)
    end)

    it("only describes it when asked to", function()
        local path = tmp.write(tmp.dir() .. "/app.lua", SCRIPT)
        local worker = rig.start_file(path, { arguments = { "--describe" } })
        assert.are.equal(0, worker:wait_exit())
        assert.truthy(worker.description)
        assert.is_nil(worker.is_ready)
    end)

    it("finds modules beside the script, wherever it was started", function()
        local dir = tmp.dir()
        os.execute("mkdir " .. dir .. "/handlers")
        tmp.write(dir .. "/handlers/payments.lua", "return function() end")
        tmp.write(dir .. "/shop.lua", "return { name = 'orders' }")
        local path = tmp.write(dir .. "/app.lua", [[
            local shove = require "shove"
            local app = shove.registry { broker = "memory:" }
            app:register(app:topic(require("shop").name), {}, require "handlers.payments")
            return app
        ]])
        local worker = rig.start_file(path)
        worker:wait_for("is_ready", "the worker to be ready")
    end)

    it("takes shove's own modules whatever lies beside the script", function()
        local dir = tmp.dir()
        os.execute("mkdir " .. dir .. "/shove")
        tmp.write(dir .. "/shove/registry.lua", "error 'the wrong one'")
        local path = tmp.write(dir .. "/shove.lua", SCRIPT)
        rig.start_file(path):wait_for("is_ready", "the worker to be ready")
    end)

    it("lets --broker win over the script", function()
        local worker = rig.start("app:register(orders, {}, function() end)",
            { arguments = { "--broker", "embedded:/tmp/other.db" } })
        assert.truthy(worker.description:find("embedded:\\/tmp\\/other.db", 1, true))
    end)

    describe("says what is wrong with", function()
        it("a file that is not there", function()
            local worker = rig.start_file "/nowhere/app.lua"
            worker:wait_exit()
            assert.are.equal("/nowhere/app.lua: there is no such file", worker.load_error)
            assert.are.equal(78, worker.load_code)
            assert.are.equal(78, worker.code)
        end)

        it("a folder", function()
            local dir = tmp.dir()
            local worker = rig.start_file(dir)
            assert.are.equal(78, worker:wait_exit())
            assert.are.equal(dir .. " is a folder; give the script in it", worker.load_error)
        end)

        it("a syntax error", function()
            assert.truthy(load_error("local x = 1\nlocal = 2\n"):find "^app%.lua:2: ")
        end)

        it("an error at run time, with the way to it", function()
            local text = load_error("local function f()\n  error 'no such luck'\nend\nf()\n")
            assert.truthy(text:find "^app%.lua:2: no such luck\n")
            assert.truthy(text:find("app.lua:4: in main chunk", 1, true), text)
            assert.is_nil(text:find("run.lua", 1, true), text)
        end)

        it("a mistake in the configuration, in one line", function()
            local text = load_error 'local shove = require "shove"\nshove.registry { brokr = "memory:" }\n'
            assert.truthy(text:find "^app%.lua:2: .*did you mean \"broker\"")
            assert.is_nil(text:find "\n")
        end)

        it("an error that is no string", function()
            assert.are.equal("app.lua: a table", load_error "error(setmetatable({}, { __tostring = function() error 'x' end }))")
            assert.are.equal("app.lua: nil", load_error "error()")
        end)

        it("a script that returns nothing", function()
            assert.truthy(load_error("local shove = require 'shove'"):find('must end with "return app"', 1, true))
            assert.truthy(load_error("return 5"):find("it returned 5", 1, true))
        end)

        it("a script that calls os.exit", function()
            assert.truthy(load_error("os.exit(0)"):find "^app%.lua:1: os%.exit is not for scripts")
        end)

        it("a script that sleeps or publishes while it is loaded", function()
            local text = load_error "local shove = require 'shove'\nshove.sleep '1s'"
            assert.truthy(text:find "^app%.lua:2: shove%.sleep waits, so it can only be called from a handler")
            assert.truthy(load_error("local shove = require 'shove'\nshove.publish('a', {})"):find "^app%.lua:2: ")
        end)

        it("a script that runs the loop itself", function()
            assert.truthy(load_error("require('luv').run()"):find "^app%.lua:1: uv%.run is not for scripts")
        end)

        rig.it_limited("a script that needs more memory than it may have", function()
            local text = rig.load_error("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
                { memory = "64MiB" })
            assert.truthy(text:find "not enough memory", text)
        end)
    end)
end)
