-- Several `shove run` of the same app join and leave under load.

local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local scene = require "spec.crash.scene"

-- How many handlings lie between two events. The member that is killed has handled more, alone, than its death may repeat.
local STEP = 200
local BEFORE_THE_KILL = 500

describe("two processes of one app on Kafka", function()
    it("share the work while the second joins, leaves, joins again and is killed; nothing is lost", function()
        local s = scene.new { url = kafka.shared().url, instance = false, work_seconds = 0.04 }
        s:publish(5 * STEP)
        local first = s:run()
        s:go_on(STEP)
        local second = s:run()
        second:wait_for("partitions assigned", 30000)
        s:publish(5 * STEP)
        s:go_on(STEP)
        assert.equal(0, (app.drain(second)))
        s:go_on(STEP)
        local third = s:run()
        third:wait_for("partitions assigned", 30000)
        s:publish(3 * BEFORE_THE_KILL)
        s:go_on(BEFORE_THE_KILL, third)
        -- Joining and leaving repeats nothing at all: what is given up is finished and committed first.
        assert.equal(0, s.journal:verdict().repeated, s:transcripts())
        third:kill "sigkill"
        third:wait_exit(10000)
        assert.equal(0, (s:finish(first)))
        s:judge(s:repeated_after_kill(math.huge))
    end)
end)
