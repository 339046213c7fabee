-- An app on a broker of any kind, with queues nobody else uses, and what its handlers were given, exactly.
--
--     local s = stage.new("kafka", source)       "embedded", "kafka" or "memory"
--     local p = s:run { "--workers", "1" }       a process (spec/support/process.lua)
--     stage.drain(p)                             ends it cleanly: what its summary says, by group id
--     s:publish("orders", { "1", "2", "-k", "k" })   through `shove publish`, which must succeed
--     s:name "orders"                            what the queue is called on the broker
--     s:calls { queue = "orders" }               what handlers have noted: see `note` below
--     s:wait_calls(3, { queue = "orders" })      the same, when there are as many
--     s.kafka                                    the broker (spec/support/kafka.lua), nil on the others
--
-- The script finds beside it a module that says where it is and keeps the notes:
--
--     local shove, stage = require "shove", require "stage"
--     local app = shove.registry { broker = stage.broker }
--     app:register(app:topic(stage.name "orders", {}), shove.group {}, function(msg)
--         stage.note(msg)                        or stage.note(msg, { what = "ever" }), whose fields come along
--         return shove.ack
--     end)
--
-- A note has every field of the message, bytes as they are, and `queue` (as in stage.name), `at_ms` (wall clock, with
-- fractions), `pid`; `headers` is the list, null values shove.null there and nil here. Notes are appended to a file
-- with one write each, so they survive whatever is killed afterwards.

local assert = require "luassert"
local cjson = require "cjson"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local M = {}
local Stage = {}
Stage.__index = Stage

local CALLS_MS = 30000
local COMMAND_MS = 30000

M.brokers = { "embedded", "kafka" }

