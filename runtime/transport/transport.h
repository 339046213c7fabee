/* transport.h: the one table of operations through which shove speaks to a broker.
 *
 * Control (and cli commands). Everything here is called on the loop's thread; a transport may own
 * other threads, but its events are delivered on the loop's thread only, never from inside an
 * operation.
 *
 * Glossary
 *   topic, partition, offset, consumer group   as in Kafka
 *   subscription   membership of this process in one consumer group, over a list of topics
 *   claim          one partition, for one assignment of one subscription: from `assigned` to
 *                  `release`. A partition that leaves and returns is a new claim, so a claim is
 *                  the epoch.
 *   batch          records taken from a claim in one call; their bytes stay valid until
 *                  batch_release
 *
 * Order of things: subscribe -> assigned(claims) -> take* / commit* -> revoking(claims) -> [commit]
 * -> release(claims). `lost` claims went away without warning: nothing may be committed for them;
 * release them all the same.
 *
 * Blocking: operations of the first table never wait for a broker, except open and declare, which
 * run at start-up before anything is consumed and are bounded by their timeout; what is declared
 * later goes through declare_start. Those of the operator table block, bounded by their timeout;
 * they serve `shove dlq`, `shove publish`, the start of a run, a group that a reload adds (which
 * looks for holds of earlier runs) and specs.
 */
#ifndef SHOVE_TRANSPORT_TRANSPORT_H
#define SHOVE_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/record.h"
#include "core/topology.h"

struct shove_buffer;
struct uv_loop_s;
struct shove_transport;
struct shove_subscription;

enum shove_capability {
    SHOVE_CAN_PERSIST = 1u << 0,         /* what is acknowledged survives the process */
    SHOVE_CAN_SHARE = 1u << 1,           /* several processes may consume one group at once */
    SHOVE_CAN_PUBLISH_OUTSIDE = 1u << 2, /* another process can publish */
    SHOVE_CAN_EXPAND = 1u << 3,          /* partitions can be added to a topic */
    SHOVE_HAS_PROPERTIES = 1u << 4       /* librdkafka properties apply */
};

enum shove_topic_role {
    SHOVE_ROLE_MAIN,
    SHOVE_ROLE_HOLD,
    SHOVE_ROLE_DLQ,
    SHOVE_ROLE_POISON /* which keys of a sequenced queue are poisoned: the last record of each key
                         is kept for ever; where a transport can, it forgets the earlier ones */
};

#define SHOVE_SCAN_MAX 4096 /* records that one scan gives at most */

struct shove_topic_spec { /* borrowed for the call */
    const char *name;
    enum shove_topic_role role;
    int32_t partitions;
    int32_t replication_factor;
    int64_t retention_ms;   /* 0: the role's default; -1: for ever */
    int64_t hold_ms;        /* HOLD: how long a record waits there */
    bool is_keyed;          /* never re-partitioned */
    bool is_external;       /* verify only */
    const char *at;         /* the user's line, for errors; may be NULL */
    const char *as_wide_as; /* external, POISON: the queue, in the same call, than which it may not
                               have fewer partitions; NULL: any number will do */
};

/* A partition in one assignment. The transport owns it until `release`; `user` belongs to the
 * subscriber. */
struct shove_claim {
    struct shove_subscription *subscription;
    uint32_t topic_index; /* into the subscription's topics */
    int32_t partition;
    int64_t start_offset; /* the committed frontier, or what the reset policy resolved to: taking
                             begins here */
    bool has_committed;   /* false: start_offset came from the reset policy, and should be
                             committed */
    const char *metadata; /* committed with start_offset; "" when none */
    void *user;
};

struct shove_batch {
    struct shove_record *records; /* ascending offsets, holes possible */
    size_t count;
    void *owner; /* the transport's */
};

struct shove_produce { /* all borrowed for the call; the transport copies what it keeps */
    const char *topic;
    int32_t partition; /* -1: by key (Java's murmur2), or spread when the key is null */
    struct shove_record record;
    bool is_hop;  /* it was in a topic before: max_message_size_bytes does not apply */
    void *opaque; /* comes back in `produced` */
};

