-- A real Kafka for specs, and a view of it that shares no code with shove.
--
--     local broker = kafka.shared()        the run's broker ($SHOVE_TEST_KAFKA, else started on first use)
--     local broker = kafka.private()       one for this spec alone, which may be killed: broker:kill(), :restart()
--     kafka.private "offset.metadata.max.bytes=60"   the same, with lines added to its configuration
--     kafka.private { tls = true }         the same, with a listener for TLS: broker.tls, and broker.certificate (a file)
--     broker.url, broker.bootstrap, broker.sasl
--     local topic = broker:topic "orders"  a name nobody else uses
--     broker:create_topic(topic, { partitions = 8, config = { ["cleanup.policy"] = "compact" } })
--     broker:produce(topic, { { key = "k", value = "v", headers = { { "name", "\0\255" } }, timestamp_ms = 1 } })
--     broker:transactions(topic, { { verdict = "abort", { value = "v", partition = 0 } } })
--     broker:read(topic, { count = 3 })    every record exactly: nil for null, headers in order, duplicates and all
--     broker:kcat_produce / kcat_read      the same through kcat, a stranger's client
--     broker:commit(group, topic, partition, offset, metadata)
--     broker:committed(group, topic), :lag(group, topic), :group(group), :partitions(topic), :watermarks(topic)

local ffi = require "ffi"
local uv = require "luv"
local cleanup = require "spec.support.cleanup"
local process = require "spec.support.process"
local rdkafka = require "spec.support.librdkafka"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local M = {}
local Broker = {}
Broker.__index = Broker

local PRODUCER, CONSUMER = 0, 1
local TIMEOUT_MS = 15000
local START_MS = 90000
local ERR_PARTITION_EOF = -191
local ERR_NOT_LEADER = 6
local EVENT_DELIVERY = 1
local OFFSET_BEGINNING = -2
local V_TOPIC, V_PARTITION, V_VALUE, V_KEY, V_TIMESTAMP, V_HEADER = 1, 3, 4, 5, 8, 9

-- Clients: one producer, and one consumer handle per group that was asked about, made when needed.

local function check(code, what)
    if code ~= 0 then error(what .. ": " .. ffi.string(rdkafka.rd_kafka_err2str(code)), 3) end
end

local function new_client(kind, bootstrap, properties)
    local conf = rdkafka.rd_kafka_conf_new()
    local text = ffi.new "char[512]"
    properties["bootstrap.servers"] = bootstrap
    properties["allow.auto.create.topics"] = "false" -- a producer asks again for a deleted topic, and would make it
    properties["log_level"] = "0"
    for name, value in pairs(properties) do
        assert(rdkafka.rd_kafka_conf_set(conf, name, value, text, 512) == 0, ffi.string(text))
    end
    if kind == PRODUCER then rdkafka.rd_kafka_conf_set_events(conf, EVENT_DELIVERY) end
    local client = rdkafka.rd_kafka_new(kind, conf, text, 512)
    assert(client ~= nil, ffi.string(text))
    return client
end

function Broker:consumer(group)
    local client = self.consumers[group]
    if not client then
        client = new_client(CONSUMER, self.bootstrap, { ["group.id"] = group, ["enable.auto.commit"] = "false" })
        self.consumers[group] = client
    end
    return client
end

-- Idempotent: only then is what is tried again sure not to come behind what was sent after it.
function Broker:producer()
    self.producer_client = self.producer_client
        or new_client(PRODUCER, self.bootstrap, { ["linger.ms"] = "0", ["enable.idempotence"] = "true", ["max.in.flight"] = "1" })
    return self.producer_client
end

function Broker:close_clients()
    for _, client in pairs(self.consumers) do rdkafka.rd_kafka_destroy(client) end
    if self.producer_client then rdkafka.rd_kafka_destroy(self.producer_client) end
    self.consumers, self.producer_client = {}, nil
end

-- Starting and stopping

local function new_broker(bootstrap, sasl, dir)
    return setmetatable({
        bootstrap = bootstrap, sasl = sasl, dir = dir, url = "kafka://" .. bootstrap, consumers = {},
    }, Broker)
end

local function script(command, dir, options)
    local env = options and { SHOVE_KAFKA_PROPERTIES = options.properties, SHOVE_KAFKA_TLS = options.tls and "1" }
    local result = process.run({ "scripts/kafka", command, dir, env = env }, START_MS)
    if result.code ~= 0 then error(("scripts/kafka %s failed:\n%s"):format(command, result.stderr), 3) end
    local pid = result.stdout:match "pid (%d+)"
    if pid then process.disown(tonumber(pid)) end
    return result.stdout
