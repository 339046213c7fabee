local ffi = require "ffi"
local C = require("spec.support.c").include("base/fast_clock.h", "base/clock.h")

local function is_tsc()
    local file = io.open "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    local name = file and file:read "*l"
    if file then file:close() end
    return ffi.arch == "x64" and name == "tsc"
end

local function turn_until(clock, condition)
    local begun = C.shove_clock_mono_ns()
    while not condition() and C.shove_clock_mono_ns() - begun < 5000000000ULL do C.shove_fast_clock_tune(clock) end
    assert.is_true(condition())
end

describe("The fast clock", function()
    local clock

    before_each(function()
        clock = ffi.new "struct shove_fast_clock"
        C.shove_fast_clock_init(clock)
    end)

    it("counts by the processor's counter once it knows its rate, where the kernel does", function()
        if not is_tsc() then
            pending "the kernel's clock is not the processor's counter here"
            return
        end
        assert.is_false(clock.counts)
        turn_until(clock, function() return clock.counts end)
    end)

    it("says the same as the system's clock, before and after it knows the rate", function()
        local begun = C.shove_clock_mono_ns()
        repeat
            local before, fast = C.shove_clock_mono_ns(), C.shove_fast_clock_ns(clock)
            local after = C.shove_clock_mono_ns()
            local slack = 2000 + (after - begun) / 10000
            assert.is_true(fast + slack >= before and fast <= after + slack)
            C.shove_fast_clock_tune(clock)
        until after - begun > 200000000ULL
        assert.are.equal(is_tsc(), clock.counts)
    end)
end)
