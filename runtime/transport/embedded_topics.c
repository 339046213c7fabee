/* embedded_topics.c: the embedded broker's format mark, topics and groups; see embedded_store.h for
 * what is kept where.
 *
 * Control and cli, the loop's thread. Topics and groups are made and changed rarely, so these calls
 * write in transactions of their own and wait for the disk.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "transport/embedded_store.h"
#include "transport/local.h"

#define MAGIC "shove\0\0"

static MDB_val text_key(const char *text) {
    return (MDB_val){.mv_data = (void *)text, .mv_size = strlen(text)};
}

/* ---- format ---- */

static int open_databases(struct shove_store *store, MDB_txn *txn, unsigned flags) {
    const struct {
        const char *name;
        MDB_dbi *dbi;
    } databases[] = {
        {"meta", &store->meta},       {"topics", &store->topics}, {"groups", &store->groups},
        {"members", &store->members}, {"log", &store->log},       {"ends", &store->ends},
        {"commits", &store->commits},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof(databases) / sizeof(*databases) && rc == 0; i++)
        rc = mdb_dbi_open(txn, databases[i].name, flags, databases[i].dbi);
    return rc;
}

int shove_embedded_format_write(struct shove_store *store, struct shove_error *error) {
    struct shove_embedded_format format = {.magic = MAGIC, .version = SHOVE_EMBEDDED_FORMAT};
    MDB_val key = text_key("format"), value = {.mv_data = &format, .mv_size = sizeof(format)};
    MDB_txn *txn;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc == 0) {
        rc = open_databases(store, txn, MDB_CREATE);
        if (rc == 0)
            rc = mdb_put(txn, store->meta, &key, &value, 0);
        if (rc == 0)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    return rc == 0 ? 0 : shove_embedded_error(store, rc, "create it", error);
}

static int say_foreign(const struct shove_store *store, struct shove_error *error) {
    return shove_error_set(
        error, SHOVE_EDAMAGED,
        "%s is an LMDB file, but not one of shove's; it was left as it is: choose another name",
        store->path);
}

int shove_embedded_format_check(struct shove_store *store, struct shove_error *error) {
    struct shove_embedded_format format = {0};
    MDB_val key = text_key("format"), value;
    MDB_txn *txn;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return shove_embedded_error(store, rc, "read", error);
    rc = open_databases(store, txn, 0);
    if (rc == 0)
        rc = mdb_get(txn, store->meta, &key, &value);
    if (rc == 0 && value.mv_size == sizeof(format))
        memcpy(&format, value.mv_data, sizeof(format));
    /* Committed even though it only read: that is what keeps the database handles open. */
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE ||
        (rc == 0 && memcmp(format.magic, MAGIC, sizeof(format.magic)) != 0))
        return say_foreign(store, error);
    if (rc != 0)
        return shove_embedded_error(store, rc, "read", error);
    if (format.version != SHOVE_EMBEDDED_FORMAT)
        return shove_error_set(
            error, SHOVE_EDAMAGED,
            "%s has format %u and this shove understands format %d; it was left as it is: use the "
            "version of shove that made it, or choose another name",
            store->path, (unsigned)format.version, SHOVE_EMBEDDED_FORMAT);
    return 0;
}

/* ---- counters in meta ---- */

static int counter_get(struct shove_store *store, MDB_txn *txn, const char *name, uint64_t *out) {
    MDB_val key = text_key(name), value;
    *out = 0;
    int rc = mdb_get(txn, store->meta, &key, &value);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc == 0 && value.mv_size != sizeof(*out))
        return MDB_CORRUPTED;
    if (rc == 0)
        memcpy(out, value.mv_data, sizeof(*out));
    return rc;
}

/* *out is the new value; the first is 1. */
static int counter_next(struct shove_store *store, MDB_txn *txn, const char *name, uint64_t *out) {
    int rc = counter_get(store, txn, name, out);
    if (rc != 0)
        return rc;
    ++*out;
    MDB_val key = text_key(name), value = {.mv_data = out, .mv_size = sizeof(*out)};
    return mdb_put(txn, store->meta, &key, &value, 0);
}

uint64_t shove_embedded_topology_version(struct shove_store *store) {
    uint64_t version = 0;
    if (shove_embedded_read_begin(store, NULL) < 0)
        return 0;
    counter_get(store, store->reader, "topology", &version);
    shove_embedded_read_end(store);
    return version;
}

