-- Handlers that raise, return nonsense or yield what they should not: it costs their own message, and the process goes
-- on.

local hostile = require "spec.support.hostile"

-- kind -> what the handler does, what is said of it.
local RAISING = {
    { "string", "error 'no money'", "app.lua:%d+: no money\nstack traceback:" },
    { "table", "error {}", "^a table\n" },
    { "nil", "error(nil)", "^nil\n" },
    { "object", "error(setmetatable({}, { __tostring = function() return 'told' end }))", "^told\n" },
    { "mute-object", "error(setmetatable({}, { __tostring = function() error 'again' end }))", "^a table\n" },
    { "yielding-object", "error(setmetatable({}, { __tostring = function() coroutine.yield() end }))", "^a table\n" },
    { "error-in-error-handler", "assert(xpcall(error, function() error 'again' end))", "." },
    { "rethrow", "local ok, err = pcall(error, { code = 5 }) error(err)", "^a table\n" },
    { "megabytes", "error(('x'):rep(10 * 1024 * 1024))", "app.lua:%d+: xxx" },
    { "binary", "error('\\0\\255\\1')", "." },
    { "stack", "local function f() return 1 + f() end f()", "stack overflow" },
    { "c-stack", "local function f(s) return (s:gsub('.', f)) end f 'x'", "stack overflow" },
    { "error-recursion", "local function f() error(setmetatable({}, { __tostring = f })) end f()", "^a table\n" },
    { "pattern", "(('a'):rep(300000)):find(('.-'):rep(300000) .. 'b')", "pattern too complex" },
    { "json-depth", "local t = {} for _ = 1, 1e6 do t = { t } end require('cjson').encode(t)", "excessive nesting" },
    { "json-circle", "local t = {} t.t = t local c = require('cjson').new() c.encode_max_depth(1e8) c.encode(t)",
        "excessive nesting" },
    { "json-brackets", "local c = require('cjson').new() c.decode_max_depth(1e8) c.decode(('['):rep(5e6))",
        "too many nested" },
    { "sort", "table.sort({ 3, 1, 2 }, function() return true end) table.sort({ 1, 2, {} })", "compare" },
    { "assert", "assert(nil)", "assertion failed" },
    { "require", "require 'no.such.module'", "module 'no.such.module' not found" },
    { "os-exit", "os.exit(1)", "app.lua:%d+: os.exit is not for scripts" },
    { "luv-run", "uv.run()", "app.lua:%d+: uv.run is not for scripts" },
    { "luv-stop", "uv.stop()", "app.lua:%d+: uv.stop is not for scripts" },
    { "field", "return msg.paylaod", "app.lua:%d+: a message has no field \"paylaod\" %(did you mean \"payload\"" },
}

local RETURNING = {
    { "returns-text", "return 'ok'", "the handler returned a string (\"ok\"): return shove.ack" },
    { "returns-number", "return 0/0", "the handler returned a number (nan)" },
    { "returns-true", "return true", "the handler returned a boolean (true)" },
    { "returns-false", "return false", "the handler returned a boolean (false)" },
    { "returns-table", "return { code = 1 }", "the handler returned a table" },
    { "returns-function", "return shove.publish", "the handler returned a function" },
    { "returns-thread", "return coroutine.running()", "the handler returned a thread" },
    { "returns-cdata", "return ffi.new('int')", "the handler returned a cdata" },
    { "returns-message", "return msg", "the handler returned a table" },
    { "returns-forgery", "return setmetatable({ code = 99 }, getmetatable(shove.ack))", "the handler returned a table" },
    { "returns-nil-and-text", "return nil, 'no money'", "the handler returned nil and: no money" },
    { "returns-nil-and-more", "return nil, nil, 'EPIPE'", "the handler returned nil and: EPIPE" },
    { "returns-nil-and-much", "return nil, ('ü'):rep(100)", "the handler returned nil and: " .. ("ü"):rep(100) },
    { "returns-nil-and-nonsense", "return nil, false", "the handler returned nil and a boolean (false)" },
    { "returns-odd-cut", "return ('x'):rep(59) .. 'ü'", ("x"):rep(59) .. "...\")" },
    { "returns-unknown", "return shove.akc", "shove has no field \"akc\" (did you mean \"ack\"?)" },
}

