-- What a declaration makes of a topic on Kafka.
local acl = require "spec.support.acl"
local driver = require "spec.transport.driver"
local ffi = require "ffi"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local rdkafka = require "spec.support.librdkafka"
local tmp = require "spec.support.tmp"
local uv = require "luv"
local C = driver.C

ffi.cdef [[
int dup(int fd);
int dup2(int from, int to);
int close(int fd);
typedef struct rd_kafka_ConfigResource_s rd_kafka_ConfigResource_t;
typedef struct rd_kafka_ConfigEntry_s rd_kafka_ConfigEntry_t;
rd_kafka_ConfigResource_t *rd_kafka_ConfigResource_new(int restype, const char *resname);
void rd_kafka_ConfigResource_destroy(rd_kafka_ConfigResource_t *config);
void rd_kafka_DescribeConfigs(rd_kafka_t *rk, rd_kafka_ConfigResource_t **configs, size_t config_cnt,
                              const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu);
const rd_kafka_event_t *rd_kafka_event_DescribeConfigs_result(rd_kafka_event_t *rkev);
const rd_kafka_ConfigResource_t **rd_kafka_DescribeConfigs_result_resources(const rd_kafka_event_t *result, size_t *cntp);
const rd_kafka_ConfigEntry_t **rd_kafka_ConfigResource_configs(const rd_kafka_ConfigResource_t *config, size_t *cntp);
const char *rd_kafka_ConfigEntry_name(const rd_kafka_ConfigEntry_t *entry);
const char *rd_kafka_ConfigEntry_value(const rd_kafka_ConfigEntry_t *entry);
int rd_kafka_ConfigEntry_source(const rd_kafka_ConfigEntry_t *entry);
]]

local RESOURCE_TOPIC, SOURCE_TOPIC = 2, 1
local DAY_MS = 24 * 60 * 60 * 1000

-- What was set on the topic itself.
local function settings(broker, topic)
    local client = broker:producer()
    local queue = rdkafka.rd_kafka_queue_new(client)
    local resource = rdkafka.rd_kafka_ConfigResource_new(RESOURCE_TOPIC, topic)
    rdkafka.rd_kafka_DescribeConfigs(client, ffi.new("rd_kafka_ConfigResource_t *[1]", { resource }), 1, nil, queue)
    rdkafka.rd_kafka_ConfigResource_destroy(resource)
    local event = rdkafka.rd_kafka_queue_poll(queue, 15000)
    assert(event ~= nil and rdkafka.rd_kafka_event_error(event) == 0)
    local count = ffi.new "size_t[1]"
    local resources =
        rdkafka.rd_kafka_DescribeConfigs_result_resources(rdkafka.rd_kafka_event_DescribeConfigs_result(event), count)
    local entries = rdkafka.rd_kafka_ConfigResource_configs(resources[0], count)
    local found = {}
    for i = 0, tonumber(count[0]) - 1 do
        if rdkafka.rd_kafka_ConfigEntry_source(entries[i]) == SOURCE_TOPIC then
            found[ffi.string(rdkafka.rd_kafka_ConfigEntry_name(entries[i]))] =
                ffi.string(rdkafka.rd_kafka_ConfigEntry_value(entries[i]))
        end
    end
    rdkafka.rd_kafka_event_destroy(event)
    rdkafka.rd_kafka_queue_destroy(queue)
    return found
end

-- What fn() logs.
local function logged(fn)
    local path = tmp.dir() .. "/stderr"
    local file = assert(uv.fs_open(path, "w", 420))
    local kept = C.dup(2)
    C.dup2(file, 2)
    local ok, problem = pcall(fn)
    C.dup2(kept, 2)
    C.close(kept)
    uv.fs_close(file)
    assert(ok, problem)
    return tmp.read(path)
end

describe("Replication factor 1", function()
    it("is warned about on a cluster of several brokers, once", function()
        local mock = kafka_mock.start(3)
        local first, second = mock:create("orders", 1), mock:create("payments", 1)
        local t = assert(driver.open(mock.url))
        local text = logged(function()
            assert(t:declare { { name = first, at = "app.lua:3" }, { name = second } })
            assert(t:declare { { name = first } })
        end)
        local _, warnings = text:gsub("replication factor 1 on a cluster of 3 brokers", "")
        assert.equal(1, warnings, text)
        assert.matches("app.lua:3", text, 1, true)
    end)

    it("is nothing to speak of on a single broker", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url))
        assert.equal("", logged(function() assert(t:declare { { name = topic } }) end))
    end)
end)

