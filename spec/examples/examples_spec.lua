-- The examples do what they say: each is checked, and run on the brokers it is for.

local uv = require "luv"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"

local STORY_MS = 40000

local function example(name)
    return app.new { path = ("%s/examples/%s/app.lua"):format(uv.cwd(), name) }
end

-- The lines about orders so far: list of { what =, order =, ... all fields of the line }.
local function events(p)
    local list = {}
    for _, line in ipairs(p.lines) do
        local what = line.text:match "worker %d+: (order %l[%l ]+%l)  " or line.text:match "worker %d+: (dead letter)  "
        if what then
            local event = { what = what }
            for name, value in line.text:gmatch "([%w_]+)=(%S+)" do
                event[name] = value
            end
            list[#list + 1] = event
        end
    end
    return list
end

local function count(list, what, field, value)
    local found = 0
    for _, event in ipairs(list) do
        if event.what == what and (field == nil or event[field] == value) then
            found = found + 1
        end
    end
    return found
end

-- The number of the event in which an order was billed; its number of retries.
local function billed(list, number)
    for at, event in ipairs(list) do
        if event.what == "order billed" and event.order:match "%-(%d+)$" == ("%02d"):format(number) then
            return at, tonumber(event.retries)
        end
    end
end

-- What any run of examples/orders has come to, once the last order was given up.
local function assert_story(list)
    local seen = {}
    for _, event in ipairs(list) do
        if event.what == "order billed" then
            assert.is_nil(seen[event.order], event.order .. " was billed twice")
            seen[event.order] = true
        end
    end
    assert.equal(36, count(list, "order billed"))
    assert.equal(2, count(list, "dead letter", "reason", "rejected"))
    assert.equal(1, count(list, "dead letter", "reason", "deserialize"))
    assert.equal(1, count(list, "dead letter", "reason", "max_retries_exceeded"))
    assert.equal(4, count(list, "dead letter"))
    -- order | calls that billing did not answer
    for _, row in ipairs { { 1, 0 }, { 4, 1 }, { 9, 2 }, { 22, 3 } } do
        assert.equal(row[2], select(2, billed(list, row[1])), "retries of order " .. row[1])
    end
    assert.is_true(billed(list, 4) > billed(list, 5), "a retried order is overtaken by the next one")
    assert.is_true(billed(list, 6) > billed(list, 10), "a preorder waits")
    assert.is_true(count(list, "order waits for stock") >= 2)
end

local function run_story(a, options)
    local p = a:run(options or {})
    p:wait_for("dead letter.*reason=max_retries_exceeded", STORY_MS)
    return p
end

describe("Every example", function()
    local folder = uv.fs_scandir "examples"
    for name in function() return uv.fs_scandir_next(folder) end do
        it(("passes shove check without a warning: %s"):format(name), function()
            local result = example(name):command "check"
            assert.equal(0, result.code, result.stderr)
            assert.is_nil((result.stdout .. result.stderr):lower():find "warn")
        end)
    end
end)

describe("examples/hello", function()
    it("greets the world and ends when it is asked to", function()
        local p = example("hello"):run()
        p:wait_for("hello, world", 15000)
        assert.equal(0, app.drain(p))
    end)
end)

describe("examples/orders", function()
    it("bills, retries, defers, rejects and gives up its orders on the embedded broker", function()
        local p = run_story(example "orders")
        p:wait_for("all 40 orders are placed", STORY_MS)
        assert.equal(0, app.drain(p))
        assert_story(events(p))
    end)

    it("does the same on the memory broker, which keeps no file", function()
        local a = example "orders"
        local p = run_story(a, { env = { SHOVE_BROKER = "memory:" } })
        assert.equal(0, app.drain(p))
        assert_story(events(p))
        assert.is_nil(uv.fs_stat(a:file "orders.db"))
    end)

    it("does the same on Kafka", function()
        local p = run_story(example "orders", { env = { SHOVE_BROKER = kafka.private().url } })
        assert.equal(0, app.drain(p))
        assert_story(events(p))
    end)

    it("goes on after it was killed: what was left in orders.db is finished beside new orders", function()
        local a = example "orders"
        local first = a:run()
        first:wait_for("order not billed.*%-22 ", STORY_MS)
        first:kill "sigkill"
        first:wait_exit(10000)
        local day = events(first)[1].order:match "^(%d+)%-"
        local second = a:run()
        second:wait_for(("order billed.*order=%s%%-22 "):format(day), STORY_MS)
        second:wait_for("order billed.*%-05 ", STORY_MS)
        assert.equal(0, app.drain(second))
        assert.is_true(count(events(second), "order billed", "order", day .. "-22") == 1)
    end)
end)
