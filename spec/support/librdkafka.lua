-- The few functions of librdkafka that spec/support/kafka.lua uses, called through the copy that is linked into
-- spec_runner: asking a broker for offsets or groups this way takes milliseconds, a JVM tool takes seconds.

local ffi = require "ffi"

ffi.cdef [[
typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_error_s rd_kafka_error_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;
typedef struct rd_kafka_NewTopic_s rd_kafka_NewTopic_t;
typedef struct rd_kafka_DeleteTopic_s rd_kafka_DeleteTopic_t;
typedef struct rd_kafka_DeleteRecords_s rd_kafka_DeleteRecords_t;
typedef struct rd_kafka_AdminOptions_s rd_kafka_AdminOptions_t;
typedef struct rd_kafka_op_s rd_kafka_event_t;
typedef struct rd_kafka_topic_result_s rd_kafka_topic_result_t;

typedef struct rd_kafka_topic_partition_s {
    char *topic;
    int32_t partition;
    int64_t offset;
    void *metadata;
    size_t metadata_size;
    void *opaque;
    int err;
    void *_private;
} rd_kafka_topic_partition_t;

typedef struct rd_kafka_topic_partition_list_s {
    int cnt;
    int size;
    rd_kafka_topic_partition_t *elems;
} rd_kafka_topic_partition_list_t;

typedef struct rd_kafka_message_s {
    int err;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *_private;
} rd_kafka_message_t;

typedef struct rd_kafka_vu_s {
    int vtype;
    union {
        const char *cstr;
        int i;
        int32_t i32;
        int64_t i64;
        struct { const void *ptr; size_t size; } mem;
        struct { const char *name; const void *val; long size; } header;
        void *ptr;
        char _pad[64];
    } u;
} rd_kafka_vu_t;

struct rd_kafka_metadata_broker { int32_t id; char *host; int port; };
struct rd_kafka_metadata_partition {
    int32_t id; int err; int32_t leader; int replica_cnt; int32_t *replicas; int isr_cnt; int32_t *isrs;
};
struct rd_kafka_metadata_topic {
    char *topic; int partition_cnt; struct rd_kafka_metadata_partition *partitions; int err;
};
struct rd_kafka_metadata {
    int broker_cnt; struct rd_kafka_metadata_broker *brokers;
    int topic_cnt; struct rd_kafka_metadata_topic *topics;
    int32_t orig_broker_id; char *orig_broker_name;
};
struct rd_kafka_group_member_info {
    char *member_id; char *client_id; char *client_host;
    void *member_metadata; int member_metadata_size; void *member_assignment; int member_assignment_size;
};
struct rd_kafka_group_info {
    struct rd_kafka_metadata_broker broker;
    char *group; int err; char *state; char *protocol_type; char *protocol;
    struct rd_kafka_group_member_info *members; int member_cnt;
};
struct rd_kafka_group_list { struct rd_kafka_group_info *groups; int group_cnt; };

const char *rd_kafka_err2str(int err);
const char *rd_kafka_err2name(int err);

rd_kafka_conf_t *rd_kafka_conf_new(void);
int rd_kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, char *errstr, size_t errstr_size);
void rd_kafka_conf_set_events(rd_kafka_conf_t *conf, int events);
rd_kafka_t *rd_kafka_new(int type, rd_kafka_conf_t *conf, char *errstr, size_t errstr_size);
void rd_kafka_destroy(rd_kafka_t *rk);

rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *rk, const char *topic, void *conf);
void rd_kafka_topic_destroy(rd_kafka_topic_t *rkt);
int rd_kafka_metadata(rd_kafka_t *rk, int all_topics, rd_kafka_topic_t *only_rkt,
                      const struct rd_kafka_metadata **metadatap, int timeout_ms);
void rd_kafka_metadata_destroy(const struct rd_kafka_metadata *metadata);
int rd_kafka_query_watermark_offsets(rd_kafka_t *rk, const char *topic, int32_t partition, int64_t *low, int64_t *high,
                                     int timeout_ms);

rd_kafka_topic_partition_list_t *rd_kafka_topic_partition_list_new(int size);
void rd_kafka_topic_partition_list_destroy(rd_kafka_topic_partition_list_t *list);
rd_kafka_topic_partition_t *rd_kafka_topic_partition_list_add(rd_kafka_topic_partition_list_t *list, const char *topic,
                                                              int32_t partition);
