-- /metrics: every name, and the right values after runs whose messages say what becomes of them.

local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local http = require "spec.support.http"
local process = require "spec.support.process"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local WAIT_MS = 20000

local NAMES = {
    messages_consumed_total = "counter", messages_failed_total = "counter", messages_discarded_total = "counter",
    messages_published_total = "counter", message_processing_duration_seconds = "histogram",
    message_publish_duration_seconds = "histogram", message_size_bytes = "histogram", messages_inflight = "gauge",
    pending_full_total = "counter", poisoned_keys = "gauge",
    consumer_lag = "gauge", consumers = "gauge", hold_lateness_seconds = "histogram", autoscaler_decisions_total = "counter",
    autoscaler_strategy_failures_total = "counter",
    backend_errors_total = "counter", worker_deaths_total = "counter", reloads_total = "counter", generation = "gauge",
}

-- "name{label="value",...}" -> number, and name -> type.
local function read(port)
    local answer = http.request(port, "/metrics")
    assert.equal(200, answer.status, answer.body)
    local values, types = {}, {}
    for line in answer.body:gmatch "([^\n]*)\n" do
        local name, kind = line:match "^# TYPE (%S+) (%S+)$"
        if name then types[name] = kind end
        if line:sub(1, 1) ~= "#" then
            local series, value = line:match "^(%S+) (%S+)$"
            assert.is_nil(values[series], series .. " is there twice")
            values[series] = assert(tonumber(value), line)
        end
    end
    return values, types, answer.body
end

-- A run with --listen: values_of(name, labels...) of the group.
local function start(options, arguments)
    local s = steered.new(options)
    s:declare()
    s.p = s:run { "--listen", "0", unpack(arguments or {}) }
    s.port = http.port_of(s.p)
    function s.series(name, more)
        return ('shove_%s{topic="%s",consumer_group="%s"%s}'):format(name, s.queue, s.group_id, more or "")
    end
    return s
end

local function until_values(s, expected)
    local last
    local is_so = pcall(wait.until_true, function()
        last = read(s.port)
        for series, value in pairs(expected) do
            if last[series] ~= value then return false end
        end
        return true
    end, WAIT_MS)
    if is_so then return last end
    local texts = {}
    for series, value in pairs(expected) do
        if last[series] ~= value then table.insert(texts, ("%s is %s, not %s"):format(series, last[series], value)) end
    end
    error(table.concat(texts, "\n") .. "\n" .. s:account(), 2)
end

-- shove publish refuses what the app's consumers would not take.
local function publish_unchecked(s, text)
    local client = assert(driver.open(s.url))
    assert.equal(0, client:publish(s.queue, { { payload = text, partition = 0 } })[1].code)
    client:close()
end

local function until_ready(s)
    wait.until_true(function() return http.request(s.port, "/readyz").status == 200 end, WAIT_MS, "/readyz to say 200")
end

local function of_outcomes(s, counts)
    local expected = {}
    for _, outcome in ipairs { "ack", "retry", "reject", "defer", "error", "timeout", "oversize", "undecodable", "crashed" } do
        expected[s.series("messages_consumed_total", (',outcome="%s"'):format(outcome))] = counts[outcome] or 0
    end
    return expected
end

