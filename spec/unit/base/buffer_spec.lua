local ffi = require "ffi"
local C, constants = require("spec.support.c").include("base/buffer.h", "base/error.h")

local function new_buffer()
    local buffer = ffi.gc(ffi.new "struct shove_buffer", C.shove_buffer_release)
    C.shove_buffer_init(buffer)
    return buffer
end

local function bytes_of(buffer)
    return ffi.string(buffer.data, buffer.size)
end

local function varint(value)
    local bytes = ffi.new("uint8_t[?]", constants.SHOVE_VARINT_MAX)
    return ffi.string(bytes, C.shove_varint_write(bytes, value))
end

-- The value and how many bytes it took, or nil.
local function read_varint(bytes)
    local data = ffi.new("uint8_t[?]", math.max(#bytes, 1))
    ffi.copy(data, bytes, #bytes)
    local at, out = ffi.new("const uint8_t *[1]", { data }), ffi.new "uint64_t[1]"
    local code = C.shove_varint_read(at, data + #bytes, out)
    if code < 0 then
        assert.are.equal(C.SHOVE_ECORRUPT, code)
        assert.is_true(at[0] == data)
        return nil
    end
    return out[0], tonumber(at[0] - data)
end

describe("A buffer", function()
    it("holds what was appended, in order", function()
        local buffer = new_buffer()
        C.shove_buffer_append(buffer, "a\0b", 3)
        C.shove_buffer_append_text(buffer, "text")
        C.shove_buffer_printf(buffer, "%s-%d", "n", ffi.new("int", 7))
        assert.are.equal("a\0btextn-7", bytes_of(buffer))
    end)

    it("grows as far as it must", function()
        local buffer = new_buffer()
        for _ = 1, 1000 do C.shove_buffer_append(buffer, ("x"):rep(1000), 1000) end
        C.shove_buffer_printf(buffer, "%s", ("y"):rep(100000))
        assert.are.equal(("x"):rep(1000000) .. ("y"):rep(100000), bytes_of(buffer))
    end)

    it("appends nothing from nowhere", function()
        local buffer = new_buffer()
        C.shove_buffer_append(buffer, nil, 0)
        assert.are.equal(0, tonumber(buffer.size))
        assert.is_false(buffer.is_failed)
    end)

    it("reserves room without using it", function()
        local buffer = new_buffer()
        C.shove_buffer_append_text(buffer, "abc")
        local room = C.shove_buffer_reserve(buffer, 500)
        assert.is_true(room == buffer.data + 3 and buffer.capacity >= 503)
        assert.are.equal("abc", bytes_of(buffer))
        assert.is_true(C.shove_buffer_reserve(new_buffer(), 0) ~= nil)
    end)

    it("keeps what it had when memory runs out, and fails until it is cleared", function()
        local buffer = new_buffer()
        C.shove_buffer_append_text(buffer, "kept")
        for _, size in ipairs { 0xFFFFFFFFFFFFFFFFULL, 0x7FFFFFFFFFFFFFFFULL, 0x3FFFFFFFFFFFFFFFULL } do
            assert.is_true(C.shove_buffer_reserve(buffer, size) == nil)
        end
        C.shove_buffer_append_text(buffer, "lost")
        assert.is_true(buffer.is_failed)
        assert.are.equal("kept", bytes_of(buffer))
        C.shove_buffer_clear(buffer)
        C.shove_buffer_append_text(buffer, "new")
        assert.are.equal("new", bytes_of(buffer))
    end)
end)

describe("A varint", function()
    it("has seven bits a byte, lowest first", function()
        assert.are.equal("\0", varint(0))
        assert.are.equal("\127", varint(127))
        assert.are.equal("\128\1", varint(128))
        assert.are.equal("\172\2", varint(300))
        assert.are.equal(("\255"):rep(9) .. "\1", varint(0xFFFFFFFFFFFFFFFFULL))
    end)

    it("comes back, whatever its size", function()
        for shift = 0, 63 do
            for _, delta in ipairs { -1LL, 0LL, 1LL } do
                local value = ffi.cast("uint64_t", bit.lshift(1ULL, shift)) + delta
                local bytes = varint(value)
                local read, size = read_varint(bytes .. "rest")
                assert.is_true(read == value)
                assert.are.equal(#bytes, size)
            end
        end
    end)

    it("is refused when it is cut short or has more than 64 bits", function()
        for _, bytes in ipairs { "", "\128", "\255\255\255", ("\255"):rep(9), ("\255"):rep(9) .. "\2",
                                 ("\128"):rep(10) .. "\1", ("\255"):rep(40) } do
            assert.is_nil((read_varint(bytes)))
        end
    end)
end)
