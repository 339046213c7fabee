/* memory.c: the broker "memory:", which lives and dies with one transport: for tests and
 * demonstrations.
 *
 * Control, the loop's thread. Everything but keeping is shared with the embedded broker (local.h):
 * the same blocks, in one double-ended array per partition. Records that all groups of their topic
 * have consumed are let go at the next tick unless the topic's retention says otherwise, so memory
 * is bounded by what is waiting.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "transport/local.h"

#define TICK_MS 1000
#define DEFAULT_RETENTION_MS 0 /* of consumed records in MAIN topics */

struct memory_commit {
    uint32_t group_id;
    int64_t offset;
    char *metadata;
};

struct memory_partition {
    int64_t low;
    int64_t high;
    struct shove_chunk **blocks; /* [first, last), ascending */
    size_t first;
    size_t last;
    size_t capacity;
    struct memory_commit *commits;
    size_t commit_count;
    size_t commit_capacity;
};

struct memory_topic {
    struct shove_store_topic info;
    struct memory_partition *partitions;
    uint32_t *members; /* groups that subscribed */
    size_t member_count;
    size_t member_capacity;
};

struct shove_store {
    struct memory_topic **topics; /* at id - 1 */
    size_t topic_count;
    size_t topic_capacity;
    char **groups; /* at id - 1 */
    size_t group_count;
    size_t group_capacity;
    uint64_t version;
};

/* ---- topics ---- */

static struct memory_topic *topic_by_name(const struct shove_store *store, const char *name) {
    for (size_t i = 0; i < store->topic_count; i++)
        if (strcmp(store->topics[i]->info.name, name) == 0)
            return store->topics[i];
    return NULL;
}

static struct memory_topic *topic_by_id(const struct shove_store *store, uint32_t id) {
    return store->topics[id - 1];
}

static int topic_get(struct shove_store *store, const char *name, struct shove_store_topic *out,
                     struct shove_error *error) {
    struct memory_topic *topic = topic_by_name(store, name);
    if (!topic)
        return shove_error_set(error, SHOVE_ENOTOPIC, "there is no topic '%s'", name);
    *out = topic->info;
    return 0;
}

static int topic_names(struct shove_store *store, const char *prefix, struct shove_buffer *names,
                       struct shove_error *error) {
    (void)error;
    for (size_t i = 0; i < store->topic_count; i++) {
        const char *name = store->topics[i]->info.name;
        if (strncmp(name, prefix, strlen(prefix)) == 0)
            shove_buffer_append(names, name, strlen(name) + 1);
    }
    return 0;
}

static int topic_store(struct shove_store *store, struct memory_topic *topic,
                       const struct shove_store_topic *info) {
    bool is_new = !topic;
    if (is_new) {
        if (shove_local_grow(&store->topics, &store->topic_capacity, store->topic_count,
                             sizeof(*store->topics)) < 0)
            return SHOVE_ENOMEM;
        topic = calloc(1, sizeof(*topic));
        if (!topic)
            return SHOVE_ENOMEM;
    }
    size_t had = (size_t)topic->info.partitions, has = (size_t)info->partitions;
    struct memory_partition *partitions = realloc(topic->partitions, has * sizeof(*partitions));
    if (!partitions) {
        if (is_new)
            free(topic);
        return SHOVE_ENOMEM;
    }
    if (has > had)
        memset(partitions + had, 0, (has - had) * sizeof(*partitions));
    topic->partitions = partitions;
    topic->info = *info;
    if (is_new) {
        store->topics[store->topic_count++] = topic;
        topic->info.id = (uint32_t)store->topic_count;
    }
    store->version++;
    return 0;
}

static int declare(struct shove_store *store, const struct shove_topic_spec *specs, size_t count,
                   bool *changed, struct shove_error *error) {
    struct shove_store_topic wanted;
    for (size_t i = 0; i < count; i++) { /* all are checked before one is changed */
        struct memory_topic *topic = topic_by_name(store, specs[i].name);
        int rc = shove_local_declare_one(&specs[i], topic ? &topic->info : NULL, &wanted, error);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < count; i++) {
        struct memory_topic *topic = topic_by_name(store, specs[i].name);
        int rc = shove_local_declare_one(&specs[i], topic ? &topic->info : NULL, &wanted, error);
        if (rc < 0)
            return rc;
        if (rc == 0)
            continue;
        if (topic_store(store, topic, &wanted) < 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
        *changed = true;
    }
    return 0;
}

static uint64_t topology_version(struct shove_store *store) {
    return store->version;
}

/* ---- reading ---- */

static int read_begin(struct shove_store *store, struct shove_error *error) {
    (void)store;
    (void)error;
    return 0;
}

static void read_end(struct shove_store *store) {
    (void)store;
}

static int bounds(struct shove_store *store, uint32_t topic_id, int32_t partition, int64_t *low,
                  int64_t *high, struct shove_error *error) {
    (void)error;
    const struct memory_partition *part = &topic_by_id(store, topic_id)->partitions[partition];
    *low = part->low;
    *high = part->high;
    return 0;
}

static struct shove_block_header header_of(const struct shove_chunk *block) {
    struct shove_block_header header;
    memcpy(&header, block->data, sizeof(header));
    return header;
}

static int read_blocks(struct shove_store *store, uint32_t topic_id, int32_t partition,
                       int64_t offset, size_t budget_bytes, struct shove_chunk **out,
                       struct shove_error *error) {
    (void)budget_bytes; /* sharing one block is free, gathering several would copy */
    (void)error;
    const struct memory_partition *part = &topic_by_id(store, topic_id)->partitions[partition];
    size_t low = part->first, high = part->last; /* the last block whose base is <= offset */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (header_of(part->blocks[middle]).base_offset <= offset)
            low = middle;
        else
            high = middle;
    }
    *out = shove_chunk_share(part->blocks[low]);
    return 0;
}

