-- Waiting for an event with a deadline, never for a time: the libuv loop runs until the event is there.
--
--     wait.until_true(predicate, deadline_ms, what)   the predicate's first true value; asked after every event of the
--                                                     loop and at least every 5 ms
--     wait.loop(is_done, deadline_ms, tick_ms)        true when is_done() came true, false at the deadline; asked after
--                                                     every event of the loop and, if tick_ms is given, as often as that
--
-- Deadlines bound a failure, they do not measure speed: $SHOVE_TEST_PATIENCE (default 1) multiplies all of them, for
-- builds under a sanitizer and for busy machines.

local uv = require "luv"

local M = {}

local TICK_MS = 5

local patience = tonumber(os.getenv "SHOVE_TEST_PATIENCE") or 1

local function run_loop(is_done, deadline_ms, tick_ms)
    local is_over = false
    uv.update_time() -- the loop's clock stands still between turns: by it a deadline would be over early
    local timer = uv.new_timer()
    -- It goes on: one that is due when the loop is entered runs before the loop blocks, and must not be the last.
    timer:start(math.ceil(deadline_ms * patience), TICK_MS, function() is_over = true end)
    local ticker
    if tick_ms then
        ticker = uv.new_timer()
        ticker:start(tick_ms, tick_ms, function() end)
    end
    local ok, result = pcall(function()
        local value = is_done()
        while not value and not is_over do
            uv.run "once"
            value = is_done()
        end
        return value
    end)
    timer:close()
    if ticker then ticker:close() end
    uv.run "nowait"
    if not ok then error(result, 0) end
    return result
end

function M.loop(is_done, deadline_ms, tick_ms)
    return run_loop(is_done, deadline_ms, tick_ms) and true or false
end

function M.until_true(predicate, deadline_ms, what)
    local started = uv.hrtime()
    local value = run_loop(predicate, deadline_ms, TICK_MS)
    if not value then
        error(("waited %.1f s for %s"):format((uv.hrtime() - started) / 1e9, what or "something to come true"), 2)
    end
    return value
end

return M
