local ffi = require "ffi"
local C = require("spec.support.c").include "base/clock.h"

local function format(wall_ms)
    local out = ffi.new("char[25]", ("?"):rep(25))
    C.shove_clock_format(wall_ms, out)
    return ffi.string(out)
end

describe("The clock", function()
    it("shows a time as RFC 3339 with milliseconds in UTC", function()
        assert.are.equal("1970-01-01T00:00:00.000Z", format(0))
        assert.are.equal("2026-01-31T12:00:00.123Z", format(1769860800123LL))
        assert.are.equal("2000-02-29T23:59:59.999Z", format(951868799999LL))
    end)

    it("shows a time before 1970 with a fraction that counts upwards", function()
        assert.are.equal("1969-12-31T23:59:59.999Z", format(-1))
        assert.are.equal("1969-12-31T23:59:59.000Z", format(-1000))
    end)

    it("shows what is outside four digits of year at the edge", function()
        assert.are.equal("9999-12-31T23:59:59.999Z", format(253402300799999LL))
        assert.are.equal("9999-12-31T23:59:59.999Z", format(253402300800000LL))
        assert.are.equal("9999-12-31T23:59:59.999Z", format(9223372036854775807LL))
        assert.are.equal("0000-01-01T00:00:00.000Z", format(-9223372036854775807LL))
    end)

    it("does not depend on the time zone of the machine", function()
        local zone = os.getenv "TZ"
        ffi.cdef "int setenv(const char *name, const char *value, int overwrite); int unsetenv(const char *name);"
        ffi.cdef "void tzset(void);"
        ffi.C.setenv("TZ", "America/New_York", 1)
        ffi.C.tzset()
        local shown = format(0)
        if zone then ffi.C.setenv("TZ", zone, 1) else ffi.C.unsetenv "TZ" end
        ffi.C.tzset()
        assert.are.equal("1970-01-01T00:00:00.000Z", shown)
    end)

    it("never goes back where it measures durations, and agrees with itself in both units", function()
        local before_us = C.shove_clock_mono_us()
        local now_ms = C.shove_clock_mono_ms()
        local after_us = C.shove_clock_mono_us()
        assert.is_true(before_us / 1000 <= now_ms and now_ms <= after_us / 1000)
    end)

    it("tells the same wall clock as the rest of the machine", function()
        local before = os.time()
        local now_ms = tonumber(C.shove_clock_wall_ms())
        assert.is_true(now_ms >= before * 1000 and now_ms < (os.time() + 1) * 1000)
    end)
end)