static struct memory_commit *find_commit(const struct memory_partition *part, uint32_t group_id) {
    for (size_t i = 0; i < part->commit_count; i++)
        if (part->commits[i].group_id == group_id)
            return &part->commits[i];
    return NULL;
}

static int commit_get(struct shove_store *store, uint32_t group_id, uint32_t topic_id,
                      int32_t partition, int64_t *offset, char **metadata,
                      struct shove_error *error) {
    const struct memory_commit *commit =
        find_commit(&topic_by_id(store, topic_id)->partitions[partition], group_id);
    *offset = commit ? commit->offset : -1;
    *metadata = NULL;
    if (!commit || commit->metadata[0] == '\0')
        return 0;
    *metadata = strdup(commit->metadata);
    return *metadata ? 0 : shove_error_set(error, SHOVE_ENOMEM, "out of memory");
}

/* ---- groups ---- */

static int member_add(struct memory_topic *topic, uint32_t group_id) {
    for (size_t i = 0; i < topic->member_count; i++)
        if (topic->members[i] == group_id)
            return 0;
    if (shove_local_grow(&topic->members, &topic->member_capacity, topic->member_count,
                         sizeof(*topic->members)) < 0)
        return SHOVE_ENOMEM;
    topic->members[topic->member_count++] = group_id;
    return 0;
}

static uint32_t group_find(const struct shove_store *store, const char *name) {
    for (size_t i = 0; i < store->group_count; i++)
        if (strcmp(store->groups[i], name) == 0)
            return (uint32_t)i + 1;
    return 0;
}

