-- A user's own codec that misbehaves, when a message is decoded and when one is published.

local hostile = require "spec.support.hostile"
local rig = require "spec.unit.worker.rig"

local function codec(decode, encode)
    return ("codec = { decode = function(text) %s end, encode = function(body) %s end }"):format(decode, encode)
end

-- kind -> what decode does, the reason of death (nil: it is acknowledged), what is said
local DECODING = {
    ["fine"] = { "return { text = text }" },
    ["nil"] = { "return nil" },
    ["false"] = { "return false" },
    ["function"] = { "return function() end" },
    ["nil-and-reason"] = { "return nil, 'bad magic number'", "deserialize", "bad magic number" },
    ["raises"] = { "error 'bad magic number'", "deserialize", "bad magic number" },
    ["raises-table"] = { "error {}", "deserialize", "a table" },
    ["raises-nil"] = { "error(nil)", "deserialize", "nil" },
    ["raises-mute-object"] = { "error(setmetatable({}, { __tostring = error }))", "deserialize", "a table" },
    ["yields"] = { "coroutine.yield()", "deserialize", "yield" },
    ["sleeps"] = { "require('shove').sleep(1)", "deserialize", "a codec" },
    ["publishes"] = { "require('shove').publish('x', 'y')", "deserialize", "a codec" },
    ["exits"] = { "os.exit(0)", "deserialize", "os.exit is not for scripts" },
    ["recurses"] = { "local function f() return 1 + f() end f()", "deserialize", "stack overflow" },
    ["caught-by-the-handler"] = { "error 'bad magic number'", "deserialize", "bad magic number" },
    ["crashes"] = { "require('luv').kill(require('luv').os_getpid(), 'sigkill')", "crashed", "signal 9" },
    ["loops"] = { "while true do end", "max_retries_exceeded", "the handler did not yield and ran past its timeout" },
}

local GREEDY = {
    ["needs-memory"] = { "local s = 'x' while true do s = s .. s end", "max_retries_exceeded", "not enough memory" },
}

local function choose(rows)
    local body = { "local kind = text:match '%S+'" }
    for kind, row in pairs(rows) do table.insert(body, ("if kind == %q then %s end"):format(kind, row[1])) end
    return table.concat(body, "\n")
end

-- Each row's message is dead-lettered once, for what is said there.
local function assert_costs_its_own(rows, code)
    local s = hostile.new { broker = "embedded", topic = codec(choose(rows), "return body"),
        group = "max_retries = 0, max_crashes = 1, handler_timeout = '200ms'",
        handler = [[
            if kind ~= "caught-by-the-handler" then local _ = msg.body return end
            pcall(function() return msg.body end)]] }
    for kind, row in pairs(rows) do s:publish("bad", { kind }, row[2] and "dead" or "acked") end
    s:publish_good(40)
    local p = s:run("--worker-memory", "128MiB")
    assert.are.equal(code, s:finish(p), p:transcript())
    local letters = s:dead_letters()
    for kind, row in pairs(rows) do
        assert.are.equal(row[2], letters[kind] and letters[kind].reason, kind)
        if row[2] then
            assert.matches(row[3], letters[kind].error, 1, true)
            assert.are.equal(1, #s:lines_of(kind, "began"), kind)
            assert.are.equal(1, #s:lines_of(kind, "dead"), kind)
        end
    end
end

describe("a codec's decode", function()
    it("that misbehaves costs its own message, which is dead-lettered once for what it was", function()
        assert_costs_its_own(DECODING, 2)
    end)

    rig.it_limited("that needs more memory than there is costs its own message, too", function()
        assert_costs_its_own(GREEDY, 0)
    end)
end)

local ENCODING = {
    ["raises"] = { "error 'no such field'", "no such field" },
    ["raises-table"] = { "error {}", "table: 0x" },
    ["returns-nothing"] = { "return", "the codec's encode returned nil, not a string" },
    ["returns-number"] = { "return 5", "the codec's encode returned 5, not a string" },
    ["returns-table"] = { "return {}", "the codec's encode returned a table, not a string" },
    ["returns-nil-and-reason"] = { "return nil, 'too long'", "the codec's encode returned nil, not a string: too long" },
    -- This one runs in the handler's coroutine, which may wait.
    ["sleeps"] = { "require('shove').sleep '1ms' return 5", "the codec's encode returned 5, not a string" },
    ["yields"] = { "coroutine.yield()", "it yielded outside shove and was not resumed" },
}

describe("a codec's encode", function()
    it("that misbehaves raises at the line that publishes, and nothing is sent", function()
        local s = hostile.new { broker = "embedded", group = "max_retries = 0, handler_timeout = '300ms'",
            topic = codec("return text", (choose(ENCODING):gsub("text", "body"))),
            handler = "shove.publish(bad, msg.payload .. ' encoded')" }
        for kind in pairs(ENCODING) do s:publish("bad", { kind }, "dead") end
        s:publish_good(20)
        local p = s:run()
        assert.are.equal(0, s:finish(p), p:transcript())
        local line = require("spec.support.tmp").read(s.app.path):match "^(.-)shove%.publish%(bad"
        local at = ("app.lua:%d: "):format(select(2, line:gsub("\n", "")) + 1)
        for kind, row in pairs(ENCODING) do
            local dead = s:lines_of(kind, "dead")[1]
            assert.matches(row[2], dead.error, 1, true)
            if kind ~= "yields" then assert.matches(at, dead.error, 1, true) end
        end
    end)
end)