struct shove_produced {
    void *opaque;
    int code; /* 0: acknowledged and durable; else why not, and the record is not in the topic as
                 far as is known */
    int32_t partition;
    int64_t offset;
    const char *detail; /* the broker's words on failure, borrowed for the call */
};

struct shove_commit {
    struct shove_claim *claim;
    int64_t offset;
    const char *metadata; /* "" for none; at most metadata_max characters */
    int code;             /* in `committed`: 0 or why this one failed; ETOOLARGE: its metadata is
                             larger than this broker takes */
};

struct shove_scanned {
    void *opaque;
    int code; /* 0, or why not: ENOTOPIC, ENOPARTITION, EUNREACHABLE, ETIMEOUT, EDENIED ... */
    const char *detail;                 /* words on failure, borrowed for the call; may be NULL */
    const struct shove_record *records; /* ascending offsets, holes possible; borrowed for the
                                           call */
    size_t count;
    int64_t next_offset; /* where a further scan begins */
    bool is_end;         /* nothing was behind the last record when it was read */
};

/* Delivered on the loop's thread, outside any operation. All pointers are borrowed for the call,
 * claims excepted. */
struct shove_transport_events {
    /* These partitions are ours from now on. None: the group is joined, and for now others have all
     * there are. */
    void (*assigned)(void *ctx, struct shove_subscription *subscription,
                     struct shove_claim **claims, size_t count);
    /* To be given up: settle what can be settled, commit, then call release within the group's
     * session. */
    void (*revoking)(void *ctx, struct shove_subscription *subscription,
                     struct shove_claim **claims, size_t count);
    /* Gone already: call release, commit nothing. */
    void (*lost)(void *ctx, struct shove_subscription *subscription, struct shove_claim **claims,
                 size_t count);
    /* There may be records to take, room to produce, or both. Coalesced. */
    void (*readable)(void *ctx);
    void (*produced)(void *ctx, const struct shove_produced *results, size_t count);
    void (*committed)(void *ctx, struct shove_subscription *subscription,
                      const struct shove_commit *commits, size_t count, void *opaque);
    void (*scanned)(void *ctx, const struct shove_scanned *result);
    /* What declare would have returned, and its words; "" with 0. */
    void (*declared)(void *ctx, void *opaque, int code, const char *text);
    /* The subscription ended: after unsubscribe (code 0), or because it cannot go on (EAUTH,
     * EDENIED, ENOTOPIC, EOFFSET, ...; `text` says it all). Its claims are already lost or
     * released. It is freed after the call. */
    void (*ended)(void *ctx, struct shove_subscription *subscription, int code, const char *text);
    /* No host of the broker can be reached, or one can again. Not told of at the start. */
    void (*reached)(void *ctx, bool is_reached);
    /* Something a person should know, and no more: broker down, back again, a topic deleted under
     * way. Rate-limited by the transport. code 0: recovered. */
    void (*notice)(void *ctx, int code, const char *text);
};

struct shove_transport_config { /* borrowed for the call */
    const char *address; /* what follows the scheme: "host1:9092,host2:9092", "./orders.db", "" */
    const struct shove_property *properties;
    uint32_t property_count;
    struct uv_loop_s *loop;                      /* outlives the transport */
    const struct shove_transport_events *events; /* outlives the transport; NULL functions are not
                                                    called */
    void *ctx;
    int64_t timeout_ms;             /* for reaching the broker in open, declare and declare_start */
    int64_t max_message_size_bytes; /* largest record that must pass; hops may be larger */
    const char *instance;           /* client id, e.g. "shove-orders"; may be NULL */
    bool must_exist;                /* never create the storage: for commands that look into it */
};

struct shove_subscribe { /* borrowed for the call */
    const char *group_id;
    const char *const *topics;
    size_t topic_count;
    enum shove_reset reset; /* where nothing is committed, or not a position that is there */
    size_t hold_count;      /* the last so many topics are holds: there it is always the earliest,
                               because what a hold has is the group's own, committed or not */
    void *user;             /* readable back with shove_subscription_user */
};

