/* embedded_store.c: records and offsets in the embedded broker's file; see embedded_store.h for
 * what is kept where.
 *
 * Control and cli. shove_embedded_write runs on libuv's thread pool, the rest on the loop's thread;
 * what they share is LMDB's environment, made for that, and constants. A read transaction is open
 * only inside read_begin ... read_end: one that stays open would keep LMDB from using freed pages
 * again.
 */
#include "transport/embedded_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Pages read are given back to the kernel (they stay in its cache) after this much, or they would
 * count as ours. */
#define TOUCHED_BYTES_MAX (8u << 20)
#define SPACE_NEEDED_BYTES (32 << 20)

/* ---- errors ---- */

/* LMDB reports a write that was cut short as EIO, whatever the reason; nearly always the device was
 * full. */
static bool is_space_short(const struct shove_store *store) {
    struct statvfs volume;
    struct stat file;
    struct rlimit limit;
    if (statvfs(store->path, &volume) == 0 &&
        (uint64_t)volume.f_bavail * volume.f_frsize < SPACE_NEEDED_BYTES)
        return true;
    return stat(store->path, &file) == 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
           limit.rlim_cur != RLIM_INFINITY &&
           (rlim_t)file.st_size + SPACE_NEEDED_BYTES > limit.rlim_cur;
}

/* What LMDB says in words that tell a person nothing. */
static const struct puzzle {
    int rc;
    int code;
    const char *reason;
    const char *advice;
} puzzles[] = {
    /* LMDB marks a reader by locking the byte of its process number in PATH-lock. */
    {EAGAIN, SHOVE_EBUSY, "another process has the same number as this one",
     "; they run in different containers: give those one PID namespace, or another number to the "
     "program in one of them (an init before it), and try again"},
    {MDB_READERS_FULL, SHOVE_EBUSY, "too many processes use it at once",
     "; stop some of them, and try again"},
    {MDB_MAP_RESIZED, SHOVE_EFATAL,
     "other processes made it larger than this one may map (ulimit -v)",
     "; raise that limit, and restart the program"},
    {MDB_MAP_FULL, SHOVE_ENOSPACE, "it is as large as this process may map (ulimit -v)",
     "; raise that limit and restart the program, or have less kept (retention)"},
};

static const struct puzzle *find_puzzle(int rc) {
    for (size_t i = 0; i < sizeof(puzzles) / sizeof(*puzzles); i++) {
        if (puzzles[i].rc == rc)
            return &puzzles[i];
    }
    return NULL;
}

static int code_of(const struct shove_store *store, int rc) {
    switch (rc) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return SHOVE_ENOSPACE;
    case EIO:
        return is_space_short(store) ? SHOVE_ENOSPACE : SHOVE_EIO;
    case EROFS:
    case EACCES:
    case EPERM:
        return SHOVE_EREADONLY;
    case ENOMEM:
        return SHOVE_ENOMEM;
    case ENOENT:
    case ENOTDIR:
        return SHOVE_EUNREACHABLE;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
    case MDB_KEYEXIST:
        return SHOVE_EDAMAGED;
    case MDB_PANIC:
        return SHOVE_EFATAL;
    default:
        return SHOVE_EIO;
    }
}

static const char *advice_of(int code) {
    switch (code) {
    case SHOVE_ENOSPACE:
        return "; free some space on the device (or raise the limit on file size), it goes on by "
               "itself then";
    case SHOVE_EREADONLY:
        return "; give this user the right to write the file and its folder, or choose another "
               "place";
    case SHOVE_EDAMAGED:
        return "; the file is damaged and was left as it is: restore it from a backup, or move it "
               "away";
    case SHOVE_EFATAL:
        return "; restart the program";
    default:
        return "";
    }
}

int shove_embedded_error(const struct shove_store *store, int rc, const char *what,
                         struct shove_error *error) {
    const struct puzzle *puzzle = find_puzzle(rc);
    if (puzzle)
        return shove_error_set(error, puzzle->code, "%s: cannot %s: %s%s", store->path, what,
                               puzzle->reason, puzzle->advice);
    int code = code_of(store, rc);
    const char *reason = code == SHOVE_ENOSPACE ? "no space left" : mdb_strerror(rc);
    return shove_error_set(error, code, "%s: cannot %s: %s%s", store->path, what, reason,
                           advice_of(code));
}

/* ---- keys ---- */

static uint8_t *put_u32(uint8_t *at, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(value >> shift);
    return at;
}

