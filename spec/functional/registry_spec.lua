-- Groups: what they are called, where they begin, how much they take at once, what holds when nothing is said, and
-- handlers of dead letters.

local cleanup = require "spec.support.cleanup"
local stage = require "spec.support.stage"

local HEAD = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
]]

local function runs(s)
    local p = s:run { "--workers", "1" }
    p:wait_for("running", 20000)
    return p
end

for _, broker in ipairs(stage.brokers) do
    describe("on " .. broker .. ": where a group begins that has committed nothing", function()
        local function group(queue, reset)
            return ([[
app:register(app:topic(stage.name %q, { partitions = 3 }), { auto_offset_reset = %s }, function(msg) stage.note(msg) end)
]]):format(queue, reset)
        end

        local s, first
        local function assigned(queue) return "partitions assigned .*topic=" .. s:pattern(queue) .. " " end

        -- One message in each queue before the run, one in "late" during it.
        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, HEAD .. group("early", "nil") .. group("late", '"latest"')
                    .. group("strict", '"none"') .. "return app")
                for _, queue in ipairs { "early", "late", "strict" } do s:publish(queue, { "1", "--partition", "0" }) end
                first = s:run { "--workers", "1" }
                first:wait_for("a consumer group stopped", 20000)
                first:wait_for(assigned "late", 20000)
                s:publish("late", { "2", "--partition", "1" })
                s:wait_calls(1, { queue = "late" })
                s:wait_calls(1, { queue = "early" })
                stage.drain(first, 1)
            end)
        end)

        it("earliest, which is the default: with what is there", function()
            assert.are.equal("1", s:calls({ queue = "early" })[1].payload)
        end)

        it("latest: with what comes from then on", function()
            local calls = s:calls { queue = "late" }
            assert.are.equal(1, #calls)
            assert.are.equal("2", calls[1].payload)
        end)

        it("none: that group stops, which is said once, the others run on, and the exit code is 1", function()
            local lines = stage.lines(first, "error control: (a consumer group stopped .*)")
            assert.are.equal(1, #lines)
            assert.matches("group=" .. s:pattern "strict" .. "%-consumer", lines[1])
            assert.matches("committed", lines[1], 1, true)
            assert.are.equal(0, #s:calls { queue = "strict" })
            assert.are.equal(1, first.code)
        end)

        it("latest counts from the first run on, also in partitions where nothing had come", function()
            s:publish("late", { "3", "--partition", "2" })
            local p = s:beside(HEAD .. group("late", '"latest"') .. "return app")
            local run = p:run { "--workers", "1" }
            assert.are.equal("3", p:wait_calls(1, { queue = "late" })[1].payload)
            stage.drain(run)
            assert.are.equal(1, #p:calls { queue = "late" })
        end)

        it("none: when no other group is left the program ends by itself, with 1, and says why", function()
            local p = s:beside(HEAD .. group("strict", '"none"') .. "return app"):run { "--workers", "1" }
            assert.are.same({ 1, 0 }, { p:wait_exit(20000) }, p:transcript())
            assert.is_true(stage.said(p, "no consumer group is left to run"))
        end)

        it("none: once something is committed the group runs", function()
            local seed = s:beside(HEAD .. group("strict", '"earliest"') .. "return app")
            local p = seed:run { "--workers", "1" }
            seed:wait_calls(1, { queue = "strict" })
            stage.drain(p)
            local strict = s:beside(HEAD .. group("strict", '"none"') .. "return app")
            s:publish("strict", { "2" })
            p = strict:run { "--workers", "1" }
            assert.are.equal("2", strict:wait_calls(1, { queue = "strict" })[1].payload)
            stage.drain(p)
            assert.are.equal(1, #strict:calls { queue = "strict" })
        end)
    end)

    describe("on " .. broker .. ": a group's", function()
        local s, p, summary

        -- Each call notes how many of its group run at once; the first of them wait until all that may have begun.
        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, HEAD .. [[
local running = {}
local function busy(msg)
  local queue = stage.plain(msg.topic)
  running[queue] = (running[queue] or 0) + 1
  stage.note(msg, { running = running[queue] })
  shove.sleep "20ms"
  running[queue] = running[queue] - 1
end
local function queue(name, group, handler)
  local topic = app:topic(stage.name(name), { partitions = 3, hold = { "5ms" }, dlq = true })
  app:register(topic, group, handler or busy)
  return topic
end

local clamped = shove.group { prefetch = 20 }
queue("clamped", clamped)
queue("clamped-too", clamped)
queue("nothing-said", {})
queue("concurrent", { concurrent = true })
queue("lanes", { consumers = { min = 3, max = 3 }, prefetch = 2, concurrent = true })
queue("plain-lanes", { consumers = { min = 2, max = 2 } })
queue("none-at-all", { consumers = { min = 0, max = 1 } })
queue("named", { group_id = stage.name "billing" })
local again = queue("again", { max_message_size = "1KiB" }, function(msg) stage.note(msg); return shove.retry end)
app:dead_letters(again, { group_id = stage.name "undertaker", max_retries = 1 }, function(dead)
  stage.note(dead, { body = tostring(dead.body) })
  error "cannot bury it"
end)
return app
]])
                local many = {}
                for i = 1, 30 do many[i] = tostring(i) end
                for _, name in ipairs { "clamped", "nothing-said", "concurrent", "lanes", "plain-lanes" } do
                    s:publish(name, { lines = many })
                end
                for _, name in ipairs { "none-at-all", "named", "again" } do s:publish(name, { "1" }) end
                p = runs(s)
                for _, name in ipairs { "clamped", "nothing-said", "concurrent", "lanes", "plain-lanes" } do
                    s:wait_calls(30, { queue = name })
                end
                s:wait_calls(1, { queue = "named" })
                s:wait_calls(2, { queue = "again-dlq" })
                summary = stage.drain(p)
            end)
        end)

        local function most_at_once(queue)
            local most = 0
            for _, call in ipairs(s:calls { queue = queue }) do most = math.max(most, call.running) end
            return most
        end

        it("id is {queue}-consumer, and for dead letters {dlq}-consumer", function()
            assert.is_not_nil(summary[s:name("lanes", "-consumer")])
            if s.kafka then
                local groups = { s:name("lanes", "-consumer"), s:name "lanes" }
                assert.are.equal(0, s.kafka:lag(groups[1], groups[2]))
                assert.is_not_nil(next(s.kafka:committed(groups[1], groups[2])))
            end
        end)

        it("id is its group_id where one was given, for consuming and for committing, and no other", function()
            assert.are.equal(1, summary[s:name "billing"].acked)
            assert.is_nil(summary[s:name("named", "-consumer")])
            assert.is_not_nil(summary[s:name "undertaker"])
            if s.kafka then
                assert.are.equal(0, s.kafka:lag(s:name "billing", s:name "named"))
                assert.is_nil(next(s.kafka:committed(s:name("named", "-consumer"), s:name "named")))
            end
        end)

        it("messages are handled one at a time when nothing is said", function()
            assert.are.equal(1, most_at_once "nothing-said")
        end)

        it("prefetch is 1 in effect without concurrent, with one warning for the group, on its line", function()
            assert.are.equal(1, most_at_once "clamped")
            local lines = stage.lines(p, "warn +control: (.*app.lua:%d+: group: .*prefetch.*)")
            assert.are.equal(1, #lines, table.concat(lines, "\n"))
            assert.matches("app.lua:17: group: prefetch = 20", lines[1], 1, true)
        end)

        it("prefetch is 10 with concurrent when nothing is said", function()
            assert.are.equal(10, most_at_once "concurrent")
        end)

        it("consumers have their prefetch each", function()
            assert.are.equal(6, most_at_once "lanes")
            assert.are.equal(2, most_at_once "plain-lanes")
        end)

        it("messages wait while it has no consumers", function()
            assert.are.equal(0, #s:calls { queue = "none-at-all" })
            assert.are.equal(0, summary[s:name("none-at-all", "-consumer")].acked)
        end)

        it("max_retries is 10 when nothing is said", function()
            local calls = s:calls { queue = "again" }
            assert.are.equal(11, #calls)
            assert.are.equal(10, calls[11].retry_count)
        end)

        it("max_message_size stops a message that is to be published, too", function()
            local result = s:command("publish", { s:name "again", ("x"):rep(1025), "--raw" })
            assert.are.equal(1, result.code)
            assert.matches("larger than 1024 bytes", result.stderr, 1, true)
            result = s:command("publish", { s:name "lanes", "--raw", stdin = { text = ("x"):rep(10485761) } })
            assert.are.equal(1, result.code)
            assert.matches("larger than 10485760 bytes", result.stderr, 1, true)
        end)

        it("dead letters whose handler fails are tried again, then left in the DLQ: nothing is discarded", function()
            local calls = s:calls { queue = "again-dlq" }
            assert.are.equal(2, #calls)
            assert.are.same({ 0, 1 }, { calls[1].retry_count, calls[2].retry_count })
            assert.are.same({ 0, 0 }, { summary[s:name "undertaker"].dead, summary[s:name "undertaker"].discarded })
            local listed = s:command("dlq list", { s:name "again", "--json" })
            assert.matches('"reason": *"max_retries_exceeded"', listed.stdout)
        end)
    end)
end

describe("defaults", function()
    local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker%s }
app:register(app:topic "orders", {%s}, function() end)
return app
]]

    local function row(registry, group)
        local result = stage.new("memory", SOURCE:format(registry, group)):command "check"
        assert.are.equal(0, result.code, result.stderr)
        local columns = {}
        for word in result.stdout:match("\n  (orders%-consumer [^\n]*)"):gmatch "%S+" do table.insert(columns, word) end
        return table.concat(columns, " ", 1, 6)
    end

    it("of a group: one consumer, one message at a time, 10 retries, 30 s", function()
        assert.are.equal("orders-consumer orders 1 1 10 30s", row("", ""))
    end)

    it("of handler_timeout: the group's before the registry's before 30 s", function()
        assert.are.equal("orders-consumer orders 1 1 10 5s", row(', handler_timeout = "5s"', ""))
        assert.are.equal("orders-consumer orders 1 1 10 2s", row(', handler_timeout = "5s"', 'handler_timeout = "2s"'))
    end)
end)
