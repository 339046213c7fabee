-- Random walks: programs beside the running one that compare a part of the core with a naive model, by a seed.
--
--     walk.specs("ledger_walk", { steps = "3000000", seeds = { "1", "20260131" } }, function(result) ... end)
--
-- An `it` for each seed, and one for a seed of its own, which is printed. The program must exit with 0; what else is
-- asked of it is the function's: result is what process.run gives.

local uv = require "luv"
local assert = require "luassert"
local process = require "spec.support.process"

local M = {}

local RUN_MS = 120000

function M.specs(program, options, check)
    local it = require("busted").it
    local folder = assert(uv.exepath()):match "^(.*)/"

    local function walk(seed)
        local result = process.run({ folder .. "/" .. program, seed, options.steps }, RUN_MS)
        assert.are.equal(0, result.code, result.process:transcript())
        check(result, seed)
    end

    for _, seed in ipairs(options.seeds) do
        it("with seed " .. seed, function() walk(seed) end)
    end

    local fresh = ("%d%06d"):format(os.time(), select(2, uv.gettimeofday()))
    it(("with a fresh seed, this time %s"):format(fresh), function()
        print(("  %s: seed %s"):format(program, fresh))
        walk(fresh)
    end)
end

return M
