-- A Kafka that does what a spec tells it: librdkafka's mock cluster, inside spec_runner.
--
--     local mock = kafka_mock.start()                closed when the test ends
--     mock:create("orders", 4)                       a topic
--     mock:fail("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER", ...)     what the next such requests are answered
--     mock:join_at_once()                            groups do not wait three seconds for their members
--     mock:track()
--     mock:count_requests("OffsetCommit")            how many came since track()
--     mock.url
--
-- It speaks metadata, produce, fetch, offsets and the classic group protocol. It cannot create topics by request.

local ffi = require "ffi"
local cleanup = require "spec.support.cleanup"
local rdkafka = require "spec.support.librdkafka"

ffi.cdef [[
typedef struct rd_kafka_mock_cluster_s rd_kafka_mock_cluster_t;
rd_kafka_mock_cluster_t *rd_kafka_handle_mock_cluster(const rd_kafka_t *rk);
const char *rd_kafka_mock_cluster_bootstraps(const rd_kafka_mock_cluster_t *mcluster);
int rd_kafka_mock_topic_create(rd_kafka_mock_cluster_t *mcluster, const char *topic, int partition_cnt,
                               int replication_factor);
void rd_kafka_mock_push_request_errors_array(rd_kafka_mock_cluster_t *mcluster, int16_t api_key, size_t cnt,
                                             const int *errors);
void rd_kafka_mock_group_initial_rebalance_delay_ms(rd_kafka_mock_cluster_t *mcluster, int32_t delay_ms);
int rd_kafka_mock_broker_set_down(rd_kafka_mock_cluster_t *mcluster, int32_t broker_id);
int rd_kafka_mock_broker_set_up(rd_kafka_mock_cluster_t *mcluster, int32_t broker_id);
typedef struct rd_kafka_mock_request_s rd_kafka_mock_request_t;
void rd_kafka_mock_start_request_tracking(rd_kafka_mock_cluster_t *mcluster);
void rd_kafka_mock_clear_requests(rd_kafka_mock_cluster_t *mcluster);
rd_kafka_mock_request_t **rd_kafka_mock_get_requests(rd_kafka_mock_cluster_t *mcluster, size_t *cntp);
void rd_kafka_mock_request_destroy_array(rd_kafka_mock_request_t **mreqs, size_t mreq_cnt);
int16_t rd_kafka_mock_request_api_key(rd_kafka_mock_request_t *mreq);
typedef struct { unsigned char bits[128]; } mock_sigset_t;
int sigfillset(mock_sigset_t *set);
int pthread_sigmask(int how, const mock_sigset_t *set, mock_sigset_t *old);
int rd_kafka_mock_broker_set_rtt(rd_kafka_mock_cluster_t *mcluster, int32_t broker_id, int rtt_ms);
]]

local M = {}
local Mock = {}
Mock.__index = Mock

local API_KEYS = {
    Produce = 0, Fetch = 1, ListOffsets = 2, Metadata = 3, OffsetCommit = 8, OffsetFetch = 9, FindCoordinator = 10,
    JoinGroup = 11, Heartbeat = 12, LeaveGroup = 13, SyncGroup = 14, InitProducerId = 22,
}
M.errors = {
    OFFSET_OUT_OF_RANGE = 1, UNKNOWN_TOPIC_OR_PART = 3, NOT_LEADER_FOR_PARTITION = 6,
    MSG_SIZE_TOO_LARGE = 10, COORDINATOR_LOAD_IN_PROGRESS = 14,
    NOT_COORDINATOR = 16, NOT_ENOUGH_REPLICAS = 19, ILLEGAL_GENERATION = 22, UNKNOWN_MEMBER_ID = 25, REBALANCE_IN_PROGRESS = 27,
    FENCED_INSTANCE_ID = 82, TOPIC_AUTHORIZATION_FAILED = 29, POLICY_VIOLATION = 44, GROUP_AUTHORIZATION_FAILED = 30,
    CLUSTER_AUTHORIZATION_FAILED = 31,
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, KAFKA_STORAGE_ERROR = 56, UNKNOWN_PRODUCER_ID = 59,
}

local PRODUCER = 0
local SIG_BLOCK, SIG_SETMASK = 0, 2

-- The cluster's thread ends, and leaves what is waited for for ever, when a signal interrupts it: that of a child that
-- has ended, while the one that is meant for it is held back. Threads have the mask of who makes them.
local function without_signals(fn, ...)
    local all, before = ffi.new "mock_sigset_t", ffi.new "mock_sigset_t"
    ffi.C.sigfillset(all)
    ffi.C.pthread_sigmask(SIG_BLOCK, all, before)
    local result = fn(...)
    ffi.C.pthread_sigmask(SIG_SETMASK, before, nil)
    return result
end

function M.start(brokers)
    local conf = rdkafka.rd_kafka_conf_new()
    local text = ffi.new "char[512]"
    assert(rdkafka.rd_kafka_conf_set(conf, "test.mock.num.brokers", tostring(brokers or 1), text, 512) == 0,
        ffi.string(text))
    assert(rdkafka.rd_kafka_conf_set(conf, "log_level", "0", text, 512) == 0, ffi.string(text))
    local client = without_signals(rdkafka.rd_kafka_new, PRODUCER, conf, text, 512)
    assert(client ~= nil, ffi.string(text))
    cleanup.defer(function() rdkafka.rd_kafka_destroy(client) end)
    local cluster = ffi.C.rd_kafka_handle_mock_cluster(client)
    local bootstrap = ffi.string(ffi.C.rd_kafka_mock_cluster_bootstraps(cluster))
    return setmetatable({ client = client, cluster = cluster, url = "kafka://" .. bootstrap }, Mock)
end

function Mock:create(topic, partitions)
    assert(ffi.C.rd_kafka_mock_topic_create(self.cluster, topic, partitions, 1) == 0)
    return topic
end

-- Not in librdkafka 2.2, whose mock always waits.
function Mock:join_at_once()
    pcall(function() ffi.C.rd_kafka_mock_group_initial_rebalance_delay_ms(self.cluster, 0) end)
end

function Mock:fail(api, ...)
    local names = { ... }
    local codes = ffi.new("int[?]", #names)
    for i, name in ipairs(names) do codes[i - 1] = assert(M.errors[name], name) end
    ffi.C.rd_kafka_mock_push_request_errors_array(self.cluster, assert(API_KEYS[api], api), #names, codes)
end

-- Not in librdkafka before 2.4.
function Mock:track()
    ffi.C.rd_kafka_mock_start_request_tracking(self.cluster)
    ffi.C.rd_kafka_mock_clear_requests(self.cluster)
end

-- How many such requests have come since track().
function Mock:count_requests(api)
    local size = ffi.new "size_t[1]"
    local requests = ffi.C.rd_kafka_mock_get_requests(self.cluster, size)
    local count = 0
    for i = 0, tonumber(size[0]) - 1 do
        if ffi.C.rd_kafka_mock_request_api_key(requests[i]) == API_KEYS[api] then count = count + 1 end
    end
    ffi.C.rd_kafka_mock_request_destroy_array(requests, size[0])
    return count
end

function Mock:set_down(broker) assert(ffi.C.rd_kafka_mock_broker_set_down(self.cluster, broker or 1) == 0) end
function Mock:set_up(broker) assert(ffi.C.rd_kafka_mock_broker_set_up(self.cluster, broker or 1) == 0) end
function Mock:set_rtt(ms, broker) assert(ffi.C.rd_kafka_mock_broker_set_rtt(self.cluster, broker or 1, ms) == 0) end

return M
