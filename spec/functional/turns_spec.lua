-- What a group handles next while there is more than it can: every partition of its queue and holds has its turn.

local assert = require "luassert"
local app = require "spec.support.app"
local steered = require "spec.support.steered"

local BACKLOG = 1000

-- How many messages had ended before this one did (for the first time).
local function rank(s, name)
    local ended = 0
    for _, line in ipairs(s:lines()) do
        if line.verb == "ended" then
            if line.name == name and (name ~= "retried" or line.retry_count == 1) then return ended end
            ended = ended + 1
        end
    end
end

for _, broker in ipairs(steered.brokers) do
    it("a retry that is due, and another partition, do not wait for the end of a backlog, on " .. broker.name, function()
        local s = steered.new {
            url = broker.url, partitions = 2, holds = { "20ms" }, group = "prefetch = 4, concurrent = true",
        }
        s:declare()
        local texts = { "retried retry" }
        for i = 1, BACKLOG do texts[i + 1] = ("m%04d 5ms"):format(i) end
        s:publish(texts)
        s:publish({ "other" }, { partition = 1 })
        local p = s:run()
        s:wait("ended", { "retried" }, 2)
        s:wait("ended", { "other" })
        s:wait("ended", BACKLOG + 3)
        assert.is_true(rank(s, "retried") < BACKLOG / 2, "the retry came after " .. rank(s, "retried"))
        assert.is_true(rank(s, "other") < BACKLOG / 2, "the other partition came after " .. rank(s, "other"))
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end
