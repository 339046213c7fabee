-- What becomes of a message, by what its handler says of it: one run for each broker, in which every message tells
-- the handler what to do, and all dead letters come to one handler.

local cleanup = require "spec.support.cleanup"
local stage = require "spec.support.stage"

local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker, handler_timeout = "250ms" }

local act = {
  ack = function() return shove.ack end,
  nothing = function() end,
  retry = function() return shove.retry "billing is down" end,
  bare = function() return shove.retry end,
  reject = function() return shove.reject "order without id" end,
  defer = function(msg, count) return count < 3 and shove.defer "not yet" or shove.ack end,
  raise = function() error "the moon is full" end,
  raise_table = function() error { code = 7 } end,
  number = function() return 42 end,
  text = function() return "ack" end,
  no = function() return false end,
  sleep = function(msg, count) return count < 3 and shove.sleep "20s" or shove.ack end,
  sleep_on = function() shove.sleep "20s" end,
  unread = function() return shove.ack end,
  unheeded = function(msg) pcall(function() return msg.body end); return shove.ack end,
  undecodable = function(msg) stage.say("the body is " .. tostring(msg.body)) end,
}

local counts = {}
local function handle(msg)
  local verb = msg.payload:match "[%a_]+"
  counts[msg.id] = (counts[msg.id] or 0) + 1
  stage.note(msg, { verb = verb })
  return act[verb](msg, counts[msg.id])
end

local function queue(name, options, more)
  local group = { prefetch = 50, concurrent = true, max_retries = 3, max_message_size = "2KiB" }
  for option, value in pairs(more or {}) do group[option] = value end
  options.partitions = 2
  local topic = app:topic(stage.name(name), options)
  app:register(topic, shove.group(group), handle)
  return topic
end

local dead = stage.name "dead"
local main = queue("main", { hold = { "80ms", "200ms" }, dlq = dead })
app:dead_letters(main, { prefetch = 50, concurrent = true }, function(msg)
  stage.note(msg, { verb = msg.payload:match "[%a_]+" })
end)
queue("alone", { hold = { "80ms", "200ms" }, dlq = dead })
queue("once", { hold = { "80ms" }, dlq = dead }, { max_retries = 0 })
for _, outcome in ipairs { "reject", "ack", "defer" } do
  queue("late-" .. outcome, { hold = { "80ms" }, dlq = dead }, { max_retries = 0, on_timeout = outcome })
end
queue("in-place", { dlq = dead }, { max_retries = 1 })
queue("dropping", { hold = { "80ms" } }, { max_retries = 0 })
return app
]]

-- A stranger's app: it does not know how much the consumers take, so it sends what they cannot.
local PUBLISHER = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
for _, queue in ipairs { "main", "once", "late-reject", "late-ack", "late-defer", "in-place", "dropping", "alone" } do
  app:topic(stage.name(queue), { partitions = 2 })
end
return app
]]

local OVERSIZE = '"oversize ' .. ("x"):rep(2049) .. '"'

local SENT = {
    main = {
        "ack", "nothing", "retry", "bare", "reject", "defer", "raise", "raise_table", "number", "text", "no", "sleep",
        "sleep_on", OVERSIZE, "{undecodable", "[unread", "[unheeded",
    },
    alone = { "raise" }, -- so that each of its lines is logged: there are at most five a second
    once = { "retry", "defer" },
    ["late-reject"] = { "sleep" },
    ["late-ack"] = { "sleep" },
    ["late-defer"] = { "sleep" },
    ["in-place"] = { "retry" },
    dropping = { "reject", "retry", "sleep", OVERSIZE, "{undecodable" }, -- five, as above
}

-- Dead letters of all queues, by queue and verb: the reason.
local DEAD = {
    main = {
        retry = "max_retries_exceeded", bare = "max_retries_exceeded", reject = "rejected",
        raise = "max_retries_exceeded", raise_table = "max_retries_exceeded", number = "max_retries_exceeded",
        text = "max_retries_exceeded", no = "max_retries_exceeded", sleep_on = "max_retries_exceeded",
        oversize = "oversize", undecodable = "deserialize", unheeded = "deserialize",
    },
    alone = { raise = "max_retries_exceeded" },
    once = { retry = "max_retries_exceeded" },
    ["late-reject"] = { sleep = "timeout" },
    ["in-place"] = { retry = "max_retries_exceeded" },
}
local DEAD_COUNT = 16
local MAX_RETRIES = 3

