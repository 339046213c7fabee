-- A mistake in a handler of a busy topic makes few lines, which say where, and how many more there would have been.

local app = require "spec.support.app"

local RUN_MS, MESSAGES = 15000, 300

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "memory:" }
local jobs = app:topic("jobs", { hold = { "20ms" }, dlq = true, partitions = 1 })
app:register(jobs, { max_retries = 0, prefetch = 100, concurrent = true }, function() $MISTAKE end)
local dead = 0
app:dead_letters(jobs, function()
    dead = dead + 1
    if dead == $MESSAGES then print "all dead" end
end)
app:on_start(function()
    local items = {}
    for number = 1, $MESSAGES do items[number] = { body = number } end
    assert(shove.publish_batch("jobs", items))
end)
return app
]]

local MISTAKES = {
    { "returns nonsense", "return 'done'", "the handler returned a string" },
    { "raises", "error 'boom'", "app.lua:4: boom" },
}

for _, row in ipairs(MISTAKES) do
    local name, mistake, words = unpack(row)

    describe("A handler that " .. name .. " for every message", function()
        local lines, left_out

        -- The rest is counted while the run goes on: nothing else is ever logged about the topic.
        setup(function()
            local source = SOURCE:gsub("%$(%u+)", { MISTAKE = mistake, MESSAGES = MESSAGES })
            local p = app.new { source = source }:run { "--workers", "1" }
            p:wait_for("all dead", RUN_MS)
            left_out = 0
            local said = p:wait_for("(%d+) more lines about messages of jobs were left out", RUN_MS)
            p:kill "sigterm"
            assert.equal(0, (p:wait_exit(RUN_MS)), said)
            lines = {}
            for _, line in ipairs(p.lines) do
                if line.text:find(words, 1, true) then lines[#lines + 1] = line.text end
                left_out = left_out + (line.text:match "(%d+) more lines about messages of jobs" or 0)
            end
        end)

        it("makes few lines, each with the message's place", function()
            assert.is_true(#lines > 0 and #lines <= 20, #lines .. " lines")
            for _, line in ipairs(lines) do assert.matches("topic=jobs  partition=%d+  offset=%d+", line) end
        end)

        it("is told how many were left out, to the last one", function()
            assert.equal(MESSAGES, #lines + left_out)
        end)
    end)
end
