-- The order of keys while workers and control are killed, and, on Kafka, a second process joins and leaves: see
-- spec/crash/sequence_scene.lua. At length: make chaos.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local scene = require "spec.crash.sequence_scene"

local KEYS, PER_KEY = 40, 40

for _, broker in ipairs { "embedded", "kafka" } do
    local seed = select(2, uv.gettimeofday())
    it(("the order of each key holds on %s while workers and control are killed (seed %d)"):format(broker, seed), function()
        local s = scene.new { kafka = broker == "kafka" and kafka.shared() or nil, keys = KEYS, per_key = PER_KEY }
        s:declare()
        s:publish(seed)
        local all = KEYS * PER_KEY
        local p = s:run()
        for round = 1, 3 do
            s:wait_settled(math.floor(all * (2 * round - 1) / 8), p)
            s:kill_worker(p)
            s:wait_settled(math.floor(all * 2 * round / 8), p)
            s:kill_control(p)
            p = s:run()
        end
        s:wait_settled(all, p)
        assert.equal(0, (app.drain(p)), p:transcript())
        s:judge()
    end)
end

it("the order of each key holds on Kafka while a second process joins and leaves", function()
    local s = scene.new { kafka = kafka.shared(), keys = KEYS, per_key = PER_KEY, membership = "dynamic",
        sleep_ms = 60 } -- more than they need to join
    s:declare()
    s:publish(1)
    local all = KEYS * PER_KEY
    local p = s:run()
    s:wait_settled(all / 8, p)
    local second = s:run "second"
    second:wait_for("partitions assigned", 30000)
    s:wait_settled(all / 2, p)
    assert.equal(0, (app.drain(second)), second:transcript())
    s:wait_settled(all, p)
    assert.equal(0, (app.drain(p)), p:transcript())
    assert.is_true(s:judge().moved > 0, "no partition moved")
end)
