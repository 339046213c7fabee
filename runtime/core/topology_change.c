/* topology_change.c: see topology_change.h. Pure. */
#include "core/topology_change.h"

#include <inttypes.h>
#include <string.h>

static bool is_same(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static const char *or_none(const char *text) {
    return text != NULL ? text : "?";
}

/* ---- the broker ---- */

static const char *property_of(const struct shove_broker *broker, const char *name) {
    for (uint32_t i = 0; i < broker->property_count; i++) {
        if (strcmp(broker->properties[i].name, name) == 0)
            return broker->properties[i].value;
    }
    return NULL;
}

static int check_properties(const struct shove_broker *now, const struct shove_broker *next,
                            struct shove_error *error) {
    const struct shove_broker *both[] = {now, next};
    for (int side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < both[side]->property_count; i++) {
            const char *name = both[side]->properties[i].name;
            if (!is_same(property_of(now, name), property_of(next, name)))
                return shove_error_set(
                    error, SHOVE_ECONFIG,
                    "%s: kafka: %s of '%s' has changed, and the connection stays as it was made: "
                    "restart shove",
                    or_none(next->at), name, next->url);
        }
    }
    return 0;
}

static bool has_broker(const struct shove_topology *topology, const char *url) {
    for (uint32_t i = 0; i < topology->broker_count; i++) {
        if (is_same(topology->brokers[i].url, url))
            return true;
    }
    return false;
}

static int check_brokers(const struct shove_topology *now, const struct shove_topology *next,
                         struct shove_error *error) {
    if (!is_same(now->brokers[0].url, next->brokers[0].url))
        return shove_error_set(error, SHOVE_ECONFIG,
                               "%s: registry: broker has changed from '%s' to '%s': restart shove",
                               or_none(next->at), now->brokers[0].url, next->brokers[0].url);
    for (uint32_t i = 1; i < next->broker_count; i++) {
        if (!has_broker(now, next->brokers[i].url))
            return shove_error_set(error, SHOVE_ECONFIG,
                                   "%s: the broker '%s' is new, and connections are made at the "
                                   "start: restart shove",
                                   or_none(next->brokers[i].at), next->brokers[i].url);
    }
    for (uint32_t i = 1; i < now->broker_count; i++) {
        if (!has_broker(next, now->brokers[i].url))
            return shove_error_set(error, SHOVE_ECONFIG,
                                   "%s: no topic is on the broker '%s' any more: restart shove",
                                   or_none(next->at), now->brokers[i].url);
    }
    return 0;
}

/* The same brokers in the same order, so that an index means the same in all generations. */
static int check_connections(const struct shove_topology *now, const struct shove_topology *next,
                             struct shove_error *error) {
    int rc = check_brokers(now, next, error);
    for (uint32_t i = 0; rc == 0 && i < next->broker_count; i++) {
        if (i >= now->broker_count || !is_same(now->brokers[i].url, next->brokers[i].url))
            rc = shove_error_set(error, SHOVE_ECONFIG,
                                 "%s: the brokers are listed in another order: restart shove",
                                 or_none(next->at));
        else
            rc = check_properties(&now->brokers[i], &next->brokers[i], error);
    }
    return rc;
}

/* ---- topics ---- */

bool shove_topology_is_same_topic(const struct shove_topic *a, const struct shove_topic *b) {
    return is_same(a->name, b->name) && is_same(a->for_group, b->for_group);
}

static const struct shove_topic *find_topic(const struct shove_topology *topology,
                                            const struct shove_topic *wanted) {
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *topic = &topology->topics[i];
        if (shove_topology_is_same_topic(topic, wanted))
            return topic;
    }
    return NULL;
}

static bool has_same_holds(const struct shove_topic *a, const struct shove_topic *b) {
    return a->hold_count == b->hold_count &&
           (a->hold_count == 0 ||
            memcmp(a->holds_ms, b->holds_ms, a->hold_count * sizeof(*a->holds_ms)) == 0);
}

