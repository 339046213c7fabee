local ffi = require "ffi"
local C, constants = require("spec.support.c").include "core/histogram.h"

local function new() return ffi.new "struct shove_histogram" end

-- The bucket a value alone is counted in: the bound it is not above; nil: above all.
local function bound_of(scale, value)
    local histogram = new()
    C.shove_histogram_add(scale, histogram, value)
    for i = 0, scale.bound_count do
        if histogram.counts[i] == 1 then return i < scale.bound_count and tonumber(scale.bounds[i]) or nil end
    end
    error "it was counted nowhere"
end

describe("The bounds of durations", function()
    it("go from 10 us to 100 s, three a decade", function()
        local bounds = {}
        for i = 0, C.shove_duration_scale.bound_count - 1 do
            bounds[i + 1] = tonumber(C.shove_duration_scale.bounds[i]) / tonumber(C.shove_duration_scale.unit)
        end
        assert.are.same({ 1e-05, 2.5e-05, 5e-05, 1e-04, 2.5e-04, 5e-04, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
            1, 2.5, 5, 10, 25, 50, 100 }, bounds)
        assert.is_true(#bounds <= constants.SHOVE_HISTOGRAM_BOUNDS_MAX)
    end)

    it("hold what equals them, and what is above goes to the next", function()
        for i = 0, C.shove_duration_scale.bound_count - 2 do
            local bound = tonumber(C.shove_duration_scale.bounds[i])
            assert.are.equal(bound, bound_of(C.shove_duration_scale, bound))
            assert.are.equal(tonumber(C.shove_duration_scale.bounds[i + 1]), bound_of(C.shove_duration_scale, bound + 1))
        end
        assert.are.equal(10000, bound_of(C.shove_duration_scale, 0))
        assert.is_nil(bound_of(C.shove_duration_scale, 100000000001))
        assert.is_nil(bound_of(C.shove_duration_scale, 0xffffffffffffffffULL))
    end)
end)

describe("The bounds of sizes", function()
    it("go from 64 bytes to 1 GiB, each four times the one before", function()
        local scale = C.shove_size_scale
        assert.are.same({ 64, 1024 ^ 3 }, { tonumber(scale.bounds[0]), tonumber(scale.bounds[scale.bound_count - 1]) })
        for i = 1, scale.bound_count - 1 do assert.are.equal(scale.bounds[i - 1] * 4, scale.bounds[i]) end
        assert.is_true(scale.bound_count <= constants.SHOVE_HISTOGRAM_BOUNDS_MAX)
        assert.are.equal(256, bound_of(scale, 65))
    end)
end)

describe("A histogram", function()
    it("counts every value once and adds them up", function()
        local histogram, sum = new(), 0
        for exponent = 0, 40 do
            C.shove_histogram_add(C.shove_duration_scale, histogram, 2 ^ exponent)
            sum = sum + 2 ^ exponent
        end
        assert.are.equal(41, tonumber(C.shove_histogram_count(C.shove_duration_scale, histogram)))
        assert.are.equal(sum, tonumber(histogram.sum))
    end)
end)

describe("A packed duration", function()
    it("is at most a thousandth below what was packed", function()
        for exponent = 0, 52 do
            for _, value in ipairs { 2 ^ exponent, 2 ^ exponent + 1, math.floor(1.37 * 2 ^ exponent), 2 ^ (exponent + 1) - 1 } do
                local back = tonumber(C.shove_duration_unpack(C.shove_duration_pack(value)))
                assert.is_true(back <= value and back >= value * (1 - 1 / 1000), value .. " came back as " .. back)
            end
        end
    end)

    it("is exact below 1,024 ns", function()
        local exact = 0
        for value = 0, 1023 do exact = exact + (C.shove_duration_pack(value) == value and 1 or 0) end
        assert.are.equal(1024, exact)
    end)

    it("is ordered like what it stands for, and of any bits a number", function()
        local last, is_ordered = -1, true
        for packed = 0, 65535 do
            local value = tonumber(C.shove_duration_unpack(packed))
            is_ordered = is_ordered and value >= last
            last = value
        end
        assert.is_true(is_ordered)
        assert.are.equal(0xffffffffffffffffULL, C.shove_duration_unpack(65535))
        local highest = C.shove_duration_unpack(C.shove_duration_pack(0xffffffffffffffffULL))
        assert.is_true(highest > 0xff00000000000000ULL)
    end)
end)
