/* embedded_store.h: the embedded broker's file, as its parts see it. LMDB is named in embedded_*
 * only.
 *
 * Control and cli. `write` runs on libuv's thread pool, the rest on the loop's thread; LMDB lets
 * one writer at a time in, of whatever thread and process, and readers see the state at which they
 * began.
 *
 * Three files: PATH (one LMDB environment), PATH-lock (LMDB's own), PATH-groups (embedded_locks.h).
 * Databases in PATH:
 *
 *   meta      "format" -> magic, version; "topology", "topic_id", "group_id" -> u64
 *   topics    name -> struct shove_embedded_topic
 *   groups    name -> u32 id
 *   members   topic, group -> nothing: groups that subscribed to a topic
 *   log       topic, partition, base offset -> block
 *             the same and part number -> the next bytes of a large block
 *   ends      topic, partition -> low, high
 *   commits   topic, partition, group -> offset, metadata
 *
 * Keys are big endian, so that order is numerical; values are little endian.
 *
 * A block (local_block.h) is cut into parts that fill one overflow page each. All pages are
 * therefore allocated one by one, and whatever retention frees fits whatever comes next: the file
 * does not grow by fragmentation.
 */
#ifndef SHOVE_TRANSPORT_EMBEDDED_STORE_H
#define SHOVE_TRANSPORT_EMBEDDED_STORE_H

#include <lmdb.h>
#include <sys/types.h>

#include "transport/embedded_locks.h"
#include "transport/local_store.h"

#define SHOVE_EMBEDDED_FORMAT 1

struct shove_embedded_format {
    char magic[8]; /* "shove" and zeros */
    uint32_t version;
    uint32_t reserved;
} __attribute__((packed));

struct shove_embedded_topic {
    uint32_t id;
    int32_t partitions;
    int32_t role;
    int32_t is_keyed;
    int64_t retention_ms;
    int64_t created_ms;
} __attribute__((packed));

struct shove_embedded_ends {
    int64_t low;
    int64_t high;
} __attribute__((packed));

#define SHOVE_EMBEDDED_KEY_MAX 20
#define SHOVE_EMBEDDED_BLOCK_KEY 16 /* bytes of the key of a block's first part */

struct shove_embedded_watch;

struct shove_store {
    char *path;
    MDB_env *env;
    MDB_dbi meta;
    MDB_dbi topics;
    MDB_dbi groups;
    MDB_dbi members;
    MDB_dbi log;
    MDB_dbi ends;
    MDB_dbi commits;
    size_t part_bytes; /* of a part, all but the last */
    struct shove_embedded_locks *locks;
    dev_t device; /* of PATH when it was opened */
    ino_t inode;

    MDB_txn *reader;           /* the loop's; reset between uses */
    MDB_cursor *reader_cursor; /* on log */
    unsigned reader_depth;
    uintptr_t touched_low; /* addresses of the map that were read since it was last given back */
    uintptr_t touched_high;
    size_t touched_bytes;

    struct shove_embedded_watch *watch;
};

/* ---- embedded_file.c: opening, creating, refusing ---- */

/* gives a store that is open and checked. `may_create` false: EUNREACHABLE when there is no file.
 */
int shove_embedded_open_file(const char *path, bool may_create, int64_t timeout_ms,
                             struct shove_store **out, struct shove_error *error);
void shove_embedded_free(struct shove_store *store);
/* Whether PATH is still the file that was opened. */
int shove_embedded_check(struct shove_store *store, struct shove_error *error);

/* ---- embedded_pages.c: a file that LMDB must not be let near ---- */

/* Reads the file's pages as LMDB will follow them, without LMDB, which trusts what it finds.
 * EDAMAGED: it is not LMDB's, or of another version, cut short, or a page is not what points to it
 * says. Gives up looking (and returns 0) after budget_ms. Nobody may be writing the file. */
int shove_embedded_pages_check(int fd, const char *path, int64_t budget_ms,
                               struct shove_error *error);
/* The first bytes only: is it LMDB's at all? */
int shove_embedded_head_check(int fd, const char *path, struct shove_error *error);
/* Whether the value is where LMDB would have put it, looking at the header of its page. Deleting
 * trusts that header. */
