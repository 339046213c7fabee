-- The broker is killed and comes back while there is work.

local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local scene = require "spec.crash.scene"
local wait = require "spec.support.wait"

local MESSAGES = 1500

describe("a broker that goes away under load", function()
    it("is waited for, announced, and nothing is lost when it is back", function()
        local broker = kafka.private()
        local s = scene.new { url = broker.url, work_seconds = 0.02 }
        s:publish(MESSAGES)
        local p = s:run()
        for _, target in ipairs { 100, 300 } do
            wait.until_true(function() return #s.journal:lines() / 2 >= target end, 60000, "work to go on")
            broker:kill()
            p:wait_for("EUNREACHABLE", 30000)
            p:mark()
            broker:restart()
            p:wait_for("answers again", 30000)
            p:mark()
        end
        local code = s:finish(p)
        assert.equal(0, code, p:transcript())
        -- While the broker is away what was fetched is handled on, uncommitted; after each absence it may come again.
        s:judge(2 * MESSAGES)
    end)

    it("may stay away while shove drains: the exit is bounded and not 0, and the next run finishes", function()
        local broker = kafka.private()
        local s = scene.new { url = broker.url, work_seconds = 0.02 }
        s:publish(300)
        local p = s:run()
        wait.until_true(function() return #s.journal:lines() >= 100 end, 60000, "work to begin")
        broker:kill()
        local code = app.drain(p, 60000)
        assert.is_true(code == 1 or code == 3, p:transcript())
        broker:restart()
        assert.equal(0, (s:finish()))
        s:judge(600)
    end)
end)
