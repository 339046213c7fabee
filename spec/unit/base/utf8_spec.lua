local ffi = require "ffi"
local C = require("spec.support.c").include "base/utf8.h"

local function character(text)
    return tonumber(C.shove_utf8_character(text, #text))
end

local function cut(text, max)
    return text:sub(1, tonumber(C.shove_utf8_cut(text, #text, max)))
end

describe("UTF-8", function()
    it("measures the first character of a text", function()
        assert.are.equal(1, character "a€")
        assert.are.equal(2, character "ü")
        assert.are.equal(3, character "€uro")
        assert.are.equal(4, character "😀")
        assert.are.equal(0, character "")
    end)

    it("takes the last code points of each length", function()
        for bytes, size in pairs { ["\127"] = 1, ["\223\191"] = 2, ["\239\191\191"] = 3, ["\244\143\191\191"] = 4 } do
            assert.are.equal(size, character(bytes))
        end
    end)

    it("refuses overlong forms, surrogates, what is past U+10FFFF, and broken sequences", function()
        for _, bytes in ipairs { "\192\128", "\193\191", "\224\128\128", "\224\159\191", "\240\128\128\128",
                                 "\240\143\191\191", "\237\160\128", "\237\191\191", "\244\144\128\128",
                                 "\245\128\128\128", "\255", "\128", "\194", "\226\130", "\226\40\161",
                                 "\240\159\152", "\240\159\40\40" } do
            assert.are.equal(0, character(bytes))
        end
    end)

    it("agrees with a plain definition for every sequence of two bytes", function()
        for first = 128, 255 do
            for second = 0, 255 do
                local is_valid = first >= 0xC2 and first <= 0xDF and second >= 0x80 and second <= 0xBF
                assert.are.equal(is_valid and 2 or 0, character(string.char(first, second)))
            end
        end
    end)

    it("cuts a text between characters", function()
        assert.are.equal("a€", cut("a€b", 4))
        assert.are.equal("a", cut("a€b", 3))
        assert.are.equal("a", cut("a€b", 2))
        assert.are.equal("", cut("😀", 3))
        assert.are.equal("", cut("€", 0))
        assert.are.equal("a€b", cut("a€b", 5))
        assert.are.equal("a€b", cut("a€b", 500))
    end)

    it("cuts bytes that are no UTF-8 anywhere", function()
        assert.are.equal("\255\255", cut("\255\255\255", 2))
        assert.are.equal("\128\128\128\128", cut(("\128"):rep(9), 4))
        assert.are.equal("a\226", cut("a\226bc", 2))
    end)

    it("escapes what is not UTF-8, and cuts no character where there is no room", function()
        local function escape(text, size)
            local out = ffi.new("char[?]", size or 64)
            C.shove_utf8_escape(text, out, size or 64)
            return ffi.string(out)
        end
        assert.are.equal("", escape "")
        assert.are.equal("a\\xe9\\x80€", escape "a\233\128€")
        assert.are.equal("a€", escape("a€b", 5))
        assert.are.equal("a", escape("a€", 4))
        assert.are.equal("a", escape("a\255", 5))
        assert.are.equal("a\\xff", escape("a\255", 6))
    end)
end)
