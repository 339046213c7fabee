local ffi = require "ffi"
local C, constants = require("spec.support.c").include "base/error.h"

local TEXT_MAX = constants.SHOVE_ERROR_TEXT_SIZE - 1

local function new_error()
    return ffi.new "struct shove_error"
end

local function text_of(err)
    return ffi.string(err.text)
end

describe("An error", function()
    it("carries the code that set returns, and a formatted text", function()
        local err = new_error()
        local code = C.shove_error_set(err, C.SHOVE_ENOTOPIC, "topic '%s' has %d partitions", "orders", ffi.new("int", 8))
        assert.are.equal(-4, code)
        assert.are.equal(-4, err.code)
        assert.are.equal("topic 'orders' has 8 partitions", text_of(err))
    end)

    it("may be left out by a caller who wants the code alone", function()
        assert.are.equal(-1, C.shove_error_set(nil, C.SHOVE_ENOMEM, "no room"))
        assert.is_true(C.shove_error_prefix(nil, "orders") < 0)
    end)

    it("takes a prefix and keeps its code", function()
        local err = new_error()
        C.shove_error_set(err, C.SHOVE_ECONFIG, "prefetch is 0")
        assert.are.equal(-15, C.shove_error_prefix(err, "%s:%d", "app.lua", ffi.new("int", 12)))
        assert.are.equal("app.lua:12: prefetch is 0", text_of(err))
    end)

    it("may be formatted from its own text", function()
        local err = new_error()
        C.shove_error_set(err, C.SHOVE_EIO, "disk is full")
        C.shove_error_set(err, C.SHOVE_ENOSPACE, "cannot write: %s", ffi.cast("const char *", err.text))
        assert.are.equal("cannot write: disk is full", text_of(err))
    end)

    it("is cut where it does not fit, and stays terminated", function()
        local err = new_error()
        C.shove_error_set(err, C.SHOVE_EIO, "%s", ("x"):rep(5000))
        assert.are.equal(("x"):rep(TEXT_MAX), text_of(err))
        C.shove_error_prefix(err, "%s", ("y"):rep(5000))
        assert.are.equal(("y"):rep(TEXT_MAX), text_of(err))
    end)

    it("is never cut inside a UTF-8 character", function()
        for lead = 0, 4 do
            local err = new_error()
            C.shove_error_set(err, C.SHOVE_EIO, "%s", ("x"):rep(lead) .. ("€"):rep(1000))
            local text = text_of(err)
            assert.is_true(#text > TEXT_MAX - 3)
            assert.are.equal(("x"):rep(lead) .. ("€"):rep((#text - lead) / 3), text)
        end
    end)

    it("has a name and a sentence for each code", function()
        local names, sentences = {}, {}
        for code = -25, 0 do
            local name, sentence = ffi.string(C.shove_error_name(code)), ffi.string(C.shove_error_sentence(code))
            assert.is_nil(names[name], name)
            assert.is_nil(sentences[sentence], sentence)
            names[name], sentences[sentence] = code, code
        end
        assert.are.equal(-4, names.ENOTOPIC)
        assert.are.equal(0, names.OK)
    end)

    it("says EUNKNOWN of a number that a worker made up", function()
        for _, code in ipairs { 1, -99, -1000, 2147483647, -2147483648 } do
            assert.are.equal("EUNKNOWN", ffi.string(C.shove_error_name(code)))
            assert.are.equal("unknown error", ffi.string(C.shove_error_sentence(code)))
        end
    end)
end)
