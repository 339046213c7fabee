local ffi = require "ffi"
local C = require("spec.support.c").include "ipc/arena.h"
local process = require "spec.support.process"

local SLAB_BYTES = 65536
local NONE = 0xffffffffffffffffULL
local MIB = 1024 * 1024

local function new_arena(size_bytes)
    return ffi.gc(C.shove_arena_new(size_bytes), C.shove_arena_free)
end

-- The offset as a Lua number, or nil when there is no room.
local function take(arena, size_bytes)
    local offset = C.shove_arena_take(arena, size_bytes)
    if offset ~= NONE then return tonumber(offset) end
end

local function count(arena)
    return tonumber(C.shove_arena_block_count(arena))
end

local function used(arena)
    return tonumber(C.shove_arena_used_bytes(arena))
end

-- Takes blocks of one size until there is no room.
local function fill(arena, size_bytes)
    local offsets = {}
    for offset in function() return take(arena, size_bytes) end do table.insert(offsets, offset) end
    return offsets
end

-- What every arena must do, kept as naively as possible: a list of blocks, each compared with all others.
local Model = {}
Model.__index = Model

local function new_model(size_bytes)
    return setmetatable({ blocks = {}, size_bytes = size_bytes }, Model)
end

function Model:add(offset, size_bytes)
    assert(offset % 64 == 0, "not aligned: " .. offset)
    assert(offset >= 0 and offset + size_bytes <= self.size_bytes, "outside of the arena: " .. offset)
    for _, other in ipairs(self.blocks) do
        local apart = offset + size_bytes <= other.offset or other.offset + other.size_bytes <= offset
        assert(apart, ("[%d, +%d) overlaps [%d, +%d)"):format(offset, size_bytes, other.offset, other.size_bytes))
    end
    table.insert(self.blocks, { offset = offset, size_bytes = size_bytes })
end