struct shove_transport_ops {
    const char *scheme; /* "kafka", "embedded", "memory" */
    unsigned capabilities;
    size_t metadata_max; /* characters that a commit may carry; a broker may refuse fewer
                            (ETOOLARGE) */

    /* Whether these properties can be set, as far as can be said without a broker: 0, or ECONFIG
     * that names the property. NULL where none apply. */
    int (*check_properties)(const struct shove_property *properties, uint32_t count,
                            struct shove_error *error);
    /* With these properties, how long a group waits for a member that has partitions to give up,
     * before it goes on without it. NULL where no group does. */
    int64_t (*rebalance_ms)(const struct shove_property *properties, uint32_t count);
    /* Connects or opens. gives *out. EUNREACHABLE, EAUTH, EDAMAGED, EREADONLY, ECONFIG (a property
     * refused by name) ... */
    int (*open)(const struct shove_transport_config *config, struct shove_transport **out,
                struct shove_error *error);
    /* Flushes nothing: drain first. Releases everything, bounded by timeout_ms; subscriptions still
     * there are abandoned without a commit. takes the transport. Must not be called from inside an
     * event. */
    void (*close)(struct shove_transport *transport, int64_t timeout_ms);

    /* Creates what is missing, verifies what is there; idempotent. Warnings go to the log. Returns
     * 0 or ECONFIG (wrong partition count of a keyed topic, external topic absent ...), EDENIED,
     * ETIMEOUT. */
    int (*declare)(struct shove_transport *transport, const struct shove_topic_spec *specs,
                   size_t count, struct shove_error *error);
    /* The same without waiting for the broker, beside whatever else is under way: the result comes
     * as `declared`, exactly once for each call that returned 0, unless the transport is closed
     * before. The call itself fails with ENOMEM alone. NULL where declare waits for no broker. */
    int (*declare_start)(struct shove_transport *transport, const struct shove_topic_spec *specs,
                         size_t count, void *opaque);

    /* Joins a group. EBUSY with the other's pid in the text where a group cannot be shared. gives
     * *out (freed after `ended`). */
    int (*subscribe)(struct shove_transport *transport, const struct shove_subscribe *what,
                     struct shove_subscription **out, struct shove_error *error);
    /* Leaves: revoking for what it owns, then `ended`. */
    void (*unsubscribe)(struct shove_transport *transport, struct shove_subscription *subscription);

    /* Up to `max` records; 0: none there now (readable will tell). The batch is valid until
     * batch_release and survives the claim's revocation (not the transport). Negative: SHOVE_E*;
     * the claim yields no more, and its subscription ends, or has lost it. */
    long (*take)(struct shove_transport *transport, struct shove_claim *claim, size_t max,
                 struct shove_batch *batch);
    void (*batch_release)(struct shove_transport *transport, struct shove_batch *batch);

    /* Queues one record; the result comes as `produced`, exactly once for each call that returned
     * 0. EAGAIN: queue full (readable will tell). ENOTOPIC, ENOPARTITION, ETOOLARGE, ECLOSED at
     * once where known. Never creates a topic. */
    int (*produce)(struct shove_transport *transport, const struct shove_produce *what);

    /* Starts a commit for claims of one subscription; the result comes as `committed`, exactly once
     * per call that returned 0. Commits of one subscription are applied in call order. */
    int (*commit)(struct shove_transport *transport, struct shove_subscription *subscription,
                  const struct shove_commit *commits, size_t count, void *opaque);
    /* The answer to revoking and lost: frees the claims; nothing may refer to them afterwards, so
     * `committed` leaves out the commits of claims released meanwhile (and is not delivered when
     * none is left). All claims of one revoking event may be released in any number of calls, also
     * from inside the event. */
    void (*release)(struct shove_transport *transport, struct shove_claim **claims, size_t count);
    /* How long a record of `topic` is kept that this app's groups have not finished: milliseconds,
     * -1: as long as they need, 0: not known. Of a declared topic, as it was then; no broker is
     * asked. */
    int64_t (*retention_ms)(struct shove_transport *transport, const char *topic);
    /* Records waiting for this claim beyond what was taken, as known without asking the broker: the
     * offsets between the next one to read, or the first that is kept, and the end of the log.
     * *end, which may be NULL: the offset one past the newest (the high watermark). -1: not known
     * yet. */
    int64_t (*backlog)(struct shove_transport *transport, const struct shove_claim *claim,
                       int64_t *end);