for _, broker in ipairs(stage.brokers) do
    describe("on " .. broker, function()
        local s, p, summary

        -- Calls of the handler of one message.
        local function calls(queue, verb)
            return s:calls { queue = queue, verb = verb }
        end

        local function letters(queue, verb)
            return s:calls { queue = "dead", original_queue = s:name(queue), verb = verb }
        end

        local function counts_of(list)
            local counts = {}
            for i, call in ipairs(list) do counts[i] = call.retry_count end
            return counts
        end

        -- The handler notes before it decides, so from note to note is the delay and more.
        local function assert_never_early(list, delays_ms)
            assert.are.equal(#delays_ms + 1, #list)
            for i, delay_ms in ipairs(delays_ms) do
                local waited_ms = list[i + 1].at_ms - list[i].at_ms
                assert.is_true(waited_ms >= delay_ms, ("%g ms of %g"):format(waited_ms, delay_ms))
            end
        end

        setup(function()
            cleanup.for_block(function()
                s = stage.new(broker, SOURCE)
                local publisher = s:beside(PUBLISHER)
                for queue, lines in pairs(SENT) do
                    publisher:publish(queue, { "--raw", lines = lines })
                end
                p = s:run { "--workers", "1" }
                s:wait_calls(DEAD_COUNT, { queue = "dead" })
                for _, queue in ipairs { "main", "late-defer" } do s:wait_calls(3, { queue = queue, verb = "sleep" }) end
                s:wait_calls(4, { queue = "dropping" })
                summary = stage.drain(p)
            end)
        end)

        describe("a message that is done", function()
            for _, verb in ipairs { "ack", "nothing" } do
                it("is handled once: the handler returns " .. verb, function()
                    assert.are.equal(1, #calls("main", verb))
                    assert.are.equal(0, #letters("main", verb))
                end)
            end
        end)

        describe("a retry", function()
            it("makes 1 + max_retries calls, counted from 0", function()
                assert.are.same({ 0, 1, 2, 3 }, counts_of(calls("main", "retry")))
            end)

            it("waits in hold[min(retry_count, last)], and never less", function()
                assert_never_early(calls("main", "retry"), { 80, 200, 200 })
            end)

            it("is dead-lettered at the end as max_retries_exceeded, with the last reason", function()
                local letter = letters("main", "retry")[1]
                assert.are.equal("billing is down", letter.error)
                assert.are.equal(3, calls("main", "retry")[4].retry_count)
            end)

            it("without a reason leaves none", function()
                assert.is_nil(letters("main", "bare")[1].error)
            end)

            it("is dead-lettered after the first call when max_retries is 0", function()
                assert.are.same({ 0 }, counts_of(calls("once", "retry")))
                assert.are.equal("max_retries_exceeded", letters("once", "retry")[1].reason)
            end)

            it("waits 1 s where it is when the topic has no holds", function()
                assert.are.same({ 0, 1 }, counts_of(calls("in-place", "retry")))
                assert_never_early(calls("in-place", "retry"), { 1000 })
                assert.are.equal(1, #letters("in-place", "retry"))
            end)
        end)

        describe("a reject", function()
            it("is dead-lettered at once as rejected, with its reason", function()
                assert.are.same({ 0 }, counts_of(calls("main", "reject")))
                assert.are.equal("order without id", letters("main", "reject")[1].error)
            end)
        end)

        describe("a defer", function()
            it("waits in the first hold each time and leaves the count as it is", function()
                assert.are.same({ 0, 0, 0 }, counts_of(calls("main", "defer")))
                assert_never_early(calls("main", "defer"), { 80, 80 })
                assert.are.equal(0, #letters("main", "defer"))
            end)

            it("does not count even where no retry is left", function()
                assert.are.same({ 0, 0, 0 }, counts_of(calls("once", "defer")))
                assert.are.equal(0, #letters("once", "defer"))
            end)
        end)

        describe("an error in the handler", function()
            it("is a retry", function()
                assert.are.same({ 0, 1, 2, 3 }, counts_of(calls("main", "raise")))
                assert.are.same({ 0, 1, 2, 3 }, counts_of(calls("main", "raise_table")))
            end)

            it("is kept with its place and its traceback", function()
                local text = letters("main", "raise")[1].error
                assert.matches("app.lua:%d+: the moon is full\n", text)
                assert.matches("stack traceback", text, 1, true)
            end)

            it("has a warning in the log for each call: the message, the attempt, what becomes of it, and why", function()
                local lines = {}
                for _, line in ipairs(p.lines) do
                    local attempt, fate = line.text:match("warn +control: message not handled  outcome=error  topic="
                        .. s:pattern "alone"
                        .. '  partition=%d  offset=0  attempt="(.-)"  then="(.-)"  error=".*the moon is full')
                    if attempt then table.insert(lines, attempt .. ": " .. fate) end
                end
                assert.are.same({
                    "1 of 4: again in 80 ms", "2 of 4: again in 200 ms", "3 of 4: again in 200 ms",
                    "4 of 4: dead letter: max_retries_exceeded",
                }, lines)
            end)

            it("that is no text says what it was", function()
                assert.matches("^a table\n.*app.lua", letters("main", "raise_table")[1].error)
            end)
        end)

        describe("anything else that is returned", function()
            local said = { number = "a number %(42%)", text = "a string %(\"ack\"%)", no = "a boolean %(false%)" }
            for verb, words in pairs(said) do
                it("is a retry that says what it was: " .. verb, function()
                    assert.are.same({ 0, 1, 2, 3 }, counts_of(calls("main", verb)))
                    assert.matches("the handler returned " .. words .. ": return shove.ack",
                        letters("main", verb)[1].error)
                end)
            end

            it("has a line in the log", function()
                assert.is_true(stage.said(p, 'warn +control: message not handled .* error="the handler returned a %a+ %('))
            end)
        end)

        describe("a timeout", function()
            it("is a retry", function()
                assert.are.same({ 0, 1, 2 }, counts_of(calls("main", "sleep")))
                assert.are.equal(0, #letters("main", "sleep"))
            end)

            it("counts like any retry", function()
                assert.are.same({ 0, 1, 2, 3 }, counts_of(calls("main", "sleep_on")))
                assert.matches("did not finish within 0.25 s", letters("main", "sleep_on")[1].error, 1, true)
            end)

            it("is a reject where on_timeout says so, with the reason timeout", function()
                assert.are.equal(1, #calls("late-reject", "sleep"))
                assert.are.equal("timeout", letters("late-reject", "sleep")[1].reason)
            end)

            it("is an ack where on_timeout says so", function()
                assert.are.equal(1, #calls("late-ack", "sleep"))
                assert.are.equal(0, #letters("late-ack", "sleep"))
            end)

            it("is a defer where on_timeout says so", function()
                assert.are.same({ 0, 0, 0 }, counts_of(calls("late-defer", "sleep")))
                assert.are.equal(0, #letters("late-defer", "sleep"))
            end)
        end)

        describe("an oversize message", function()
            it("never reaches the handler and is dead-lettered once, as oversize", function()
                assert.are.equal(0, #calls("main", "oversize"))
                local found = letters("main", "oversize")
                assert.are.equal(1, #found)
                assert.are.equal(OVERSIZE, found[1].payload)
            end)
        end)

        describe("an undecodable message", function()
            it("is dead-lettered once as deserialize, when the handler touches its body", function()
                assert.are.same({ 0 }, counts_of(calls("main", "undecodable")))
                assert.are.equal(0, #s:calls { queue = "said" })
                assert.are.equal("{undecodable", letters("main", "undecodable")[1].payload)
            end)

            it("is dead-lettered all the same when the handler catches the error and acks", function()
                assert.are.same({ 0 }, counts_of(calls("main", "unheeded")))
                assert.are.equal(1, #letters("main", "unheeded"))
            end)

            it("is for the handler to decide when it reads the payload alone", function()
                assert.are.equal(1, #calls("main", "unread"))
                assert.are.equal(0, #letters("main", "unread"))
            end)
        end)

        describe("a dead letter", function()
            it("is there once for each message that died, with the reason it died of, and for no other", function()
                local found, count = {}, 0
                for _, letter in ipairs(s:calls { queue = "dead" }) do
                    local queue = s:plain(letter.original_queue)
                    found[queue] = found[queue] or {}
                    assert.is_nil(found[queue][letter.verb], queue .. " " .. letter.verb)
                    found[queue][letter.verb] = letter.reason
                    assert.are.equal(1, letter.death_count)
                    assert.are.equal(letter.original_queue .. "-consumer", letter.group)
                    count = count + 1
                end
                assert.are.same(DEAD, found)
                assert.are.equal(DEAD_COUNT, count)
            end)

            it("is counted once, under its reason, and not as discarded", function()
                local main = summary[s:name("main", "-consumer")]
                assert.are.equal(12, main.dead)
                assert.are.equal(5, main.acked)
                assert.are.equal(8 * MAX_RETRIES + 2 + 2, main.retried) -- defer and sleep: twice each
                assert.are.equal(0, main.discarded)
                assert.are.same({ max_retries_exceeded = 8, rejected = 1, oversize = 1, deserialize = 2 }, main.reasons)
                assert.are.equal(1, summary[s:name("late-ack", "-consumer")].acked)
                assert.are.same({ timeout = 1 }, summary[s:name("late-reject", "-consumer")].reasons)
            end)
        end)

        describe("without a DLQ", function()
            it("what fails for good is dropped after its last call", function()
                for _, verb in ipairs { "reject", "retry", "sleep" } do
                    assert.are.equal(1, #calls("dropping", verb), verb)
                end
                assert.are.equal(0, #letters("dropping"))
            end)

            it("each drop has a warning that names the message and the reason", function()
                local reasons = {}
                for _, line in ipairs(p.lines) do
                    local reason = line.text:match("warn +control: message not handled .*topic=" .. s:pattern "dropping"
                        .. "  partition=%d  offset=%d+ .*discarded %(no DLQ%): ([%a_]+)")
                    if reason then table.insert(reasons, reason) end
                end
                table.sort(reasons)
                assert.are.same({ "deserialize", "max_retries_exceeded", "max_retries_exceeded", "oversize", "rejected" },
                    reasons)
            end)

            it("each drop is counted as discarded, once, under its reason", function()
                local dropping = summary[s:name("dropping", "-consumer")]
                assert.are.equal(5, dropping.discarded)
                assert.are.equal(0, dropping.dead)
                assert.are.same({ deserialize = 1, max_retries_exceeded = 2, oversize = 1, rejected = 1 },
                    dropping.reasons)
            end)
        end)
    end)
end