/* The option in which two differ that cannot change under way; NULL: none. */
static const char *changed_option(const struct shove_topic *a, const struct shove_topic *b) {
    if (a->broker != b->broker)
        return "broker";
    if (a->replication_factor != b->replication_factor)
        return "replication_factor";
    if (a->retention_ms != b->retention_ms)
        return "retention";
    if (a->sequencing != b->sequencing)
        return "sequenced";
    if (a->sequencing != SHOVE_UNSEQUENCED && a->partitions != b->partitions)
        return "shards";
    if (a->is_external != b->is_external)
        return "external";
    return NULL;
}

static bool is_wider(const struct shove_topic *topic, const struct shove_topic *before) {
    return !topic->is_external && topic->partitions > before->partitions;
}

bool shove_topology_has_new_topics(const struct shove_topology *now,
                                   const struct shove_topology *next, uint32_t broker) {
    for (uint32_t i = 0; i < next->topic_count; i++) {
        const struct shove_topic *topic = &next->topics[i];
        if (topic->broker != broker)
            continue;
        const struct shove_topic *before = find_topic(now, topic);
        if (before == NULL || is_wider(topic, before) || !has_same_holds(before, topic) ||
            !is_same(before->dlq, topic->dlq))
            return true;
    }
    return false;
}

static int check_topics(const struct shove_topology *now, const struct shove_topology *next,
                        struct shove_error *error) {
    for (uint32_t i = 0; i < next->topic_count; i++) {
        const struct shove_topic *topic = &next->topics[i];
        const struct shove_topic *before = find_topic(now, topic);
        const char *option = before != NULL ? changed_option(before, topic) : NULL;
        if (option != NULL)
            return shove_error_set(error, SHOVE_ECONFIG,
                                   "%s: topic '%s': %s has changed: restart shove",
                                   or_none(topic->at), topic->name, option);
    }
    return 0;
}

/* ---- groups ---- */

bool shove_topology_is_same_group(const struct shove_group *a, const struct shove_topic *topic_a,
                                  const struct shove_group *b, const struct shove_topic *topic_b) {
    return a->kind == b->kind && is_same(a->group_id, b->group_id) &&
           shove_topology_is_same_topic(topic_a, topic_b);
}

long shove_topology_find_group(const struct shove_topology *topology,
                               const struct shove_topology *other,
                               const struct shove_group *group) {
    for (uint32_t i = 0; i < topology->group_count; i++) {
        const struct shove_group *candidate = &topology->groups[i];
        if (shove_topology_is_same_group(candidate, &topology->topics[candidate->topic], group,
                                         &other->topics[group->topic]))
            return (long)i;
    }
    return -1;
}

static int check_groups(const struct shove_topology *next, int64_t largest_bytes,
                        struct shove_error *error) {
    for (uint32_t i = 0; i < next->group_count; i++) {
        const struct shove_group *group = &next->groups[i];
        if (group->max_message_size_bytes > largest_bytes)
            return shove_error_set(
                error, SHOVE_ECONFIG,
                "%s: group '%s': max_message_size is %" PRId64
                " bytes, and memory was laid out for messages of %" PRId64 ": restart shove",
                or_none(group->at), group->group_id, group->max_message_size_bytes, largest_bytes);
    }
    return 0;
}

bool shove_topology_must_rejoin(const struct shove_topology *now,
                                const struct shove_group *group_now,
                                const struct shove_topology *next,
                                const struct shove_group *group_next) {
    const struct shove_topic *topic_now = &now->topics[group_now->topic];
    const struct shove_topic *topic_next = &next->topics[group_next->topic];
    return group_now->reset != group_next->reset || !has_same_holds(topic_now, topic_next) ||
           !is_same(topic_now->dlq, topic_next->dlq);
}

int shove_topology_check_change(const struct shove_topology *now, const struct shove_topology *next,
                                int64_t largest_bytes, struct shove_error *error) {
    int rc = check_connections(now, next, error);
    if (rc == 0)
        rc = check_topics(now, next, error);
    if (rc == 0)
        rc = check_groups(next, largest_bytes, error);
    return rc;
}
