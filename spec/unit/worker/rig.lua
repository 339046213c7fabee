-- Plays control for one real worker process: gives it messages, takes its notes, answers what it publishes.
--
--     local worker = rig.start [[ app:register(orders, {}, function(msg) return shove.ack end) ]]
--     local slot = worker:send { payload = '{"id":1}' }
--     assert.are.same({ "ack", "" }, worker:outcome_of(slot))
--     assert.are.equal(0, worker:stop())
--
-- The script is the text given between a prelude (`shove`, `app` on the memory broker, `orders` and more) and
-- `return app`; rig.start_file runs a whole script. The program is the `shove` beside spec_runner.

local ffi = require "ffi"
local uv = require "luv"
local C = require("spec.support.c").include("ipc/bell.h", "ipc/channel.h", "ipc/arena.h", "core/outcome.h", "core/autoscale.h",
    "core/histogram.h", "base/record.h")
local cleanup = require "spec.support.cleanup"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

ffi.cdef [[
int getpid(void);
void __asan_init(void);
]]

local M = {}
local Worker = {}
Worker.__index = Worker

local ARENA_BYTES = 64 * 1024 * 1024
local DEADLINE_MS = 10000
local GARBAGE = 0xEE

M.prelude = [[
local shove = require "shove"
local app = shove.registry { broker = "memory:" }
local orders = app:topic("orders", { hold = { "1s" }, dlq = true })
]]

-- The address sanitizer's own memory counts against a limit, and does not fail politely.
M.can_limit_memory = not pcall(function() return ffi.C.__asan_init end)

local function error_of(err)
    return ffi.string(err.text)
end

local function open_channel(self, options)
    local out, err = ffi.new "struct shove_channel *[1]", ffi.new "struct shove_error"
    self.bell = ffi.new "struct shove_bell"
    assert(C.shove_bell_init(self.bell, err) == 0, error_of(err))
    local settings = ffi.new("struct shove_channel_options", { arena_bytes = ARENA_BYTES,
        submit_entries = options.submit_entries or 1024, outbound_bytes = options.outbound_bytes or 65536,
        control_wake_fd = self.bell.ring_fd })
    assert(C.shove_channel_new(settings, out, err) == 0, error_of(err))
    self.channel = out[0]
    self.arena = ffi.gc(C.shove_arena_new(ARENA_BYTES), C.shove_arena_free)
end

local function read_into(list, pipe, self)
    self.open_streams = self.open_streams + 1
    pipe:read_start(function(_, data)
        if data then
            table.insert(list, data)
        else
            pipe:close()
            self.open_streams = self.open_streams - 1
        end
    end)
end

local function spawn(self, path, options)
    local fds = ffi.new "int[4]"
    C.shove_channel_fds(self.channel, fds)
    local args = { "worker", "--script", path, "--lua-dir", options.lua_dir or "lua", "--index", "0", "--parent",
        tostring(options.parent or C.getpid()), "--memory", options.memory or "0", "--log", "plain" }
    for _, argument in ipairs(options.arguments or {}) do table.insert(args, argument) end
    local stdout, stderr = uv.new_pipe(false), uv.new_pipe(false)
    local program = assert(uv.exepath()):match "^(.*)/" .. "/shove"
    local handle, pid
    handle, pid = uv.spawn(program, {
        args = args,
        cwd = options.cwd,
        stdio = { nil, stdout, stderr, fds[0], fds[1], fds[2], fds[3] },
    }, function(code, signal)
        self.code, self.signal = code, signal
        handle:close()
    end)
    assert(handle, pid)
    self.process, self.pid = handle, pid
    read_into(self.out, stdout, self)
    read_into(self.err, stderr, self)
end

-- options: memory ("200MiB"), parent (whose child the worker shall be), arguments (list), cwd, outbound_bytes.
function M.start_file(path, options)
    options = options or {}
    local self = setmetatable({ out = {}, err = {}, open_streams = 0, settled = {}, durations = {}, late = {},
        published = {}, questions = 0, advice = {}, advised = {}, generations = {}, offsets = {}, next_slot = 0 }, Worker)
    open_channel(self, options)
    spawn(self, path, options)
    cleanup.defer(function() self:close() end)
    return self
end

-- Runs `body` between prelude and `return app`, and waits until the worker is ready.
function M.start(body, options)
    options = options or {}
    local path = tmp.dir() .. "/app.lua"
    tmp.write(path, (options.prelude or M.prelude) .. body .. "\nreturn app\n")
    local self = M.start_file(path, options)
    self:wait_for("is_ready", "the worker to be ready")
    return self
end

-- Loads a whole script and expects that it does not load: the text of the error, and the exit code.
function M.load_error(text, options)
    local path = tmp.dir() .. "/app.lua"
    tmp.write(path, text)
    local self = M.start_file(path, options)
    self:wait_for("load_error", "the script to fail")
    self:wait_exit()
    return (self.load_error:gsub(path:gsub("%p", "%%%0"), "app.lua")), self.code
