local ffi = require "ffi"
local C = require("spec.support.c").include "core/autoscale.h"

local UP, DOWN, NONE = 1, -1, 0

-- A group of 10 in flight, polled every 5 s with the default rule; at(s, ready) is what is decided then.
local function group(changes)
    local rule = ffi.new("struct shove_autoscale_rule", {
        poll_ms = 5000, up = 2, down = 0.5, hysteresis_ms = 10000, cooldown_ms = 30000,
    })
    for key, value in pairs(changes or {}) do rule[key] = value end
    local state = ffi.new "struct shove_autoscale"
    local self = {}
    function self.at(seconds, ready, capacity)
        local reading = ffi.new("struct shove_autoscale_reading", { ready, capacity or 10 })
        return tonumber(C.shove_autoscale_decide(state, rule, reading, seconds * 1000))
    end
    function self.changed(seconds) C.shove_autoscale_changed(state, seconds * 1000) end
    return self
end

describe("The autoscaler", function()
    it("adds a consumer when more than twice the capacity has been ready for 10 s", function()
        local g = group()
        assert.are.equal(NONE, g.at(0, 21))
        assert.are.equal(NONE, g.at(5, 1000))
        assert.are.equal(UP, g.at(10, 21))
    end)

    it("leaves a group alone at exactly twice its capacity, and at exactly half", function()
        local g = group()
        for seconds = 0, 60, 5 do
            assert.are.equal(NONE, g.at(seconds, 20))
            assert.are.equal(NONE, g.at(seconds, 5))
        end
    end)

    it("takes a consumer away when less than half the capacity has been ready for 10 s", function()
        local g = group()
        assert.are.equal(NONE, g.at(0, 4))
        assert.are.equal(NONE, g.at(5, 0))
        assert.are.equal(DOWN, g.at(10, 4))
    end)

    it("begins the 10 s again when the condition was broken in between", function()
        local g = group()
        g.at(0, 100)
        assert.are.equal(NONE, g.at(5, 10))
        assert.are.equal(NONE, g.at(10, 100))
        assert.are.equal(NONE, g.at(15, 100))
        assert.are.equal(UP, g.at(20, 100))
    end)

    it("does not take the time it leaned one way for the other way", function()
        local g = group()
        g.at(0, 100)
        assert.are.equal(NONE, g.at(9, 0))
        assert.are.equal(NONE, g.at(15, 0))
        assert.are.equal(DOWN, g.at(19, 0))
    end)

    it("changes nothing for 30 s after a change, whichever way", function()
        local g = group()
        g.at(0, 100)
        assert.are.equal(UP, g.at(10, 100))
        g.changed(10)
        for seconds = 15, 35, 5 do assert.are.equal(NONE, g.at(seconds, 100)) end
        assert.are.equal(UP, g.at(40, 100))
        g.changed(40)
        for seconds = 45, 65, 5 do assert.are.equal(NONE, g.at(seconds, 0)) end
        assert.are.equal(DOWN, g.at(70, 0))
    end)

    it("decides the same at the next poll when the change was refused: no cooldown began", function()
        local g = group()
        g.at(0, 100)
        assert.are.equal(UP, g.at(10, 100))
        assert.are.equal(UP, g.at(15, 100))
    end)

    it("adds the first consumer of a group that has none as soon as anything has been ready for 10 s", function()
        local g = group()
        assert.are.equal(NONE, g.at(0, 0, 0))
        assert.are.equal(NONE, g.at(5, 1, 0))
        assert.are.equal(UP, g.at(15, 1, 0))
    end)

    it("takes none away from a group that has none", function()
        local g = group()
        for seconds = 0, 60, 5 do assert.are.equal(NONE, g.at(seconds, 0, 0)) end
    end)

    it("decides at once without hysteresis and cooldown", function()
        local g = group { hysteresis_ms = 0, cooldown_ms = 0 }
        assert.are.equal(UP, g.at(0, 21))
        g.changed(0)
        assert.are.equal(DOWN, g.at(0, 0))
    end)

    it("reckons with backlogs beyond 32 bits", function()
        local g = group { hysteresis_ms = 0 }
        assert.are.equal(UP, g.at(0, 2 ^ 40, 2 ^ 38))
        assert.are.equal(NONE, group { hysteresis_ms = 0 }.at(0, 2 ^ 40, 2 ^ 39))
    end)
end)

describe("The autoscaler's strategy", function()
    local NONE_SAID, STAY, GO_UP, GO_DOWN, COUNT, FAILED = C.SHOVE_ADVICE_NONE, C.SHOVE_ADVICE_STAY, C.SHOVE_ADVICE_UP,
        C.SHOVE_ADVICE_DOWN, C.SHOVE_ADVICE_COUNT, C.SHOVE_ADVICE_FAILED
    local rule = ffi.new("struct shove_autoscale_rule", { hysteresis_ms = 10000, cooldown_ms = 30000 })

    -- How many consumers a group of `now` within 1 to 4 gets at that second.
    local function wanted(now, kind, count, seconds, state)
        local advice = ffi.new("struct shove_advice", { kind, count or 0 })
        local consumers = ffi.new("struct shove_consumers", { now, 1, 4 })
        return C.shove_autoscale_heed(state or ffi.new "struct shove_autoscale", rule, advice, consumers, (seconds or 0) * 1000)
    end

    it("moves a group by one, at once, and leaves it", function()
        assert.same({ 3, 1, 2 }, { wanted(2, GO_UP), wanted(2, GO_DOWN), wanted(2, STAY) })
    end)

    it("gives a group as many as it says", function()
        assert.same({ 4, 1, 3 }, { wanted(2, COUNT, 4), wanted(2, COUNT, 1), wanted(3, COUNT, 3) })
    end)

    it("is kept within the bounds of the group", function()
        assert.same({ 4, 1 }, { wanted(4, GO_UP), wanted(1, GO_DOWN) })
        assert.same({ 4, 1, 1 }, { wanted(2, COUNT, 2 ^ 53), wanted(2, COUNT, 0), wanted(2, COUNT, -2 ^ 53) })
    end)

    it("changes nothing for 30 s after a change, whosever it was", function()
        local state = ffi.new "struct shove_autoscale"
        C.shove_autoscale_changed(state, 10000)
        assert.same({ 2, 2, 2 },
            { wanted(2, COUNT, 4, 39, state), wanted(2, GO_UP, 0, 39, state), wanted(2, GO_DOWN, 0, 39, state) })
        assert.equal(4, wanted(2, COUNT, 4, 40, state))
    end)

    it("decides unless it said nothing or failed", function()
        local function decides(kind) return C.shove_advice_decides(ffi.new("struct shove_advice", { kind })) end
        for _, kind in ipairs { STAY, GO_UP, GO_DOWN, COUNT } do assert.is_true(decides(kind)) end
        assert.is_false(decides(NONE_SAID))
        assert.is_false(decides(FAILED))
    end)
end)