end

local function start(dir, options)
    local told = script("start", dir, options)
    local broker = new_broker(told:match "bootstrap (%S+)", told:match "sasl (%S+)", dir)
    broker.tls, broker.certificate = told:match "tls (%S+)", dir .. "/tls.pem"
    return broker
end

local shared

function M.shared()
    if not shared then
        local given = os.getenv "SHOVE_TEST_KAFKA"
        if given then
            shared = new_broker(given, os.getenv "SHOVE_TEST_KAFKA_SASL", os.getenv "SHOVE_TEST_KAFKA_DIR")
            cleanup.at_exit(function() shared:close_clients() end)
        else
            local dir = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/shove-kafka-XXXXXX"))
            shared = start(dir)
            cleanup.at_exit(function()
                shared:close_clients()
                script("stop", dir)
                tmp.remove(dir)
            end)
        end
    end
    return shared
end

-- Whether librdkafka is the one that scripts/deps builds, with what is mended there. That is linked in; the system's is not.
function M.is_client_ours()
    local maps = assert(io.open "/proc/self/maps")
    local is_of_system = maps:read "*a":find("librdkafka.so", 1, true)
    maps:close()
    return not is_of_system
end

-- Stopped and removed when the spec ends. options: lines of its configuration, or a table of these (properties) and tls.
function M.private(options)
    local dir = tmp.dir()
    local broker = start(dir, type(options) == "table" and options or { properties = options })
    cleanup.defer(function()
        broker:close_clients()
        script("kill", dir)
    end)
    return broker
end

-- SIGKILL.
function Broker:kill() script("kill", self.dir) end

function Broker:stop() script("stop", self.dir) end

-- Any signal: "sigstop" freezes it, "sigcont" has it go on.
function Broker:signal(name) uv.kill(tonumber(tmp.read(self.dir .. "/pid")), name) end

-- On the same ports, with the same data.
function Broker:restart() script("restart", self.dir) end

-- Topics

M.unique = unique

function Broker.topic(_, prefix)
    return unique(prefix)
end

-- Waits for the answer to what was asked there; the queue goes. error_of: gives what the answer says is wrong, or nil.
local function take_admin_answer(queue, what, error_of)
    local event = rdkafka.rd_kafka_queue_poll(queue, TIMEOUT_MS)
    rdkafka.rd_kafka_queue_destroy(queue)
    if event == nil then error(what .. ": the broker did not answer", 3) end
    local text
    if rdkafka.rd_kafka_event_error(event) ~= 0 then
        text = ffi.string(rdkafka.rd_kafka_event_error_string(event))
    else
        text = error_of(event)
    end
    rdkafka.rd_kafka_event_destroy(event)
    if text then error(what .. ": " .. text, 3) end
end
M.take_admin_answer = take_admin_answer

local function topic_error(as_result, topics_of)
    return function(event)
        local result = topics_of(as_result(event), ffi.new "size_t[1]")[0]
        if rdkafka.rd_kafka_topic_result_error(result) == 0 then return nil end
        return ffi.string(rdkafka.rd_kafka_topic_result_error_string(result))
    end
end

local function records_error(event)
    local result = rdkafka.rd_kafka_event_DeleteRecords_result(event)
    local code = rdkafka.rd_kafka_DeleteRecords_result_offsets(result).elems[0].err
    return code ~= 0 and ffi.string(rdkafka.rd_kafka_err2str(code)) or nil
end

-- options: partitions (1), config (name -> text). Returns when the topic can be used.
function Broker:create_topic(topic, options)
    options = options or {}
    local partitions = options.partitions or 1
    local text = ffi.new "char[512]"
    local new = rdkafka.rd_kafka_NewTopic_new(topic, partitions, 1, text, 512)
    assert(new ~= nil, ffi.string(text))
    for name, value in pairs(options.config or {}) do
        check(rdkafka.rd_kafka_NewTopic_set_config(new, name, tostring(value)), "topic configuration")
    end
    local client = self:producer()
    local queue = rdkafka.rd_kafka_queue_new(client)
    rdkafka.rd_kafka_CreateTopics(client, ffi.new("rd_kafka_NewTopic_t *[1]", { new }), 1, nil, queue)
    rdkafka.rd_kafka_NewTopic_destroy(new)
    take_admin_answer(queue, "creating " .. topic,
        topic_error(rdkafka.rd_kafka_event_CreateTopics_result, rdkafka.rd_kafka_CreateTopics_result_topics))
    wait.until_true(function() return self:partitions(topic) == partitions end, TIMEOUT_MS, topic .. " to be usable")
    return topic
