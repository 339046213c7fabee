local ffi = require "ffi"
local C, constants = require("spec.support.c").include "core/tally.h"

local function exit_code(verdict)
    return C.shove_verdict_exit_code(ffi.new("struct shove_verdict", verdict))
end

describe("The exit code of a run", function()
    it("is 0 after a clean drain", function()
        assert.are.equal(0, exit_code {})
    end)

    it("is 1 when a consumer stopped with an error, the last commit failed, or a worker could not be replaced", function()
        assert.are.equal(1, exit_code { failed_groups = 1 })
        assert.are.equal(1, exit_code { has_failed_commit = true })
        assert.are.equal(1, exit_code { has_no_workers = true })
    end)

    it("is 2 when a worker process died, whatever consumers did", function()
        assert.are.equal(2, exit_code { worker_deaths = 1 })
        assert.are.equal(2, exit_code { worker_deaths = 3, failed_groups = 2, has_failed_commit = true })
    end)

    it("is 3 when the drain timed out, whatever else happened", function()
        assert.are.equal(3, exit_code { has_drain_timeout = true })
        assert.are.equal(3, exit_code {
            has_drain_timeout = true, worker_deaths = 1, failed_groups = 1, has_failed_commit = true,
        })
    end)

    it("is that of sysexits(3) where nothing ran", function()
        assert.are.equal(64, constants.SHOVE_EXIT_USAGE)
        assert.are.equal(69, constants.SHOVE_EXIT_UNAVAILABLE)
        assert.are.equal(78, constants.SHOVE_EXIT_CONFIG)
    end)
end)
