-- make figures: what is promised of reloads, of scaling, of idling and of consumers, as rows with the aim beside what was
-- measured. Run by spec_runner, on a Kafka of its own or $SHOVE_TEST_KAFKA. Fails where a message was lost or handled twice or
-- the broker saw a rebalance; a missed time or size is printed as missed and fails nothing: it depends on the machine.
--
-- FIGURES_RELOADS=500 reloads more often than the 20 times of every day.
local app = require "spec.support.app"
local http = require "spec.support.http"
local kafka = require "spec.support.kafka"
local machine = require "spec.bench.machine"
local moments = require "spec.bench.apps.moments"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local uv = require "luv"

local RELOADS = tonumber(os.getenv "FIGURES_RELOADS" or "20")
local PER_SECOND = 130000 -- at most, of 400 messages in flight that sleep 3 ms
local QUIET_MS, APART_MS = 3000, 300
local COUNT_MAX = 14000000
local FILL_MS = 300000
local IDLE_MS = 10000
local SCRAPED_COUNT = 12000000
local SCRAPED_WINDOWS, SCRAPED_WINDOW_MS, SCRAPES = 5, 600, 6

local function print_row(name, format, value, aim)
  local verdict = aim and (" (aim: under " .. format .. ": %s)"):format(aim, value < aim and "met" or "missed") or ""
  print(("%-64s " .. format .. "%s"):format(name, value, verdict))
end

local function memory_mib(p)
  local kib = 0
  for _, pid in ipairs(machine.children_of(p.pid)) do kib = kib + machine.memory_kib(pid) end
  return kib / 1024
end

local SOURCE = [[
package.path = %q .. "/?.lua;" .. package.path
local shove = require "shove"
local uv = require "luv"
local mark = require "spec.bench.apps.moments".open(%q)
local app = shove.registry { broker = %q }
local topic = app:topic(%q, { partitions = %d, hold = { "1s" }, dlq = true, codec = "raw" })
app:register(topic, shove.group { %s }, function() %s end)
return app
]]

-- words: of the group; handler: its body, which may call mark(); partitions: 8 unless said.
local function new_app(words, handler, partitions)
  local a = app.new { source = "" }
  a.topic, a.broker = kafka.unique "figures", kafka.shared()
  tmp.write(a.path, SOURCE:format(uv.cwd(), a.dir, a.broker.url, a.topic, partitions or 8, words,
    handler))
  return a
end

-- The first one is published by shove, which creates the topic; the rest as fast as Kafka takes them.
local function publish(a, count)
  local result = a:command("publish", { a.topic, "message", "--raw" })
  assert.are.equal(0, result.code, result.stderr)
  result = process.run({ "build/bench_fill", a.broker.bootstrap, a.topic, tostring(count - 1) }, FILL_MS)
  assert.are.equal(0, result.code, result.stderr)
end

local function run(a, ...)
  local p = a:run { "--workers", "2", ... }
  p:wait_for("partitions assigned", 30000)
  return p
end

-- The broker's own word for a group that has joined: one line for each generation.
local function generations(a)
  local log = assert(machine.read_file(a.broker.dir .. "/kafka.log"))
  return select(2, log:gsub("Stabilized group " .. a.topic:gsub("%-", "%%-") .. "%-consumer generation", ""))
end

