/* local.h: the part that the embedded and memory transports have in common: subscriptions, claims,
 * batches, the queue of what is to be written, and the delivery of events.
 *
 * Control, the loop's thread alone. A store (local_store.h) underneath keeps topics, records and
 * offsets.
 *
 * Events never come from inside an operation: operations change states and poke `handles.wake`; its
 * callback, the pump, looks at the states and calls the subscriber. What is to be written collects
 * in a *set* (records packed into blocks per partition, and commits); one set at a time is with the
 * store, the next one fills meanwhile. So however slow the disk, each of its transactions carries
 * all that has come in since the last.
 *
 *   local.c                open, close, pump, tick
 *   local_subscription.c   groups, claims, revoking, commits
 *   local_write.c          sets: produce, hand over, results
 *   local_take.c           batches
 *   local_scan.c           reading to the end of a partition
 *   local_admin.c          declare and operator table
 */
#ifndef SHOVE_TRANSPORT_LOCAL_H
#define SHOVE_TRANSPORT_LOCAL_H

#include <uv.h>

#include "transport/local_store.h"
#include "transport/transport.h"

/* Produced and not yet acknowledged; beyond it produce answers EAGAIN. One record more may pass,
 * however large. */
#define SHOVE_LOCAL_QUEUE_BYTES (16u << 20)
/* Refused is what is larger than this and larger than the configured max_message_size_bytes;
 * headers come on top. */
#define SHOVE_LOCAL_RECORD_BYTES (16 << 20)
#define SHOVE_LOCAL_HEADROOM_BYTES (64 << 10)

struct shove_local_slot { /* where the records of one partition go in the set that is filling */
    uint32_t serial;      /* of that set */
    uint32_t run;
};

struct shove_local_topic {
    struct shove_store_topic info;
    struct shove_local_slot *slots; /* one per partition */
    int32_t spread_at;              /* where records without a key go now */
    uint32_t spread_left;           /* and how many more of them */
};

struct shove_local_claim {
    struct shove_claim public; /* first */
    struct shove_local_claim *next;
    struct shove_local_claim *previous;
    uint32_t topic_id;
    uint32_t references; /* the subscriber's and one per commit under way */
    bool is_released;
    int64_t next_offset;
    int64_t high;
    struct shove_chunk *chunk; /* what `reader` reads */
    struct shove_block_reader reader;
    char *metadata;
};

enum shove_local_state {
    SHOVE_LOCAL_ACTIVE,  /* owns, or is about to own, all partitions */
    SHOVE_LOCAL_LEAVING, /* revoking is to be said */
    SHOVE_LOCAL_WAITING, /* for release, and for commits under way */
};

struct shove_local_subscription {
    struct shove_subscription head; /* first */
    struct shove_local_subscription *next;
    uint32_t group_id;
    uint32_t topic_count;
    struct shove_local_member {
        uint32_t topic_id;
        int32_t claimed; /* partitions claimed so far: 0 to partitions */
        char *name;
        enum shove_reset reset;
        bool has_begun; /* the group: what has no committed offset by now was added since */
    } * topics;
    enum shove_local_state state;
    struct shove_local_claim *claims; /* not yet released */
    size_t claim_count;
    size_t calls_under_way;
    int end_code;
    char *end_text;
};

struct shove_local_ack {
    void *opaque;
    uint32_t run;
    uint32_t index;
};

struct shove_local_call { /* one call of commit */
    struct shove_local_subscription *subscription;
    void *opaque;
    size_t first;
    size_t count;
};

struct shove_local_set {
    struct shove_store_write write;
    size_t run_capacity;
    size_t commit_capacity;
    struct shove_local_ack *acks;
    size_t ack_count;
    size_t ack_capacity;
    struct shove_commit *commits; /* all of all calls; the metadata is the set's own */
    size_t answer_count;
    size_t answer_capacity;
    struct shove_local_call *calls;
    size_t call_count;
    size_t call_capacity;
    size_t bytes;
    uint32_t serial;
};

struct shove_local_batch {
    struct shove_local_batch *next;
    struct shove_local_batch *previous;
    struct shove_record *records;
    size_t capacity;
    struct shove_chunk **chunks;
    size_t chunk_count;
    size_t chunk_capacity;
};

struct shove_local_scan { /* asked for, and read when it is told */
    struct shove_local_scan *next;
    void *opaque;
    int64_t offset;
    int32_t partition;
    char topic[];
};

/* Outlives the transport until libuv has closed what is in it. */
struct shove_local_handles {
    uv_async_t wake;
    uv_timer_t tick;
    int open_count;
    struct shove_local *local; /* NULL: closed */
};

