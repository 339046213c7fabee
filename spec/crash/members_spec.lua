-- Several `shove run` of the same app join and leave under load.

local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local scene = require "spec.crash.scene"
local wait = require "spec.support.wait"

local MESSAGES = 3000

describe("two processes of one app on Kafka", function()
    it("share the work while the second joins, leaves, joins again and is killed; nothing is lost", function()
        local s = scene.new { url = kafka.shared().url, instance = false, work_seconds = 0.01 }
        s:publish(MESSAGES)
        local function reach(share)
            wait.until_true(function() return #s.journal:lines() / 2 >= MESSAGES * share end, 90000, "work to go on")
        end
        local first = s:run()
        reach(0.1)
        local second = s:run()
        second:wait_for("partitions assigned", 30000)
        reach(0.3)
        assert.equal(0, (app.drain(second)))
        reach(0.4)
        local third = s:run()
        third:wait_for("partitions assigned", 30000)
        reach(0.6)
        -- Joining and leaving repeats nothing at all: what is given up is finished and committed first.
        assert.equal(0, s.journal:verdict().repeated, s:transcripts())
        third:kill "sigkill"
        third:wait_exit(10000)
        assert.equal(0, (s:finish(first)))
        -- Leaving settles what is in flight; the killed one leaves what it had in flight and what it had handled since
        -- its last commit half a second before: 20 at a time, 10 ms each.
        s:judge(20 + 1000)
    end)
end)
