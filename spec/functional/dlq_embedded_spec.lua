-- `shove dlq replay` on the embedded broker: of letters that shove has made, what is sent back is in the queue once.
-- (What is the same on all brokers is specified on Kafka: spec/functional/dlq_spec.lua.)

local cjson = require "cjson"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local WAIT_MS = 60000
local BATCH = 500
local ATTEMPTS = 10

-- What begins with "d" is undecided: it is rejected after its retries, of which there are none.
local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./queue.db" }
local orders = app:topic("orders", { partitions = 1, dlq = true, codec = "raw", allow_message_loss = true })
app:register(orders, shove.group { max_retries = 0 }, function(msg)
    if msg.payload:sub(1, 1) == "d" then return shove.retry "undecided" end
    return shove.reject "no"
end)
return app
]]

describe("shove dlq replay on the embedded broker", function()
    local a, broker

    before_each(function()
        a = app.new { source = SOURCE }
        broker = "embedded:" .. a.dir .. "/queue.db"
    end)

    local function end_of(topic)
        local t = assert(driver.open(broker, { must_exist = true }))
        local _, high = t:watermarks(topic, 0)
        t:close()
        return high
    end

    local function die(texts)
        local line = { "orders", "--raw", stdin = { text = table.concat(texts, "\n") .. "\n" } }
        assert.equal(0, a:command("publish", line, WAIT_MS).code)
        local p = a:run { "--workers", "1" }
        p:wait_for("partitions assigned", WAIT_MS)
        wait.until_true(function() return end_of "orders-dlq" == #texts end, WAIT_MS, "the dead letters")
        assert.equal(0, (app.drain(p)))
    end

    local function replay(...)
        local result = a:command("dlq replay", { "orders", ... }, WAIT_MS)
        assert.equal(0, result.code, result.stderr)
        return tonumber(result.stdout:match "replayed (%d+)")
    end

    -- Their offsets in the queue.
    local function waiting()
        local offsets = {}
        for line in a:command("dlq list", { "orders", "--json" }).stdout:gmatch "[^\n]+" do
            table.insert(offsets, cjson.decode(line).original_offset)
        end
        return offsets
    end

    -- All letters wait again, as if none had been settled.
    local function forget_marks()
        local t = assert(driver.open(broker, { must_exist = true }))
        assert(t:committed_set("orders-dlq-triage", "orders-dlq", 0, 0, ""))
        t:close()
    end

    -- Kills a replay of `count` letters when its first batch is through. Where the queue ended before; again where all were
    -- through by then.
    local function kill_under_way(count)
        for _ = 1, ATTEMPTS do
            local from = end_of "orders"
            local p = process.spawn { app.bin, "dlq", "replay", a.path, "orders", cwd = a.dir }
            wait.until_true(function() return end_of "orders" > from + BATCH end, WAIT_MS, "the replay to be under way")
            p:kill "sigkill"
            p:wait_exit(10000)
            if end_of "orders" < from + count then return from end
            forget_marks()
        end
        error "it was killed too late each time"
    end

    it("goes on after it was killed, repeating at most one batch", function()
        local texts = {}
        for i = 1, 100000 do texts[i] = tostring(i) end
        die(texts)
        local from = kill_under_way(#texts)
        replay()
        local seen, repeated = {}, 0
        for i, record in ipairs(driver.records_of(broker, "orders")) do
            if i > from then
                repeated = repeated + (seen[record.payload] and 1 or 0)
                seen[record.payload] = true
            end
        end
        for _, text in ipairs(texts) do assert.is_true(seen[text], text .. " is lost") end
        assert.is_true(repeated <= BATCH, repeated .. " were repeated")
        assert.equal(0, replay())
    end)

    it("sends what the filters mean and leaves the rest waiting, over several runs", function()
        die { "a1", "d2", "a3", "d4", "a5" }
        assert.equal(1, replay("--reason", "max_retries_exceeded", "--limit", "1"))
        assert.same({ 0, 2, 3, 4 }, waiting())
        assert.equal(1, replay("--reason", "max_retries_exceeded"))
        assert.same({ 0, 2, 4 }, waiting())
        assert.equal(3, replay())
        assert.same({}, waiting())
        assert.equal(10, end_of "orders")
    end)
end)
