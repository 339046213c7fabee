local ffi = require "ffi"
local C = require("spec.support.c").include "core/listen_address.h"

local function parse(text)
    local out, err = ffi.new "struct shove_listen_address", ffi.new "struct shove_error"
    local rc = C.shove_listen_address_parse(text, out, err)
    if rc ~= 0 then return nil, ffi.string(err.text), rc end
    return ffi.string(out.host) .. " " .. ffi.string(out.port)
end

describe("An address to listen at", function()
    for text, expected in pairs {
        ["8080"] = "127.0.0.1 8080", [":8080"] = "127.0.0.1 8080", ["0"] = "127.0.0.1 0", ["0.0.0.0:80"] = "0.0.0.0 80",
        ["[::1]:8080"] = "::1 8080", ["[::]:65535"] = ":: 65535", ["localhost:9"] = "localhost 9",
    } do
        it(("may be %s"):format(text), function() assert.are.equal(expected, parse(text)) end)
    end

    for _, text in ipairs {
        "", ":", "localhost", "127.0.0.1", "8080x", "-1", "65536", "123456", "127.0.0.1:", "::1:8080", "[::1]", "[]:80",
        "[::1:80", "http://x:80", " 80", ("x"):rep(256) .. ":80",
    } do
        it(("may not be '%.20s'"):format(text), function()
            local address, why, code = parse(text)
            assert.is_nil(address)
            assert.are.equal(C.SHOVE_EUSAGE, code)
            assert.matches("is not an address to listen at: PORT or HOST:PORT", why, 1, true)
        end)
    end
end)
