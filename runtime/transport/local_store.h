/* local_store.h: what the embedded and the memory transport must each be able to do; all the rest
 * they share (local.h).
 *
 * Control. Everything is called on the loop's thread, except `write` when the store says that it
 * blocks: then it runs on libuv's thread pool, one at a time, while the loop's thread goes on
 * calling the others. A store never calls back.
 *
 * Topics and groups have small numbers that never change or come back; 0 is no topic and no group.
 */
#ifndef SHOVE_TRANSPORT_LOCAL_STORE_H
#define SHOVE_TRANSPORT_LOCAL_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/ledger.h"
#include "core/topology.h"
#include "transport/local_block.h"
#include "transport/transport.h"

struct shove_store; /* each store's own */
struct shove_local;

struct shove_store_topic {
    uint32_t id;
    int32_t partitions;
    int32_t role; /* enum shove_topic_role */
    bool is_keyed;
    int64_t retention_ms; /* 0: the role's default; -1: for ever */
    char name[SHOVE_NAME_SIZE];
};

struct shove_store_run { /* what one write appends to one partition */
    uint32_t topic_id;
    int32_t partition;
    struct shove_chunk **blocks; /* unsealed, one block each, in order */
    size_t block_count;
    size_t block_capacity;
    size_t open_bytes;   /* size of the last block */
    uint32_t count;      /* records */
    int64_t base_offset; /* out: the offset the first record got */
};

struct shove_store_commit {
    uint32_t group_id;
    uint32_t topic_id;
    int32_t partition;
    int64_t offset;
    const char *metadata;
};

/* Applied as a whole or not at all. */
struct shove_store_write {
    struct shove_store_run *runs;
    size_t run_count;
    struct shove_store_commit *commits; /* later ones win */
    size_t commit_count;
    bool wants_retention; /* afterwards, delete a bounded number of records no longer kept */
    int64_t now_ms;       /* wall clock, for retention */
    bool has_more;        /* out: retention left some for the next time */
    int code;             /* out: 0, ENOSPACE, EIO ... */
    struct shove_error error;
};

struct shove_store_ops {
    bool is_blocking; /* `write` waits for a disk */
    bool has_crc;     /* blocks that come from `read` carry checksums */
    int64_t tick_ms;  /* how often `write` is asked for retention, and `check` is called */

    /* ENOTOPIC when there is none. */
    int (*topic_get)(struct shove_store *store, const char *name, struct shove_store_topic *out,
                     struct shove_error *error);
    /* As in shove_transport_ops. */
    int (*topic_names)(struct shove_store *store, const char *prefix, struct shove_buffer *names,
                       struct shove_error *error);
    /* All or nothing; `changed` tells whether anything was created or changed. */
    int (*declare)(struct shove_store *store, const struct shove_topic_spec *specs, size_t count,
                   bool *changed, struct shove_error *error);
    /* Grows whenever a topic was created or changed, by whatever process. */
    uint64_t (*topology_version)(struct shove_store *store);

    /* Between these two, reads see one state and are cheap. They nest. */
    int (*read_begin)(struct shove_store *store, struct shove_error *error);
    void (*read_end)(struct shove_store *store);
    /* The oldest offset kept and the next to be written; 0 and 0 for an untouched partition. */
    int (*bounds)(struct shove_store *store, uint32_t topic_id, int32_t partition, int64_t *low,
                  int64_t *high, struct shove_error *error);
    /* gives blocks, the first of which holds `offset` (low <= offset < high, the caller has asked
     * `bounds`): at least one, and more until budget_bytes. 0 or an error that names topic,
     * partition and offset where it can. */
    int (*read)(struct shove_store *store, uint32_t topic_id, int32_t partition, int64_t offset,
                size_t budget_bytes, struct shove_chunk **out, struct shove_error *error);
    /* *offset is -1 when nothing is committed. gives *metadata (free), NULL when none. */
    int (*commit_get)(struct shove_store *store, uint32_t group_id, uint32_t topic_id,
                      int32_t partition, int64_t *offset, char **metadata,
                      struct shove_error *error);

    /* The group's number. A group that is not known is made when `makes`, else *out is 0. It is
     * remembered as consuming the topics given, so that retention waits for it. */
    int (*group_get)(struct shove_store *store, const char *name, bool makes,
                     const uint32_t *topic_ids, size_t topic_count, uint32_t *out,
                     struct shove_error *error);
    /* Makes this process the group's only consumer; EBUSY with the other's pid. Within the process
     * the caller sees to it. */
    int (*group_lock)(struct shove_store *store, uint32_t group_id, const char *name,
                      struct shove_error *error);
    void (*group_unlock)(struct shove_store *store, uint32_t group_id);

    int (*write)(struct shove_store *store, struct shove_store_write *write);
    int (*delete_before)(struct shove_store *store, uint32_t topic_id, int32_t partition,
                         int64_t offset, struct shove_error *error);
    /* Called every tick on the loop's thread: is the storage still there? 0, or why it can no
     * longer be used. */
    int (*check)(struct shove_store *store, struct shove_error *error);
    /* Begins to notice what other processes write, and calls shove_local_suspect then. NULL where
     * there are none. The first look comes after this. Undone by watch_stop, after which `local` is
     * not touched. */
    int (*watch_start)(struct shove_store *store, struct shove_local *local,
                       struct shove_error *error);
    void (*watch_stop)(struct shove_store *store);
    void (*free)(struct shove_store *store); /* on any thread's behalf, nothing else is under way */
};

#endif