int rd_kafka_committed(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions, int timeout_ms);
int rd_kafka_commit(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *partitions, int async);
int rd_kafka_list_groups(rd_kafka_t *rk, const char *group, const struct rd_kafka_group_list **grplistp,
                         int timeout_ms);
void rd_kafka_group_list_destroy(const struct rd_kafka_group_list *grplist);

rd_kafka_error_t *rd_kafka_produceva(rd_kafka_t *rk, const rd_kafka_vu_t *vus, size_t cnt);
const char *rd_kafka_error_string(const rd_kafka_error_t *error);
void rd_kafka_error_destroy(rd_kafka_error_t *error);

rd_kafka_error_t *rd_kafka_init_transactions(rd_kafka_t *rk, int timeout_ms);
rd_kafka_error_t *rd_kafka_begin_transaction(rd_kafka_t *rk);
rd_kafka_error_t *rd_kafka_commit_transaction(rd_kafka_t *rk, int timeout_ms);
rd_kafka_error_t *rd_kafka_abort_transaction(rd_kafka_t *rk, int timeout_ms);

int rd_kafka_assign(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *partitions);
rd_kafka_message_t *rd_kafka_consumer_poll(rd_kafka_t *rk, int timeout_ms);
void rd_kafka_message_destroy(rd_kafka_message_t *rkmessage);
int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *rkmessage, int *tstype);
int rd_kafka_message_headers(const rd_kafka_message_t *rkmessage, rd_kafka_headers_t **hdrsp);
int rd_kafka_header_get_all(const rd_kafka_headers_t *hdrs, size_t idx, const char **namep, const void **valuep,
                            size_t *sizep);

rd_kafka_queue_t *rd_kafka_queue_new(rd_kafka_t *rk);
rd_kafka_queue_t *rd_kafka_queue_get_main(rd_kafka_t *rk);
void rd_kafka_queue_destroy(rd_kafka_queue_t *queue);
rd_kafka_event_t *rd_kafka_queue_poll(rd_kafka_queue_t *queue, int timeout_ms);
void rd_kafka_event_destroy(rd_kafka_event_t *event);
const rd_kafka_message_t *rd_kafka_event_message_next(rd_kafka_event_t *event);
int rd_kafka_event_error(rd_kafka_event_t *event);
const char *rd_kafka_event_error_string(rd_kafka_event_t *event);
rd_kafka_NewTopic_t *rd_kafka_NewTopic_new(const char *topic, int num_partitions, int replication_factor,
                                           char *errstr, size_t errstr_size);
int rd_kafka_NewTopic_set_config(rd_kafka_NewTopic_t *new_topic, const char *name, const char *value);
void rd_kafka_NewTopic_destroy(rd_kafka_NewTopic_t *new_topic);
void rd_kafka_CreateTopics(rd_kafka_t *rk, rd_kafka_NewTopic_t **new_topics, size_t count,
                           const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue);
const rd_kafka_event_t *rd_kafka_event_CreateTopics_result(rd_kafka_event_t *event);
const rd_kafka_topic_result_t **rd_kafka_CreateTopics_result_topics(const rd_kafka_event_t *result, size_t *count);
rd_kafka_DeleteTopic_t *rd_kafka_DeleteTopic_new(const char *topic);
void rd_kafka_DeleteTopic_destroy(rd_kafka_DeleteTopic_t *del_topic);
void rd_kafka_DeleteTopics(rd_kafka_t *rk, rd_kafka_DeleteTopic_t **del_topics, size_t count,
                           const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue);
const rd_kafka_event_t *rd_kafka_event_DeleteTopics_result(rd_kafka_event_t *event);
const rd_kafka_topic_result_t **rd_kafka_DeleteTopics_result_topics(const rd_kafka_event_t *result, size_t *count);
rd_kafka_DeleteRecords_t *rd_kafka_DeleteRecords_new(const rd_kafka_topic_partition_list_t *before_offsets);
void rd_kafka_DeleteRecords_destroy(rd_kafka_DeleteRecords_t *del_records);
void rd_kafka_DeleteRecords(rd_kafka_t *rk, rd_kafka_DeleteRecords_t **del_records, size_t count,
                            const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue);
const rd_kafka_event_t *rd_kafka_event_DeleteRecords_result(rd_kafka_event_t *event);
const rd_kafka_topic_partition_list_t *rd_kafka_DeleteRecords_result_offsets(const rd_kafka_event_t *result);
int rd_kafka_topic_result_error(const rd_kafka_topic_result_t *result);
const char *rd_kafka_topic_result_error_string(const rd_kafka_topic_result_t *result);
]]

return ffi.C
