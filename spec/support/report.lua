-- busted's output, for a person and for scripts/test: a line per spec file, every failure in full at once, every
-- skipped test with its reason, and a last line "N passed, N failed, N skipped".
--
-- The name of the running test is kept in the file $SHOVE_TEST_STATUS, so that a suite which dies can be told from
-- which test it died in.

local uv = require "luv"

local SLOW_MS = 5000

local status_path = os.getenv "SHOVE_TEST_STATUS"

local function note(name)
    if status_path then
        local file = assert(io.open(status_path, "w"))
        file:write(name, "\n")
        file:close()
    end
end

local function indent(text)
    return "    " .. tostring(text):gsub("\n", "\n    ")
end

local function message_of(formatted)
    local message = formatted.message
    if message == nil then return "error without a message" end
    if type(message) == "string" then return message end
    return require("pl.pretty").write(message)
end

return function(options)
    local busted = require "busted"
    local handler = require "busted.outputHandlers.base"()
    local file = { name = "", passed = 0, started_ms = 0 }
    local test_started_ms = 0

    local function tell(kind, formatted)
        local trace = formatted.trace or formatted.element.trace
        local place = trace and trace.short_src and ("%s:%d: "):format(trace.short_src, trace.currentline or 0) or ""
        print(("%s %s%s"):format(kind, place, formatted.name))
        print(indent(message_of(formatted)))
        if options.verbose and trace and trace.traceback then print(indent(trace.traceback)) end
    end

    function handler.file_start(element)
        file = { name = element.name, passed = handler.successesCount, started_ms = uv.hrtime() / 1e6 }
        note(element.name)
        return nil, true
    end

    function handler.file_end()
        local passed = handler.successesCount - file.passed
        print(("%-64s %4d passed %7.1f s"):format(file.name, passed, (uv.hrtime() / 1e6 - file.started_ms) / 1000))
        return nil, true
    end

    function handler.test_start(element)
        test_started_ms = uv.hrtime() / 1e6
        note(file.name .. ": " .. handler.getFullName(element))
        return nil, true
    end

    function handler.test_end(element, _, status)
        local took_ms = uv.hrtime() / 1e6 - test_started_ms
        if status == "pending" then
            local skipped = handler.pendings[#handler.pendings]
            local why = skipped.message and message_of(skipped) or "no reason given"
            print(("skipped %s: %s"):format(handler.getFullName(element), why))
        elseif took_ms > SLOW_MS then
            print(("  took %.1f s: %s"):format(took_ms / 1000, handler.getFullName(element)))
        end
        return nil, true
    end

    function handler.failure()
        tell("FAILED", handler.failures[#handler.failures])
        return nil, true
    end

    function handler.error()
        tell("ERROR", handler.errors[#handler.errors])
        return nil, true
    end

    -- Anything but a test: a file that does not load, a failing setup, no file at all.
    function handler.error_outside(element)
        if element.descriptor ~= "it" then handler.error() end
        return nil, true
    end

    function handler.suite_end()
        note ""
        print(("%d passed, %d failed, %d skipped"):format(handler.successesCount,
            handler.failuresCount + handler.errorsCount, handler.pendingsCount))
        return nil, true
    end

    io.stdout:setvbuf "line"
    busted.subscribe({ "file", "start" }, handler.file_start)
    busted.subscribe({ "file", "end" }, handler.file_end)
    busted.subscribe({ "test", "start" }, handler.test_start)
    busted.subscribe({ "test", "end" }, handler.test_end, { predicate = handler.cancelOnPending })
    busted.subscribe({ "failure", "it" }, handler.failure)
    busted.subscribe({ "error", "it" }, handler.error)
    busted.subscribe({ "failure" }, handler.error_outside)
    busted.subscribe({ "error" }, handler.error_outside)
    busted.subscribe({ "suite", "end" }, handler.suite_end)
    return handler
end