for _, broker in ipairs(steered.brokers) do
    describe("/metrics on " .. broker.name, function()
        it("has every name, and counts what became of each message", function()
            local receipts, nowhere = unique "receipts", unique "nowhere"
            local s = start {
                url = broker.url, partitions = 2, holds = { "100ms" },
                group = "prefetch = 20, concurrent = true, max_message_size = 100",
                extra = ([[
                    local receipts = app:topic(%q, { codec = "raw" })
                    app:on_start(function()
                      for i = 1, 3 do assert(shove.publish(receipts, "x")) end
                      assert(not shove.publish(%q, "x"))
                    end)]]):format(receipts, nowhere),
            }
            s:publish { "a", "b retry", "c reject", "d 30ms" }
            publish_unchecked(s, "e " .. ("."):rep(99))
            s:wait("ended", { "a", "c", "d" })
            s:wait("ended", { "b" }, 2)
            until_values(s, { ['shove_messages_published_total{topic="other",outcome="failed"}'] = 1 })
            s:publish { "f crash" }
            s:wait("ended", { "f" })
            s:publish({ "g gate", "h gate" }, { partition = 1 })
            s:wait("began", { "g", "h" })
            local expected = of_outcomes(s, { ack = 4, retry = 1, reject = 1, oversize = 1, crashed = 1 })
            for series, value in pairs {
                [s.series("messages_failed_total", ',reason="rejected"')] = 1,
                [s.series("messages_failed_total", ',reason="oversize"')] = 1,
                [s.series("messages_failed_total", ',reason="deserialize"')] = 0,
                [s.series("messages_failed_total", ',reason="timeout"')] = 0,
                [s.series("messages_failed_total", ',reason="max_retries_exceeded"')] = 0,
                [s.series("messages_failed_total", ',reason="crashed"')] = 0,
                shove_messages_discarded_total = 0,
                [('shove_messages_published_total{topic="%s",outcome="acknowledged"}'):format(receipts)] = 3,
                [('shove_messages_published_total{topic="%s",outcome="failed"}'):format(receipts)] = 0,
                ['shove_messages_published_total{topic="other",outcome="failed"}'] = 1,
                [('shove_message_publish_duration_seconds_count{topic="%s",outcome="acknowledged"}'):format(receipts)] = 3,
                [s.series("message_processing_duration_seconds_count", ',outcome="ack"')] = 4,
                [s.series("message_processing_duration_seconds_count", ',outcome="retry"')] = 1,
                [s.series("message_processing_duration_seconds_count", ',outcome="crashed"')] = 1,
                [s.series "message_size_bytes_count"] = 8,
                [s.series "message_size_bytes_sum"] = 1 + 7 + 8 + 6 + 101 + 7 + 6 + 6,
                [s.series("message_size_bytes_bucket", ',le="64"')] = 7,
                [s.series("message_size_bytes_bucket", ',le="256"')] = 8,
                [s.series "messages_inflight"] = 2,
                [s.series("consumer_lag", ',partition="0"')] = 0,
                [s.series("consumer_lag", ',partition="1"')] = 2,
                [('shove_consumers{consumer_group="%s"}'):format(s.group_id)] = 1,
                shove_hold_lateness_seconds_count = 1,
                ['shove_worker_deaths_total{reason="signal"}'] = 1,
                ['shove_worker_deaths_total{reason="exit"}'] = 0,
                [('shove_autoscaler_decisions_total{consumer_group="%s",direction="up"}'):format(s.group_id)] = 0,
            } do expected[series] = value end
            local values = until_values(s, expected)
            local sum = values[s.series("message_processing_duration_seconds_sum", ',outcome="ack"')]
            assert.is_true(sum >= 0.028 and sum < 20, "handlers took " .. sum)
            -- d slept for 30 ms (a timer may be a millisecond early)
            assert.is_true(values[s.series("message_processing_duration_seconds_bucket", ',outcome="ack",le="0.01"')] <= 3)
            assert.equal(4, values[s.series("message_processing_duration_seconds_bucket", ',outcome="ack",le="+Inf"')])
            local late = values.shove_hold_lateness_seconds_sum
            assert.is_true(late >= 0 and late < 20, "the retry was late by " .. late)
            local _, types, text = read(s.port)
            for name, kind in pairs(NAMES) do
                assert.equal(kind, types["shove_" .. name], name)
                types["shove_" .. name] = nil
            end
            assert.same({}, types)
            assert.is_nil(text:find(nowhere, 1, true), "a label came from a script")
            s:open "gate"
            s:wait("ended", { "g", "h" })
            until_values(s, { [s.series "messages_inflight"] = 0, [s.series("consumer_lag", ',partition="1"')] = 0 })
            assert.equal(2, (app.drain(s.p)), s.p:transcript())
        end)
    end)
end