static uint64_t get_big_endian(const uint8_t *at, int size) {
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

MDB_val shove_embedded_key3(uint8_t key[SHOVE_EMBEDDED_KEY_MAX], uint32_t first, uint32_t second,
                            uint32_t third) {
    uint8_t *end = put_u32(put_u32(put_u32(key, first), second), third);
    return (MDB_val){.mv_data = key, .mv_size = (size_t)(end - key)};
}

MDB_val shove_embedded_key(uint8_t key[SHOVE_EMBEDDED_KEY_MAX], uint32_t topic_id,
                           int32_t partition) {
    uint8_t *end = put_u32(put_u32(key, topic_id), (uint32_t)partition);
    return (MDB_val){.mv_data = key, .mv_size = (size_t)(end - key)};
}

MDB_val shove_embedded_block_key(uint8_t key[SHOVE_EMBEDDED_KEY_MAX], uint32_t topic_id,
                                 int32_t partition, int64_t offset) {
    uint8_t *end = put_u32(put_u32(key, topic_id), (uint32_t)partition);
    end = put_u32(put_u32(end, (uint32_t)((uint64_t)offset >> 32)), (uint32_t)offset);
    return (MDB_val){.mv_data = key, .mv_size = (size_t)(end - key)};
}

int64_t shove_embedded_key_offset(const MDB_val *key, uint32_t topic_id, int32_t partition) {
    const uint8_t *at = key->mv_data;
    if (key->mv_size < SHOVE_EMBEDDED_BLOCK_KEY || get_big_endian(at, 4) != topic_id ||
        get_big_endian(at + 4, 4) != (uint32_t)partition)
        return -1;
    return (int64_t)get_big_endian(at + 8, 8);
}

/* ---- ends ---- */

int shove_embedded_ends_get(struct shove_store *store, MDB_txn *txn, uint32_t topic_id,
                            int32_t partition, struct shove_embedded_ends *out) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_val key = shove_embedded_key(bytes, topic_id, partition), value;
    int rc = mdb_get(txn, store->ends, &key, &value);
    *out = (struct shove_embedded_ends){0};
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc == 0 && value.mv_size != sizeof(*out))
        return MDB_CORRUPTED;
    if (rc == 0)
        memcpy(out, value.mv_data, sizeof(*out));
    return rc;
}

int shove_embedded_ends_put(struct shove_store *store, MDB_txn *txn, uint32_t topic_id,
                            int32_t partition, const struct shove_embedded_ends *ends) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_val key = shove_embedded_key(bytes, topic_id, partition);
    MDB_val value = {.mv_data = (void *)ends, .mv_size = sizeof(*ends)};
    return mdb_put(txn, store->ends, &key, &value, 0);
}

/* ---- reading ---- */

int shove_embedded_read_begin(struct shove_store *store, struct shove_error *error) {
    if (store->reader_depth++ > 0)
        return 0;
    int rc = store->reader ? mdb_txn_renew(store->reader)
                           : mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->reader);
    if (rc == 0)
        rc = store->reader_cursor
                 ? mdb_cursor_renew(store->reader, store->reader_cursor)
                 : mdb_cursor_open(store->reader, store->log, &store->reader_cursor);
    if (rc == 0)
        return 0;
    store->reader_depth = 0;
    if (store->reader)
        mdb_txn_reset(store->reader);
    return shove_embedded_error(store, rc, "read", error);
}

static void give_back_pages(struct shove_store *store) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t low = store->touched_low & ~(page - 1);
    uintptr_t high = (store->touched_high + page - 1) & ~(page - 1);
    madvise((void *)low, high - low, MADV_DONTNEED);
    store->touched_bytes = 0;
}

void shove_embedded_read_end(struct shove_store *store) {
    if (--store->reader_depth > 0)
        return;
    mdb_txn_reset(store->reader);
    if (store->touched_bytes > TOUCHED_BYTES_MAX)
        give_back_pages(store);
}

int shove_embedded_bounds(struct shove_store *store, uint32_t topic_id, int32_t partition,
                          int64_t *low, int64_t *high, struct shove_error *error) {
    int rc = shove_embedded_read_begin(store, error);
    if (rc < 0)
        return rc;
    struct shove_embedded_ends ends;
    rc = shove_embedded_ends_get(store, store->reader, topic_id, partition, &ends);
    shove_embedded_read_end(store);
    if (rc != 0)
        return shove_embedded_error(store, rc, "read where a partition ends", error);
    *low = ends.low;
    *high = ends.high;
    return 0;
}

static void touched(struct shove_store *store, const MDB_val *value) {
    uintptr_t low = (uintptr_t)value->mv_data, high = low + value->mv_size;
    if (store->touched_bytes == 0 || low < store->touched_low)
        store->touched_low = low;
    if (store->touched_bytes == 0 || high > store->touched_high)
        store->touched_high = high;
    store->touched_bytes += value->mv_size;
}

