-- The broker is killed and comes back while there is work.

local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local scene = require "spec.crash.scene"

-- Handlers slow enough that an absence of some seconds is a small part of the work.
local WORK_SECONDS = 0.1
local KILLS = 2

describe("a broker that goes away under load", function()
    it("for less than the members' session is waited for and announced; nothing is lost, little is repeated", function()
        local broker = kafka.private()
        local s = scene.new { url = broker.url, broker = broker, work_seconds = WORK_SECONDS, session_ms = 45000 }
        s:publish(1)
        local p = s:run()
        for _ = 1, KILLS do
            s:publish(900)
            s:go_on(300)
            broker:kill()
            p:wait_for("EUNREACHABLE", 30000)
            p:mark()
            broker:restart()
            p:wait_for("answers again", 30000)
            p:mark()
        end
        local code = s:finish(p)
        assert.equal(0, code, p:transcript())
        s:judge(KILLS * scene.IN_FLIGHT)
    end)

    it("may stay away while shove drains: the exit is bounded and not 0, and the next run finishes", function()
        local broker = kafka.private()
        local s = scene.new { url = broker.url, broker = broker, work_seconds = WORK_SECONDS, drain = "3s" }
        s:publish(500)
        local p = s:run()
        s:go_on(350)
        broker:kill()
        local code = app.drain(p, 60000)
        assert.is_true(code == 1 or code == 3, p:transcript())
        broker:restart()
        assert.equal(0, (s:finish()))
        s:judge(s:repeated_after_kill(math.huge))
    end)
end)
