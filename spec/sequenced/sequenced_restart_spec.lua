-- Sequenced topics over restarts in good order: what waited goes on waiting, and what was finished stays finished.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"

local HOT, BEHIND = 4, 500

local function new(broker, options)
    options.url, options.fifo, options.partitions = broker.url, true, false
    options.topic = ('sequenced = "%s", shards = 1,'):format(options.policy or "skip")
    local s = steered.new(options)
    s:declare()
    return s
end

-- { { key, text }, ... } in their order.
local function publish(s, messages)
    local records = {}
    for i, message in ipairs(messages) do records[i] = { key = message[1], payload = message[2], partition = 0 } end
    local transport = assert(driver.open(s.url, { must_exist = true }))
    transport:publish(s.queue, records)
    transport:close()
end

-- All before it have been read again by then.
local function handle_marker(s, name)
    publish(s, { { name, name } })
    s:wait("ended", { name })
end

for _, broker in ipairs(steered.brokers) do
    describe("a sequenced topic that is stopped and started, on " .. broker.name .. ",", function()
        it("hands nothing out again, however many messages wait behind a retry", function()
            local s = new(broker, { holds = { "1h" }, group = "prefetch = 50, max_pending_per_key = 1000" })
            local messages = {}
            for i = 0, BEHIND do
                for hot = 1, HOT do
                    table.insert(messages, { "hot " .. hot, ("hot-%d.%d%s"):format(hot, i, i == 0 and " retry" or "") })
                end
                table.insert(messages, { "cold " .. i, "cold-" .. i })
            end
            publish(s, messages)
            local p = s:run()
            s:wait("ended", HOT + BEHIND + 1)
            assert.equal(0, (app.drain(p)), p:transcript())
            for round = 1, 2 do
                p = s:run()
                handle_marker(s, "marker-" .. round)
                assert.equal(0, (app.drain(p)), p:transcript())
                assert.equal(HOT + BEHIND + 1 + round, s:count "began")
            end
        end)

        it("goes on with the wait of a retry, and takes no attempt from it", function()
            local s = new(broker, { policy = "fail_all", holds = { "1h" }, group = "max_retries = 2" })
            publish(s, { { "a", "a1 again" }, { "a", "a2" }, { "b", "b1" } })
            for round = 1, 4 do
                local p = s:run()
                s:wait("ended", { "a1", "b1" })
                handle_marker(s, "marker-" .. round)
                assert.equal(0, (app.drain(p)), p:transcript())
            end
            assert.equal(1, s:count("began", "a1"))
            assert.equal(0, s:count("began", "a2"))
            assert.equal(0, #s:letters())
        end)

        it("has each attempt committed at once, not with the next round", function()
            local s = new(broker, { holds = { "20ms" }, group = "max_retries = 20" })
            publish(s, { { "a", "a1 again" } })
            local p, began = s:run { "--log-level", "debug" }, uv.hrtime()
            s:wait("ended", { "a1" }, 21)
            local rounds = (uv.hrtime() - began) / 500e6 -- two a second
            local _, commits = p:text("stderr"):gsub("a position was committed +topic=%S+ +partition=0 +offset=0", "")
            assert.is_true(commits > rounds + 4, ("%d commits in %d rounds\n%s"):format(commits, rounds, p:transcript()))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("has a retry wait no longer than the holds are now", function()
            local s = new(broker, { holds = { "1h" } })
            publish(s, { { "a", "a1 retry" }, { "b", "b1" } })
            local p = s:run()
            s:wait("ended", { "a1", "b1" })
            assert.equal(0, (app.drain(p)), p:transcript())
            local source, count = s.source:gsub('"1h"', '"50ms"')
            assert.equal(1, count)
            tmp.write(s.app.path, source)
            p = s:run()
            s:wait("ended", { "a1" }, 2)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end
