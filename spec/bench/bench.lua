-- make bench: shove beside a bare librdkafka loop in the same run. Prints ratios, memory, and where the CPU time of a
-- message goes: control's loop, librdkafka's threads (in control, too), the workers, and the broker, which shares the
-- machine.
--
-- luajit spec/bench/bench.lua BUILD_DIR [ROUNDS]. Starts its own Kafka. The peer is measured right before each case, so
-- that a machine whose speed drifts moves both: a ratio is the median of the rounds' ratios, everything else the median
-- of its own. Nothing passes or fails here.
local uv = require "luv"
local machine = require "spec.bench.machine"

local BUILD = assert(arg[1], "usage: bench.lua BUILD_DIR [ROUNDS]")
local ROUNDS = tonumber(arg[2] or "5")
local COUNT = tonumber(os.getenv "BENCH_COUNT" or "2000000")
local SLEEPING_COUNT = 300000
local PUBLISHED_GOAL = 200000
-- A sample reads all page tables of the processes: often, it would take a part of what it measures.
local SAMPLE_MS = 250
local DEADLINE_MS = 180000
local JVM_OPTIONS = "-Xms1g -Xmx1g -XX:+UseSerialGC -XX:TieredStopAtLevel=1"

local function sh(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  local ok = pipe:close()
  return text, ok
end

local function read_counts(dir)
  local total, first_ns, last_ns = 0, math.huge, 0
  local scan = uv.fs_scandir(dir)
  for name in function() return uv.fs_scandir_next(scan) end do
    local last
    if name:find "%.count$" then
      for line in io.lines(dir .. "/" .. name) do last = line end
    end
    if last then
      local count, first, now = last:match "^(%d+) (%d+) (%d+)$"
      total = total + tonumber(count)
      first_ns = math.min(first_ns, tonumber(first))
      last_ns = math.max(last_ns, tonumber(now))
    end
  end
  return total, first_ns, last_ns
end

local function environment(extra)
  local env = {}
  for name, value in pairs(uv.os_environ()) do env[name] = value end
  for name, value in pairs(extra) do env[name] = value end
  local list = {}
  for name, value in pairs(env) do list[#list + 1] = name .. "=" .. value end
  return list
end

-- Calls run(...) and adds to the figures it gives what share of the processors was not ours meanwhile.
local function with_steal(run, ...)
  local stolen, all = machine.stolen_ticks()
  local figures = run(...)
  local stolen_then, all_then = machine.stolen_ticks()
  figures.steal = (stolen_then - stolen) / math.max(all_then - all, 1)
  return figures
end

local sequence = 0

-- Runs one case to its end; returns a table of figures. broker_pid: whose CPU time is counted too, or nil.
local function run_shove(case, broker, topic, broker_pid)
  sequence = sequence + 1
  local dir = sh("mktemp -d"):gsub("%s", "")
  local exited = false
  local log = assert(io.open(dir .. "/log", "w"))
  log:close()
  local log_fd = uv.fs_open(dir .. "/log", "w", tonumber("644", 8))
  local process, pid
  process, pid = uv.spawn(BUILD .. "/shove", {
    args = { "run", "spec/bench/apps/bench.lua", "--workers", tostring(case.workers) },
    env = environment {
      BENCH_BROKER = broker, BENCH_TOPIC = topic, BENCH_DIR = dir, BENCH_HANDLER = case.handler,
      BENCH_CONSUMERS = tostring(case.consumers or 1), BENCH_FIFO = case.is_fifo and "yes" or "no",
      BENCH_PREFETCH = tostring(case.prefetch),
      BENCH_GROUP = string.format("bench-%d-%d", uv.os_getpid(), sequence),
    },
    stdio = { nil, log_fd, log_fd },
  }, function()
    exited = true
    process:close()
  end)
  assert(process, pid)
  local peak_kib, started_ms = 0, uv.now()
  local loop_ns, library_ns, workers_ns = 0, 0, {}
  local broker_from = broker_pid and select(2, machine.cpu_ns(broker_pid))
  local total, first_ns, last_ns
  repeat
    machine.wait_ms(SAMPLE_MS)
    local kib = 0
    for index, child in ipairs(machine.children_of(pid)) do
      kib = kib + machine.memory_kib(child)
      if index == 1 then
        loop_ns, library_ns = machine.cpu_ns(child)
      else
        local main, others = machine.cpu_ns(child)
        workers_ns[index - 1] = main + others
      end
    end
    peak_kib = math.max(peak_kib, kib)
    total, first_ns, last_ns = read_counts(dir)
  until total >= case.count or exited or uv.now() - started_ms > DEADLINE_MS
  local broker_ns = broker_pid and select(2, machine.cpu_ns(broker_pid)) - broker_from or 0
  if not exited then process:kill "sigterm" end
  local asked_ms = uv.now()
  while not exited and uv.now() - asked_ms < 15000 do machine.wait_ms(10) end
  if not exited then process:kill "sigkill" end
  if total < case.count then
    io.stderr:write(machine.read_file(dir .. "/log"))
    error(string.format("%s: %d of %d messages were handled", case.name, total, case.count))
  end
  os.execute("rm -rf " .. dir)
  local all_workers_ns = 0
  for _, ns in ipairs(workers_ns) do all_workers_ns = all_workers_ns + ns end
  return {
    rate = total / ((last_ns - first_ns) / 1e9), mib = peak_kib / 1024,
    loop_ns = loop_ns / total, library_ns = library_ns / total, workers_ns = all_workers_ns / total,
    broker_ns = broker_ns / total,
  }
end

local function run_bare(bootstrap, topic)
  local text, ok = sh(string.format("%s/bench_bare_loop %s %s %d", BUILD, bootstrap, topic, COUNT))
  assert(ok, "the bare loop failed: " .. text)
  local count, seconds, cpu, kib = text:match "(%S+) (%S+) (%S+) (%S+)"
  return { rate = count / seconds, mib = kib / 1024, cpu_ns = cpu / count * 1e9 }
end

local function summarise(rounds)
  local out = {}
  for key in pairs(rounds[1]) do
    local values = {}
    for _, round in ipairs(rounds) do values[#values + 1] = round[key] end
    out[key] = machine.median(values)
  end
  return out
end

local CASES = {
  { name = "no-op handler, 1 worker", handler = "noop", workers = 1, consumers = 2, prefetch = 4000, count = COUNT },
  { name = "JSON handler, 2 workers", handler = "json", workers = 2, consumers = 2, prefetch = 4000, count = COUNT },
  { name = "3 ms sleep, 8 x 1000 in flight", handler = "sleep", workers = 2, consumers = 8, prefetch = 1000,
    count = SLEEPING_COUNT },
  { name = "3 ms sleep, 4096 in flight", handler = "sleep", workers = 2, consumers = 1, prefetch = 4096,
    count = SLEEPING_COUNT },
  -- The messages have 10,007 keys.
  { name = "in order per key: no-op, 1 worker", handler = "noop", workers = 1, prefetch = 8000, count = COUNT, is_fifo = true },
  { name = "in order: 3 ms, 4096 in flight", handler = "sleep", workers = 2, prefetch = 4096, count = SLEEPING_COUNT,
    is_fifo = true },
}
local DISTINCT = { name = "in order: 5 M keys, no-op", handler = "noop", workers = 1, prefetch = 8000, count = 5000000,
  is_fifo = true }

local function with_ratio(figures, bare)
  figures.ratio = figures.rate / bare.rate
  return figures
end

local function print_row(name, figures)
  print(string.format("%-34s %9.0f msg/s  ratio %4.2f  %4.0f MB  ns/message: loop %4.0f, librdkafka %4.0f, workers %4.0f" ..
    ", broker %4.0f, stolen %2.0f %%", name, figures.rate, figures.ratio, figures.mib, figures.loop_ns, figures.library_ns,
    figures.workers_ns, figures.broker_ns, figures.steal * 100))
end

local function print_bare(figures)
  print(string.format("%-34s %9.0f msg/s  ratio %4.2f  %4.0f MB  ns/message: all threads %4.0f, stolen %2.0f %%",
    "bare librdkafka loop, no handler", figures.rate, 1, figures.mib, figures.cpu_ns, figures.steal * 100))
end

-- Not through a pipe: the broker would keep it open. Its optimising compiler would take one of two cores for minutes; it
-- only passes on what lies in the page cache.
local function start_kafka(dir)
  local told = dir .. ".started"
  local code = os.execute(("SHOVE_KAFKA_JVM='%s' scripts/kafka start %s >%s"):format(JVM_OPTIONS, dir, told))
  assert(code == 0, "Kafka did not start")
  local text = machine.read_file(told)
  os.remove(told)
  return assert(text:match "bootstrap (%S+)"), tonumber((assert(text:match "pid (%d+)")))
end

-- Messages a second of a command that writes COUNT of them.
local function rate_of(command)
  local started_ns = uv.hrtime()
  local text, ok = sh(command .. " 2>&1")
  assert(ok, text)
  return COUNT / ((uv.hrtime() - started_ns) / 1e9), text
end

local function declare(dir, broker, topic)
  sh(string.format("env BENCH_TOPIC=%s BENCH_BROKER=%s BENCH_DIR=%s BENCH_GROUP=x "
    .. "%s/shove publish spec/bench/apps/bench.lua %s </dev/null", topic, broker, dir, BUILD, topic))
end

-- Keys that come once each: what is kept of one is to be gone with its message.
local function run_distinct(dir, bootstrap, broker_pid)
  local topic = "distinct-" .. uv.os_getpid()
  declare(dir, "kafka://" .. bootstrap, topic)
  local text, ok = sh(string.format("%s/bench_fill %s %s %d %d", BUILD, bootstrap, topic, DISTINCT.count, DISTINCT.count))
  assert(ok, text)
  return with_steal(run_shove, DISTINCT, "kafka://" .. bootstrap, topic, broker_pid)
end

local function bench_kafka()
  local dir = sh("mktemp -d"):gsub("%s", "")
  local bootstrap, broker_pid = start_kafka(dir)
  local ok, err = pcall(function()
    local topic = "bench-" .. uv.os_getpid()
    declare(dir, "kafka://" .. bootstrap, topic)
    local fill_rate = rate_of(string.format("%s/bench_fill %s %s %d", BUILD, bootstrap, topic, COUNT))
    local bare, results = {}, {}
    -- Warms the page cache and the broker.
    for _ = 1, 3 do run_bare(bootstrap, topic) end
    for round = 1, ROUNDS do
      for i, case in ipairs(CASES) do
        local peer = with_steal(run_bare, bootstrap, topic)
        table.insert(bare, peer)
        results[i] = results[i] or {}
        results[i][round] = with_ratio(with_steal(run_shove, case, "kafka://" .. bootstrap, topic, broker_pid), peer)
      end
    end
    print(string.format("Kafka, %d messages of 44 bytes, 8 partitions, medians of %d rounds", COUNT, ROUNDS))
    bare = summarise(bare)
    print_bare(bare)
    for i, case in ipairs(CASES) do print_row(case.name, summarise(results[i])) end
    print_row(DISTINCT.name, with_ratio(run_distinct(dir, bootstrap, broker_pid), bare))
    return { bare = bare, fill_rate = fill_rate }
  end)
  sh("scripts/kafka stop " .. dir)
  os.execute("rm -rf " .. dir)
  if not ok then error(err, 0) end
  return err
end

-- Each round into a file of its own; the last one is left for the handlers.
local function publish_rates(dir, broker)
  local env = string.format("BENCH_TOPIC=bench BENCH_BROKER=%s BENCH_DIR=%s BENCH_GROUP=x", broker, dir)
  local rates = {}
  for round = 1, ROUNDS do
    os.execute(string.format("rm -f %s/bench.db*", dir))
    local rate, text = rate_of(string.format(
      "%s/bench_fill - - %d | env %s %s/shove publish spec/bench/apps/bench.lua bench", BUILD, COUNT, env, BUILD))
    assert(text:find(string.format("acknowledged %d messages", COUNT), 1, true), text)
    rates[round] = rate
  end
  return rates
end

local function bench_embedded(peer)
  local dir = sh("mktemp -d"):gsub("%s", "")
  local broker = "embedded:" .. dir .. "/bench.db"
  local published = machine.median(publish_rates(dir, broker))
  print(string.format("\nEmbedded broker, the same messages (ratio to the same bare loop on Kafka)"))
  print(string.format("%-34s %9.0f msg/s  ratio %4.2f to librdkafka's producer filling Kafka's topic, %.1f times %d/s",
    "shove publish, standard input", published, published / peer.fill_rate, published / PUBLISHED_GOAL, PUBLISHED_GOAL))
  for _, case in ipairs(CASES) do
    if not case.is_fifo then -- what was published here has no keys
      local rounds = {}
      for round = 1, ROUNDS do
        rounds[round] = with_ratio(with_steal(run_shove, case, broker, "bench"), peer.bare)
      end
      print_row(case.name, summarise(rounds))
    end
  end
  os.execute("rm -rf " .. dir)
end

bench_embedded(bench_kafka())
uv.run() -- luv does not survive the end of its Lua with handles that are about to be closed
