local ffi = require "ffi"
local C = require("spec.support.c").include("base/record.h", "base/error.h")

local function new_block()
    local block = ffi.gc(ffi.new "struct shove_buffer", C.shove_buffer_release)
    C.shove_buffer_init(block)
    return block
end

local function append(block, name, value)
    C.shove_headers_append(block, name, #name, value, value and #value or 0)
end

-- { {name, value or false}, ... } from bytes, and the last return code.
local function walk(bytes)
    local data = ffi.new("uint8_t[?]", math.max(#bytes, 1))
    ffi.copy(data, bytes, #bytes)
    local at, out, found = ffi.new("const uint8_t *[1]", { data }), ffi.new "struct shove_header", {}
    while true do
        local code = C.shove_headers_next(at, data + #bytes, out)
        if code ~= 1 then return found, code end
        assert.is_true(at[0] > data and at[0] <= data + #bytes)
        local value = out.value ~= nil and ffi.string(out.value, out.value_size)
        table.insert(found, { ffi.string(out.name, out.name_size), value })
    end
end

local function bytes_of(block)
    return ffi.string(block.data, block.size)
end

describe("A header block", function()
    it("keeps order, duplicates, binary bytes, and tells an empty value from a null one", function()
        local headers = { { "b", "2" }, { "a", "\0\255\1" }, { "b", "2" }, { "", "no name" }, { "empty", "" },
                          { "null", false }, { "name\0with zero", "x" } }
        local block = new_block()
        for _, header in ipairs(headers) do append(block, header[1], header[2] or nil) end
        local found, code = walk(bytes_of(block))
        assert.are.same(headers, found)
        assert.are.equal(0, code)
    end)

    it("is empty without headers", function()
        local found, code = walk ""
        assert.are.same({}, found)
        assert.are.equal(0, code)
    end)

    it("is refused where it is cut short, and never read past its end", function()
        local block = new_block()
        append(block, "name", "value")
        append(block, "other", nil)
        local bytes = bytes_of(block)
        local whole = { [0] = true, [8 + 4 + 5] = true, [#bytes] = true }
        for size = 0, #bytes do
            local _, code = walk(bytes:sub(1, size))
            assert.are.equal(whole[size] and 0 or C.SHOVE_ECORRUPT, code)
        end
    end)

    it("is refused when its sizes promise more than there is", function()
        for _, sizes in ipairs { { 0xFFFFFFFF, 0 }, { 0xFFFFFFFF, 0xFFFFFFFF }, { 5, 0 }, { 4, 1 }, { 0, 0xFFFFFFFE },
                                 { 4, 0xFFFFFFFE }, { 0x80000000, 0x80000000 } } do
            local head = ffi.string(ffi.new("uint32_t[2]", sizes), 8)
            local _, code = walk(head .. "abcd")
            assert.are.equal(C.SHOVE_ECORRUPT, code)
        end
    end)

    it("survives a walk over any bytes", function()
        local block = new_block()
        append(block, "name", "value")
        append(block, "Shove-Message-Id", ("x"):rep(40))
        append(block, "null", nil)
        local bytes = bytes_of(block)
        for _ = 1, 20000 do
            local changed = bytes:sub(1, math.random(0, #bytes))
            for _ = 1, math.random(0, 3) do
                local at = math.random(1, #changed + 1)
                changed = changed:sub(1, at - 1) .. string.char(math.random(0, 255)) .. changed:sub(at + 1)
            end
            local _, code = walk(changed)
            assert.is_true(code == 0 or code == C.SHOVE_ECORRUPT)
        end
    end)

    it("fails rather than hold a value whose size it cannot say", function()
        local block = new_block()
        C.shove_headers_append(block, "name", 4, "x", 0xFFFFFFFF)
        assert.is_true(block.is_failed)
    end)
end)
