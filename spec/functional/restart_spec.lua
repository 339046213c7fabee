-- What a run leaves behind for the next one: holds that are not due yet, and messages that were handed out and not
-- finished, which the next run says of.

local cleanup = require "spec.support.cleanup"
local stage = require "spec.support.stage"
local wait = require "spec.support.wait"

-- Messages called "stuck" do not end in the first run; a static member need not wait for the session of a dead one.
local SOURCE = [[
local shove, stage = require "shove", require "stage"
local is_kafka = stage.broker:find "^kafka"
local app = shove.registry {
  broker = stage.broker,
  kafka = is_kafka and { ["session.timeout.ms"] = "6000", ["group.instance.id"] = stage.name "member" } or nil,
}
local function is_first_run() return not io.open "second-run" end

local options = { hold = { "1500ms" }, dlq = true, partitions = 1 }
app:register(app:topic(stage.name "work", options), { prefetch = 10, concurrent = true }, function(msg)
  stage.note(msg)
  if is_first_run() and msg.body:find "stuck" then shove.sleep "25s" end
end)
app:register(app:topic(stage.name "held", options), { prefetch = 10, concurrent = true }, function(msg)
  stage.note(msg)
  if msg.body == "retry" then return msg.retry_count == 0 and shove.retry or shove.ack end
  return msg.body == "defer" and is_first_run() and shove.defer or shove.ack
end)
return app
]]

local HOLD_MS = 1500

local function named(calls)
    local by_body = {}
    for _, call in ipairs(calls) do
        local body = call.payload:match '"(.*)"'
        by_body[body] = by_body[body] or {}
        table.insert(by_body[body], call)
    end
    return by_body
end

local function second_run(s)
    io.open(s.app:file "second-run", "w"):close()
    local p = s:run { "--workers", "1" }
    p:wait_for("running", 20000)
    return p
end

for _, broker in ipairs(stage.brokers) do
    describe("on " .. broker .. ": the run after one that was stopped", function()
        local work, held, s

        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, SOURCE)
                s:publish("work", { '"stuck 1"', '"done 1"', '"stuck 2"', '"done 2"' })
                s:publish("held", { '"retry"', '"defer"' })
                local p = s:run { "--workers", "1", "--drain", "200ms" }
                s:wait_calls(4, { queue = "work" })
                s:wait_calls(2, { queue = "held" })
                stage.drain(p, 3)
                s:publish("work", { '"new"' })
                p = second_run(s)
                s:wait_calls(7, { queue = "work" })
                s:wait_calls(4, { queue = "held" })
                stage.drain(p)
                work, held = named(s:calls { queue = "work" }), named(s:calls { queue = "held" })
            end)
        end)

        it("handles again what was not finished, and nothing else", function()
            assert.are.same({ 2, 2, 1, 1, 1 },
                { #work["stuck 1"], #work["stuck 2"], #work["done 1"], #work["done 2"], #work["new"] })
        end)

        it("says redelivered of what had been handed to a handler, and of nothing else", function()
            for body, calls in pairs(work) do
                assert.is_false(calls[1].redelivered, body)
                if calls[2] then assert.is_true(calls[2].redelivered, body) end
                if calls[2] then assert.are.equal(0, calls[2].retry_count, body) end
            end
        end)

        it("handles what was held, not before it is due, and with its count", function()
            for body, retry_count in pairs { retry = 1, defer = 0 } do
                assert.are.equal(2, #held[body])
                local waited_ms = held[body][2].at_ms - held[body][1].at_ms
                assert.is_true(waited_ms >= HOLD_MS, ("%s: %g ms of %d"):format(body, waited_ms, HOLD_MS))
                assert.are.equal(retry_count, held[body][2].retry_count)
            end
        end)

        it("says redelivered of what was held", function()
            for _, calls in pairs(held) do
                assert.are.same({ false, true }, { calls[1].redelivered, calls[2].redelivered })
            end
        end)

        it("says redelivered of what was replayed", function()
            local again = s:beside([[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "mended", { hold = { "1s" }, dlq = true, partitions = 1 })
app:register(queue, {}, function(msg)
  stage.note(msg)
  return io.open "mended" and shove.ack or shove.reject
end)
app:dead_letters(queue, function(dead) stage.note(dead) end)
return app
]])
            local p = again:run { "--workers", "1" }
            again:publish("mended", { "1" })
            again:wait_calls(1, { queue = "mended-dlq" })
            io.open(again.app:file "mended", "w"):close()
            assert.are.equal(0, again:command("dlq replay", { again:name "mended" }).code)
            local calls = again:wait_calls(2, { queue = "mended" })
            assert.are.same({ false, true }, { calls[1].redelivered, calls[2].redelivered })
            assert.is_false(again:calls({ queue = "mended-dlq" })[1].redelivered)
            stage.drain(p)
        end)
    end)
end

-- On the embedded broker nobody else can see what is committed, so when to kill is not known there.
describe("on kafka: the run after one that was killed", function()
    it("says redelivered of what was open at the last commit", function()
        local s = stage.new("kafka", SOURCE)
        s:publish("work", { '"stuck 1"', '"done 1"', '"stuck 2"', '"done 2"' })
        local p = s:run { "--workers", "1" }
        s:wait_calls(4, { queue = "work" })
        wait.until_true(function()
            local committed = s.kafka:committed(s:name("work", "-consumer"), s:name "work")[0]
            return committed and committed.metadata ~= ""
        end, 20000, "a commit that tells what is open")
        p:kill "sigkill"
        p:wait_exit(10000)
        s:publish("work", { '"new"' })
        p = second_run(s)
        for body, count in pairs { ["stuck 1"] = 2, ["stuck 2"] = 2, new = 1 } do
            s:wait_calls(count, { queue = "work", payload = ('"%s"'):format(body) })
        end
        stage.drain(p)
        for body, calls in pairs(named(s:calls { queue = "work" })) do
            assert.is_false(calls[1].redelivered, body)
            if calls[2] then assert.is_true(calls[2].redelivered, body) end
        end
    end)
end)