/* ---- topics ---- */

int shove_embedded_topic_decode(const MDB_val *key, const MDB_val *value,
                                struct shove_store_topic *out) {
    struct shove_embedded_topic stored;
    if (value->mv_size != sizeof(stored) || key->mv_size >= sizeof(out->name))
        return MDB_CORRUPTED;
    memcpy(&stored, value->mv_data, sizeof(stored));
    if (stored.partitions < 1)
        return MDB_CORRUPTED;
    *out = (struct shove_store_topic){.id = stored.id,
                                      .partitions = stored.partitions,
                                      .role = stored.role,
                                      .is_keyed = stored.is_keyed != 0,
                                      .retention_ms = stored.retention_ms};
    memcpy(out->name, key->mv_data, key->mv_size);
    return 0;
}

static int topic_find(struct shove_store *store, MDB_txn *txn, const char *name,
                      struct shove_store_topic *out) {
    MDB_val key = text_key(name), value;
    if (key.mv_size == 0 || key.mv_size > SHOVE_TOPIC_NAME_MAX)
        return MDB_NOTFOUND;
    int rc = mdb_get(txn, store->topics, &key, &value);
    return rc == 0 ? shove_embedded_topic_decode(&key, &value, out) : rc;
}

int shove_embedded_topic_get(struct shove_store *store, const char *name,
                             struct shove_store_topic *out, struct shove_error *error) {
    int rc = shove_embedded_read_begin(store, error);
    if (rc < 0)
        return rc;
    rc = topic_find(store, store->reader, name, out);
    shove_embedded_read_end(store);
    if (rc == MDB_NOTFOUND)
        return shove_error_set(error, SHOVE_ENOTOPIC, "there is no topic '%s' in %s", name,
                               store->path);
    return rc == 0 ? 0 : shove_embedded_error(store, rc, "read a topic", error);
}