/* Puts the cursor on the first part of the block that holds `offset`. */
static int seek_block(struct shove_store *store, uint32_t topic_id, int32_t partition,
                      int64_t offset, MDB_val *key, MDB_val *value) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_cursor *cursor = store->reader_cursor;
    *key = shove_embedded_block_key(bytes, topic_id, partition, offset);
    int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (rc == 0 && shove_embedded_key_offset(key, topic_id, partition) == offset)
        return 0;
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    rc = mdb_cursor_get(cursor, key, value, rc == 0 ? MDB_PREV : MDB_LAST);
    if (rc != 0)
        return rc;
    int64_t base = shove_embedded_key_offset(key, topic_id, partition);
    if (base < 0)
        return MDB_NOTFOUND;
    if (key->mv_size == SHOVE_EMBEDDED_BLOCK_KEY)
        return 0;
    *key = shove_embedded_block_key(bytes, topic_id, partition, base);
    return mdb_cursor_get(cursor, key, value, MDB_SET_KEY);
}

/* Appends the block under the cursor; its further parts follow it. 0, MDB_CORRUPTED, or LMDB's
 * code. */
static int gather_block(struct shove_store *store, uint32_t topic_id, int32_t partition,
                        MDB_val *key, MDB_val *value, struct shove_chunk **chunk) {
    struct shove_block_header header;
    int64_t base = shove_embedded_key_offset(key, topic_id, partition);
    if (shove_block_header_read(value->mv_data, value->mv_size, &header) < 0 ||
        header.base_offset != base || value->mv_size > header.size_bytes)
        return MDB_CORRUPTED;
    for (size_t left = header.size_bytes;;) {
        touched(store, value);
        if (value->mv_size > left)
            return MDB_CORRUPTED;
        if (shove_chunk_reserve(chunk, value->mv_size) < 0)
            return ENOMEM;
        memcpy((*chunk)->data + (*chunk)->size, value->mv_data, value->mv_size);
        (*chunk)->size += value->mv_size;
        left -= value->mv_size;
        if (left == 0)
            return 0;
        int rc = mdb_cursor_get(store->reader_cursor, key, value, MDB_NEXT);
        if (rc == MDB_NOTFOUND ||
            (rc == 0 && (key->mv_size == SHOVE_EMBEDDED_BLOCK_KEY ||
                         shove_embedded_key_offset(key, topic_id, partition) != base)))
            return MDB_CORRUPTED;
        if (rc != 0)
            return rc;
    }
}

/* Whether the first block of the chunk holds `offset`: a damaged tree may have lost the one that
 * did. */
static bool holds(const struct shove_chunk *chunk, int64_t offset) {
    struct shove_block_header header;
    memcpy(&header, chunk->data, sizeof(header));
    return offset >= header.base_offset && offset < header.base_offset + (int64_t)header.count;
}

static int gather(struct shove_store *store, uint32_t topic_id, int32_t partition, int64_t offset,
                  size_t budget_bytes, struct shove_chunk **chunk) {
    MDB_val key, value;
    int rc = seek_block(store, topic_id, partition, offset, &key, &value);
    while (rc == 0) {
        size_t had = (*chunk)->size;
        rc = gather_block(store, topic_id, partition, &key, &value, chunk);
        if (rc != 0) {
            (*chunk)->size = had;
            /* Blocks before a damaged one are good; the next call meets it first. */
            return had > 0 && rc == MDB_CORRUPTED ? 0 : rc;
        }
        if (had == 0 && !holds(*chunk, offset))
            return MDB_CORRUPTED;
        if ((*chunk)->size >= budget_bytes)
            return 0;
        rc = mdb_cursor_get(store->reader_cursor, &key, &value, MDB_NEXT);
        if (rc == 0 && shove_embedded_key_offset(&key, topic_id, partition) < 0)
            return 0;
    }
    return rc == MDB_NOTFOUND && (*chunk)->size > 0 ? 0 : rc;
}

int shove_embedded_read(struct shove_store *store, uint32_t topic_id, int32_t partition,
                        int64_t offset, size_t budget_bytes, struct shove_chunk **out,
                        struct shove_error *error) {
    int rc = shove_embedded_read_begin(store, error);
    if (rc < 0)
        return rc;
    struct shove_chunk *chunk = shove_chunk_new(store->part_bytes);
    rc = chunk ? gather(store, topic_id, partition, offset, budget_bytes, &chunk) : ENOMEM;
    shove_embedded_read_end(store);
    if (rc == 0) {
        *out = chunk;
        return 0;
    }
    shove_chunk_drop(chunk);
    if (rc == MDB_NOTFOUND || rc == MDB_CORRUPTED)
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the block with offset %lld is missing or damaged",
                               (long long)offset);
    return shove_embedded_error(store, rc, "read records", error);
}

