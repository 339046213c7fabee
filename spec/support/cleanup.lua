-- What a spec leaves behind is taken away when it ends: processes, directories, brokers.
--
--     cleanup.defer(function() ... end)       when the running test ends (last deferred, first run)
--     cleanup.for_block(function() ... end)   what is deferred inside lives until the describe block or file ends;
--                                             use it in setup()
--     cleanup.at_exit(function() ... end)     when the whole run ends
--
-- A cleanup that fails is a failure of the run, like a failing teardown, but the others still happen.

local M = {}

local per_test, at_exit = {}, {}
local blocks = { {} }
local target = per_test

function M.defer(fn)
    table.insert(target, fn)
end

function M.at_exit(fn)
    table.insert(at_exit, fn)
end

function M.for_block(fn)
    local previous = target
    target = blocks[#blocks]
    local results = { pcall(fn) }
    target = previous
    if not results[1] then error(results[2], 0) end
    return unpack(results, 2)
end

local function run_all(list)
    local errors = {}
    while #list > 0 do
        local fn = table.remove(list)
        local ok, err = pcall(fn)
        if not ok then table.insert(errors, tostring(err)) end
    end
    if #errors > 0 then error("cleaning up failed:\n" .. table.concat(errors, "\n"), 0) end
end

-- Only helper.lua calls this.
function M.install()
    local busted = require "busted"
    local function open()
        table.insert(blocks, {})
        return nil, true
    end
    local function close()
        run_all(per_test)
        run_all(table.remove(blocks))
        return nil, true
    end
    -- Before the output handler counts the test, so that a failing cleanup is seen as this test's.
    busted.subscribe({ "test", "end" }, function()
        run_all(per_test)
        return nil, true
    end, { priority = 1 })
    busted.subscribe({ "describe", "start" }, open)
    busted.subscribe({ "file", "start" }, open)
    busted.subscribe({ "describe", "end" }, close, { priority = 1 })
    busted.subscribe({ "file", "end" }, close, { priority = 1 })
    busted.subscribe({ "exit" }, function()
        run_all(at_exit)
        return nil, true
    end)
end

return M
