-- A transport as a spec drives it: the vtable called through ffi, its events read from recorder.c, both as plain Lua.
--
--     local t = driver.open("embedded:" .. path)      closed when the test ends
--     t:declare { { name = "orders", partitions = 8 } }
--     local acks = t:publish("orders", { { key = "k", payload = "v" } })   waits; acks[i] = { code, partition, offset }
--     local sub = t:subscribe { group = "g", topics = { "orders" }, reset = "earliest" }     and holds: how many of
--                                                      the topics, at the end, are holds
--     local claims = t:wait_claims(sub, 8)             claims that were assigned, in the order told
--     local records = t:take(claims, 100)              waits until that many came; in the order taken
--     t:commit(sub, { { claim = c, offset = 5, metadata = "m" } })           waits; gives the codes
--     local found = t:scan("orders", 0, -1)             waits; { code, text, records, next_offset, is_end }
--     t:leave(sub)                                     revoking, release, ended; gives ended's code and text
--
-- Failing operations return nil, code, text. Everything waits with a deadline.

local ffi = require "ffi"
local uv = require "luv"
local cleanup = require "spec.support.cleanup"
local C = require("spec.support.c").include("transport/transport.h", "base/buffer.h", "base/clock.h")

ffi.cdef [[
struct recorder;
struct recorder_event {
    int kind; int code; unsigned call; int32_t partition; int64_t offset;
    struct shove_subscription *subscription; struct shove_claim *claim; uintptr_t opaque; const char *text;
    const struct shove_record *records; size_t count; bool is_end;
};
struct recorder *recorder_open(const struct shove_transport_ops *ops, const struct shove_transport_config *config,
                               struct shove_error *error);
struct shove_transport *recorder_transport(struct recorder *recorder);
void recorder_enter(struct recorder *recorder, bool is_in_operation);
unsigned recorder_violations(const struct recorder *recorder);
bool recorder_run(struct recorder *recorder, uint64_t timeout_ms);
bool recorder_next(struct recorder *recorder, struct recorder_event *out);
void recorder_close(struct recorder *recorder, int64_t timeout_ms);
void free(void *);
]]

local M = { C = C }

local DEADLINE_MS = 30000 * (tonumber(os.getenv "SHOVE_TEST_PATIENCE") or 1)
local KINDS = { "assigned", "revoking", "lost", "readable", "produced", "committed", "ended", "notice", "scanned",
                "declared" }
local RESETS = { earliest = C.SHOVE_RESET_EARLIEST, latest = C.SHOVE_RESET_LATEST, none = C.SHOVE_RESET_NONE }
local ROLES = { main = C.SHOVE_ROLE_MAIN, hold = C.SHOVE_ROLE_HOLD, dlq = C.SHOVE_ROLE_DLQ, poison = C.SHOVE_ROLE_POISON }

M.deadline_ms = DEADLINE_MS

local Transport = {}
Transport.__index = Transport

local function now_ms()
    return tonumber(C.shove_clock_mono_ms())
end

function M.address_key(pointer)
    return tostring(ffi.cast("uintptr_t", pointer))
end
local key_of = M.address_key

-- Opening

local function find(broker)
    local ops, address = ffi.new "const struct shove_transport_ops *[1]", ffi.new "const char *[1]"
    local err = ffi.new "struct shove_error"
    local rc = C.shove_transport_find(broker, ops, address, err)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    return ops[0], address[0]
end
M.find = find

-- The capabilities of a broker's transport, without opening it: can("SHOVE_CAN_PERSIST").
function M.can(broker, name)
    local ops = assert(find(broker))
    return require("bit").band(ops.capabilities, C[name]) ~= 0
end

