/* local_admin.c: declaring topics, the operator's table, and the rules about both that the stores
 * share.
 *
 * Control and cli, the loop's thread. These calls wait for the store, which is a disk at most;
 * timeouts are therefore not looked at.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "transport/local.h"

/* ---- declare ---- */

static const char *at_or_nothing(const struct shove_topic_spec *spec) {
    return spec->at ? spec->at : "declared";
}

static int refuse_keyed(const struct shove_topic_spec *spec,
                        const struct shove_store_topic *existing, struct shove_error *error) {
    return shove_error_set(error, SHOVE_ECONFIG,
                           "%s: topic '%s' has %d partitions and %d are asked for; a keyed topic "
                           "is never re-partitioned, because its keys "
                           "would move: ask for %d, or use a new topic name",
                           at_or_nothing(spec), spec->name, (int)existing->partitions,
                           (int)spec->partitions, (int)existing->partitions);
}

/* Which keys are poisoned is kept for ever, all of it: nothing here compacts. */
static int64_t kept_ms(const struct shove_topic_spec *spec) {
    return spec->role == SHOVE_ROLE_POISON ? -1 : spec->retention_ms;
}

int shove_local_declare_one(const struct shove_topic_spec *spec,
                            const struct shove_store_topic *existing, struct shove_store_topic *out,
                            struct shove_error *error) {
    if (!existing) {
        if (spec->is_external)
            return shove_error_set(
                error, SHOVE_ECONFIG,
                "%s: topic '%s' is external and does not exist: create it first, or leave out "
                "'external'",
                at_or_nothing(spec), spec->name);
        if (shove_topology_check_name(spec->name, error) < 0)
            return shove_error_prefix(error, "%s", at_or_nothing(spec));
        if (spec->partitions < 1)
            return shove_error_set(error, SHOVE_ECONFIG,
                                   "%s: topic '%s' needs at least one partition",
                                   at_or_nothing(spec), spec->name);
        *out = (struct shove_store_topic){.partitions = spec->partitions,
                                          .role = (int32_t)spec->role,
                                          .is_keyed = spec->is_keyed,
                                          .retention_ms = kept_ms(spec)};
        strncpy(out->name, spec->name, sizeof(out->name) - 1);
        return 1;
    }
    *out = *existing;
    if (spec->is_external)
        return 0;
    if ((existing->is_keyed || spec->is_keyed) && existing->partitions != spec->partitions)
        return refuse_keyed(spec, existing, error);
    out->is_keyed = existing->is_keyed || spec->is_keyed;
    out->retention_ms = kept_ms(spec);
    if (spec->partitions > out->partitions)
        out->partitions = spec->partitions;
    return out->is_keyed != existing->is_keyed || out->retention_ms != existing->retention_ms ||
           out->partitions != existing->partitions;
}

/* Of topics that are there: what is missing is refused by the store. */
static int check_width(struct shove_local *local, const struct shove_topic_spec *spec,
                       struct shove_error *error) {
    struct shove_store_topic topic;
    struct shove_store_topic queue;
    struct shove_error missing;
    if (spec->as_wide_as == NULL ||
        local->ops->topic_get(local->store, spec->name, &topic, &missing) < 0 ||
        local->ops->topic_get(local->store, spec->as_wide_as, &queue, &missing) < 0)
        return 0;
    return shove_transport_check_width(spec, topic.partitions, queue.partitions, error);
}

int shove_local_declare(struct shove_transport *transport, const struct shove_topic_spec *specs,
                        size_t count, struct shove_error *error) {
    struct shove_local *local = (struct shove_local *)transport;
    bool has_changed = false;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = check_width(local, &specs[i], error);
    if (rc == 0)
        rc = local->ops->declare(local->store, specs, count, &has_changed, error);
    if (rc == 0 && has_changed)
        shove_local_suspect(local);
    return rc;
}

bool shove_local_is_deletable(const struct shove_store_topic *topic, int64_t default_retention_ms,
                              int64_t consumed, int64_t block_end, int64_t newest_ms,
                              int64_t now_ms) {
    bool has_groups = consumed >= 0;
    if (has_groups && block_end > consumed)
        return false;
    int64_t retention_ms = topic->retention_ms;
    if (topic->role == SHOVE_ROLE_HOLD)
        return has_groups;
    if (retention_ms == 0 && topic->role == SHOVE_ROLE_DLQ)
        return false;
    if (retention_ms == 0)
        retention_ms = has_groups ? default_retention_ms : 7 * INT64_C(86400000);
    return retention_ms >= 0 && newest_ms <= now_ms - retention_ms;
}

int64_t shove_local_retention_ms(struct shove_transport *transport, const char *topic) {
    (void)transport;
    (void)topic;
    return -1; /* shove_local_is_deletable: nothing that a group has not consumed */
}