end

-- ---- notes

local function note_publish(self, note, payload)
    local head = ffi.cast("const struct shove_publish_note *", payload)
    local at = payload + ffi.sizeof "struct shove_publish_note"
    local function part(size)
        local text = ffi.string(at, size)
        at = at + size
        return text
    end
    local one = {
        request = note.slot, partition = head.partition, timestamp = tonumber(head.timestamp_ms), broker = head.broker,
    }
    one.topic, one.key, one.payload = part(head.topic_size), part(head.key_size), part(head.payload_size)
    if head.flags % 2 == 1 then one.key = nil end
    if math.floor(head.flags / 2) % 2 == 1 then one.payload = nil end
    one.headers = {}
    local cursor, header = ffi.new("const uint8_t *[1]", at), ffi.new "struct shove_header"
    while C.shove_headers_next(cursor, at + head.headers_size, header) == 1 do
        table.insert(one.headers, { ffi.string(header.name, header.name_size),
            header.value ~= nil and ffi.string(header.value, header.value_size) or false })
    end
    table.insert(self.published, one)
end

local function note_advice(self, note, payload)
    local head = ffi.cast("const struct shove_advice_note *", payload)
    local at = payload + ffi.sizeof "struct shove_advice_note"
    local group_size, broker_size = head.group_size, head.broker_size
    local names_size = group_size + broker_size
    table.insert(self.advice, { generation = note.generation, kind = head.kind, consumers = tonumber(head.consumers),
        group = ffi.string(at, group_size), broker = ffi.string(at + group_size, broker_size),
        text = ffi.string(at + names_size, note.size - ffi.sizeof "struct shove_advice_note" - names_size) })
end

local function take(self, note, payload)
    local text = ffi.string(payload, note.size)
    if note.type == C.SHOVE_NOTE_SETTLED then
        assert(self.generations[note.slot] == note.generation, "settled what was not given: " .. note.slot)
        assert(not self.settled[note.slot], "settled twice: " .. note.slot)
        self.settled[note.slot] = { ffi.string(C.shove_outcome_name(note.outcome)), text }
        self.durations[note.slot] = tonumber(C.shove_duration_unpack(note.duration)) / 1e9
        -- What control does with the bytes from here on is its own affair.
        local offset = self.offsets[note.slot]
        ffi.fill(C.shove_channel_arena(self.channel) + offset.at, offset.size, GARBAGE)
        C.shove_arena_give(self.arena, offset.at)
    elseif note.type == C.SHOVE_NOTE_AUDIT_LATE then
        assert(self.generations[note.slot] == note.generation and not self.settled[note.slot], "late for none")
        self.late[note.slot] = { ffi.string(C.shove_outcome_name(note.outcome)), text }
    elseif note.type == C.SHOVE_NOTE_PUBLISH then
        note_publish(self, note, payload)
    elseif note.type == C.SHOVE_NOTE_DESCRIPTION then
        self.description = text
    elseif note.type == C.SHOVE_NOTE_LOAD_ERROR then
        self.load_error, self.load_code = text, note.outcome
    elseif note.type == C.SHOVE_NOTE_READY then
        self.is_ready = true
    elseif note.type == C.SHOVE_NOTE_STARTED then
        self.started = text
    elseif note.type == C.SHOVE_NOTE_GROUPS then
        self.questions = self.questions + 1
    elseif note.type == C.SHOVE_NOTE_ADVICE then
        note_advice(self, note, payload)
    elseif note.type == C.SHOVE_NOTE_ADVISED then
        self.advised[note.generation] = text
    elseif note.type == C.SHOVE_NOTE_STOPPING then
        self.is_stopping = true
    end
end

function Worker:read_notes()
    local note, payload = ffi.new "struct shove_note", ffi.new "const uint8_t *[1]"
    while true do
        local status = C.shove_channel_next_note(self.channel, note, payload)
        assert(status >= 0, "the worker broke the channel")
        if status == 0 then break end
        take(self, note, payload[0])
    end
    C.shove_channel_release_notes(self.channel)
end

-- Waits until the predicate holds, reading notes meanwhile; fails at once when the process ends without it.
function Worker:wait_until(predicate, what, deadline_ms)
    local ok, err = pcall(wait.until_true, function()
        self:read_notes()
        if predicate() then return true end
        if self.code and self.open_streams == 0 then
            self:read_notes()
            if predicate() then return true end
            error("the worker ended", 0)
        end
    end, deadline_ms or DEADLINE_MS, what)
    if not ok then
        error(("%s\nexit code %s, signal %s, load error: %s\nstdout: %s\nstderr: %s"):format(err, tostring(self.code),
            tostring(self.signal), tostring(self.load_error), self:stdout(), self:stderr()), 3)
    end
end

function Worker:wait_for(field, what, deadline_ms)
    self:wait_until(function() return self[field] end, what, deadline_ms)
    return self[field]
end