-- options: max_message_size_bytes, must_exist, timeout_ms, properties = { name = value }
function M.open(broker, options)
    options = options or {}
    local ops, address = find(broker)
    assert(ops, broker)
    local err = ffi.new "struct shove_error"
    local properties, kept, count = nil, {}, 0
    if options.properties then
        properties = ffi.new("struct shove_property[?]", 16)
        for name, value in pairs(options.properties) do
            local n, v = ffi.new("char[?]", #name + 1, name), ffi.new("char[?]", #value + 1, value)
            table.insert(kept, n)
            table.insert(kept, v)
            properties[count].name, properties[count].value = n, v
            count = count + 1
        end
    end
    local config = ffi.new("struct shove_transport_config", {
        address = address, timeout_ms = options.timeout_ms or 15000, properties = properties, property_count = count,
        max_message_size_bytes = options.max_message_size_bytes or 10 * 1024 * 1024, instance = "shove-spec",
        must_exist = options.must_exist or false,
    })
    local recorder = C.recorder_open(ops, config, err)
    if recorder == nil then return nil, err.code, ffi.string(err.text) end
    local t = setmetatable({
        broker = broker, ops = ops, recorder = recorder, handle = C.recorder_transport(recorder), events = {},
        claims = {}, opaque = 0, is_open = true, kept = kept,
    }, Transport)
    for _, kind in ipairs(KINDS) do t.events[kind] = {} end
    cleanup.defer(function() t:close() end)
    return t
end

-- The last value of that name among a record's headers, a list of { name, value }; nil when there is none.
function M.header_of(record, name)
    local value
    for _, header in ipairs(record.headers) do
        if header[1] == name then value = header[2] end
    end
    return value
end

-- What read_all gives of a topic; nil when it is not there.
function M.records_of(broker, topic)
    local t = assert(M.open(broker, { must_exist = true }))
    local records = t:partition_count(topic) and t:read_all(topic) or nil
    t:close()
    return records
end

function Transport:close(timeout_ms)
    if not self.is_open then return end
    self.is_open = false
    local violations = C.recorder_violations(self.recorder)
    C.recorder_close(self.recorder, timeout_ms or 5000)
    assert(violations == 0, "events came from inside an operation or on another thread: " .. violations)
end

-- Calls an operation of the table; no event may come meanwhile.
function Transport:call(name, ...)
    C.recorder_enter(self.recorder, true)
    local result = self.ops[name](self.handle, ...)
    C.recorder_enter(self.recorder, false)
    return result
end

-- Events

local function read_event(self)
    local event = ffi.new "struct recorder_event"
    if not C.recorder_next(self.recorder, event) then return nil end
    local kind = KINDS[event.kind]
    local told = {
        kind = kind, code = event.code, call = event.call, partition = event.partition, offset = tonumber(event.offset),
        subscription = event.subscription, claim = event.claim ~= nil and event.claim or nil,
        opaque = tonumber(event.opaque), text = ffi.string(event.text),
    }
    if kind == "scanned" then
        told.records, told.next_offset, told.is_end = {}, told.offset, event.is_end
        for i = 0, tonumber(event.count) - 1 do told.records[i + 1] = self.decode_record(event.records[i]) end
    end
    table.insert(self.events[kind], told)
    if kind == "assigned" then table.insert(self.claims, told) end
    return told
end

-- Reads all events that are there.
function Transport:drain()
    while read_event(self) do end
end

-- Lets the loop run until is_done() is true; asked after every event.
function Transport:wait(is_done, what, deadline_ms)
    local deadline = now_ms() + (deadline_ms or DEADLINE_MS)
    self:drain()
    while not is_done() do
        local left = deadline - now_ms()
        if left <= 0 then
            error(("waited %d ms for %s"):format(deadline_ms or DEADLINE_MS, what), 2)
        end
        C.recorder_run(self.recorder, math.min(left, 20))
        uv.run "nowait" -- other programs are read meanwhile, or their pipes fill
        self:drain()
    end
end

-- The events of a kind, once there are `count`.
function Transport:wait_events(kind, count, deadline_ms)
    self:wait(function() return #self.events[kind] >= count end, count .. " of " .. kind, deadline_ms)
    return self.events[kind]
end

-- Topics

local function specs_of(topics)
    local specs = ffi.new("struct shove_topic_spec[?]", #topics)
    for i, topic in ipairs(topics) do
        specs[i - 1] = {
            name = topic.name, role = ROLES[topic.role or "main"], partitions = topic.partitions or 1,
            replication_factor = topic.replication_factor or 1, retention_ms = topic.retention_ms or 0,
            hold_ms = topic.hold_ms or 0,
            is_keyed = topic.is_keyed or false, is_external = topic.is_external or false, at = topic.at,
            as_wide_as = topic.as_wide_as,
        }
    end
    return specs
end

-- topics: { name, partitions, role, retention_ms, hold_ms, is_keyed, is_external, replication_factor, at, as_wide_as }
function Transport:declare(topics)
    local err = ffi.new "struct shove_error"
    local rc = self:call("declare", specs_of(topics), #topics, err)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    return true
end

-- Whether declaring can be begun without waiting for the broker.
function Transport:can_start_declaring()
    return self.ops.declare_start ~= nil
end

-- Begins; the number that comes back in `declared`.
function Transport:declare_start(topics)
    self.opaque = self.opaque + 1
    local rc = self:call("declare_start", specs_of(topics), #topics, ffi.cast("void *", self.opaque))
    assert(rc == 0, rc)
    return self.opaque
end

-- The names of all topics that begin so, sorted.
function Transport:topic_names(prefix)
    local block, err = ffi.new "struct shove_buffer[1]", ffi.new "struct shove_error"
    C.shove_buffer_init(block)
    local rc = self:call("topic_names", prefix, block, DEADLINE_MS, err)
    local names = {}
    for name in ffi.string(block[0].data, block[0].size):gmatch "(%Z+)%z" do table.insert(names, name) end
    C.shove_buffer_release(block)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    table.sort(names)
    return names
end

function Transport:partition_count(topic)
    local err = ffi.new "struct shove_error"
    local count = tonumber(self:call("partition_count", topic, DEADLINE_MS, err))
    if count < 0 then return nil, count, ffi.string(err.text) end
    return count
end

function Transport:watermarks(topic, partition)
    local low, high = ffi.new "int64_t[1]", ffi.new "int64_t[1]"
    local err = ffi.new "struct shove_error"
    local rc = self:call("watermarks", topic, partition, low, high, DEADLINE_MS, err)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    return tonumber(low[0]), tonumber(high[0])
end

-- Records

-- headers: { { name, value or nil }, ... } -> a buffer to be released
local function encode_headers(headers)
    local block = ffi.new "struct shove_buffer[1]"
    C.shove_buffer_init(block)
    for _, header in ipairs(headers or {}) do
        C.shove_headers_append(block, header[1], #header[1], header[2], header[2] and #header[2] or 0)
    end
    return block
end

local function decode_headers(record)
    local headers = {}
    if record.headers == nil then return headers end
    local at = ffi.new "const uint8_t *[1]"
    at[0] = ffi.cast("const uint8_t *", record.headers)
    local finish = at[0] + record.headers_size
    local header = ffi.new "struct shove_header"
    while true do
        local rc = C.shove_headers_next(at, finish, header)
        assert(rc >= 0, "a header block does not decode")
        if rc == 0 then return headers end
        table.insert(headers, {
            ffi.string(header.name, header.name_size),
            header.value ~= nil and ffi.string(header.value, header.value_size) or nil,
        })
    end
end

local function decode_record(record, partition)
    return {
        partition = partition,
        offset = tonumber(record.offset),
        key = record.key ~= nil and ffi.string(record.key, record.key_size) or nil,
        payload = record.payload ~= nil and ffi.string(record.payload, record.payload_size) or nil,
        headers = decode_headers(record),
        timestamp_ms = tonumber(record.timestamp_ms),
    }
end

Transport.decode_record = decode_record

-- Queues one record: { key, payload, headers, partition, timestamp_ms }, nil is null. Gives its opaque, or nil, code.
function Transport:produce(topic, record)
    self.opaque = self.opaque + 1
    local block = encode_headers(record.headers)
    local what = ffi.new "struct shove_produce"
    what.topic = topic
    what.partition = record.partition or -1
    what.opaque = ffi.cast("void *", ffi.cast("uintptr_t", self.opaque))
    local r = what.record
    r.key, r.key_size = record.key, record.key and #record.key or 0
    r.payload, r.payload_size = record.payload, record.payload and #record.payload or 0
    r.headers, r.headers_size = block[0].size > 0 and block[0].data or nil, block[0].size
    r.timestamp_ms, r.offset = record.timestamp_ms or -1, -1
    local rc = self:call("produce", what)
    C.shove_buffer_release(block)
    if rc < 0 then return nil, rc end
    return self.opaque
end

-- Queues all, waits for all results, gives them in the order of the records; a refused one has its code.
function Transport:publish(topic, records)
    local opaques, by_opaque, results = {}, {}, {}
    local seen = #self.events.produced
    for i, record in ipairs(records) do
        local opaque, code
        repeat
            opaque, code = self:produce(topic, record)
            if code == C.SHOVE_EAGAIN then
                local readable = #self.events.readable
                self:wait(function() return #self.events.readable > readable end, "room to produce")
            end
        until code ~= C.SHOVE_EAGAIN
        opaques[i] = opaque or false
        if not opaque then results[i] = { code = code } end
    end
    local function all_there()
        for i = seen + 1, #self.events.produced do
            by_opaque[self.events.produced[i].opaque] = self.events.produced[i]
        end
        seen = #self.events.produced
        for _, opaque in ipairs(opaques) do
            if opaque and not by_opaque[opaque] then return false end
        end
        return true
    end
    self:wait(all_there, "acknowledgements")
    for i, opaque in ipairs(opaques) do results[i] = results[i] or by_opaque[opaque] end
    return results
end

-- Consuming

function Transport:subscribe(what)
    local names = {}
    local list = ffi.new("const char *[?]", #what.topics)
    for i, topic in ipairs(what.topics) do
        names[i] = ffi.new("char[?]", #topic + 1, topic)
        list[i - 1] = names[i]
    end
    local request = ffi.new("struct shove_subscribe", {
        group_id = what.group, topics = list, topic_count = #what.topics, reset = RESETS[what.reset or "earliest"],
        hold_count = what.holds or 0,
    })
    local out, err = ffi.new "struct shove_subscription *[1]", ffi.new "struct shove_error"
    local rc = self:call("subscribe", request, out, err)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    return { handle = out[0], key = key_of(out[0]), topics = what.topics, ended_before = #self.events.ended,
        assigned_before = #self.events.assigned, revoking_before = #self.events.revoking }
end

-- The assigned events of a subscription, once there are `count`.
function Transport:wait_claims(sub, count)
    local found
    self:wait(function()
        found = {}
        for i = sub.assigned_before + 1, #self.events.assigned do
            local event = self.events.assigned[i]
            if key_of(event.subscription) == sub.key then
                event.topic = sub.topics[event.claim.topic_index + 1]
                event.has_committed = event.claim.has_committed
                table.insert(found, event)
            end
        end
        return #found >= count or self:has_ended(sub)
    end, count .. " assigned partitions")
    assert(#found >= count, "the subscription ended instead: " .. tostring((self:has_ended(sub) or {}).text))
    return found
end

function Transport:has_ended(sub)
    for i = sub.ended_before + 1, #self.events.ended do
        local event = self.events.ended[i]
        if key_of(event.subscription) == sub.key then return event end
    end
end

function Transport:wait_ended(sub)
    self:wait(function() return self:has_ended(sub) end, "the subscription to end")
    return self:has_ended(sub)
end

-- One call of take: a list of records, possibly empty, or nil and the code. keep: also gives the batch, unreleased.
function Transport:take_once(claim, max, keep)
    local batch = ffi.new "struct shove_batch"
    local count = tonumber(self:call("take", claim, max, batch))
    if count < 0 then return nil, count end
    local records = {}
    for i = 0, count - 1 do records[i + 1] = decode_record(batch.records[i], claim.partition) end
    if keep then return records, batch end
    self:call("batch_release", batch)
    return records
end

function Transport.decode_batch(_, batch, partition)
    local records = {}
    for i = 0, tonumber(batch.count) - 1 do records[i + 1] = decode_record(batch.records[i], partition) end
    return records
end

-- Takes from the claims (assigned events) until `count` records came.
function Transport:take(claims, count, max)
    local records = {}
    self:wait(function()
        for _, event in ipairs(claims) do
            repeat
                local batch, code = self:take_once(event.claim, max or 100)
                assert(batch, "take failed with " .. tostring(code))
                for _, record in ipairs(batch) do
                    record.topic = event.topic
                    table.insert(records, record)
                end
            until #batch == 0
        end
        return #records >= count
    end, count .. " records")
    return records
end

-- Starts a commit: list of { claim, offset, metadata }. Gives its opaque, or nil and the code.
function Transport:start_commit(sub, list)
    self.opaque = self.opaque + 1
    local commits = ffi.new("struct shove_commit[?]", #list)
    for i, entry in ipairs(list) do
        commits[i - 1].claim = entry.claim
        commits[i - 1].offset = entry.offset
        commits[i - 1].metadata = entry.metadata or ""
    end
    local rc = self:call("commit", sub.handle, commits, #list, ffi.cast("void *", ffi.cast("uintptr_t", self.opaque)))
    if rc < 0 then return nil, rc end
    return self.opaque
end

-- The codes of a commit, in the order of its list, once they are told.
function Transport:wait_commit(opaque, count)
    local codes
    self:wait(function()
        codes = {}
        for _, event in ipairs(self.events.committed) do
            if event.opaque == opaque then table.insert(codes, event.code) end
        end
        return #codes >= count
    end, "the result of a commit")
    return codes
end

function Transport:commit(sub, list)
    return self:wait_commit(assert(self:start_commit(sub, list)), #list)
end

function Transport:release(claims)
    local list = ffi.new("struct shove_claim *[?]", #claims)
    for i, claim in ipairs(claims) do list[i - 1] = claim end
    self:call("release", list, #claims)
end

-- Releases whatever is or was asked back, until the subscription ends.
function Transport:finish(sub)
    local done = sub.revoking_before
    local lost = 0
    self:wait(function()
        for i = done + 1, #self.events.revoking do
            local event = self.events.revoking[i]
            if key_of(event.subscription) == sub.key then self:release { event.claim } end
        end
        done = #self.events.revoking
        for i = lost + 1, #self.events.lost do
            local event = self.events.lost[i]
            if key_of(event.subscription) == sub.key then self:release { event.claim } end
        end
        lost = #self.events.lost
        return self:has_ended(sub)
    end, "the subscription to end")
    return self:has_ended(sub)
end

function Transport:leave(sub)
    self:call("unsubscribe", sub.handle)
    return self:finish(sub)
end

-- Starts a scan: gives its opaque, or nil and the code.
function Transport:start_scan(topic, partition, offset)
    self.opaque = self.opaque + 1
    local rc = self:call("scan", topic, partition, offset, ffi.cast("void *", ffi.cast("uintptr_t", self.opaque)))
    if rc < 0 then return nil, rc end
    return self.opaque
end

-- What a scan found, once it is told.
function Transport:wait_scan(opaque)
    local found
    self:wait(function()
        for _, event in ipairs(self.events.scanned) do
            if event.opaque == opaque then found = event end
        end
        return found
    end, "the result of a scan")
    return found
end

function Transport:scan(topic, partition, offset)
    return self:wait_scan(assert(self:start_scan(topic, partition, offset)))
end

function Transport:backlog(claim)
    return tonumber(self:call("backlog", claim, nil))
end

-- Operator table

function Transport:read(topic, partition, offset, max, timeout_ms)
    local batch, err = ffi.new "struct shove_batch", ffi.new "struct shove_error"
    local count = tonumber(self:call("read", topic, partition, offset, max, timeout_ms or DEADLINE_MS, batch, err))
    if count < 0 then return nil, count, ffi.string(err.text) end
    local records = self:decode_batch(batch, partition)
    self:call("batch_release", batch)
    return records
end

-- All records of a topic: partition by partition, from the low watermark to the high one.
function Transport:read_all(topic)
    local all = {}
    for partition = 0, self:partition_count(topic) - 1 do
        local low, high = self:watermarks(topic, partition)
        while low < high do
            local records = assert(self:read(topic, partition, low, 500))
            assert(#records > 0, "fewer records than the watermarks say")
            for _, record in ipairs(records) do table.insert(all, record) end
            low = records[#records].offset + 1
        end
    end
    return all
end

function Transport:committed_get(group, topic, partition)
    local offset, metadata = ffi.new "int64_t[1]", ffi.new "char *[1]"
    local err = ffi.new "struct shove_error"
    local rc = self:call("committed_get", group, topic, partition, offset, metadata, DEADLINE_MS, err)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    local text = metadata[0] ~= nil and ffi.string(metadata[0]) or nil
    C.free(metadata[0])
    return tonumber(offset[0]), text
end

function Transport:committed_set(group, topic, partition, offset, metadata)
    local err = ffi.new "struct shove_error"
    local rc = self:call("committed_set", group, topic, partition, offset, metadata, DEADLINE_MS, err)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    return true
end

function Transport:delete_before(topic, partition, offset)
    local err = ffi.new "struct shove_error"
    local rc = self:call("delete_before", topic, partition, offset, DEADLINE_MS, err)
    if rc < 0 then return nil, rc, ffi.string(err.text) end
    return true
end

return M