    /* Reads what is in a partition from `offset` on (-1: from its beginning) up to where it ends
     * now, without a group: the result comes as `scanned`, exactly once for each call that returned
     * 0. For the start of an assignment; at most SHOVE_SCAN_MAX records at a time, and fewer where
     * they are large (call again from next_offset). An offset below what is kept means the oldest
     * that is, one behind the end means the end. Whatever is wrong with the topic, the partition or
     * the broker is told by the event; the call itself fails with ENOMEM alone. Scans are answered
     * in the order of the calls. */
    int (*scan)(struct shove_transport *transport, const char *topic, int32_t partition,
                int64_t offset, void *opaque);

    /* ---- operator table: blocking ----
     * ENOTOPIC for a topic, ENOPARTITION for a partition that is not there. */

    /* Appends the names of the topics that exist, can be seen and begin with `prefix`, each with
     * its zero byte, in any order. 0, ENOMEM, EUNREACHABLE, ETIMEOUT ... Creates none. */
    int (*topic_names)(struct shove_transport *transport, const char *prefix,
                       struct shove_buffer *names, int64_t timeout_ms, struct shove_error *error);
    /* Number of partitions, or ENOTOPIC, ETIMEOUT ... */
    long (*partition_count)(struct shove_transport *transport, const char *topic,
                            int64_t timeout_ms, struct shove_error *error);
    int (*watermarks)(struct shove_transport *transport, const char *topic, int32_t partition,
                      int64_t *low, int64_t *high, int64_t timeout_ms, struct shove_error *error);
    /* Up to `max` records from `offset` on, without a group; 0 when there are none before the
     * timeout. */
    long (*read)(struct shove_transport *transport, const char *topic, int32_t partition,
                 int64_t offset, size_t max, int64_t timeout_ms, struct shove_batch *batch,
                 struct shove_error *error);
    /* Committed offset (-1: none) and metadata (given: the caller frees; NULL when none). */
    int (*committed_get)(struct shove_transport *transport, const char *group_id, const char *topic,
                         int32_t partition, int64_t *offset, char **metadata, int64_t timeout_ms,
                         struct shove_error *error);
    /* Commits for a group that nobody consumes with. */
    int (*committed_set)(struct shove_transport *transport, const char *group_id, const char *topic,
                         int32_t partition, int64_t offset, const char *metadata,
                         int64_t timeout_ms, struct shove_error *error);
    /* Deletes the records below `offset`. */
    int (*delete_before)(struct shove_transport *transport, const char *topic, int32_t partition,
                         int64_t offset, int64_t timeout_ms, struct shove_error *error);
};

/* Common head of every implementation's transport and subscription. */
struct shove_transport {
    const struct shove_transport_ops *ops;
};
struct shove_subscription {
    struct shove_transport *transport;
    void *user;
    char *group_id;
};

/* "kafka://..." / "embedded:PATH" / "memory:" -> the table and the address (borrowed from
 * `broker`). ECONFIG with what is allowed. */
int shove_transport_find(const char *broker, const struct shove_transport_ops **ops,
                         const char **address, struct shove_error *error);

/* The partition of a key, as Java's default partitioner and librdkafka's murmur2 choose it.
 * partition_count > 0. */
int32_t shove_transport_partition_for_key(const void *key, size_t key_size,
                                          int32_t partition_count);

/* For transports: whether a topic is as wide as spec->as_wide_as asks, of which `least` partitions
 * are there. 0, or ECONFIG with the user's line. */
int shove_transport_check_width(const struct shove_topic_spec *spec, long partitions, long least,
                                struct shove_error *error);

extern const struct shove_transport_ops shove_kafka_ops;
extern const struct shove_transport_ops shove_embedded_ops;
extern const struct shove_transport_ops shove_memory_ops;

#endif