end

-- Returns when nobody is told of it any more: until then the broker may still store what is sent to it.
function Broker:delete_topic(topic)
    local client = self:producer()
    local queue = rdkafka.rd_kafka_queue_new(client)
    local delete = rdkafka.rd_kafka_DeleteTopic_new(topic)
    rdkafka.rd_kafka_DeleteTopics(client, ffi.new("rd_kafka_DeleteTopic_t *[1]", { delete }), 1, nil, queue)
    rdkafka.rd_kafka_DeleteTopic_destroy(delete)
    take_admin_answer(queue, "deleting " .. topic,
        topic_error(rdkafka.rd_kafka_event_DeleteTopics_result, rdkafka.rd_kafka_DeleteTopics_result_topics))
    wait.until_true(function() return not self:partitions(topic) end, TIMEOUT_MS, topic .. " to be gone")
end

-- Takes away what a partition has below an offset, as retention does.
function Broker:delete_records(topic, partition, before)
    local list = rdkafka.rd_kafka_topic_partition_list_new(1)
    rdkafka.rd_kafka_topic_partition_list_add(list, topic, partition).offset = before
    local client = self:producer()
    local queue = rdkafka.rd_kafka_queue_new(client)
    local delete = rdkafka.rd_kafka_DeleteRecords_new(list)
    rdkafka.rd_kafka_topic_partition_list_destroy(list)
    rdkafka.rd_kafka_DeleteRecords(client, ffi.new("rd_kafka_DeleteRecords_t *[1]", { delete }), 1, nil, queue)
    rdkafka.rd_kafka_DeleteRecords_destroy(delete)
    take_admin_answer(queue, "deleting records of " .. topic, records_error)
    wait.until_true(function() return self:watermarks(topic)[partition].low == before end, TIMEOUT_MS,
        "the records to be deleted")
end

-- How many partitions with a leader, or nil when there is no such topic. Asking never creates it.
function Broker:partitions(topic)
    local client = self:consumer ""
    local handle = rdkafka.rd_kafka_topic_new(client, topic, nil)
    local out = ffi.new "const struct rd_kafka_metadata *[1]"
    local code = rdkafka.rd_kafka_metadata(client, 0, handle, out, TIMEOUT_MS)
    rdkafka.rd_kafka_topic_destroy(handle)
    check(code, "metadata of " .. topic)
    local count
    if out[0].topic_cnt == 1 and out[0].topics[0].err == 0 then
        count = 0
        for i = 0, out[0].topics[0].partition_cnt - 1 do
            if out[0].topics[0].partitions[i].leader >= 0 then count = count + 1 end
        end
    end
    rdkafka.rd_kafka_metadata_destroy(out[0])
    return count
end

-- Offsets and groups

local function partition_list(topic, count)
    local list = rdkafka.rd_kafka_topic_partition_list_new(count)
    for partition = 0, count - 1 do rdkafka.rd_kafka_topic_partition_list_add(list, topic, partition) end
    return list
end

-- Loading the group, not available, not it (any more).
local COORDINATOR_IS_COMING = { [14] = true, [15] = true, [16] = true }

local function existing_partitions(broker, topic)
    return broker:partitions(topic) or error("no topic " .. topic, 3)
end

-- partition -> { offset, metadata } for the partitions that have a commit.
function Broker:committed(group, topic)
    local count = existing_partitions(self, topic)
    local list = partition_list(topic, count)
    local code
    wait.until_true(function() -- the coordinator may be on its way, after a pause of the broker
        code = rdkafka.rd_kafka_committed(self:consumer(group), list, TIMEOUT_MS)
        return not COORDINATOR_IS_COMING[code]
    end, TIMEOUT_MS, "the coordinator")
    local found = {}
    for i = 0, count - 1 do
        local element = list.elems[i]
        if code == 0 and element.err == 0 and element.offset >= 0 then
            local metadata = element.metadata ~= nil and ffi.string(element.metadata, element.metadata_size) or ""
            found[element.partition] = { offset = tonumber(element.offset), metadata = metadata }
        end
    end
    rdkafka.rd_kafka_topic_partition_list_destroy(list)
    check(code, "committed offsets of " .. group)
    return found
