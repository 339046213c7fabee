/* embedded_retention.c: what the embedded broker no longer keeps.
 *
 * Control and cli; retain on libuv's thread pool (as part of a write) or, for specs, on the loop's
 * thread. Whole blocks go, oldest first, a bounded number per transaction; their pages serve what
 * comes next, so the file stops growing once as much is deleted as is written. Time is an argument.
 */
#include <string.h>

#include "transport/embedded_store.h"
#include "transport/local.h"

const int64_t shove_embedded_default_retention_ms = 7 * INT64_C(86400000);

struct sweep {
    struct shove_store *store;
    MDB_txn *txn;
    int64_t now_ms;
    size_t budget; /* parts that may still be deleted */
};

/* ---- one partition ---- */

static bool may_delete(const struct sweep *sweep, const struct shove_store_topic *topic,
                       int64_t low, int64_t consumed, const struct shove_block_header *header) {
    int64_t end = header->base_offset + header->count;
    if (end <= low)
        return true;
    return shove_local_is_deletable(topic, shove_embedded_default_retention_ms, consumed, end,
                                    header->newest_ms, sweep->now_ms);
}

/* Deletes from the front of a partition. A block whose header or page is not what it should be
 * stays, and all after it: deleting would trust what is damaged, and taking is what reports it. */