local function percentile(sorted, part)
  return sorted[math.max(1, math.ceil(#sorted * part))] or 0 / 0
end

-- Of what was completed between two moments: gaps in ms, sorted; and the longest one in each stretch of that long.
local function gaps(all, from_ns, to_ns, stretch_ns)
  local found, longest = {}, {}
  for i = 2, #all do
    if all[i - 1] >= from_ns and all[i] <= to_ns then
      local gap, stretch = (all[i] - all[i - 1]) / 1e6, math.floor((all[i] - from_ns) / stretch_ns) + 1
      found[#found + 1] = gap
      while #longest < stretch do longest[#longest + 1] = 0 end
      longest[stretch] = math.max(longest[stretch], gap)
    end
  end
  table.sort(found)
  table.sort(longest)
  return found, longest, #found / ((to_ns - from_ns) / 1e9)
end

local function print_gaps(when, all, from_ns, to_ns, stretch_ns, aim)
  local found, longest, rate = gaps(all, from_ns, to_ns, stretch_ns)
  print(("  %s: %.0f msg/s"):format(when, rate))
  print_row("    gap between two completions, 99th percentile, ms", "%.2f", percentile(found, 0.99), aim)
  print_row("    longest gap in the time of one reload, median, ms", "%.2f", percentile(longest, 0.5), aim)
  print_row("    the same, 99th percentile, ms", "%.2f", percentile(longest, 0.99), aim)
  print_row("    the same, longest of all, ms", "%.2f", percentile(longest, 1))
end

describe("figures of", function()
  it("reloads", function()
    local a = new_app("consumers = { min = 2, max = 2 }, prefetch = 200, concurrent = true", "shove.sleep '3ms' mark()")
    local count = math.ceil((QUIET_MS + RELOADS * APART_MS * 1.2 + 3000) / 1000 * PER_SECOND)
    count = math.min(count, COUNT_MAX)
    publish(a, count)
    local p = run(a)
    machine.wait_ms(1000)
    local quiet_ns = uv.hrtime()
    machine.wait_ms(QUIET_MS)
    local before_mib, began_ns, joined = memory_mib(p), uv.hrtime(), generations(a)
    for _ = 1, RELOADS do
      local next_ms = uv.hrtime() / 1e6 + APART_MS
      assert.are.equal(0, a:command("reload").code)
      machine.wait_ms(math.max(0, next_ms - uv.hrtime() / 1e6))
    end
    local ended_ns, after_mib = uv.hrtime(), memory_mib(p)
    local joined_after = generations(a)
    wait.until_true(function()
      local acked = a:command("status", { "--json" }).stdout:match '"acked": ?(%d+)'
      return tonumber(acked) == count
    end, 300000, "all to be handled")
    app.drain(p)
    local all = moments.read(a.dir)
    print(("reloads: %d, Kafka"):format(RELOADS))
    local stretch_ns = (ended_ns - began_ns) / RELOADS
    print_gaps("before", all, quiet_ns, began_ns, stretch_ns)
    print_gaps("while reloading", all, began_ns, ended_ns, stretch_ns, 5)
    print_row("  memory that all processes have more after them, MiB", "%.1f", after_mib - before_mib)
    assert.are.equal(count, #all, "handlers ended as often as there were messages")
    assert.matches(("acked=%d  retried"):format(count), p:text "stderr", 1, true)
    assert.are.same({ 1, 1 }, { joined, joined_after }, "the broker saw a rebalance")
  end)

  it("scaling", function()
    local a = new_app("consumers = { min = 1, max = 2 }",
      "local s, us = uv.gettimeofday() print('began', uv.os_getpid(), s % 86400 * 1000 + us / 1000) shove.sleep '20ms'")
    publish(a, 500)
    local p = run(a)
    local _, first = p:wait_for("began%s+(%d+)", 10000)
    assert.are.equal(0, a:command("scale", { a.topic .. "-consumer", "2" }).code)
    local h, m, s = select(2, p:wait_for("T(%d+):(%d+):([%d.]+)Z.*by command", 10000))
    local began_ms
    wait.until_true(function()
      for _, line in ipairs(p.lines) do
        local pid, ms = line.text:match "^began%s+(%d+)%s+(%S+)"
        if pid and pid ~= first then
          began_ms = tonumber(ms)
          return true
        end
      end
    end, 10000, "the new consumer's first message")
    local decided_ms = ((h * 60 + m) * 60 + s) * 1000
    print_row("from the decision to scale to the new consumer's first message, ms", "%.1f", began_ms - decided_ms, 10)
    app.drain(p)
  end)

  it("idling", function()
    local a = new_app("consumers = { min = 2, max = 2 }, prefetch = 200, concurrent = true", "")
    publish(a, 1000)
    local p = run(a)
    machine.wait_ms(2000)
    local function cpu_ns()
      local sum = 0
      for _, pid in ipairs(machine.children_of(p.pid)) do
        local main, others = machine.cpu_ns(pid)
        sum = sum + main + others
      end
      return sum
    end
    local from_ns, began_ns = cpu_ns(), uv.hrtime()
    machine.wait_ms(IDLE_MS)
    local percent = (cpu_ns() - from_ns) / (uv.hrtime() - began_ns) * 100
    print_row("CPU of all processes while idle, Kafka, % of a core", "%.2f", percent, 1)
    app.drain(p)
  end)

  -- Stretches of one run in turn: one with a scrape every 100 ms, one without.
  it("metrics", function()
    local a = new_app("consumers = { min = 2, max = 2 }, prefetch = 1000, concurrent = true", "")
    publish(a, SCRAPED_COUNT)
    local p = run(a, "--listen", "127.0.0.1:0")
    local port = http.port_of(p)
    local function rate_of(scrapes)
      local function acked()
        local body = http.request(port, "/metrics").body
        return tonumber((body:match '\nshove_messages_consumed_total{[^\n]*outcome="ack"} (%d+)')) or 0
      end
      local from, from_ns = acked(), uv.hrtime()
      for i = 1, scrapes do
        if i > 1 then acked() end
        machine.wait_ms(math.max(0, SCRAPED_WINDOW_MS * i / scrapes - (uv.hrtime() - from_ns) / 1e6))
      end
      return (acked() - from) / (uv.hrtime() - from_ns) * 1e9
    end
    machine.wait_ms(1000)
    local ratios = {}
    for i = 1, SCRAPED_WINDOWS do
      local quiet = rate_of(1)
      local scraped = rate_of(SCRAPES)
      assert.is_true(quiet > 0 and scraped > 0, "messages were left for every stretch")
      ratios[i] = scraped / quiet
    end
    app.drain(p)
    print_row("throughput that a scrape every 100 ms costs, median, %", "%.1f", (1 - machine.median(ratios)) * 100, 2)
  end)

  it("consumers", function()
    local mib = {}
    for _, consumers in ipairs { 1, 256 } do
      local words = ("consumers = { min = %d, max = %d }, concurrent = true"):format(consumers, consumers)
      local a = new_app(words, "shove.sleep '3ms'", 256)
      publish(a, 50000)
      local p = run(a)
      local highest = 0
      wait.until_true(function()
        highest = math.max(highest, memory_mib(p))
        return uv.hrtime() / 1e9 - p.started / 1e9 > 5
      end, 60000, "five seconds")
      app.drain(p)
      mib[consumers] = highest
    end
    print_row("memory of 256 consumers more than of 1, while 50,000 are handled, MiB", "%.1f", mib[256] - mib[1], 30)
  end)
end)