local YIELDING = {
    { "yields-values", "coroutine.yield(1, {}, nil, shove.ack)", "it yielded outside shove and was not resumed" },
    { "yields-for-ever", "while true do coroutine.yield() end", "it yielded outside shove and was not resumed" },
    { "yields-in-pcall", "pcall(coroutine.yield)", "it yielded outside shove and was not resumed" },
    { "sleeps-too-long", "shove.sleep '1h'", "it was in shove.sleep" },
    { "sleeps-in-gsub", "(('x'):gsub('.', function() shove.sleep(1) end))", "shove.sleep waits, which is not possible" },
    { "sleeps-in-sort", "table.sort({ 1, 2 }, function() shove.sleep(1) end)", "shove.sleep waits, which is not possible" },
    { "sleeps-in-coroutine", "coroutine.wrap(function() shove.sleep(1) end)()", "not from a coroutine of your own" },
    { "publishes-in-coroutine", "coroutine.wrap(function() shove.publish(msg.topic, 'x') end)()",
        "not from a coroutine of your own" },
    { "sleeps-backwards", "shove.sleep(-1)", "shove.sleep: -1 is negative" },
}

-- One run over all kinds, whose handlers differ by what the message says.
local function run_kinds(rows, options)
    local body = {}
    for _, row in ipairs(rows) do
        table.insert(body, ("if kind == %q then %s end"):format(row[1], row[2]:gsub("^%(", "return (")))
    end
    options.handler = table.concat(body, "\n")
    local s = hostile.new(options)
    local payloads = {}
    for i, row in ipairs(rows) do payloads[i] = row[1] end
    s:publish("bad", payloads, "dead")
    s:publish_good(30)
    local p = s:run()
    local code = s:finish(p)
    return s, p, code
end

for _, broker in ipairs { "embedded", "kafka" } do
    describe("a handler that raises, on " .. broker, function()
        it("costs its own message its attempts, whatever it raises; the process goes on", function()
            local s, p, code = run_kinds(RAISING, { broker = broker, group = "max_retries = 1" })
            assert.are.equal(0, code, p:transcript())
            local letters = s:dead_letters()
            for _, row in ipairs(RAISING) do
                assert.are.equal("max_retries_exceeded", letters[row[1]].reason, row[1])
                assert.are.equal(1, letters[row[1]].retry_count, row[1])
                local dead = s:lines_of(row[1], "dead")
                assert.are.equal(1, #dead, row[1])
                assert.matches(row[3], dead[1].error, 1, false)
                assert.are.equal(2, #s:lines_of(row[1], "began"), row[1] .. " is called once and once again")
            end
        end)
    end)
end

describe("a handler that returns what is no outcome", function()
    it("is an error that says so, for each kind of nonsense", function()
        local s, p, code = run_kinds(RETURNING, { broker = "embedded", group = "max_retries = 0" })
        assert.are.equal(0, code, p:transcript())
        for _, row in ipairs(RETURNING) do
            local dead = s:lines_of(row[1], "dead")[1]
            assert.are.equal("max_retries_exceeded", dead.reason)
            assert.matches(row[3], dead.error, 1, true)
        end
        -- A line for each, while they are few.
        assert.matches('message not handled  outcome=error  [^\n]*error="the handler returned a string %(\\"ok\\"%)',
            p:text "stderr")
    end)
end)

describe("a handler that yields what it should not", function()
    it("is cancelled after its timeout, or told at its line, for each way to yield", function()
        local s, p, code = run_kinds(YIELDING, { broker = "embedded",
            group = "max_retries = 0, handler_timeout = '100ms', concurrent = true, prefetch = 20" })
        assert.are.equal(0, code, p:transcript())
        for _, row in ipairs(YIELDING) do
            assert.matches(row[3], s:lines_of(row[1], "dead")[1].error, 1, true)
        end
    end)
end)