/* A write on the thread pool. Belongs to the loop; outlives the transport when close could not wait
 * for it. */
struct shove_local_job {
    uv_work_t request;
    uv_mutex_t mutex;
    uv_cond_t finished;
    bool is_finished;          /* under mutex */
    struct shove_local *local; /* NULL: the transport was closed */
    const struct shove_store_ops *ops;
    struct shove_store *store;
    bool owns_store; /* close gave up waiting: the store goes when the job does */
    struct shove_local_set *set;
};

struct shove_local {
    struct shove_transport head; /* first */
    struct uv_loop_s *loop;
    const struct shove_transport_events *events;
    void *ctx;
    const struct shove_store_ops *ops;
    struct shove_store *store;
    struct shove_local_handles *handles;
    size_t record_limit_bytes;

    struct shove_local_topic **topics; /* known so far, by name */
    size_t topic_count;
    size_t topic_capacity;
    struct shove_local_topic *last_topic;
    uint64_t topology_version;

    struct shove_local_subscription *subscriptions;

    struct shove_local_set *filling;  /* NULL: nothing to write */
    struct shove_local_set *finished; /* results to be told */
    struct shove_local_set *spare;
    struct shove_local_job *job;
    uint32_t serial;
    size_t queued_bytes; /* in `filling` and with the job */
    bool is_room_wanted;
    bool is_retention_due;

    struct shove_local_batch *batches; /* given out */
    struct shove_local_batch *spare_batches;

    struct shove_local_scan *scans; /* oldest first */
    struct shove_local_scan **scans_end;

    bool is_readable; /* to be told */
    bool is_stale;    /* high watermarks may have moved */
    bool is_pumping;
    int trouble;   /* what writing fails with now; 0: it does not */
    int told_code; /* the trouble last told, and when */
    int64_t told_ms;
    bool is_trouble_told; /* so its end will be */
    int gone_code;        /* the storage was taken away */
};

/* ---- local.c ---- */

/* takes the store, also on failure. gives *out. */
int shove_local_open(const struct shove_transport_config *config,
                     const struct shove_transport_ops *transport_ops,
                     const struct shove_store_ops *ops, struct shove_store *store,
                     struct shove_local **out, struct shove_error *error);
void shove_local_close(struct shove_transport *transport, int64_t timeout_ms);
/* Something changed: let the pump run. */
void shove_local_wake(struct shove_local *local);
/* Somebody else may have written: look at watermarks and topics. */
void shove_local_suspect(struct shove_local *local);
/* Is the storage still there? If not, all subscriptions end and nothing more is written. Loop only.
 */
void shove_local_check(struct shove_local *local);
/* Tells of trouble (rate-limited), or with code 0 that it is over. */
void shove_local_notice(struct shove_local *local, int code, const char *text);
/* Room for one more item of `size` bytes in a growing array. 0 or ENOMEM. */
int shove_local_grow(void *items, size_t *capacity, size_t count, size_t size);
/* The topic, from the cache or the store. */
int shove_local_topic_find(struct shove_local *local, const char *name,
                           struct shove_local_topic **out, struct shove_error *error);

/* ---- local_subscription.c ---- */

int shove_local_subscribe(struct shove_transport *transport, const struct shove_subscribe *what,
                          struct shove_subscription **out, struct shove_error *error);
void shove_local_unsubscribe(struct shove_transport *transport,
                             struct shove_subscription *subscription);
int shove_local_commit(struct shove_transport *transport, struct shove_subscription *subscription,
                       const struct shove_commit *commits, size_t count, void *opaque);
void shove_local_release(struct shove_transport *transport, struct shove_claim **claims,
                         size_t count);
int64_t shove_local_retention_ms(struct shove_transport *transport, const char *topic);
int64_t shove_local_backlog(struct shove_transport *transport, const struct shove_claim *claim,
                            int64_t *end);
/* Says assigned, revoking and ended where they are due. Only from the pump. */
void shove_local_subscriptions_advance(struct shove_local *local);
/* Looks up the high watermarks of all claims; sets is_readable when one grew. */
void shove_local_subscriptions_refresh(struct shove_local *local);
/* The subscription cannot go on: its claims are revoked, then it ends with this. */
void shove_local_subscription_fail(struct shove_local_subscription *subscription, int code,
                                   const char *text);
void shove_local_claim_drop(struct shove_local_claim *claim);
/* At close: frees all, saying nothing. */
void shove_local_subscriptions_free(struct shove_local *local);