function Model:remove(index)
    local block = self.blocks[index]
    self.blocks[index] = self.blocks[#self.blocks]
    table.remove(self.blocks)
    return block.offset
end

local function random_size()
    local dice = math.random(100)
    if dice <= 60 then return math.random(0, 700) end
    if dice <= 90 then return math.random(1, 32768) end
    if dice <= 99 then return math.random(32769, 200000) end
    return math.random(200001, 900000)
end

local function walk(arena, model, steps)
    for _ = 1, steps do
        if #model.blocks == 0 or (#model.blocks < 400 and math.random() < 0.52) then
            local size_bytes = random_size()
            local offset = take(arena, size_bytes)
            if offset then model:add(offset, size_bytes) end
        else
            C.shove_arena_give(arena, model:remove(math.random(#model.blocks)))
        end
        assert(count(arena) == #model.blocks, "the number of blocks is wrong")
    end
end

describe("ipc arena", function()
    it("never hands out overlapping or unaligned blocks and leaks none, on a long random walk", function()
        local seed = tonumber(os.getenv "SHOVE_TEST_SEED") or os.time()
        math.randomseed(seed)
        local arena, model = new_arena(4 * MIB), new_model(4 * MIB)
        local ok, err = pcall(walk, arena, model, 60000)
        assert(ok, ("seed %d: %s"):format(seed, err))
        while #model.blocks > 0 do C.shove_arena_give(arena, model:remove(#model.blocks)) end
        assert.are.equal(0, used(arena))
        assert.are.equal(0, take(arena, 4 * MIB), "the whole arena is one free run again")
    end)

    it("rounds up to whole cache lines and counts what it handed out", function()
        local arena = new_arena(MIB)
        local cases = { { 0, 64 }, { 1, 64 }, { 64, 64 }, { 65, 128 }, { 257, 320 }, { 513, 640 }, { 1024, 1024 },
            { 1025, 1280 }, { 32768, 32768 }, { 32769, SLAB_BYTES }, { SLAB_BYTES + 1, 2 * SLAB_BYTES } }
        for _, case in ipairs(cases) do
            local offset = take(arena, case[1])
            assert.are.equal(case[2], used(arena), "for " .. case[1] .. " bytes")
            C.shove_arena_give(arena, offset)
        end
    end)

    it("says that there is no room when full, and hands the same blocks out again once they are back", function()
        for _, size_bytes in ipairs { 64, 100, 20000, 32768, 40000, 3 * SLAB_BYTES } do
            local arena = new_arena(MIB)
            local first = fill(arena, size_bytes)
            assert.is_nil(take(arena, size_bytes))
            for _, offset in ipairs(first) do C.shove_arena_give(arena, offset) end
            assert.are.equal(0, count(arena))
            local second = fill(arena, size_bytes)
            table.sort(first)
            table.sort(second)
            assert.are.same(first, second)
        end
    end)

    it("holds as many blocks as fit", function()
        assert.are.equal(16 * 1024, #fill(new_arena(MIB), 64))
        assert.are.equal(16, #fill(new_arena(MIB), SLAB_BYTES))
        assert.are.equal(5, #fill(new_arena(MIB), 3 * SLAB_BYTES))
    end)

    it("finds a run between others, and none where the gaps are too short", function()
        local arena = new_arena(10 * SLAB_BYTES)
        local slabs = fill(arena, SLAB_BYTES)
        assert.are.equal(10, #slabs)
        for _, index in ipairs { 2, 4, 5, 8, 9, 10 } do C.shove_arena_give(arena, slabs[index]) end
        assert.are.equal(slabs[8], take(arena, 3 * SLAB_BYTES))
        assert.is_nil(take(arena, 3 * SLAB_BYTES))
        assert.are.equal(slabs[4], take(arena, 2 * SLAB_BYTES))
        assert.are.equal(slabs[2], take(arena, SLAB_BYTES))
    end)

    it("finds a run that crosses the words of its books", function()
        local arena = new_arena(200 * SLAB_BYTES)
        local slabs = fill(arena, SLAB_BYTES)
        for index = 61, 190 do C.shove_arena_give(arena, slabs[index]) end
        assert.are.equal(slabs[61], take(arena, 130 * SLAB_BYTES))
        assert.is_nil(take(arena, SLAB_BYTES))
    end)

    it("refuses what is larger than itself", function()
        local arena = new_arena(MIB)
        assert.is_nil(take(arena, MIB + 1))
        assert.is_nil(take(arena, 2 ^ 50))
        assert.are.equal(0, take(arena, MIB))
    end)

    it("uses a slab for another size once its last block is back", function()
        local arena = new_arena(SLAB_BYTES)
        for _, size_bytes in ipairs { 64, 4096, 128, 32768, 50000 } do
            local offsets = fill(arena, size_bytes)
            assert.is_true(#offsets >= 1, size_bytes .. " bytes do not fit")
            for _, offset in ipairs(offsets) do C.shove_arena_give(arena, offset) end
        end
    end)

    it("keeps what is in use at the bottom", function()
        local arena = new_arena(64 * MIB)
        local offsets = {}
        for i = 1, 20000 do offsets[i] = take(arena, 128) end
        for i = 1, 20000 do C.shove_arena_give(arena, offsets[i]) end
        for _ = 1, 100 do assert.is_true(take(arena, 1 + math.random(2000)) < 40 * SLAB_BYTES) end
    end)

    it("rounds a size down to whole slabs, at least one", function()
        assert.are.equal(1, #fill(new_arena(100), SLAB_BYTES))
        assert.are.equal(1, #fill(new_arena(2 * SLAB_BYTES - 1), SLAB_BYTES))
    end)

    it("stops the process when a block is given back twice, before a message is overwritten", function()
        local script = [[
            local C = require("spec.support.c").include "ipc/arena.h"
            local arena = C.shove_arena_new(1048576)
            local offset = C.shove_arena_take(arena, %s)
            C.shove_arena_take(arena, %s)
            C.shove_arena_give(arena, offset)
            C.shove_arena_give(arena, offset + %s)
        ]]
        for _, case in ipairs { { 100, 100, 0 }, { 100000, 100, 0 }, { 100000, 100, 65536 }, { 100, 100, 1 } } do
            local path = require("spec.support.tmp").dir() .. "/twice_spec.lua"
            require("spec.support.tmp").write(path, script:format(unpack(case)))
            local result = process.run { "/proc/self/exe", path }
            assert.are.equal(6, result.signal, result.process:transcript())
            assert.truthy(result.stderr:find("was given back but is not taken", 1, true), result.stderr)
        end
    end)
end)