bool shove_embedded_value_is_sound(const MDB_val *value, size_t page_bytes);

/* ---- embedded_store.c ---- */

/* "what: why, and what to do", translated. `rc` is LMDB's or errno. */
int shove_embedded_error(const struct shove_store *store, int rc, const char *what,
                         struct shove_error *error);
/* Big endian numbers into a key; returns its value. `count` u32 first, then the offset unless
 * negative. */
MDB_val shove_embedded_key(uint8_t key[SHOVE_EMBEDDED_KEY_MAX], uint32_t topic_id,
                           int32_t partition);
MDB_val shove_embedded_block_key(uint8_t key[SHOVE_EMBEDDED_KEY_MAX], uint32_t topic_id,
                                 int32_t partition, int64_t offset);
MDB_val shove_embedded_key3(uint8_t key[SHOVE_EMBEDDED_KEY_MAX], uint32_t first, uint32_t second,
                            uint32_t third);
/* The base offset in a log key of this partition; -1 when the key is of another one. */
int64_t shove_embedded_key_offset(const MDB_val *key, uint32_t topic_id, int32_t partition);
int shove_embedded_ends_get(struct shove_store *store, MDB_txn *txn, uint32_t topic_id,
                            int32_t partition, struct shove_embedded_ends *out);
int shove_embedded_ends_put(struct shove_store *store, MDB_txn *txn, uint32_t topic_id,
                            int32_t partition, const struct shove_embedded_ends *ends);
int shove_embedded_read_begin(struct shove_store *store, struct shove_error *error);
void shove_embedded_read_end(struct shove_store *store);
int shove_embedded_bounds(struct shove_store *store, uint32_t topic_id, int32_t partition,
                          int64_t *low, int64_t *high, struct shove_error *error);
int shove_embedded_read(struct shove_store *store, uint32_t topic_id, int32_t partition,
                        int64_t offset, size_t budget_bytes, struct shove_chunk **out,
                        struct shove_error *error);
int shove_embedded_commit_get(struct shove_store *store, uint32_t group_id, uint32_t topic_id,
                              int32_t partition, int64_t *offset, char **metadata,
                              struct shove_error *error);
int shove_embedded_write(struct shove_store *store, struct shove_store_write *write);

/* ---- embedded_topics.c: names, numbers, groups ---- */

/* Makes the databases of a new file, and says whose it is. */
int shove_embedded_format_write(struct shove_store *store, struct shove_error *error);
/* Opens the databases and checks that the file is ours and of this version. */
int shove_embedded_format_check(struct shove_store *store, struct shove_error *error);
int shove_embedded_topic_get(struct shove_store *store, const char *name,
                             struct shove_store_topic *out, struct shove_error *error);
int shove_embedded_topic_names(struct shove_store *store, const char *prefix,
                               struct shove_buffer *names, struct shove_error *error);
int shove_embedded_topic_decode(const MDB_val *key, const MDB_val *value,
                                struct shove_store_topic *out);
int shove_embedded_declare(struct shove_store *store, const struct shove_topic_spec *specs,
                           size_t count, bool *changed, struct shove_error *error);
uint64_t shove_embedded_topology_version(struct shove_store *store);
int shove_embedded_group_get(struct shove_store *store, const char *name, bool makes,
                             const uint32_t *topic_ids, size_t topic_count, uint32_t *out,
                             struct shove_error *error);

/* ---- embedded_retention.c ---- */

/* Parts deleted in one transaction: some 16 MiB, a few milliseconds that a writer may have to wait.
 */
#define SHOVE_EMBEDDED_RETAIN_PARTS 4096

/* Deletes up to `budget` parts that need no longer be kept at now_ms, in one transaction. Returns 1
 * when there may be more, 0, or an error. */
int shove_embedded_retain(struct shove_store *store, int64_t now_ms, size_t budget,
                          struct shove_error *error);
int shove_embedded_delete_before(struct shove_store *store, uint32_t topic_id, int32_t partition,
                                 int64_t offset, struct shove_error *error);
extern const int64_t shove_embedded_default_retention_ms;

#endif
