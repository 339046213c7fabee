-- The embedded broker's file cannot grow any more while a run goes on. The limit is one on the size of files, which
-- everybody may set, and which the program meets as it does a full device.

local app = require "spec.support.app"
local process = require "spec.support.process"
local steered = require "spec.support.steered"
local uv = require "luv"
local wait = require "spec.support.wait"

local MESSAGES = 60
local FILLER = "." .. ("x"):rep(20000)

local function limit(p, bytes)
    local result = process.run({ "prlimit", "--pid", tostring(p.pid), ("--fsize=%s:"):format(bytes) }, 5000)
    assert.equal(0, result.code, result.stderr)
end

-- Every message is at its gate, and the file cannot take the retries of all of them.
local function about_to_fill(arguments)
    local s = steered.new {
        url = steered.brokers[1].url, holds = { "10ms" }, group = "prefetch = 100, concurrent = true",
    }
    s:declare()
    local texts = {}
    for i = 1, MESSAGES do texts[i] = ("m%d go retry %s"):format(i, FILLER) end
    s:publish(texts)
    local p = s:run(arguments)
    s:wait("began", MESSAGES)
    limit(p, uv.fs_stat(s.dir .. "/queue.db").size + 20 * #FILLER)
    return s, p
end

-- How often each message began with each count of retries.
local function handlings(s)
    local counts = { [0] = 0, 0 }
    for _, line in ipairs(s:lines()) do
        if line.verb == "began" then counts[line.retry_count] = counts[line.retry_count] + 1 end
    end
    return counts
end

describe("a device without space", function()
    it("is told of, with what to do; what could not be stored is, when there is room again", function()
        local s, p = about_to_fill()
        s:open "go"
        p:wait_for("queue.db: cannot write: no space left; free some space.*code=ENOSPACE", 10000)
        p:wait_for("a retry could not be stored, it is tried again; the message stays uncommitted", 10000)
        limit(p, "unlimited")
        s:wait("ended", 2 * MESSAGES)
        p:wait_for("can be written again", 5000)
        s:wait_position(0, MESSAGES)
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.same({ [0] = MESSAGES, MESSAGES }, handlings(s))
    end)

    it("makes a drain time out, and the next run stores what this one could not", function()
        local s, p = about_to_fill { "--drain", "1s" }
        s:open "go"
        p:wait_for("a retry could not be stored", 10000)
        assert.equal(3, (app.drain(p, 20000)), p:transcript())
        assert.is_true(s:count "ended" < 2 * MESSAGES)
        p = s:run()
        wait.until_true(function() return handlings(s)[1] >= MESSAGES end, 20000, "every message to be handled again")
        s:wait_position(0, MESSAGES)
        assert.equal(0, (app.drain(p)), p:transcript())
        -- What had its retry stored is not begun anew.
        local counts = handlings(s)
        assert.is_true(counts[0] > MESSAGES and counts[0] < 2 * MESSAGES, counts[0])
        assert.equal(MESSAGES, counts[1])
    end)

    it("makes the last commit fail: the exit code is 1 and the offset is named", function()
        local s = steered.new { url = steered.brokers[1].url }
        s:declare()
        local p = s:run()
        p:wait_for("partitions assigned", 10000)
        s:publish { "a go", "b go" }
        s:wait("began", { "a", "b" })
        s:wait_position(0, 0)
        limit(p, 0)
        s:open "go"
        s:wait("ended", { "a", "b" })
        assert.equal(1, (app.drain(p, 20000)), p:transcript())
        p:wait_for("the last commit of a partition did not succeed.*partition=0 +offset=2 +code=ENOSPACE", 1000)
        p = s:run()
        s:wait_position(0, 2)
        assert.equal(0, (app.drain(p)))
        assert.same({ "a", "a", "b", "b" }, s:names "ended")
    end)
end)