describe("A topic that shove creates on Kafka", function()
    local broker, t, name

    before_each(function()
        broker = kafka.shared()
        t = assert(driver.open(broker.url))
        name = kafka.unique "orders"
    end)

    local function made(spec)
        assert(t:declare { spec })
        return settings(broker, spec.name)
    end

    it("keeps a queue as long as the broker does, unless told", function()
        assert.is_nil(made({ name = name, partitions = 1 })["retention.ms"])
        assert.equal("60000", made({ name = name .. "-short", retention_ms = 60000 })["retention.ms"])
    end)

    it("keeps dead letters until somebody looks", function()
        assert.equal("-1", made({ name = name .. "-dlq", role = "dlq" })["retention.ms"])
    end)

    it("keeps a hold a week, or twice its delay and a day", function()
        local function hold(ms)
            return made({ name = name .. "-hold-" .. ms .. "ms", role = "hold", hold_ms = ms })["retention.ms"]
        end
        assert.equal(tostring(7 * DAY_MS), hold(5000))
        assert.equal(tostring(7 * DAY_MS), hold(3 * DAY_MS))
        assert.equal(tostring(61 * DAY_MS), hold(30 * DAY_MS))
    end)

    it("is never compacted, and takes messages as large as the app's", function()
        local set = made { name = name, partitions = 1 }
        assert.equal("delete", set["cleanup.policy"])
        assert.is_true(tonumber(set["max.message.bytes"]) > 10 * 1024 * 1024)
        local result = t:publish(name, { { payload = ("x"):rep(10 * 1024 * 1024), headers = { { "h", "v" } } } })[1]
        assert.equal(0, result.code)
    end)

    it("is compacted, and keeps everything, where it says which keys are poisoned", function()
        local set = made { name = name .. "-poison", role = "poison", partitions = 3, is_keyed = true }
        assert.equal("compact", set["cleanup.policy"])
        assert.is_nil(set["retention.ms"])
        assert.equal("1000000000", set["max.message.bytes"])
        assert(t:declare { { name = name .. "-poison", role = "poison", partitions = 3, is_keyed = true } })
        assert.equal(-1, tonumber(t:call("retention_ms", name .. "-poison")))
        local ok, code = t:declare { { name = name .. "-poison", role = "poison", partitions = 4, is_keyed = true } }
        assert.is_nil(ok)
        assert.equal(C.SHOVE_ECONFIG, code)
    end)

    it("is refused with the user's line when the broker cannot have it", function()
        local ok, code, text = t:declare { { name = name, replication_factor = 3, at = "app.lua:12" } }
        assert.is_nil(ok)
        assert.equal(C.SHOVE_ECONFIG, code)
        assert.matches("app.lua:12", text, 1, true)
        assert.matches("[Rr]eplication", text)
        assert.is_nil(broker:partitions(name))
    end)
end)

describe("A topic of poisoned keys that is there on Kafka", function()
    local broker, t

    before_each(function()
        broker = kafka.shared()
        t = assert(driver.open(broker.url))
    end)

    local function topic_with(policy)
        return broker:create_topic(kafka.unique "poison", { config = { ["cleanup.policy"] = policy } })
    end

    it("is refused when Kafka deletes from it, and told what to set", function()
        for _, policy in ipairs { "delete", "compact,delete" } do
            for _, is_external in ipairs { false, true } do
                local topic = topic_with(policy)
                local ok, code, text = t:declare {
                    { name = topic, role = "poison", is_keyed = true, is_external = is_external, at = "app.lua:7" },
                }
                assert.is_nil(ok)
                assert.equal(C.SHOVE_ECONFIG, code)
                assert.matches("app.lua:7: topic '" .. topic .. "'", text, 1, true)
                assert.matches("cleanup.policy=" .. policy, text, 1, true)
                assert.matches("--add-config cleanup.policy=compact", text, 1, true)
            end
        end
    end)

    it("is taken as it is when it is compacted", function()
        assert(t:declare { { name = topic_with "compact", role = "poison", is_keyed = true } })
    end)

    it("may be anything to a user who may not know", function()
        local topic = topic_with "delete"
        acl.allow(broker, "limited", { topic = topic, operations = { "read", "describe" } })
        local limited = assert(driver.open("kafka://" .. broker.sasl,
            { properties = acl.properties("limited", "limited-secret") }))
        assert(limited:declare { { name = topic, role = "poison", is_keyed = true } })
    end)
end)