describe("/metrics", function()
    local embedded = steered.brokers[1]

    it("counts as discarded what no DLQ has, once", function()
        local s = start { url = embedded.url }
        s:publish { "a reject", "b reject" }
        until_values(s, {
            shove_messages_discarded_total = 2, [s.series("messages_failed_total", ',reason="rejected"')] = 2,
        })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("counts no dead letter as discarded, whatever becomes of its own handling", function()
        local s = start {
            url = embedded.url, topic = "dlq = true,",
            extra = [[app:dead_letters(queue, function() return shove.reject "no" end)]],
        }
        s:publish { "a reject" }
        until_values(s, {
            shove_messages_discarded_total = 0,
            [('shove_messages_consumed_total{topic="%s-dlq",consumer_group="%s-dlq-consumer",outcome="reject"}'):format(s.queue,
                s.queue)] = 1,
        })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("counts a message that ran past its timeout under that outcome, and a worker killed for it", function()
        local s = start {
            url = embedded.url, topic = "dlq = true,",
            group = [[concurrent = true, handler_timeout = "200ms", on_timeout = "reject"]],
        }
        s:publish { "a 60s" }
        until_values(s, {
            [s.series("messages_consumed_total", ',outcome="timeout"')] = 1,
            [s.series("messages_failed_total", ',reason="timeout"')] = 1,
            [s.series("message_processing_duration_seconds_count", ',outcome="timeout"')] = 1,
            [s.series("message_processing_duration_seconds_bucket", ',outcome="timeout",le="0.1"')] = 0,
        })
        s:publish { "b spin" }
        until_values(s, {
            [s.series("messages_failed_total", ',reason="timeout"')] = 2, ['shove_worker_deaths_total{reason="timeout"}'] = 1,
            [s.series("message_processing_duration_seconds_bucket", ',outcome="timeout",le="1"')] = 1,
        })
        assert.equal(2, (app.drain(s.p)), s.p:transcript())
    end)

    it("counts the autoscaler's decisions and shows how many consumers there are", function()
        local s = start {
            url = embedded.url, partitions = 2, group = "consumers = { min = 1, max = 2 }",
            extra = [[app:autoscale { poll = "100ms", hysteresis = "100ms", cooldown = "100ms" }]],
        }
        s:publish { "a gate", "b gate", "c gate", "d gate" }
        local group = ('consumer_group="%s"'):format(s.group_id)
        local up = ('shove_autoscaler_decisions_total{%s,direction="up"}'):format(group)
        local down = ('shove_autoscaler_decisions_total{%s,direction="down"}'):format(group)
        until_values(s, { [up] = 1, [down] = 0, [("shove_consumers{%s}"):format(group)] = 2 })
        s:open "gate"
        until_values(s, { [up] = 1, [down] = 1, [("shove_consumers{%s}"):format(group)] = 1 })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("counts reloads by how they ended, names the generation, and goes on counting", function()
        local s = start { url = embedded.url, topic = [[hold = { "50ms" },]] }
        s:publish { "a", "x reject" }
        local acked = s.series("messages_consumed_total", ',outcome="ack"')
        until_values(s, {
            [acked] = 1, shove_messages_discarded_total = 1, shove_generation = 1, ['shove_reloads_total{result="success"}'] = 0,
            ['shove_reloads_total{result="failure"}'] = 0,
        })
        s.p:kill "sighup"
        until_values(s, { shove_generation = 2, ['shove_reloads_total{result="success"}'] = 1 })
        tmp.write(s.app.path, "this is no Lua")
        s.p:kill "sighup"
        until_values(s, { shove_generation = 2, ['shove_reloads_total{result="failure"}'] = 1 })
        publish_unchecked(s, "b")
        until_values(s, { [acked] = 2, [s.series("message_processing_duration_seconds_count", ',outcome="ack"')] = 2 })
        -- other holds: the group leaves and joins again, and is one with what it was
        tmp.write(s.app.path, (s.source:gsub('"50ms"', '"70ms"')))
        s.p:kill "sighup"
        until_values(s, { shove_generation = 3, [s.series("consumer_lag", ',partition="0"')] = 0 })
        publish_unchecked(s, "c")
        until_values(s, {
            [acked] = 3, [s.series("message_processing_duration_seconds_count", ',outcome="ack"')] = 3,
            [s.series "message_size_bytes_count"] = 4, [s.series "messages_inflight"] = 0, shove_messages_discarded_total = 1,
            [('shove_consumers{consumer_group="%s"}'):format(s.group_id)] = 1,
        })
        until_ready(s)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("passes promtool's check, escapes group ids, and may have another prefix", function()
        local s = start({ url = embedded.url, holds = { "50ms" }, group = [[group_id = 'a"b\\c', concurrent = true]] },
            { "--metrics-prefix", "jobs_" })
        s:publish { "a", "b retry", "c reject" }
        s:wait("ended", { "b" }, 2)
        local text = http.request(s.port, "/metrics").body
        assert.matches('\njobs_consumers{consumer_group="a\\"b\\\\c"} 1\n', text, 1, true)
        assert.is_nil(text:find "\n%l*shove_")
        local promtool = os.getenv "HOME" .. "/.cache/shove/promtool" -- scripts/deps puts it there
        local result = process.run { promtool, "check", "metrics", stdin = { text = text } }
        assert.same({ 0, "", "" }, { result.code, result.stdout, result.stderr })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)
end)
