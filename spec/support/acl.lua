-- Rights of users of the SASL listener of a broker (spec/support/kafka.lua), given and taken while it runs.
--
--     acl.allow(broker, "limited", { topic = name, operations = { "read", "describe" } })
--     acl.forbid(broker, "limited", { group = name, operations = { "read" } })
--     acl.properties("limited", "limited-secret")      librdkafka properties of a client that comes as that user
--
-- Without a rule nothing is allowed but to admin and to who comes through the plain listener. The controller answers
-- before the broker has heard of a change; both functions return when it has.

local ffi = require "ffi"
local kafka = require "spec.support.kafka"
local rdkafka = require "spec.support.librdkafka"
local wait = require "spec.support.wait"

ffi.cdef [[
void *rd_kafka_AclBinding_new(int restype, const char *name, int resource_pattern_type, const char *principal,
                              const char *host, int operation, int permission_type, char *errstr, size_t errstr_size);
void *rd_kafka_AclBindingFilter_new(int restype, const char *name, int resource_pattern_type, const char *principal,
                                    const char *host, int operation, int permission_type, char *errstr,
                                    size_t errstr_size);
void rd_kafka_AclBinding_destroy(void *acl_binding);
void rd_kafka_CreateAcls(rd_kafka_t *rk, void **new_acls, size_t new_acls_cnt, const rd_kafka_AdminOptions_t *options,
                         rd_kafka_queue_t *rkqu);
void rd_kafka_DeleteAcls(rd_kafka_t *rk, void **del_acls, size_t del_acls_cnt, const rd_kafka_AdminOptions_t *options,
                         rd_kafka_queue_t *rkqu);
void rd_kafka_DescribeAcls(rd_kafka_t *rk, void *acl_filter, const rd_kafka_AdminOptions_t *options,
                           rd_kafka_queue_t *rkqu);
const void *rd_kafka_event_CreateAcls_result(rd_kafka_event_t *rkev);
const void **rd_kafka_CreateAcls_result_acls(const void *result, size_t *cntp);
const rd_kafka_error_t *rd_kafka_acl_result_error(const void *aclres);
const void *rd_kafka_event_DeleteAcls_result(rd_kafka_event_t *rkev);
const void **rd_kafka_DeleteAcls_result_responses(const void *result, size_t *cntp);
const rd_kafka_error_t *rd_kafka_DeleteAcls_result_response_error(const void *result_response);
const void *rd_kafka_event_DescribeAcls_result(rd_kafka_event_t *rkev);
const void **rd_kafka_DescribeAcls_result_acls(const void *result, size_t *cntp);
]]

local M = {}

local TOPIC, GROUP = 2, 3
local LITERAL = 3
local ALLOW = 3
local OPERATIONS = { read = 3, write = 4, describe = 8 }
local TIMEOUT_MS = 15000

local CREATE = {
    binding = rdkafka.rd_kafka_AclBinding_new, call = rdkafka.rd_kafka_CreateAcls,
    result = rdkafka.rd_kafka_event_CreateAcls_result, items = rdkafka.rd_kafka_CreateAcls_result_acls,
    problem = rdkafka.rd_kafka_acl_result_error, is_there = true,
}
local DELETE = {
    binding = rdkafka.rd_kafka_AclBindingFilter_new, call = rdkafka.rd_kafka_DeleteAcls,
    result = rdkafka.rd_kafka_event_DeleteAcls_result, items = rdkafka.rd_kafka_DeleteAcls_result_responses,
    problem = rdkafka.rd_kafka_DeleteAcls_result_response_error, is_there = false,
}

local function new_binding(make, user, what, operation)
    local text = ffi.new "char[512]"
    local binding = make(what.topic and TOPIC or GROUP, what.topic or what.group, LITERAL, "User:" .. user, "*",
        assert(OPERATIONS[operation], operation), ALLOW, text, 512)
    assert(binding ~= nil, ffi.string(text))
    return binding
end

-- The broker's own word: what it goes by, not what the controller has.
local function has_rule(client, user, what, operation)
    local size = ffi.new "size_t[1]"
    local filter = new_binding(rdkafka.rd_kafka_AclBindingFilter_new, user, what, operation)
    local queue = rdkafka.rd_kafka_queue_new(client)
    rdkafka.rd_kafka_DescribeAcls(client, filter, nil, queue)
    rdkafka.rd_kafka_AclBinding_destroy(filter)
    kafka.take_admin_answer(queue, "asking for rules", function(event)
        rdkafka.rd_kafka_DescribeAcls_result_acls(rdkafka.rd_kafka_event_DescribeAcls_result(event), size)
    end)
    return size[0] > 0
end

local function change(how, broker, user, what)
    local client = broker:producer()
    local count = #what.operations
    local bindings = ffi.new("void *[?]", count)
    for i, operation in ipairs(what.operations) do bindings[i - 1] = new_binding(how.binding, user, what, operation) end
    local queue = rdkafka.rd_kafka_queue_new(client)
    how.call(client, bindings, count, nil, queue)
    for i = 0, count - 1 do rdkafka.rd_kafka_AclBinding_destroy(bindings[i]) end
    kafka.take_admin_answer(queue, "changing rules", function(event)
        local size = ffi.new "size_t[1]"
        local items = how.items(how.result(event), size)
        for i = 0, tonumber(size[0]) - 1 do
            local problem = how.problem(items[i])
            if problem ~= nil then return ffi.string(rdkafka.rd_kafka_error_string(problem)) end
        end
    end)
    for _, operation in ipairs(what.operations) do
        wait.until_true(function() return has_rule(client, user, what, operation) == how.is_there end, TIMEOUT_MS,
            ("the broker to hear of %s on %s"):format(operation, what.topic or what.group))
    end
end

function M.allow(broker, user, what)
    change(CREATE, broker, user, what)
end

function M.forbid(broker, user, what)
    change(DELETE, broker, user, what)
end

function M.properties(user, password)
    return {
        ["security.protocol"] = "sasl_plaintext", ["sasl.mechanism"] = "PLAIN", ["sasl.username"] = user,
        ["sasl.password"] = password,
    }
end

return M