describe("Several processes that declare the same topics at once", function()
    it("all succeed", function()
        local broker = kafka.shared()
        local name = kafka.unique "race"
        local codes = ffi.new "int[4]"
        local threads = {}
        for i = 1, 4 do
            threads[i] = uv.new_thread(function(path, address, topic, result)
                package.path = path
                local ffi_there = require "ffi"
                local There = require("spec.support.c").include "transport/transport.h"
                local uv_there = require "luv"
                ffi_there.cdef [[int uv_loop_init(void *); void *malloc(size_t); size_t uv_loop_size(void);
                                 int uv_run(void *, int); int uv_loop_close(void *); void free(void *);]]
                assert(uv_there)
                local loop = ffi_there.C.malloc(ffi_there.C.uv_loop_size())
                ffi_there.C.uv_loop_init(loop)
                local events = ffi_there.new "struct shove_transport_events"
                local config = ffi_there.new("struct shove_transport_config",
                    { address = address, loop = loop, events = events, timeout_ms = 30000,
                      max_message_size_bytes = 1048576 })
                local out = ffi_there.new "struct shove_transport *[1]"
                local err = ffi_there.new "struct shove_error"
                local code = There.shove_kafka_ops.open(config, out, err)
                for round = 1, 5 do
                    if code ~= 0 then break end
                    local spec = ffi_there.new("struct shove_topic_spec[1]")
                    local held = ffi_there.new("char[?]", #topic + 8, topic .. "-" .. round)
                    spec[0].name, spec[0].partitions, spec[0].replication_factor = held, 3, 1
                    code = There.shove_kafka_ops.declare(out[0], spec, 1, err)
                end
                if out[0] ~= nil then There.shove_kafka_ops.close(out[0], 5000) end
                ffi_there.C.uv_run(loop, 0)
                ffi_there.C.uv_loop_close(loop)
                ffi_there.C.free(loop)
                ffi_there.cast("int *", result)[0] = code
            end, package.path, broker.bootstrap, name, tonumber(ffi.cast("uintptr_t", codes + (i - 1))))
            codes[i - 1] = 1
        end
        for _, thread in ipairs(threads) do thread:join() end
        assert.same({ 0, 0, 0, 0 }, { codes[0], codes[1], codes[2], codes[3] })
        for round = 1, 5 do assert.equal(3, broker:partitions(name .. "-" .. round)) end
    end)
end)

describe("A declaration on a cluster that is slow", function()
    it("ends in time", function()
        local mock = kafka_mock.start()
        local topic = mock:create("orders", 1)
        local t = assert(driver.open(mock.url, { timeout_ms = 1000 }))
        mock:set_rtt(60000)
        local began = tonumber(C.shove_clock_mono_ms())
        local ok, code = t:declare { { name = topic, partitions = 1 } }
        assert.is_nil(ok)
        assert.is_true(code == C.SHOVE_ETIMEOUT or code == C.SHOVE_EUNREACHABLE)
        assert.is_true(tonumber(C.shove_clock_mono_ms()) - began < 5000)
    end)
end)

describe("A declaration that was begun on a cluster that is slow", function()
    local mock, t, topic

    before_each(function()
        mock = kafka_mock.start()
        topic = mock:create("orders", 1)
    end)

    local function elapsed_ms(fn)
        local began = tonumber(C.shove_clock_mono_ms())
        fn()
        return tonumber(C.shove_clock_mono_ms()) - began
    end

    it("holds up nothing else, and says in time that it failed", function()
        t = assert(driver.open(mock.url, { timeout_ms = 1500 }))
        mock:set_rtt(60000)
        assert.is_true(elapsed_ms(function() t:declare_start { { name = topic, at = "app.lua:7" } } end) < 1000)
        local told = t:wait_events("declared", 1)[1]
        assert.equal(C.SHOVE_ETIMEOUT, told.code)
        assert.matches("app.lua:7: asking for topic '" .. topic .. "'", told.text, 1, true)
    end)

    it("does not hold up the close, after which nothing is told", function()
        t = assert(driver.open(mock.url, { timeout_ms = 60000 }))
        mock:set_rtt(60000)
        t:declare_start { { name = topic } }
        assert.is_true(elapsed_ms(function() t:close(20000) end) < 10000)
        assert.equal(0, #t.events.declared)
    end)

    it("has its own copy of what was asked for", function()
        t = assert(driver.open(mock.url))
        local name = ffi.new("char[?]", 32, topic)
        t:declare_start { { name = name, partitions = 1, is_external = true } }
        ffi.fill(name, 32, ("x"):byte())
        assert.equal(0, t:wait_events("declared", 1)[1].code)
    end)
end)
