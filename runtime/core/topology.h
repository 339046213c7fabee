/* topology.h: the app as data: topics, groups, and every name derived from them. Pure; control and
 * cli.
 *
 * Validation that a user sees at his own line is done in Lua (lua/shove/); here are the rules about
 * names, defaults and numbers that control needs, each in one function, so that no two places can
 * derive a group id or a hold name.
 */
#ifndef SHOVE_CORE_TOPOLOGY_H
#define SHOVE_CORE_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/autoscale.h"
#include "core/outcome.h"

#define SHOVE_TOPIC_NAME_MAX 249 /* Kafka's limit; [a-zA-Z0-9._-]+, not "." or ".." */
#define SHOVE_NAME_SIZE (SHOVE_TOPIC_NAME_MAX + 1)
#define SHOVE_AUDIT_TIMEOUT_MAX_MS ((int64_t)24 * 60 * 60 * 1000)
/* Retries, and crashes, that can be counted: the ledger keeps a byte of each. */
#define SHOVE_ATTEMPTS_MAX 255
#define SHOVE_BROKERS_MAX 64

enum shove_sequencing { SHOVE_UNSEQUENCED, SHOVE_SEQUENCED_SKIP, SHOVE_SEQUENCED_FAIL_ALL };
enum shove_codec { SHOVE_CODEC_JSON, SHOVE_CODEC_RAW, SHOVE_CODEC_CUSTOM };
enum shove_reset { SHOVE_RESET_EARLIEST, SHOVE_RESET_LATEST, SHOVE_RESET_NONE };
enum shove_group_kind { SHOVE_GROUP_CONSUMER, SHOVE_GROUP_DEAD_LETTERS };

struct shove_topic {
    char *name;        /* the queue */
    uint32_t broker;   /* index into shove_topology.brokers; holds and DLQ are there, too */
    char *for_group;   /* NULL: the default group */
    char *dlq;         /* resolved name, NULL: none */
    char *poison;      /* resolved name of where poisoned keys are kept, NULL: not fail_all */
    char **holds;      /* resolved names, hold_count of them */
    int64_t *holds_ms; /* ascending */
    uint32_t hold_count;
    int32_t partitions;
    int32_t replication_factor;
    int64_t retention_ms; /* 0: the broker's default */
    enum shove_sequencing sequencing;
    enum shove_codec codec;
    bool has_key; /* a key function */
    bool is_external;
    bool allows_message_loss;
    char *at; /* "app.lua:12", where it was declared */
};

struct shove_group {
    uint32_t topic; /* index into shove_topology.topics */
    enum shove_group_kind kind;
    char *group_id; /* resolved */
    uint32_t consumers_min;
    uint32_t consumers_max;
    uint32_t prefetch; /* as configured */
    bool is_concurrent;
    uint32_t max_retries;
    uint32_t max_crashes;
    int64_t handler_timeout_ms;
    int64_t audit_timeout_ms; /* 0: its messages are not audited */
    enum shove_outcome timeout_outcome;
    enum shove_reset reset;
    int64_t max_message_size_bytes;
    uint32_t max_pending_per_key;
    char *at;
};

struct shove_property { /* a librdkafka property passed through */
    char *name;
    char *value;
};

struct shove_broker {
    char *url; /* "kafka://host:9092", "embedded:PATH", "memory:" */
    struct shove_property *properties;
    uint32_t property_count;
    char *at; /* where it is named first */
};

struct shove_topology {
    struct shove_broker *brokers; /* each once; the first is the registry's */
    uint32_t broker_count;        /* at least 1, unless it is empty */
    struct shove_autoscale_rule autoscale;
    char *at; /* "app.lua:3", where the registry was made; NULL: not known */
    struct shove_topic *topics;
    uint32_t topic_count;
    struct shove_group *groups;
    uint32_t group_count;
    char **warnings;
    uint32_t warning_count;
    char **files; /* what was loaded: the script, and modules that are not shove's */
    uint32_t file_count;
    bool has_on_start; /* app:on_start was given */
};

/* Frees everything the topology owns and zeroes it. A zeroed topology is valid and empty. */
void shove_topology_release(struct shove_topology *topology);

/* {queue}-hold-{N}s, or {queue}-hold-{N}ms when not whole seconds; {queue}-{group}-hold-... with
 * for_group. SHOVE_EINVAL when the name would be longer than Kafka allows. `for_group` may be
 * NULL. */
int shove_topology_hold_name(const char *queue, const char *for_group, int64_t delay_ms,
                             char out[SHOVE_NAME_SIZE], struct shove_error *error);

/* The other way round: the delay of the hold topic of that name, or 0 when hold_name gives no delay
 * of this queue and group that name. */
int64_t shove_topology_hold_delay_ms(const char *queue, const char *for_group, const char *name);

/* {queue}-dlq, {queue}-{group}-dlq. */
int shove_topology_dlq_name(const char *queue, const char *for_group, char out[SHOVE_NAME_SIZE],
                            struct shove_error *error);

/* {queue}-poison, {queue}-{group}-poison: which keys of a fail_all topic are poisoned. */
int shove_topology_poison_name(const char *queue, const char *for_group, char out[SHOVE_NAME_SIZE],
                               struct shove_error *error);

/* The one group-id resolver: explicit if given, else {queue}-consumer, or {queue}-fifo for fifo;
 * {queue}-{group}-consumer, {queue}-{group}-fifo with for_group. */
int shove_topology_group_id(const char *explicit_id, const char *queue, const char *for_group,
                            bool is_fifo, char out[SHOVE_NAME_SIZE], struct shove_error *error);

int shove_topology_check_name(const char *name, struct shove_error *error);

/* What prefetch means in effect: 1 without `concurrent`. */
uint32_t shove_group_effective_prefetch(const struct shove_group *group);

/* In-flight limit of `consumers` consumers of the group. */
uint64_t shove_group_capacity(const struct shove_group *group, uint32_t consumers);

/* The most messages that can be in flight at once, with as many consumers as each group may have.
 */
uint64_t shove_topology_peak(const struct shove_topology *topology);

/* The largest max_message_size of all groups, in bytes. */
int64_t shove_topology_largest_message(const struct shove_topology *topology);

/* The policy of a group's messages, borrowing the topology. A dead-letter group has neither holds
 * nor DLQ. */
struct shove_policy shove_topology_policy(const struct shove_topology *topology,
                                          const struct shove_group *group);

/* The topic a group consumes: the queue, or for a dead-letter group its DLQ. Borrows. */
const char *shove_topology_source(const struct shove_topology *topology,
                                  const struct shove_group *group);

/* The broker a group consumes from. */
uint32_t shove_topology_broker_of(const struct shove_topology *topology,
                                  const struct shove_group *group);

/* Cross-checks the whole (indices, duplicate names, a dlq equal to its queue, hold order,
 * numbers in range): the last line of defence behind the Lua checks. 0 or SHOVE_ECONFIG with the
 * user's line. */
int shove_topology_check(const struct shove_topology *topology, struct shove_error *error);

#endif
