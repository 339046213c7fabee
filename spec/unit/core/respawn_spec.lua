local include = require("spec.support.c").include
local C, constants = include "core/respawn.h"
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

    -- What shove_supervision_failed does: each failure by { how long it has had partitions, ms; false: not at all }.
    local function waits_after(failed_after_ms)
        local failures, now_ms, waits = 0, 1000, {}
        for i, held_ms in ipairs(failed_after_ms) do
            now_ms = now_ms + (held_ms or 100)
            failures = C.shove_respawn_count(failures, held_ms and now_ms - held_ms or 0, now_ms)
            waits[i] = tonumber(C.shove_respawn_delay_ms(failures)) / 1000
            now_ms = now_ms + waits[i] * 1000
        end
        return waits
    end

    it("has come back once it has had its partitions for a minute: its next failure is its first", function()
        assert.are.same({ 2, 4, 8, 2, 4 }, waits_after { 100, false, 59999, 60000, 1 })
    end)

    it("is probed every 300 s while each probe ends within a minute, and tried as before after one that lasts", function()
        assert.are.same({ 2, 4, 8, 16, 300, 300, 300, 2, 4 },
            waits_after { false, false, 1, false, 30000, false, 59999, 3600000, false })
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

describe("A worker that died", function()
    it("is replaced at once, then after 0.1, 0.2 s and so on to 5 s", function()
        local waits = {}
        for failures = 0, 10 do waits[failures + 1] = tonumber(C.shove_respawn_worker_delay_ms(failures)) end
        assert.are.same({ 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000 }, waits)
        assert.are.equal(5000, tonumber(C.shove_respawn_worker_delay_ms(0xffffffff)))
    end)

    it("is given up with all others when none is ready for 90 s and five replacements were not, not before", function()
        local limit_ms = constants.SHOVE_RESPAWN_WORKERS_MS
        assert.are.equal(90000, limit_ms)
        assert.is_false(C.shove_respawn_is_hopeless(100, limit_ms - 1))
        assert.is_false(C.shove_respawn_is_hopeless(4, 10 * limit_ms))
        assert.is_true(C.shove_respawn_is_hopeless(5, limit_ms))
    end)
end)