/* ---- operator table ---- */

/* Topic and partition checked; the topic as it is now, not as it was when it was first used. */
static int find_partition(struct shove_local *local, const char *topic, int32_t partition,
                          struct shove_store_topic *out, struct shove_error *error) {
    int rc = local->ops->topic_get(local->store, topic, out, error);
    if (rc < 0)
        return rc;
    if (partition < 0 || partition >= out->partitions)
        return shove_error_set(error, SHOVE_ENOPARTITION,
                               "topic '%s' has partitions 0 to %d, not %d", topic,
                               (int)out->partitions - 1, (int)partition);
    return 0;
}

int shove_local_topic_names(struct shove_transport *transport, const char *prefix,
                            struct shove_buffer *names, int64_t timeout_ms,
                            struct shove_error *error) {
    (void)timeout_ms;
    struct shove_local *local = (struct shove_local *)transport;
    int rc = local->ops->topic_names(local->store, prefix, names, error);
    return rc == 0 && names->is_failed ? shove_error_set(error, SHOVE_ENOMEM, "out of memory") : rc;
}

long shove_local_partition_count(struct shove_transport *transport, const char *topic,
                                 int64_t timeout_ms, struct shove_error *error) {
    (void)timeout_ms;
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_store_topic info;
    int rc = local->ops->topic_get(local->store, topic, &info, error);
    return rc < 0 ? rc : info.partitions;
}

int shove_local_watermarks(struct shove_transport *transport, const char *topic, int32_t partition,
                           int64_t *low, int64_t *high, int64_t timeout_ms,
                           struct shove_error *error) {
    (void)timeout_ms;
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_store_topic info;
    int rc = find_partition(local, topic, partition, &info, error);
    if (rc < 0)
        return rc;
    return local->ops->bounds(local->store, info.id, partition, low, high, error);
}

int shove_local_committed_get(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t *offset,
                              char **metadata, int64_t timeout_ms, struct shove_error *error) {
    (void)timeout_ms;
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_store_topic info;
    uint32_t group = 0;
    *offset = -1;
    *metadata = NULL;
    int rc = find_partition(local, topic, partition, &info, error);
    if (rc == 0)
        rc = local->ops->group_get(local->store, group_id, false, NULL, 0, &group, error);
    if (rc < 0 || group == 0)
        return rc;
    return local->ops->commit_get(local->store, group, info.id, partition, offset, metadata, error);
}

int shove_local_committed_set(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t offset,
                              const char *metadata, int64_t timeout_ms, struct shove_error *error) {
    (void)timeout_ms;
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_store_topic info;
    uint32_t group = 0;
    const char *text = metadata ? metadata : "";
    if (offset < 0 || strlen(text) > SHOVE_LEDGER_METADATA_MOST)
        return shove_error_set(error, SHOVE_EINVAL,
                               "cannot commit offset %lld with %zu characters of metadata",
                               (long long)offset, strlen(text));
    for (struct shove_local_subscription *s = local->subscriptions; s; s = s->next)
        if (strcmp(s->head.group_id, group_id) == 0)
            return shove_error_set(error, SHOVE_EBUSY,
                                   "group '%s' is being consumed by this process (pid %d)",
                                   group_id, (int)uv_os_getpid());
    int rc = find_partition(local, topic, partition, &info, error);
    if (rc == 0)
        rc = local->ops->group_get(local->store, group_id, true, NULL, 0, &group, error);
    if (rc == 0)
        rc = local->ops->group_lock(local->store, group, group_id, error);
    if (rc < 0)
        return rc;
    struct shove_store_commit commit = {.group_id = group,
                                        .topic_id = info.id,
                                        .partition = partition,
                                        .offset = offset,
                                        .metadata = text};
    struct shove_store_write write = {.commits = &commit, .commit_count = 1};
    rc = local->ops->write(local->store, &write);
    local->ops->group_unlock(local->store, group);
    return rc < 0 ? shove_error_set(error, rc, "%s", write.error.text) : 0;
}

int shove_local_delete_before(struct shove_transport *transport, const char *topic,
                              int32_t partition, int64_t offset, int64_t timeout_ms,
                              struct shove_error *error) {
    (void)timeout_ms;
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_store_topic info;
    int rc = find_partition(local, topic, partition, &info, error);
    if (rc < 0)
        return rc;
    return local->ops->delete_before(local->store, info.id, partition, offset, error);
}

int shove_local_retain(struct shove_transport *transport, int64_t now_ms,
                       struct shove_error *error) {
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_store_write write;
    do {
        write = (struct shove_store_write){.wants_retention = true, .now_ms = now_ms};
        int rc = local->ops->write(local->store, &write);
        if (rc < 0)
            return shove_error_set(error, rc, "%s", write.error.text);
    } while (write.has_more);
    return 0;
}
