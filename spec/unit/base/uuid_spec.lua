-- Version 7 UUIDs: their form, and that no two are the same.
local ffi = require "ffi"
local C = require("spec.support.c").include "base/uuid.h"

local function new_source()
    local source = ffi.new "struct shove_uuid_source"
    assert.are.equal(0, C.shove_uuid_init(source))
    return source
end

local out = ffi.new "char[37]"

local function next_of(source, wall_ms)
    C.shove_uuid_next(source, wall_ms, out)
    return ffi.string(out)
end

describe("a UUID", function()
    it("has the form, the version and the variant of RFC 9562", function()
        local source = new_source()
        for _ = 1, 1000 do
            assert.matches("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-7%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$",
                next_of(source, 1700000000000))
        end
    end)

    it("begins with the milliseconds since 1970", function()
        -- RFC 9562, appendix A.6: 0x017F22E279B0 is 2022-02-22T19:22:22Z.
        assert.are.equal("017f22e2-79b0", next_of(new_source(), 0x017F22E279B0):sub(1, 13))
    end)

    it("differs from all others of its source, also when the counter wraps", function()
        local source, seen = new_source(), {}
        source.low = 2ULL ^ 62 - 50
        for _ = 1, 100 do
            local id = next_of(source, 1)
            assert.is_nil(seen[id])
            assert.matches("^[89ab]", id:sub(20))
            seen[id] = true
        end
    end)

    it("differs from those of another source", function()
        assert.are_not.equal(next_of(new_source(), 1), next_of(new_source(), 1))
    end)
end)