function Worker:stdout() return table.concat(self.out) end
function Worker:stderr() return table.concat(self.err) end

-- ---- messages

local function headers_block(list)
    local block = ffi.new "struct shove_buffer"
    C.shove_buffer_init(block)
    for _, pair in ipairs(list or {}) do
        local value = pair[2]
        C.shove_headers_append(block, pair[1], #pair[1], value or nil, value and #value or 0)
    end
    local text = ffi.string(block.data, block.size)
    C.shove_buffer_release(block)
    return text
end

function Worker:submit(kind, slot, generation, arena_offset)
    local entry = ffi.new("struct shove_submit", { type = kind, slot = slot or 0, generation = generation or 0,
        arena_offset = arena_offset or 0 })
    assert(C.shove_channel_submit(self.channel, entry), "the submit ring is full")
    C.shove_channel_flush(self.channel)
end

-- message: payload, key (strings; false: null), headers ({ { name, value or false } }), id, group, offset, partition,
-- timestamp, retry_count, redelivered, death (JSON). Returns its slot.
function Worker:send(message)
    message = message or {}
    local key, payload = message.key or nil, message.payload
    if payload == nil then payload = "{}" end
    local headers, id, death = headers_block(message.headers), message.id or "", message.death or ""
    local parts = (key or "") .. (payload or "") .. headers .. id .. death
    local size = ffi.sizeof "struct shove_envelope" + #parts
    local at = C.shove_arena_take(self.arena, size)
    assert(at ~= 0xffffffffffffffffULL, "the arena is full")
    local envelope = ffi.cast("struct shove_envelope *", C.shove_channel_arena(self.channel) + at)
    envelope.offset, envelope.partition = message.offset or 17, message.partition or 3
    envelope.timestamp_ms, envelope.group = message.timestamp or 1700000000123, message.group or 0
    envelope.retry_count = message.retry_count or 0
    envelope.flags = (key and 0 or 1) + (payload and 0 or 2) + (message.redelivered and 4 or 0)
    envelope.key_size, envelope.payload_size = #(key or ""), #(payload or "")
    envelope.headers_size, envelope.id_size, envelope.death_size = #headers, #id, #death
    envelope.death_count = 0
    ffi.copy(envelope + 1, parts, #parts)
    local slot = self.next_slot
    self.next_slot = slot + 1
    self.generations[slot] = slot * 7 + 1
    self.offsets[slot] = { at = at, size = size }
    self:submit(C.SHOVE_SUBMIT_MESSAGE, slot, self.generations[slot], at)
    return slot
end

-- { outcome, text }
function Worker:outcome_of(slot, deadline_ms)
    self:wait_until(function() return self.settled[slot] end, "message " .. slot .. " to be settled", deadline_ms)
    return self.settled[slot]
end

-- Sends one message and waits for what becomes of it.
function Worker:handle(message, deadline_ms)
    return self:outcome_of(self:send(message), deadline_ms)
end

function Worker:publication(n)
    self:wait_until(function() return self.published[n] end, "publication " .. n)
    return self.published[n]
end

function Worker:answer(publication, code)
    self:submit(C.SHOVE_SUBMIT_PUBLISHED, publication.request, -(code or 0))
end

-- Waits for the n-th question for the state of the groups and answers with that text.
function Worker:tell_groups(n, text)
    self:wait_until(function() return self.questions >= n end, "question " .. n)
    local at = C.shove_arena_take(self.arena, #text)
    ffi.copy(C.shove_channel_arena(self.channel) + at, text, #text)
    self:submit(C.SHOVE_SUBMIT_GROUPS, 0, #text, at)
end

-- slot, generation of what is on the CPU; nil when nothing is.
function Worker:running()
    local slot, generation, since = ffi.new "uint32_t[1]", ffi.new "uint32_t[1]", ffi.new "int64_t[1]"
    if C.shove_channel_running(self.channel, slot, generation, since) then return slot[0], generation[0] end
end

-- ---- the end

function Worker:wait_exit(deadline_ms)
    self:wait_until(function() return self.code and self.open_streams == 0 end, "the worker to end", deadline_ms)
    return self.code, self.signal
end

function Worker:stop()
    self:submit(C.SHOVE_SUBMIT_STOP)
    return self:wait_exit()
end

function Worker:close()
    if not self.code then
        self.process:kill "sigkill"
        wait.loop(function() return self.code and self.open_streams == 0 end, DEADLINE_MS)
    end
    C.shove_channel_free(self.channel)
    C.shove_bell_release(self.bell)
end

M.C = C

-- `it`, for specs that limit a worker's memory: an address sanitizer reserves far more than any limit, so under it they
-- are skipped.
function M.it_limited(name, body)
    local busted = require "busted"
    if not M.can_limit_memory then
        -- The `pending` of a running test is another than that of a block, and known to the spec alone.
        busted.it(name, function() getfenv(body).pending "the address sanitizer needs more memory than the limit" end)
    else
        busted.it(name, body)
    end
end

return M