int shove_embedded_topic_names(struct shove_store *store, const char *prefix,
                               struct shove_buffer *names, struct shove_error *error) {
    const size_t size = strlen(prefix);
    MDB_val key = text_key(prefix), value;
    MDB_cursor *cursor = NULL;
    int rc = shove_embedded_read_begin(store, error);
    if (rc < 0)
        return rc;
    rc = mdb_cursor_open(store->reader, store->topics, &cursor);
    if (rc == 0)
        rc = mdb_cursor_get(cursor, &key, &value, size > 0 ? MDB_SET_RANGE : MDB_FIRST);
    while (rc == 0 && key.mv_size >= size && memcmp(key.mv_data, prefix, size) == 0) {
        shove_buffer_append(names, key.mv_data, key.mv_size);
        shove_buffer_append(names, "", 1);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    shove_embedded_read_end(store);
    return rc == 0 || rc == MDB_NOTFOUND ? 0
                                         : shove_embedded_error(store, rc, "list topics", error);
}

static int topic_put(struct shove_store *store, MDB_txn *txn, struct shove_store_topic *topic) {
    if (topic->id == 0) {
        uint64_t id;
        int rc = counter_next(store, txn, "topic_id", &id);
        if (rc != 0)
            return rc;
        topic->id = (uint32_t)id;
    }
    struct shove_embedded_topic stored = {.id = topic->id,
                                          .partitions = topic->partitions,
                                          .role = topic->role,
                                          .is_keyed = topic->is_keyed,
                                          .retention_ms = topic->retention_ms,
                                          .created_ms = shove_clock_wall_ms()};
    MDB_val key = text_key(topic->name), value = {.mv_data = &stored, .mv_size = sizeof(stored)};
    return mdb_put(txn, store->topics, &key, &value, 0);
}

/* 0, LMDB's code, or (in *refused) why the caller's wish is not granted. */
static int declare_in(struct shove_store *store, MDB_txn *txn, const struct shove_topic_spec *specs,
                      size_t count, bool *changed, int *refused, struct shove_error *error) {
    for (size_t i = 0; i < count; i++) {
        struct shove_store_topic existing, wanted;
        int rc = topic_find(store, txn, specs[i].name, &existing);
        if (rc != 0 && rc != MDB_NOTFOUND)
            return rc;
        int verdict =
            shove_local_declare_one(&specs[i], rc == 0 ? &existing : NULL, &wanted, error);
        if (verdict < 0) {
            *refused = verdict;
            return 0;
        }
        if (verdict == 0)
            continue;
        *changed = true;
        rc = topic_put(store, txn, &wanted);
        if (rc != 0)
            return rc;
    }
    uint64_t version;
    return *changed ? counter_next(store, txn, "topology", &version) : 0;
}

int shove_embedded_declare(struct shove_store *store, const struct shove_topic_spec *specs,
                           size_t count, bool *changed, struct shove_error *error) {
    MDB_txn *txn;
    int refused = 0;
    *changed = false;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc == 0) {
        rc = declare_in(store, txn, specs, count, changed, &refused, error);
        if (rc == 0 && refused == 0 && *changed)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    if (rc != 0)
        return shove_embedded_error(store, rc, "create topics", error);
    if (refused == 0 && *changed)
        shove_embedded_locks_poke(store->locks);
    return refused;
}

/* ---- groups ---- */

static int group_find(struct shove_store *store, MDB_txn *txn, const char *name, uint32_t *out) {
    MDB_val key = text_key(name), value;
    *out = 0;
    int rc = mdb_get(txn, store->groups, &key, &value);
    if (rc == 0 && value.mv_size != sizeof(*out))
        return MDB_CORRUPTED;
    if (rc == 0)
        memcpy(out, value.mv_data, sizeof(*out));
    return rc;
}

/* Whether nothing is left to be written for this group. */
static int group_is_known(struct shove_store *store, MDB_txn *txn, const char *name,
                          const uint32_t *topic_ids, size_t topic_count, uint32_t *out) {
    int rc = group_find(store, txn, name, out);
    for (size_t i = 0; i < topic_count && rc == 0; i++) {
        uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
        MDB_val key = shove_embedded_key(bytes, topic_ids[i], (int32_t)*out), value;
        rc = mdb_get(txn, store->members, &key, &value);
    }
    return rc;
}

static int group_make(struct shove_store *store, MDB_txn *txn, const char *name,
                      const uint32_t *topic_ids, size_t topic_count, uint32_t *out) {
    int rc = group_find(store, txn, name, out);
    if (rc == MDB_NOTFOUND) {
        uint64_t id;
        rc = counter_next(store, txn, "group_id", &id);
        if (rc != 0)
            return rc;
        *out = (uint32_t)id;
        MDB_val key = text_key(name), value = {.mv_data = out, .mv_size = sizeof(*out)};
        rc = mdb_put(txn, store->groups, &key, &value, 0);
    }
    for (size_t i = 0; i < topic_count && rc == 0; i++) {
        uint8_t bytes[SHOVE_EMBEDDED_KEY_MAX];
        MDB_val key = shove_embedded_key(bytes, topic_ids[i], (int32_t)*out);
        MDB_val nothing = {.mv_data = bytes, .mv_size = 0};
        rc = mdb_put(txn, store->members, &key, &nothing, 0);
    }
    return rc;
}

int shove_embedded_group_get(struct shove_store *store, const char *name, bool makes,
                             const uint32_t *topic_ids, size_t topic_count, uint32_t *out,
                             struct shove_error *error) {
    size_t size = strlen(name);
    if (size == 0 || size > (size_t)mdb_env_get_maxkeysize(store->env))
        return shove_error_set(error, SHOVE_EINVAL, "a group id has 1 to %d characters, not %zu",
                               mdb_env_get_maxkeysize(store->env), size);
    int rc = shove_embedded_read_begin(store, error);
    if (rc < 0)
        return rc;
    rc = group_is_known(store, store->reader, name, topic_ids, topic_count, out);
    shove_embedded_read_end(store);
    if (rc == MDB_NOTFOUND && !makes)
        return 0;
    if (rc == MDB_NOTFOUND) {
        MDB_txn *txn;
        rc = mdb_txn_begin(store->env, NULL, 0, &txn);
        if (rc == 0) {
            rc = group_make(store, txn, name, topic_ids, topic_count, out);
            if (rc == 0)
                rc = mdb_txn_commit(txn);
            else
                mdb_txn_abort(txn);
        }
    }
    return rc == 0 ? 0 : shove_embedded_error(store, rc, "register a consumer group", error);
}
