local ffi = require "ffi"
local C = require("spec.support.c").include("base/encoding.h", "base/error.h")

local function encode(data)
    local size = tonumber(C.shove_base64_encoded_size(#data))
    local out = ffi.new("char[?]", size + 1, ("?"):rep(size + 1))
    C.shove_base64_encode(data, #data, out)
    assert.are.equal(0, out[size])
    return ffi.string(out, size)
end

-- The bytes, or nil.
local function decode(text)
    local out = ffi.new("uint8_t[?]", #text / 4 * 3 + 1)
    local size = tonumber(C.shove_base64_decode(text, #text, out))
    if size < 0 then
        assert.are.equal(C.SHOVE_ECORRUPT, size)
        return nil
    end
    return ffi.string(out, size)
end

local function random_bytes(size)
    local bytes = {}
    for i = 1, size do bytes[i] = string.char(math.random(0, 255)) end
    return table.concat(bytes)
end

describe("Base64", function()
    it("encodes the examples of RFC 4648", function()
        local examples = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=",
                           foobar = "Zm9vYmFy" }
        for data, text in pairs(examples) do
            assert.are.equal(text, encode(data))
            assert.are.equal(data, decode(text))
        end
    end)

    it("brings back any bytes", function()
        for size = 0, 200 do
            local data = random_bytes(size)
            assert.are.equal(data, decode(encode(data)))
        end
    end)

    it("refuses what is not canonical: missing padding, stray bits, foreign characters, padding inside", function()
        for _, text in ipairs { "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Z=g=", "Zm 9v", "Zm9\n",
                                "Zm-_", "Zm9v\0\0\0\0", "\255\255\255\255", "=Zg=" } do
            assert.is_nil(decode(text), text)
        end
    end)

    it("decodes in one way only: no other text of the same length gives the same bytes", function()
        local text = encode "\1\2\3\4"
        for at = 1, #text do
            for byte = 0, 255 do
                local changed = text:sub(1, at - 1) .. string.char(byte) .. text:sub(at + 1)
                if changed ~= text then assert.are_not.equal("\1\2\3\4", decode(changed)) end
            end
        end
    end)
end)

describe("CRC-32", function()
    it("is zlib's", function()
        assert.are.equal(0xCBF43926, C.shove_crc32(0, "123456789", 9))
        assert.are.equal(0, C.shove_crc32(0, "", 0))
    end)

    it("goes on where it stopped", function()
        local whole = C.shove_crc32(0, "123456789", 9)
        assert.are.equal(whole, C.shove_crc32(C.shove_crc32(0, "1234", 4), "56789", 5))
        assert.are.equal(whole, C.shove_crc32(whole, nil, 0))
    end)
end)