static int group_get(struct shove_store *store, const char *name, bool makes,
                     const uint32_t *topic_ids, size_t topic_count, uint32_t *out,
                     struct shove_error *error) {
    *out = group_find(store, name);
    if (*out == 0 && makes) {
        if (shove_local_grow(&store->groups, &store->group_capacity, store->group_count,
                             sizeof(*store->groups)) < 0 ||
            !(store->groups[store->group_count] = strdup(name)))
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
        *out = (uint32_t)++store->group_count;
    }
    for (size_t i = 0; i < topic_count; i++)
        if (member_add(topic_by_id(store, topic_ids[i]), *out) < 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    return 0;
}

static int group_lock(struct shove_store *store, uint32_t group_id, const char *name,
                      struct shove_error *error) {
    (void)store;
    (void)group_id;
    (void)name;
    (void)error;
    return 0; /* nobody else can see this broker */
}

static void group_unlock(struct shove_store *store, uint32_t group_id) {
    (void)store;
    (void)group_id;
}

/* ---- writing ---- */

static int block_push(struct memory_partition *part, struct shove_chunk *block) {
    if (part->last == part->capacity && part->first > part->capacity / 2) {
        memmove(part->blocks, part->blocks + part->first,
                (part->last - part->first) * sizeof(*part->blocks));
        part->last -= part->first;
        part->first = 0;
    }
    if (shove_local_grow(&part->blocks, &part->capacity, part->last, sizeof(*part->blocks)) < 0)
        return SHOVE_ENOMEM;
    part->blocks[part->last++] = block;
    return 0;
}

/* The writer's reference moves to the partition; a block with much room left is cut to size. */
static int run_write(struct memory_partition *part, struct shove_store_run *run) {
    run->base_offset = part->high;
    for (size_t i = 0; i < run->block_count; i++) {
        struct shove_chunk *block = run->blocks[i];
        if (block->capacity > block->size) {
            struct shove_chunk *cut = realloc(block, sizeof(*cut) + block->size);
            if (cut) {
                cut->capacity = cut->size;
                block = run->blocks[i] = cut;
            }
        }
        if (block_push(part, block) < 0)
            return SHOVE_ENOMEM;
        shove_block_seal(block, part->high, false);
        shove_chunk_share(block);
        part->high += header_of(block).count;
    }
    return 0;
}

static int commit_write(struct shove_store *store, const struct shove_store_commit *commit) {
    struct memory_partition *part =
        &topic_by_id(store, commit->topic_id)->partitions[commit->partition];
    char *metadata = strdup(commit->metadata);
    if (!metadata)
        return SHOVE_ENOMEM;
    struct memory_commit *known = find_commit(part, commit->group_id);
    if (!known) {
        if (shove_local_grow(&part->commits, &part->commit_capacity, part->commit_count,
                             sizeof(*part->commits)) < 0) {
            free(metadata);
            return SHOVE_ENOMEM;
        }
        known = &part->commits[part->commit_count++];
        *known = (struct memory_commit){.group_id = commit->group_id};
    }
    free(known->metadata);
    known->metadata = metadata;
    known->offset = commit->offset;
    return 0;
}

static void trim(struct memory_partition *part) {
    while (part->first < part->last) {
        struct shove_block_header header = header_of(part->blocks[part->first]);
        if (header.base_offset + header.count > part->low)
            break;
        shove_chunk_drop(part->blocks[part->first++]);
    }
}

/* The least committed offset of the topic's groups, -1 when it has none. */
static int64_t consumed_by_all(const struct memory_topic *topic,
                               const struct memory_partition *part) {
    int64_t least = -1;
    for (size_t i = 0; i < topic->member_count; i++)
        if (!find_commit(part, topic->members[i]))
            return 0;
    for (size_t i = 0; i < part->commit_count; i++)
        if (least < 0 || part->commits[i].offset < least)
            least = part->commits[i].offset;
    return least;
}

static void retain(struct shove_store *store, int64_t now_ms) {
    for (size_t i = 0; i < store->topic_count; i++) {
        struct memory_topic *topic = store->topics[i];
        for (int32_t p = 0; p < topic->info.partitions; p++) {
            struct memory_partition *part = &topic->partitions[p];
            int64_t consumed = consumed_by_all(topic, part);
            for (size_t k = part->first; k < part->last; k++) {
                struct shove_block_header header = header_of(part->blocks[k]);
                int64_t end = header.base_offset + header.count;
                if (!shove_local_is_deletable(&topic->info, DEFAULT_RETENTION_MS, consumed, end,
                                              header.newest_ms, now_ms))
                    break;
                part->low = end;
            }
            trim(part);
        }
    }
}

static int write_all(struct shove_store *store, struct shove_store_write *write) {
    int rc = 0;
    for (size_t i = 0; i < write->run_count && rc == 0; i++) {
        struct shove_store_run *run = &write->runs[i];
        rc = run_write(&topic_by_id(store, run->topic_id)->partitions[run->partition], run);
    }
    for (size_t i = 0; i < write->commit_count && rc == 0; i++)
        rc = commit_write(store, &write->commits[i]);
    if (rc < 0)
        return shove_error_set(&write->error, rc, "out of memory");
    if (write->wants_retention)
        retain(store, write->now_ms);
    return 0;
}

static int delete_before(struct shove_store *store, uint32_t topic_id, int32_t partition,
                         int64_t offset, struct shove_error *error) {
    (void)error;
    struct memory_partition *part = &topic_by_id(store, topic_id)->partitions[partition];
    if (offset > part->high)
        offset = part->high;
    if (offset > part->low)
        part->low = offset;
    trim(part);
    return 0;
}

/* ---- life ---- */

static int check(struct shove_store *store, struct shove_error *error) {
    (void)store;
    (void)error;
    return 0;
}

static void partition_release(struct memory_partition *part) {
    for (size_t i = part->first; i < part->last; i++)
        shove_chunk_drop(part->blocks[i]);
    free(part->blocks);
    for (size_t i = 0; i < part->commit_count; i++)
        free(part->commits[i].metadata);
    free(part->commits);
}

static void store_free(struct shove_store *store) {
    for (size_t i = 0; i < store->topic_count; i++) {
        struct memory_topic *topic = store->topics[i];
        for (int32_t p = 0; p < topic->info.partitions; p++)
            partition_release(&topic->partitions[p]);
        free(topic->partitions);
        free(topic->members);
        free(topic);
    }
    free(store->topics);
    for (size_t i = 0; i < store->group_count; i++)
        free(store->groups[i]);
    free(store->groups);
    free(store);
}

static const struct shove_store_ops memory_store_ops = {
    .tick_ms = TICK_MS,
    .topic_get = topic_get,
    .topic_names = topic_names,
    .declare = declare,
    .topology_version = topology_version,
    .read_begin = read_begin,
    .read_end = read_end,
    .bounds = bounds,
    .read = read_blocks,
    .commit_get = commit_get,
    .group_get = group_get,
    .group_lock = group_lock,
    .group_unlock = group_unlock,
    .write = write_all,
    .delete_before = delete_before,
    .check = check,
    .free = store_free,
};

static int memory_open(const struct shove_transport_config *config, struct shove_transport **out,
                       struct shove_error *error) {
    struct shove_store *store = calloc(1, sizeof(*store));
    if (!store)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    struct shove_local *local;
    int rc = shove_local_open(config, &shove_memory_ops, &memory_store_ops, store, &local, error);
    if (rc == 0)
        *out = &local->head;
    return rc;
}

const struct shove_transport_ops shove_memory_ops = {
    .scheme = "memory",
    .capabilities = SHOVE_CAN_EXPAND,
    .open = memory_open,
    SHOVE_LOCAL_OPS,
};
