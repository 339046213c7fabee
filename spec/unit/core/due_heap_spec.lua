-- What waits, by when it is due.
local ffi = require "ffi"
local uv = require "luv"
local C = require("spec.support.c").include "core/due_heap.h"

local Heap = {}
Heap.__index = Heap

-- entries: by their address, what it is that waits.
local function new_heap()
    return setmetatable({ c = ffi.new "struct shove_due_heap", entries = {}, names = {} }, Heap)
end

local function address(entry)
    return tostring(ffi.cast("uintptr_t", ffi.cast("void *", entry)))
end

function Heap:insert(name, due_ms)
    local entry = ffi.new "struct shove_due_entry"
    self.entries[name], self.names[address(entry)] = entry, name
    C.shove_due_heap_insert(self.c, entry, due_ms)
end

-- Memory of what is out is no longer the heap's.
function Heap:forget(entry)
    local name = assert(self.names[address(entry)])
    self.entries[name], self.names[address(entry)] = nil, nil
    ffi.fill(entry, ffi.sizeof "struct shove_due_entry", 0x55)
    return name
end

function Heap:pop()
    local entry = C.shove_due_heap_pop(self.c)
    if entry == nil then return nil end
    return self:forget(entry)
end

function Heap:pop_all()
    local names = {}
    for name in function() return self:pop() end do table.insert(names, name) end
    return names
end

function Heap:filter(leaves)
    local callback = ffi.cast("bool (*)(void *, struct shove_due_entry *)", function(_, entry)
        if not leaves(assert(self.names[address(entry)])) then return false end
        self:forget(entry)
        return true
    end)
    C.shove_due_heap_filter(self.c, callback, nil)
    callback:free()
end

describe("a heap by due time", function()
    it("is empty to begin with, and when all that waited was taken", function()
        local heap = new_heap()
        assert.is_nil(heap:pop())
        heap:insert("a", 1)
        assert.are.equal("a", heap:pop())
        assert.is_nil(heap:pop())
    end)

    it("gives what is due first, in whatever order it came", function()
        local heap = new_heap()
        for _, due_ms in ipairs { 5, -3, 9, 1, 7, 2 } do heap:insert(due_ms, due_ms) end
        assert.are.same({ -3, 1, 2, 5, 7, 9 }, heap:pop_all())
    end)

    it("shows the first without taking it", function()
        local heap = new_heap()
        heap:insert("late", 2)
        heap:insert("soon", 1)
        assert.are.equal(1, tonumber(heap.c.first.due_ms))
        assert.are.same({ "soon", "late" }, heap:pop_all())
    end)

    it("gives those due at the same time in the order in which they came", function()
        local heap = new_heap()
        for i = 1, 100 do heap:insert(i, 7) end
        heap:insert("before", 6)
        assert.are.equal("before", heap:pop())
        local last = 0
        for _, i in ipairs(heap:pop_all()) do
            assert.are.equal(last + 1, i)
            last = i
        end
        assert.are.equal(100, last)
    end)

    it("loses those that leave, and keeps the order of the others", function()
        local heap = new_heap()
        for i = 1, 20 do heap:insert(i, i % 4) end
        heap:filter(function(i) return i % 2 == 0 end)
        assert.are.same({ 1, 5, 9, 13, 17, 3, 7, 11, 15, 19 }, heap:pop_all())
        heap:insert("a", 1)
        heap:filter(function() return true end)
        assert.is_nil(heap:pop())
    end)

    it("takes what comes between all that waits as quickly as what comes last", function()
        local COUNT = 200000
        local heap, entries = ffi.new "struct shove_due_heap", ffi.new("struct shove_due_entry[?]", COUNT)
        for i = 0, COUNT - 1 do C.shove_due_heap_insert(heap, entries[i], i % 1000 * 1000 + math.floor(i / 1000)) end
        for i = 0, COUNT - 1 do
            local entry = C.shove_due_heap_pop(heap)
            assert(tonumber(entry.due_ms) == i % 200 + math.floor(i / 200) * 1000)
        end
        assert.is_true(C.shove_due_heap_pop(heap) == nil)
    end)
end)

describe("a random walk of a heap by due time beside a naive model", function()
    local STEPS = 20000

    -- The model: a list in the order of insertion, looked through from its beginning.
    local function first_of(model)
        local at
        for i, item in ipairs(model) do
            if not at or item.due_ms < model[at].due_ms then at = i end
        end
        return at
    end

    local function walk(seed)
        math.randomseed(seed)
        local heap, model, most = new_heap(), {}, 0
        for step = 1, STEPS do
            local grows, dice = math.floor(step / 500) % 2 == 0, math.random(100)
            if dice <= (grows and 70 or 30) then
                local item = { name = step, due_ms = math.random(grows and 50 or 1000000) }
                table.insert(model, item)
                heap:insert(item.name, item.due_ms)
            elseif dice <= 99 then
                local at = first_of(model)
                assert(heap:pop() == (at and table.remove(model, at).name), "step " .. step)
            else
                local divisor, rest = math.random(2, 5), {}
                heap:filter(function(name) return name % divisor == 0 end)
                for _, item in ipairs(model) do
                    if item.name % divisor ~= 0 then table.insert(rest, item) end
                end
                model = rest
            end
            most = math.max(most, #model)
        end
        assert.is_true(most > 50)
        while #model > 0 do assert(heap:pop() == table.remove(model, first_of(model)).name) end
        assert.is_nil(heap:pop())
    end

    local fresh = os.time() % 1000000 * 1000 + select(2, uv.gettimeofday()) % 1000
    for _, seed in ipairs { 1, 20260131, fresh } do
        it("with seed " .. seed, function() walk(seed) end)
    end
end)