end

-- Commits for a group without members, as an operator's tool would.
function Broker:commit(group, topic, partition, offset, metadata)
    local list = rdkafka.rd_kafka_topic_partition_list_new(1)
    local element = rdkafka.rd_kafka_topic_partition_list_add(list, topic, partition)
    local bytes = ffi.new("char[?]", #metadata + 1, metadata)
    element.offset, element.metadata, element.metadata_size = offset, bytes, #metadata
    local code = rdkafka.rd_kafka_commit(self:consumer(group), list, 0)
    element.metadata, element.metadata_size = nil, 0 -- the list would free what is ours
    rdkafka.rd_kafka_topic_partition_list_destroy(list)
    check(code, "committing for " .. group)
end

-- partition -> { low, high }
function Broker:watermarks(topic)
    local found = {}
    local low, high = ffi.new "int64_t[1]", ffi.new "int64_t[1]"
    for partition = 0, existing_partitions(self, topic) - 1 do
        local code
        wait.until_true(function() -- a topic that was created a moment ago may have no leader yet
            code = rdkafka.rd_kafka_query_watermark_offsets(self:consumer "", topic, partition, low, high, TIMEOUT_MS)
            return code ~= ERR_NOT_LEADER
        end, TIMEOUT_MS, "a leader of " .. topic)
        check(code, "watermarks of " .. topic)
        found[partition] = { low = tonumber(low[0]), high = tonumber(high[0]) }
    end
    return found
end

-- Records between the committed position (or the start) and the end, over all partitions.
function Broker:lag(group, topic)
    local committed, lag = self:committed(group, topic), 0
    for partition, mark in pairs(self:watermarks(topic)) do
        local position = committed[partition] and committed[partition].offset or mark.low
        lag = lag + math.max(0, mark.high - position)
    end
    return lag
end

-- { state = "Stable", members = { client id, ... } }; state is "" or "Dead" for a group nobody knows.
function Broker:group(group)
    local out = ffi.new "const struct rd_kafka_group_list *[1]"
    check(rdkafka.rd_kafka_list_groups(self:consumer "", group, out, TIMEOUT_MS), "describing " .. group)
    local described = { state = "", members = {} }
    if out[0].group_cnt == 1 then
        local info = out[0].groups[0]
        described.state = ffi.string(info.state)
        for i = 0, info.member_cnt - 1 do
            table.insert(described.members, ffi.string(info.members[i].client_id))
        end
    end
    rdkafka.rd_kafka_group_list_destroy(out[0])
    return described
end

-- Records, exactly

local function fill_header(vu, header)
    vu.vtype = V_HEADER
    vu.u.header.name = header[1]
    vu.u.header.val = header[2]
    vu.u.header.size = header[2] and #header[2] or 0
end

-- A producer that does not know a topic waits up to a second before it asks.
local function look_up(client, topic)
    local handle = rdkafka.rd_kafka_topic_new(client, topic, nil)
    local out = ffi.new "const struct rd_kafka_metadata *[1]"
    check(rdkafka.rd_kafka_metadata(client, 0, handle, out, TIMEOUT_MS), "metadata of " .. topic)
    rdkafka.rd_kafka_metadata_destroy(out[0])
    rdkafka.rd_kafka_topic_destroy(handle)
end

local function wait_delivered(client, topic, count)
    local queue = rdkafka.rd_kafka_queue_get_main(client)
    local deadline = uv.now() + TIMEOUT_MS
    while count > 0 do
        uv.update_time()
        assert(uv.now() < deadline, "the records for " .. topic .. " were not stored in time")
        local event = rdkafka.rd_kafka_queue_poll(queue, 100)
        local message = event ~= nil and rdkafka.rd_kafka_event_message_next(event) or nil
        while message ~= nil do
            check(message.err, ("record %d of the last for %s"):format(count, topic))
            count = count - 1
            message = rdkafka.rd_kafka_event_message_next(event)
        end
        if event ~= nil then rdkafka.rd_kafka_event_destroy(event) end
    end
    rdkafka.rd_kafka_queue_destroy(queue)
end

local function produce(client, topic, records)
    look_up(client, topic)
    for _, record in ipairs(records) do
        local headers = record.headers or {}
        local vus = ffi.new("rd_kafka_vu_t[?]", 5 + #headers)
        vus[0].vtype, vus[0].u.cstr = V_TOPIC, topic
        vus[1].vtype, vus[1].u.i32 = V_PARTITION, record.partition or -1
        vus[2].vtype, vus[2].u.mem.ptr, vus[2].u.mem.size = V_VALUE, record.value, record.value and #record.value or 0
        vus[3].vtype, vus[3].u.mem.ptr, vus[3].u.mem.size = V_KEY, record.key, record.key and #record.key or 0
        vus[4].vtype, vus[4].u.i64 = V_TIMESTAMP, record.timestamp_ms or 0
        for i, header in ipairs(headers) do fill_header(vus[4 + i], header) end
        local problem = rdkafka.rd_kafka_produceva(client, vus, 5 + #headers)
        if problem ~= nil then
            local text = ffi.string(rdkafka.rd_kafka_error_string(problem))
            rdkafka.rd_kafka_error_destroy(problem)
            error(("producing to %s: %s"):format(topic, text), 3)
        end
    end
    wait_delivered(client, topic, #records)
end

-- records: { key, value, headers = { { name, value or nil }, ... }, partition, timestamp_ms }; what is nil is null.
-- Returns when the broker has them all.
function Broker:produce(topic, records)
    produce(self:producer(), topic, records)
end

local function check_error(problem, what)
    if problem == nil then return end
    local text = ffi.string(rdkafka.rd_kafka_error_string(problem))
    rdkafka.rd_kafka_error_destroy(problem)
    error(what .. ": " .. text, 3)
end

-- The same in transactions of their own, one after the other: { verdict = "commit" or "abort", records... }. Each leaves a
-- marker in the log of its partition, an offset that no consumer ever sees; returns when the markers are there. The
-- records of one transaction go to one partition.
function Broker:transactions(topic, list)
    local client = new_client(PRODUCER, self.bootstrap, {
        ["linger.ms"] = "0", ["transactional.id"] = M.unique "spec-transaction", ["retry.backoff.ms"] = "20",
    })
    check_error(rdkafka.rd_kafka_init_transactions(client, TIMEOUT_MS), "preparing transactions")
    for _, transaction in ipairs(list) do
        local partition = transaction[1].partition
        local high = self:watermarks(topic)[partition].high
        check_error(rdkafka.rd_kafka_begin_transaction(client), "beginning a transaction")
        produce(client, topic, transaction)
        local finish = transaction.verdict == "abort" and rdkafka.rd_kafka_abort_transaction
            or rdkafka.rd_kafka_commit_transaction
        check_error(finish(client, TIMEOUT_MS), "ending a transaction")
        wait.until_true(function()
            return self:watermarks(topic)[partition].high == high + #transaction + 1
        end, TIMEOUT_MS, "the marker of a transaction")
    end
    rdkafka.rd_kafka_destroy(client)
end

local function headers_of(message)
    local handle = ffi.new "rd_kafka_headers_t *[1]"
    local headers = {}
    if rdkafka.rd_kafka_message_headers(message, handle) == 0 then
        local name, value, size = ffi.new "const char *[1]", ffi.new "const void *[1]", ffi.new "size_t[1]"
        while rdkafka.rd_kafka_header_get_all(handle[0], #headers, name, value, size) == 0 do
            table.insert(headers, { ffi.string(name[0]), value[0] ~= nil and ffi.string(value[0], size[0]) or nil })
        end
    end
    return headers
end

local function record_of(message)
    return {
        partition = message.partition,
        offset = tonumber(message.offset),
        key = message.key ~= nil and ffi.string(message.key, message.key_len) or nil,
        value = message.payload ~= nil and ffi.string(message.payload, message.len) or nil,
        headers = headers_of(message),
        timestamp_ms = tonumber(rdkafka.rd_kafka_message_timestamp(message, nil)),
    }
end

local function assign_all(client, topic, count)
    local list = partition_list(topic, count)
    for i = 0, count - 1 do list.elems[i].offset = OFFSET_BEGINNING end
    check(rdkafka.rd_kafka_assign(client, list), "assigning " .. topic)
    rdkafka.rd_kafka_topic_partition_list_destroy(list)
end

-- Whatever is in the topic, in the order of each partition. With options.count waits (options.deadline_ms, 15 s) until
-- there are that many; without, stops at the present end of every partition.
function Broker:read(topic, options)
    options = options or {}
    local client = new_client(CONSUMER, self.bootstrap, {
        ["group.id"] = M.unique "spec-reader", ["enable.auto.commit"] = "false", ["enable.partition.eof"] = "true",
    })
    local partitions = existing_partitions(self, topic)
    assign_all(client, topic, partitions)
    local records, ended, ended_count = {}, {}, 0
    local deadline = uv.hrtime() / 1e6 + (options.deadline_ms or TIMEOUT_MS)
    local is_timely = true
    while is_timely and not (options.count and #records >= options.count)
        and not (not options.count and ended_count == partitions) do
        local message = rdkafka.rd_kafka_consumer_poll(client, 50)
        if message ~= nil then
            if message.err == 0 then
                table.insert(records, record_of(message))
            elseif message.err == ERR_PARTITION_EOF and not ended[message.partition] then
                ended[message.partition], ended_count = true, ended_count + 1
            end
            rdkafka.rd_kafka_message_destroy(message)
        end
        uv.run "nowait"
        is_timely = uv.hrtime() / 1e6 < deadline
    end
    rdkafka.rd_kafka_destroy(client)
    if not is_timely then
        error(("reading %s: %d records by the deadline, expected %s"):format(topic, #records,
            options.count or "the end of every partition"), 2)
    end
    return records
end

-- Records through kcat

-- One kcat for each record, since its key and headers hold for all that one kcat sends. Keys and header values must
-- not contain NUL (they travel as arguments); values may, and a nil value is sent as null.
function Broker:kcat_produce(topic, records)
    for _, record in ipairs(records) do
        -- Java's partitioner, as most of a user's other clients have it.
        local command = { "kcat", "-q", "-P", "-b", self.bootstrap, "-t", topic,
                          "-X", "topic.partitioner=murmur2_random" }
        local function add(...)
            for _, argument in ipairs { ... } do table.insert(command, argument) end
        end
        if record.partition then add("-p", tostring(record.partition)) end
        for _, header in ipairs(record.headers or {}) do
            add("-H", header[2] and (header[1] .. "=" .. header[2]) or header[1])
        end
        if (record.value or "") ~= "" then
            if record.key then add("-k", record.key) end
            add(tmp.write(tmp.dir() .. "/value", record.value))
        else
            -- An empty file or line would be no message at all; a key with nothing behind it is one.
            if not record.value then add "-Z" end
            add("-K", "\31")
            command.stdin = { text = assert(record.key, "kcat needs a key for an empty value") .. "\31\n" }
        end
        local result = process.run(command, TIMEOUT_MS)
        if result.code ~= 0 then error("kcat could not produce: " .. result.stderr, 2) end
    end
end

local KCAT_FORMAT = "%p %o %T %K %S\\n%k%s\\n%h\\n"

-- Everything in the topic up to its present end, as kcat sees it: partition, offset, timestamp_ms, key, value, and
-- headers as kcat prints them, "name=value,name=value".
function Broker:kcat_read(topic)
    local result = process.run({
        "kcat", "-q", "-C", "-b", self.bootstrap, "-t", topic, "-o", "beginning", "-e", "-f", KCAT_FORMAT,
    }, TIMEOUT_MS)
    if result.code ~= 0 then error("kcat could not read: " .. result.stderr, 2) end
    local text, at, records = result.stdout, 1, {}
    while at <= #text do
        local _, last, partition, offset, timestamp, key_size, size =
            text:find("^(%d+) (%d+) (%-?%d+) (%-?%d+) (%-?%d+)\n", at)
        if not last then error("cannot read kcat's output at byte " .. at .. ":\n" .. text, 2) end
        key_size, size = tonumber(key_size), tonumber(size)
        at = last + 1
        local key = text:sub(at, at + math.max(key_size, 0) - 1)
        at = at + #key
        local value = text:sub(at, at + math.max(size, 0) - 1)
        -- kcat writes NULL for a key that is null, when told to print one; lengths say what is meant.
        at = at + #value + 1
        local headers
        headers, at = text:match("^([^\n]*)\n()", at)
        table.insert(records, {
            partition = tonumber(partition), offset = tonumber(offset), timestamp_ms = tonumber(timestamp),
            key = key_size >= 0 and key or nil, value = size >= 0 and value or nil, headers = headers,
        })
    end
    return records
end

return M
