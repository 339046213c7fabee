-- Workers are SIGKILLed at random while there is work.

local uv = require "luv"
local scene = require "spec.crash.scene"
local wait = require "spec.support.wait"

local MESSAGES = 2000
local KILLS = 6
local IN_FLIGHT = 20 -- two consumers of 10

for name, url in pairs(scene.brokers) do
    describe("workers killed at random, on " .. name, function()
        it("loses nothing, repeats at most what was in flight, and says so in the exit code", function()
            local seed = uv.hrtime() % 2 ^ 31
            math.randomseed(seed)
            print("seed " .. seed)
            local s = scene.new { url = url, work_seconds = 0.01 }
            s:publish(MESSAGES)
            local p = s:run()
            for kill = 1, KILLS do
                local target = MESSAGES * kill / (KILLS + 2) * (0.8 + 0.4 * math.random())
                wait.until_true(function() return #s.journal:lines() / 2 >= target end, 60000, "work to go on")
                local workers = p:children()
                if #workers > 0 then uv.kill(workers[math.random(#workers)], "sigkill") end
            end
            local code = s:finish(p)
            assert.equal(2, code, p:transcript())
            s:judge(KILLS * IN_FLIGHT)
        end)
    end)
end
