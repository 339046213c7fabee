-- Sequenced topics on the stage of spec/support/steered.lua, and the order in which their keys were handled.
--
--     local s = sequenced.new(broker, { policy = "fail_all", holds = { "50ms" }, shards = 2 })
--     s:publish({ "a1 retry", "a2" }, { key = "a" })
--     local p = s:run()
--     s:wait("ended", { "a2" })
--     s:course "a"                   "a1 a1. a1:1 a1:1. a2 a2."
--     sequenced.letters(s)           "a3 rejected, a4 sequence_poisoned"
--
-- A message's name is that of its key, in letters, and its number there: a course is read off the names. A broker is one
-- of steered.brokers, or sequenced.memory, whose messages nobody can bring: they are published by the script itself.

local assert = require "luassert"
local driver = require "spec.transport.driver"
local steered = require "spec.support.steered"

local M = {}

local WAIT_MS = 20000

-- Further verbs of messages.
local VERBS = [[
-- is rejected until s:open "mended"
verbs.broken = function() return not uv.fs_stat(dir .. "/gate-mended") and shove.reject "as told" or nil end
-- does not yield, on the first attempt
verbs.stuck = function(msg) while msg.retry_count == 0 do end end
-- kills its worker, on every attempt
verbs.kill = function() uv.kill(uv.os_getpid(), "sigkill") end
-- the same, when no handler is on the CPU
verbs.bomb = function()
  uv.new_timer():start(10, 0, verbs.kill)
  shove.sleep "20s"
end
-- fails on the first two attempts
verbs.twice = function(msg) return msg.retry_count < 2 and shove.retry "as told" or nil end
]]

M.memory = { name = "memory", url = "memory:" }

-- options: policy ("skip"), shards (1), topic (further options of it, as Lua text), holds ({ "50ms" }; false: none), and those of
-- steered.new. On memory: brings, a list of { key, text }.
function M.new(broker, options)
    options.url = broker.url
    options.fifo = true
    options.partitions = false
    if options.holds == nil then options.holds = { "50ms" } end
    options.topic = ('sequenced = "%s", shards = %d, %s'):format(options.policy or "skip", options.shards or 1,
        options.topic or "")
    options.extra = VERBS .. (options.extra or "")
    for i, brought in ipairs(options.brings or {}) do
        if i == 1 then options.extra = options.extra .. "app:on_start(function()\n" end
        options.extra = options.extra .. ("  assert(shove.publish(queue, %q, { key = %q }))\n"):format(brought[2], brought[1])
        if i == #options.brings then options.extra = options.extra .. "end)\n" end
    end
    local s = steered.new(options)
    if broker ~= M.memory then s:declare() end
    s.course = M.course
    return s
end

-- As s:publish, by a stranger who may write what other producers would refuse as too large.
function M.write(s, texts, key)
    local t, records = assert(driver.open(s.url, { must_exist = true })), {}
    for i, text in ipairs(texts) do records[i] = { partition = 0, key = key, payload = text } end
    for _, result in ipairs(t:publish(s.queue, records)) do assert.equal(0, result.code) end
    t:close()
end

-- What handlers did with the messages of a key: of each line in the journal the name, with a colon and how often the
-- message was retried, if it was, and a dot where the handler came to its end.
function M.course(s, key)
    local words = {}
    for _, line in ipairs(s:lines()) do
        if line.name:match "^%a+" == key and (line.verb == "began" or line.verb == "ended") then
            table.insert(words, line.name .. (line.retry_count > 0 and ":" .. line.retry_count or "")
                .. (line.verb == "ended" and "." or ""))
        end
    end
    return table.concat(words, " ")
end

-- KEY1 to KEYn.
function M.names(key, last)
    local list = {}
    for i = 1, last do list[i] = key .. i end
    return list
end

-- The course of messages KEY1 to KEYn that are each handled once.
function M.straight(key, last)
    local words = {}
    for _, name in ipairs(M.names(key, last)) do table.insert(words, name .. " " .. name .. ".") end
    return table.concat(words, " ")
end

-- Messages KEY1 to KEYn were handled, one at a time, in their order. Where a process has gone away, or a partition, some may
-- have been handled again, and then what follows them.
function M.judge(s, key, last)
    local running, next_one, highest = nil, 1, 0
    for _, line in ipairs(s:lines()) do
        local n = line.name:match "^%a+" == key and tonumber(line.name:match "%d+$")
        if n and line.verb == "began" then
            if running or n > next_one then
                error(("%s began in %d out of its turn\n%s"):format(line.name, line.pid, s:course(key)), 2)
            end
            running, next_one, highest = line.pid, n + 1, math.max(highest, n)
        elseif n and line.verb == "ended" then
            assert.equal(running, line.pid)
            running = nil
        end
    end
    assert.equal(last, highest, key)
end

-- Where in the journal the nth (first) line is that says so of that message.
function M.at(s, verb, name, nth)
    nth = nth or 1
    for i, line in ipairs(s:lines()) do
        if line.verb == verb and line.name == name then
            nth = nth - 1
            if nth == 0 then return i end
        end
    end
    error(("%s %s is not in the journal:\n%s"):format(verb, name, s:account()), 2)
end

-- The lines of one message: { verb, name, partition, offset, retry_count, pid }.
function M.lines_of(s, name)
    local lines = {}
    for _, line in ipairs(s:lines()) do
        if line.name == name then table.insert(lines, line) end
    end
    return lines
end

-- Names and reasons, in the order of the DLQ.
function M.letters(s)
    local texts = {}
    for i, record in ipairs(s:letters()) do
        texts[i] = record.payload:match "^%S+" .. " " .. driver.header_of(record, "Shove-Death-Reason")
    end
    return table.concat(texts, ", ")
end

-- A command of shove's about the app that must succeed; gives what it says.
function M.command(s, name, ...)
    local result = s.app:command(name, { ... }, WAIT_MS)
    assert.equal(0, result.code, result.stderr)
    return result.stdout
end

return M