int shove_embedded_commit_get(struct shove_store *store, uint32_t group_id, uint32_t topic_id,
                              int32_t partition, int64_t *offset, char **metadata,
                              struct shove_error *error) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_val key = shove_embedded_key3(bytes, topic_id, (uint32_t)partition, group_id), value;
    *offset = -1;
    *metadata = NULL;
    int rc = shove_embedded_read_begin(store, error);
    if (rc < 0)
        return rc;
    rc = mdb_get(store->reader, store->commits, &key, &value);
    if (rc == 0 && value.mv_size < sizeof(*offset))
        rc = MDB_CORRUPTED;
    if (rc == 0) {
        size_t size = value.mv_size - sizeof(*offset);
        memcpy(offset, value.mv_data, sizeof(*offset));
        if (size > 0 && !(*metadata = strndup((const char *)value.mv_data + sizeof(*offset), size)))
            rc = ENOMEM;
    }
    shove_embedded_read_end(store);
    if (rc == 0 || rc == MDB_NOTFOUND)
        return 0;
    return shove_embedded_error(store, rc, "read a committed offset", error);
}

/* ---- writing ---- */

static int block_put(struct shove_store *store, MDB_cursor *cursor,
                     const struct shove_store_run *run, int64_t base,
                     const struct shove_chunk *block) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_val key = shove_embedded_block_key(bytes, run->topic_id, run->partition, base);
    size_t at = 0;
    for (uint32_t part = 0; at < block->size; part++) {
        size_t size = block->size - at < store->part_bytes ? block->size - at : store->part_bytes;
        MDB_val value = {.mv_data = (void *)(block->data + at), .mv_size = size};
        if (part > 0) {
            put_u32(bytes + SHOVE_EMBEDDED_BLOCK_KEY, part);
            key.mv_size = SHOVE_EMBEDDED_BLOCK_KEY + sizeof(part);
        }
        int rc = mdb_cursor_put(cursor, &key, &value, MDB_NOOVERWRITE);
        if (rc != 0)
            return rc;
        at += size;
    }
    return 0;
}

static int run_put(struct shove_store *store, MDB_txn *txn, MDB_cursor *cursor,
                   struct shove_store_run *run) {
    struct shove_embedded_ends ends;
    int rc = shove_embedded_ends_get(store, txn, run->topic_id, run->partition, &ends);
    run->base_offset = ends.high;
    for (size_t i = 0; i < run->block_count && rc == 0; i++) {
        struct shove_block_header header;
        shove_block_seal(run->blocks[i], ends.high, true);
        memcpy(&header, run->blocks[i]->data, sizeof(header));
        rc = block_put(store, cursor, run, ends.high, run->blocks[i]);
        ends.high += header.count;
    }
    if (rc != 0)
        return rc;
    return shove_embedded_ends_put(store, txn, run->topic_id, run->partition, &ends);
}

static int commit_put(struct shove_store *store, MDB_txn *txn,
                      const struct shove_store_commit *commit) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_val key =
        shove_embedded_key3(bytes, commit->topic_id, (uint32_t)commit->partition, commit->group_id);
    size_t size = strlen(commit->metadata);
    MDB_val value = {.mv_size = sizeof(commit->offset) + size};
    int rc = mdb_put(txn, store->commits, &key, &value, MDB_RESERVE);
    if (rc != 0)
        return rc;
    memcpy(value.mv_data, &commit->offset, sizeof(commit->offset));
    memcpy((uint8_t *)value.mv_data + sizeof(commit->offset), commit->metadata, size);
    return 0;
}

static int write_in(struct shove_store *store, MDB_txn *txn, struct shove_store_write *write) {
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, store->log, &cursor);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < write->run_count && rc == 0; i++)
        rc = run_put(store, txn, cursor, &write->runs[i]);
    for (size_t i = 0; i < write->commit_count && rc == 0; i++)
        rc = commit_put(store, txn, &write->commits[i]);
    mdb_cursor_close(cursor);
    return rc;
}

int shove_embedded_write(struct shove_store *store, struct shove_store_write *write) {
    if (write->run_count + write->commit_count > 0) {
        MDB_txn *txn;
        int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
        if (rc == 0) {
            rc = write_in(store, txn, write);
            if (rc == 0)
                rc = mdb_txn_commit(txn); /* returns when all of it is on disk */
            else
                mdb_txn_abort(txn);
        }
        if (rc != 0)
            return shove_embedded_error(store, rc, "write", &write->error);
        if (write->run_count > 0)
            shove_embedded_locks_poke(store->locks);
    }
    if (write->wants_retention) {
        struct shove_error error;
        int rc = shove_embedded_retain(store, write->now_ms, SHOVE_EMBEDDED_RETAIN_PARTS, &error);
        write->has_more = rc > 0;
        /* What was written stays acknowledged; the next tick tries to delete again. */
        if (rc < 0 && write->run_count + write->commit_count == 0)
            return shove_error_set(&write->error, rc, "%s", error.text);
    }
    return 0;
}
