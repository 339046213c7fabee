local include = require("spec.support.c").include
local C = include "core/respawn.h"
include "base/error.h"

describe("A dead group", function()
    it("is tried again after 2, 4, 8 and 16 s, then every 300 s", function()
        local waits = {}
        for failures = 1, 7 do waits[failures] = tonumber(C.shove_respawn_delay_ms(failures)) / 1000 end
        assert.are.same({ 2, 4, 8, 16, 300, 300, 300 }, waits)
        assert.are.equal(300000, tonumber(C.shove_respawn_delay_ms(0xffffffff)))
    end)

    it("has its breaker open from the fifth failure in a row on", function()
        assert.is_false(C.shove_respawn_is_open(4))
        assert.is_true(C.shove_respawn_is_open(5))
    end)

    for name, can_help in pairs {
        SHOVE_EAUTH = false, SHOVE_EDENIED = false, SHOVE_ENOTOPIC = false, SHOVE_ECONFIG = false, SHOVE_EOFFSET = false,
        SHOVE_EUNSUPPORTED = false, SHOVE_ETOOLARGE = false, SHOVE_EDAMAGED = false, SHOVE_ECORRUPT = false,
        SHOVE_EFATAL = true, SHOVE_EIO = true, SHOVE_EBROKER = true, SHOVE_EUNREACHABLE = true, SHOVE_ENOMEM = true,
        SHOVE_ETIMEOUT = true, SHOVE_ENOSPACE = true, SHOVE_EBUSY = true,
    } do
        it(("is %s again after %s"):format(can_help and "tried" or "not tried", name), function()
            assert.are.equal(can_help, C.shove_respawn_can_help(C[name]))
        end)
    end
end)
