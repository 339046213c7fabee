-- The poisoned keys of a partition, as the records of the poison topic say.

local ffi = require "ffi"
local assert = require "luassert"
local C = require("spec.support.c").include "core/poison.h"

describe("poisoned keys", function()
    local poison

    local function add(key, offset, at) assert.equal(0, C.shove_poison_add(poison, key, #key, offset, at)) end
    local function clear(key, at) C.shove_poison_clear(poison, key, #key, at) end
    local function covers(key, offset) return C.shove_poison_covers(poison, key, #key, offset) end

    before_each(function() poison = ffi.new "struct shove_poisoned_keys" end)
    after_each(function()
        C.shove_poison_release(poison)
        assert.equal(0, tonumber(poison.count))
    end)

    it("are none at first", function()
        assert.is_false(covers("a", 0))
        clear("a", 1)
        assert.is_false(covers("a", 0))
    end)

    it("cover what follows the message that poisoned them, and no other key", function()
        add("a", 10, 0)
        assert.is_false(covers("a", 9))
        assert.is_false(covers("a", 10))
        assert.is_true(covers("a", 11))
        assert.is_false(covers("b", 11))
        assert.is_false(covers("", 11))
        assert.is_false(covers("a\0", 11))
    end)

    it("may be empty, binary and long", function()
        local keys = { "", "\0", "\255\254", "\255\253", ("x"):rep(1024 * 1024), ("x"):rep(1024 * 1024) .. "y" }
        for i, key in ipairs(keys) do add(key, i, i) end
        assert.equal(#keys, tonumber(poison.count))
        for i, key in ipairs(keys) do
            assert.is_false(covers(key, i))
            assert.is_true(covers(key, i + 1))
        end
        for i, key in ipairs(keys) do clear(key, 100 + i) end
        assert.equal(0, tonumber(poison.count))
    end)

    it("are what the latest record says, in whatever order and however often records are seen", function()
        add("a", 10, 5)
        add("a", 20, 7)
        add("a", 10, 5)
        clear("a", 6)
        assert.is_false(covers("a", 15))
        assert.is_true(covers("a", 21))
        clear("a", 8)
        assert.is_false(covers("a", 21))
        add("a", 30, 9)
        assert.is_true(covers("a", 31))
        assert.equal(1, tonumber(poison.count))
    end)

    it("are what a record says whose place is not known, until it is read", function()
        add("a", 20, 3)
        add("a", 10, -1)
        assert.is_true(covers("a", 11))
        add("a", 20, 3)
        assert.is_true(covers("a", 11))
        add("a", 10, 8)
        assert.is_true(covers("a", 11))
        add("a", 30, -1)
        assert.is_true(covers("a", 11))
    end)

    it("are forgotten all at once", function()
        for i = 1, 10000 do add("key " .. i, i, i) end
        assert.equal(10000, tonumber(poison.count))
    end)

    describe("stored at a place that is not known", function()
        it("stay, whatever an older record clears, until all was read", function()
            add("a", 10, -1)
            clear("a", 5)
            assert.is_true(covers("a", 11))
            add("a", 10, 6)
            C.shove_poison_read_all(poison)
            assert.is_true(covers("a", 11))
            clear("a", 7)
            assert.is_false(covers("a", 11))
        end)

        it("are gone when all was read and a later record clears them, also where theirs was compacted away", function()
            add("a", 10, -1)
            add("a", 10, 6)
            clear("a", 7)
            add("b", 20, -1)
            clear("b", 9)
            C.shove_poison_read_all(poison)
            assert.equal(0, tonumber(poison.count))
        end)

        it("count beside what was known", function()
            add("a", 20, 3)
            add("a", 10, -1)
            assert.is_true(covers("a", 11))
            clear("a", 5) -- later than the one, not than the other
            add("a", 10, 6)
            C.shove_poison_read_all(poison)
            assert.is_true(covers("a", 11))
        end)

        it("stay when nothing more is read of them", function()
            add("a", 10, -1)
            C.shove_poison_read_all(poison)
            assert.is_true(covers("a", 11))
        end)
    end)
end)