/* ---- local_write.c ---- */

int shove_local_produce(struct shove_transport *transport, const struct shove_produce *what);
/* The set that is filling; NULL when out of memory. */
struct shove_local_set *shove_local_filling(struct shove_local *local);
/* Hands the filling set over when the store is free. */
void shove_local_write_start(struct shove_local *local);
/* Tells the results of the finished set. Only from the pump. */
void shove_local_write_deliver(struct shove_local *local);
/* At close: waits for the job until timeout_ms, frees all sets. Returns whether the store may be
 * freed now. */
bool shove_local_write_close(struct shove_local *local, int64_t timeout_ms);

/* ---- local_take.c ---- */

long shove_local_take(struct shove_transport *transport, struct shove_claim *claim, size_t max,
                      struct shove_batch *batch);
void shove_local_batch_release(struct shove_transport *transport, struct shove_batch *batch);
long shove_local_read(struct shove_transport *transport, const char *topic, int32_t partition,
                      int64_t offset, size_t max, int64_t timeout_ms, struct shove_batch *batch,
                      struct shove_error *error);
void shove_local_batches_free(struct shove_local *local);

/* ---- local_scan.c ---- */

int shove_local_scan(struct shove_transport *transport, const char *topic, int32_t partition,
                     int64_t offset, void *opaque);
/* Reads and tells those that were asked for before. Only from the pump. */
void shove_local_scans_deliver(struct shove_local *local);
/* At close: frees all, saying nothing. */
void shove_local_scans_free(struct shove_local *local);

/* ---- local_admin.c ---- */

int shove_local_declare(struct shove_transport *transport, const struct shove_topic_spec *specs,
                        size_t count, struct shove_error *error);
int shove_local_topic_names(struct shove_transport *transport, const char *prefix,
                            struct shove_buffer *names, int64_t timeout_ms,
                            struct shove_error *error);
long shove_local_partition_count(struct shove_transport *transport, const char *topic,
                                 int64_t timeout_ms, struct shove_error *error);
int shove_local_watermarks(struct shove_transport *transport, const char *topic, int32_t partition,
                           int64_t *low, int64_t *high, int64_t timeout_ms,
                           struct shove_error *error);
int shove_local_committed_get(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t *offset,
                              char **metadata, int64_t timeout_ms, struct shove_error *error);
int shove_local_committed_set(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t offset,
                              const char *metadata, int64_t timeout_ms, struct shove_error *error);
int shove_local_delete_before(struct shove_transport *transport, const char *topic,
                              int32_t partition, int64_t offset, int64_t timeout_ms,
                              struct shove_error *error);
/* Deletes at once what need not be kept at now_ms (wall clock): what the tick does bit by bit. */
int shove_local_retain(struct shove_transport *transport, int64_t now_ms,
                       struct shove_error *error);
/* Checks one spec against what is there (NULL: nothing) and says what it should become: pure,
 * shared by the stores. Returns 1 when `out` is to be stored, 0 when nothing is to do, or ECONFIG.
 * out->id is left to the store. */
int shove_local_declare_one(const struct shove_topic_spec *spec,
                            const struct shove_store_topic *existing, struct shove_store_topic *out,
                            struct shove_error *error);
/* What retention may delete of a block: pure, shared by the stores. `consumed` is the least
 * committed offset of the topic's known groups, -1 when it has none. */
bool shove_local_is_deletable(const struct shove_store_topic *topic, int64_t default_retention_ms,
                              int64_t consumed, int64_t block_end, int64_t newest_ms,
                              int64_t now_ms);

/* The entries of a transport's table that both have alike. */
#define SHOVE_LOCAL_OPS                                                                            \
    .metadata_max = SHOVE_LEDGER_METADATA_MOST, .close = shove_local_close,                        \
    .declare = shove_local_declare, .subscribe = shove_local_subscribe,                            \
    .unsubscribe = shove_local_unsubscribe, .take = shove_local_take,                              \
    .batch_release = shove_local_batch_release, .produce = shove_local_produce,                    \
    .commit = shove_local_commit, .release = shove_local_release,                                  \
    .retention_ms = shove_local_retention_ms, .backlog = shove_local_backlog,                      \
    .scan = shove_local_scan, .topic_names = shove_local_topic_names,                              \
    .partition_count = shove_local_partition_count, .watermarks = shove_local_watermarks,          \
    .read = shove_local_read, .committed_get = shove_local_committed_get,                          \
    .committed_set = shove_local_committed_set, .delete_before = shove_local_delete_before

#endif