local MODULE = [[
local cjson, shove, uv = require "cjson", require "shove", require "luv"
local M = { broker = %q }
local SUFFIX = %q

function M.name(queue) return queue .. SUFFIX end

-- Without this script's suffix, wherever it stands: "orders-7-1-dlq" is "orders-dlq".
function M.plain(topic)
    local from, to = topic:find(SUFFIX, 1, true)
    return from and topic:sub(1, from - 1) .. topic:sub(to + 1) or topic
end

function M.now_ms()
    local seconds, micros = uv.gettimeofday()
    return seconds * 1000 + micros / 1000
end

local function hex(bytes)
    return bytes and (bytes:gsub(".", function(c) return ("%%02x"):format(c:byte()) end))
end

local FIELDS = { "id", "partition", "offset", "timestamp", "retry_count", "redelivered" }
local DEATH = { "reason", "original_queue", "original_partition", "original_offset", "group", "death_count", "error",
                "died_at" }

local function line_of(msg, extra)
    local line = { at_ms = M.now_ms(), pid = uv.os_getpid(), queue = M.plain(msg.topic), headers_hex = {} }
    for _, field in ipairs(FIELDS) do line[field] = msg[field] end
    if pcall(function() return msg.reason end) then
        for _, field in ipairs(DEATH) do line[field] = msg[field] end
    end
    line.key_hex, line.payload_hex = hex(msg.key), hex(msg.payload)
    for i, header in ipairs(msg.headers) do
        line.headers_hex[i] = { hex(header[1]), header[2] ~= shove.null and hex(header[2]) or nil }
    end
    for name, value in pairs(extra or {}) do line[name] = value end
    return cjson.encode(line) .. "\n"
end

local file

function M.write(line)
    file = file or assert(uv.fs_open(%q, "a", tonumber("644", 8)))
    assert(uv.fs_write(file, line, -1) == #line)
end

function M.note(msg, extra) M.write(line_of(msg, extra)) end

-- Something that is no message's: { said = "..." }.
function M.say(text) M.write(cjson.encode { said = tostring(text), queue = "said", at_ms = M.now_ms() } .. "\n") end

return M
]]

local function unhex(text)
    return text and (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

local URLS = {
    embedded = function(dir) return "embedded:" .. dir .. "/queue.db" end,
    kafka = function() return kafka.shared().url end,
    memory = function() return "memory:" end,
}

-- options: suffix and url, to stand on the queues of another stage.
function M.new(broker, source, options)
    options = options or {}
    local s = setmetatable({ broker = broker, suffix = options.suffix or kafka.unique "" }, Stage)
    s.app = app.new { source = source }
    s.dir, s.journal = s.app.dir, s.app:file "journal"
    s.url = options.url or URLS[broker](s.dir)
    s.kafka = broker == "kafka" and kafka.shared() or nil
    tmp.write(s.app:file "stage.lua", MODULE:format(s.url, s.suffix, s.journal))
    return s
end

-- Another script on the same queues.
function Stage:beside(source)
    return M.new(self.broker, source, { suffix = self.suffix, url = self.url })
end

-- tail: what a derived name ends in, "-dlq".
function Stage:name(queue, tail)
    return queue .. self.suffix .. (tail or "")
end

-- The same, to stand in a Lua pattern.
function Stage:pattern(queue)
    return (self:name(queue):gsub("%p", "%%%0"))
end

-- What a script's stage.plain does: a name without what makes it unique.
function Stage:plain(topic)
    return (topic:gsub(self:pattern "", "", 1))
end

function Stage:run(options)
    self.process = self.app:run(options)
    return self.process
end

function Stage:command(command, options)
    return self.app:command(command, options, COMMAND_MS)
end

-- Must succeed. options: the arguments of `shove publish`, and lines: a list for its standard input.
function Stage:publish(queue, options)
    local line = { self:name(queue), unpack(options) }
    if options.lines then line.stdin = { text = table.concat(options.lines, "\n") } end
    local result = self:command("publish", line)
    assert.are.equal(0, result.code, result.stderr)
    return result
end

-- { acked, retried, dead, discarded, reasons = { rejected = 1, ... } } by group id, as the summary of a run says it.
function M.summary(p)
    local groups = {}
    for _, line in ipairs(p.lines) do
        local id, numbers = line.text:match "control: handled  group=(%S+)  (.*)"
        if id then
            local group = { reasons = {} }
            for name, count in numbers:gmatch "(%a+)=(%d+)" do group[name] = tonumber(count) end
            group.retried, group.dead = group.deferred, group.letters
            for reason, count in (numbers:match 'reasons="?([^"]*)' or ""):gmatch "([%a_]+) (%d+)" do
                group.reasons[reason] = tonumber(count)
            end
            groups[id] = group
        end
    end
    return groups
end

-- Drains; must exit 0, or with `code`.
function M.drain(p, code)
    assert.are.same({ code or 0, 0 }, { app.drain(p) }, p:transcript())
    return M.summary(p)
end

-- The lines that match a Lua pattern, of each its first capture. (An assertion on the transcript would print all of it.)
function M.lines(p, pattern)
    local found = {}
    for _, line in ipairs(p.lines) do table.insert(found, (line.text:match(pattern))) end
    return found
end

function M.said(p, pattern)
    return #M.lines(p, pattern) > 0
end

local function matches(call, wanted)
    for name, value in pairs(wanted or {}) do
        if call[name] ~= value then return false end
    end
    return true
end

-- Those whose fields are as wanted, in the order they were noted.
function Stage:calls(wanted)
    local is_there, text = pcall(tmp.read, self.journal)
    local calls = {}
    for line in (is_there and text or ""):gmatch "([^\n]*)\n" do
        local call = cjson.decode(line)
        call.key, call.payload = unhex(call.key_hex), unhex(call.payload_hex)
        call.headers = {}
        for i, pair in ipairs(call.headers_hex or {}) do
            call.headers[i] = { unhex(pair[1]), unhex(pair[2]) }
        end
        call.key_hex, call.payload_hex, call.headers_hex = nil, nil, nil
        if matches(call, wanted) then table.insert(calls, call) end
    end
    return calls
end

-- Waits until there are `count`, not more: calls that should not have come are for the spec to look for later.
function Stage:wait_calls(count, wanted, deadline_ms)
    local calls
    wait.until_true(function()
        local has_ended = self.process and self.process:has_ended()
        calls = self:calls(wanted)
        if #calls < count and has_ended then error("it has ended:\n" .. self.process:transcript(), 0) end
        return #calls >= count
    end, deadline_ms or CALLS_MS, ("%d calls of %s"):format(count, cjson.encode(wanted or {})))
    return calls
end

return M