static int trim(struct sweep *sweep, const struct shove_store_topic *topic, int32_t partition,
                int64_t consumed, struct shove_embedded_ends *ends) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_val key = shove_embedded_block_key(bytes, topic->id, partition, 0), value;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(sweep->txn, sweep->store->log, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; rc == 0 && sweep->budget > 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct shove_block_header header;
        int64_t base = shove_embedded_key_offset(&key, topic->id, partition);
        if (base < 0 || !shove_embedded_value_is_sound(&value, sweep->store->part_bytes))
            break;
        if (key.mv_size == SHOVE_EMBEDDED_BLOCK_KEY) {
            if (shove_block_header_read(value.mv_data, value.mv_size, &header) < 0 ||
                header.base_offset != base ||
                !may_delete(sweep, topic, ends->low, consumed, &header))
                break;
            if (ends->low < base + header.count)
                ends->low = base + header.count;
        } else if (base >= ends->low) {
            break;
        }
        rc = mdb_cursor_del(cursor, 0);
        if (rc != 0)
            break;
        sweep->budget--;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- who has consumed what ---- */

static int committed(const struct sweep *sweep, uint32_t topic_id, int32_t partition,
                     uint32_t group_id, int64_t *out) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    MDB_val key = shove_embedded_key3(bytes, topic_id, (uint32_t)partition, group_id), value;
    int rc = mdb_get(sweep->txn, sweep->store->commits, &key, &value);
    *out = 0; /* a group that has committed nothing has consumed nothing */
    if (rc == 0 && value.mv_size < sizeof(*out))
        return MDB_CORRUPTED;
    if (rc == 0)
        memcpy(out, value.mv_data, sizeof(*out));
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The last four bytes of every key that begins with `prefix` are a group's number: calls `least`
 * over their commits. */
static int least_over(const struct sweep *sweep, MDB_dbi dbi, const MDB_val *prefix,
                      uint32_t topic_id, int32_t partition, int64_t *least) {
    MDB_cursor *cursor;
    MDB_val key = *prefix, value;
    int rc = mdb_cursor_open(sweep->txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size == prefix->mv_size + 4 &&
           memcmp(key.mv_data, prefix->mv_data, prefix->mv_size) == 0) {
        const uint8_t *at = (const uint8_t *)key.mv_data + prefix->mv_size;
        uint32_t group_id =
            (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        int64_t offset;
        rc = committed(sweep, topic_id, partition, group_id, &offset);
        if (rc == 0 && (*least < 0 || offset < *least))
            *least = offset;
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The least offset that all known groups of the topic have committed; -1 when it has none. Known
 * are those that subscribed and those that committed. */
static int consumed_by_all(const struct sweep *sweep, uint32_t topic_id, int32_t partition,
                           int64_t *out) {
    uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
    *out = -1;
    MDB_val prefix = shove_embedded_key(bytes, topic_id, partition);
    int rc = least_over(sweep, sweep->store->commits, &prefix, topic_id, partition, out);
    if (rc != 0)
        return rc;
    prefix.mv_size = sizeof(topic_id);
    return least_over(sweep, sweep->store->members, &prefix, topic_id, partition, out);
}

/* ---- all partitions ---- */

static int sweep_topic(struct sweep *sweep, const struct shove_store_topic *topic) {
    int rc = 0;
    for (int32_t p = 0; p < topic->partitions && rc == 0 && sweep->budget > 0; p++) {
        struct shove_embedded_ends ends;
        int64_t consumed;
        rc = shove_embedded_ends_get(sweep->store, sweep->txn, topic->id, p, &ends);
        if (rc != 0 || ends.high == 0)
            continue;
        rc = consumed_by_all(sweep, topic->id, p, &consumed);
        size_t budget = sweep->budget;
        if (rc == 0)
            rc = trim(sweep, topic, p, consumed, &ends);
        if (rc == 0 && sweep->budget < budget)
            rc = shove_embedded_ends_put(sweep->store, sweep->txn, topic->id, p, &ends);
    }
    return rc;
}

static int sweep_all(struct sweep *sweep) {
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(sweep->txn, sweep->store->topics, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0 && sweep->budget > 0) {
        struct shove_store_topic topic;
        rc = shove_embedded_topic_decode(&key, &value, &topic);
        if (rc == 0)
            rc = sweep_topic(sweep, &topic);
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int shove_embedded_retain(struct shove_store *store, int64_t now_ms, size_t budget,
                          struct shove_error *error) {
    struct sweep sweep = {.store = store, .now_ms = now_ms, .budget = budget};
    int dead;
    mdb_reader_check(store->env, &dead); /* a dead reader keeps freed pages from being used again */
    int rc = mdb_txn_begin(store->env, NULL, 0, &sweep.txn);
    if (rc == 0) {
        rc = sweep_all(&sweep);
        if (rc == 0)
            rc = mdb_txn_commit(sweep.txn);
        else
            mdb_txn_abort(sweep.txn);
    }
    if (rc != 0)
        return shove_embedded_error(store, rc, "delete old records", error);
    return sweep.budget == 0;
}

/* ---- delete_before ---- */

static int delete_in(struct sweep *sweep, uint32_t topic_id, int32_t partition, int64_t offset) {
    /* Nothing but the low watermark allows deleting: the topic's own rules are not looked at. */
    const struct shove_store_topic topic = {.id = topic_id, .retention_ms = -1};
    struct shove_embedded_ends ends;
    int rc = shove_embedded_ends_get(sweep->store, sweep->txn, topic_id, partition, &ends);
    if (rc != 0)
        return rc;
    if (offset > ends.high)
        offset = ends.high;
    if (offset > ends.low)
        ends.low = offset;
    rc = shove_embedded_ends_put(sweep->store, sweep->txn, topic_id, partition, &ends);
    return rc == 0 ? trim(sweep, &topic, partition, -1, &ends) : rc;
}

int shove_embedded_delete_before(struct shove_store *store, uint32_t topic_id, int32_t partition,
                                 int64_t offset, struct shove_error *error) {
    struct sweep sweep = {.store = store};
    int rc;
    do {
        sweep.budget = SHOVE_EMBEDDED_RETAIN_PARTS;
        rc = mdb_txn_begin(store->env, NULL, 0, &sweep.txn);
        if (rc != 0)
            break;
        rc = delete_in(&sweep, topic_id, partition, offset);
        if (rc == 0)
            rc = mdb_txn_commit(sweep.txn);
        else
            mdb_txn_abort(sweep.txn);
    } while (rc == 0 && sweep.budget == 0);
    return rc == 0 ? 0 : shove_embedded_error(store, rc, "delete records", error);
}
