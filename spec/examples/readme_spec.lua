-- What the README shows is what happens: its tour is taken from the README itself, and typed in by who waits where it says so.

local app = require "spec.support.app"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local HANDLED_MS = 15000

-- The first block of that language below a heading.
local function block(heading, language)
    local section = tmp.read("README.md"):match("\n## " .. heading .. "\n(.*)")
    return (assert(section:match("```" .. language .. "\n(.-)```"), "no such block"))
end

-- The tour's commands in their order, without the comments behind them, and what is waited for in between.
local function steps()
    local list = {}
    for line in block("A tour", "sh"):gmatch "[^\n]+" do
        local awaited = line:match '^# and when it says "(.*)":$'
        list[#list + 1] = awaited and { awaited = awaited } or { command = line:gsub("%s+#.*$", "") }
    end
    return list
end

local function type_in(a, command)
    local line = command:gsub("^build/shove", function() return app.bin end)
    local result = process.run { "/bin/sh", "-c", line, cwd = a.dir }
    assert.equal(0, result.code, command .. "\n" .. result.stderr)
    return result
end

describe("The README's tour", function()
    local a

    before_each(function() a = app.new { source = block("A tour", "lua") } end)

    it("is an app that passes shove check without a warning", function()
        local result = a:command "check"
        assert.equal(0, result.code, result.stderr)
        assert.is_nil((result.stdout .. result.stderr):lower():find "warn")
    end)

    it("runs as it stands: one order is handled, one is a dead letter that is listed and sent back", function()
        local running, output
        local ended
        for _, step in ipairs(steps()) do
            local command = step.command
            if step.awaited then
                running:wait_for(step.awaited:gsub("%p", "%%%0"), HANDLED_MS)
                running:mark()
            elseif command:find "&$" then
                running = process.spawn { "/bin/sh", "-c", "exec " .. command:gsub("^build/shove", app.bin):gsub("&$", ""),
                    cwd = a.dir }
            elseif command:find "^kill" then
                running:wait_for("dead order.*reason=rejected", HANDLED_MS) -- what was sent back
                ended = app.drain(running)
            else
                output = type_in(a, command).stdout
                if command:find "dlq list" then
                    assert.matches("order without id", output, 1, true)
                elseif command:find "dlq replay" then
                    assert.matches("replayed 1 dead letter", output, 1, true)
                end
            end
        end
        assert.equal(0, ended)
        assert.is_nil(running:text("stderr"):find("not handled", 1, true), running:transcript())
        assert.matches("group=orders%-consumer  acked=1 ", running:text "stderr")
    end)
end)
