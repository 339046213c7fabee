/* topology_check.c: may this app run? Pure; control and cli.
 *
 * Lua checks the same rules at the user's line. They are repeated here because the description of
 * an app comes from a worker process, and control runs only what passes; and because some rules
 * need the whole app: no topic may be used in two roles that exclude each other, and no two groups
 * may share a group id.
 *
 * What two topics may share is a DLQ with an explicit name, and an explicit DLQ may itself be a
 * topic of the app, whose handler then sees the dead letters as ordinary messages. A hold topic is
 * shared with nobody: what is read from it is believed. All of this is about one broker: on
 * another the same name is another topic. Only queues are named once in an app, because messages
 * are published to a name.
 */
#include "core/topology.h"

#include <string.h>

static bool is_same(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* --- One topic */

static int check_holds(const struct shove_topic *topic, struct shove_error *error) {
    for (uint32_t i = 0; i < topic->hold_count; i++) {
        if (topic->holds_ms[i] <= 0)
            return shove_error_set(
                error, SHOVE_ECONFIG,
                "hold delay %u of topic '%s' is %lld ms: it must be longer than 0", i + 1,
                topic->name, (long long)topic->holds_ms[i]);
        if (i > 0 && topic->holds_ms[i] <= topic->holds_ms[i - 1])
            return shove_error_set(
                error, SHOVE_ECONFIG,
                "hold delay %u of topic '%s' (%lld ms) is not longer than the one before it "
                "(%lld ms): delays escalate",
                i + 1, topic->name, (long long)topic->holds_ms[i],
                (long long)topic->holds_ms[i - 1]);
        if (shove_topology_check_name(topic->holds[i], error) < 0)
            return SHOVE_ECONFIG;
    }
    return 0;
}

static int check_topic_numbers(const struct shove_topic *topic, struct shove_error *error) {
    if (topic->partitions < 1)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "topic '%s' has %d partitions: at least 1 is needed", topic->name,
                               (int)topic->partitions);
    if (topic->replication_factor < 1 || topic->replication_factor > INT16_MAX)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "replication_factor of topic '%s' is %d: it must be 1 to %d",
                               topic->name, (int)topic->replication_factor, INT16_MAX);
    if (topic->retention_ms < 0)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "retention of topic '%s' is %lld ms: it cannot be negative",
                               topic->name, (long long)topic->retention_ms);
    if (topic->sequencing > SHOVE_SEQUENCED_FAIL_ALL || topic->codec > SHOVE_CODEC_CUSTOM)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "topic '%s' has an unknown sequencing or codec", topic->name);
    return 0;
}

static int check_topic(const struct shove_topic *topic, struct shove_error *error) {
    if (shove_topology_check_name(topic->name, error) < 0 ||
        (topic->for_group != NULL && shove_topology_check_name(topic->for_group, error) < 0) ||
        (topic->dlq != NULL && shove_topology_check_name(topic->dlq, error) < 0))
        return SHOVE_ECONFIG;
    if (check_topic_numbers(topic, error) < 0 || check_holds(topic, error) < 0)
        return SHOVE_ECONFIG;
    if (is_same(topic->dlq, topic->name))
        return shove_error_set(
            error, SHOVE_ECONFIG,
            "topic '%s' names itself as its dlq: dead letters would be handled again for ever; "
            "give the dlq another name",
            topic->name);
    if (topic->sequencing != SHOVE_UNSEQUENCED && !topic->allows_message_loss &&
        (topic->dlq == NULL || topic->hold_count == 0))
        return shove_error_set(
            error, SHOVE_ECONFIG,
            "topic '%s' is sequenced and has no %s: add one, or accept that messages may be "
            "dropped with allow_message_loss = true",
            topic->name, topic->dlq == NULL ? "dlq" : "hold");
    return 0;
}

/* --- One group */

static int check_group_numbers(const struct shove_group *group, struct shove_error *error) {
    const char *id = group->group_id;
    if (group->consumers_max < 1 || group->consumers_min > group->consumers_max)
        return shove_error_set(
            error, SHOVE_ECONFIG,
            "group '%s' has consumers from %u to %u: max must be at least 1 and not below min", id,
            group->consumers_min, group->consumers_max);
    if (group->prefetch < 1)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "prefetch of group '%s' is 0: it must be at least 1", id);
    if (group->handler_timeout_ms < 1)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "handler_timeout of group '%s' is %lld ms: it must be longer than 0",
                               id, (long long)group->handler_timeout_ms);
    if (group->audit_timeout_ms < 0 || group->audit_timeout_ms > SHOVE_AUDIT_TIMEOUT_MAX_MS)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "the audit's timeout for group '%s' is %lld ms: it can be at most a "
                               "day",
                               id, (long long)group->audit_timeout_ms);
    if (group->max_retries > SHOVE_ATTEMPTS_MAX)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "max_retries of group '%s' is %u: it can be at most %d", id,
                               group->max_retries, SHOVE_ATTEMPTS_MAX);
    if (group->max_crashes < 1 || group->max_crashes > SHOVE_ATTEMPTS_MAX)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "max_crashes of group '%s' is %u: it must be 1 to %d", id,
                               group->max_crashes, SHOVE_ATTEMPTS_MAX);
    if (group->max_message_size_bytes < 1)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "max_message_size of group '%s' is %lld: it must be at least 1 byte",
                               id, (long long)group->max_message_size_bytes);
    if (group->max_pending_per_key < 1)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "max_pending_per_key of group '%s' is 0: it must be at least 1", id);
    return 0;
}

static int check_group_choices(const struct shove_group *group, struct shove_error *error) {
    switch (group->timeout_outcome) {
    case SHOVE_OUTCOME_ACK:
    case SHOVE_OUTCOME_RETRY:
    case SHOVE_OUTCOME_REJECT:
    case SHOVE_OUTCOME_DEFER:
        break;
    default:
        return shove_error_set(error, SHOVE_ECONFIG,
                               "timeout_outcome of group '%s' must be ack, retry, reject or defer",
                               group->group_id);
    }
    if (group->reset > SHOVE_RESET_NONE)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "auto_offset_reset of group '%s' must be earliest, latest or none",
                               group->group_id);
    return 0;
}

static int check_group(const struct shove_topology *topology, const struct shove_group *group,
                       struct shove_error *error) {
    if (group->group_id == NULL || group->group_id[0] == '\0')
        return shove_error_set(error, SHOVE_ECONFIG, "a group has no group id");
    if (group->topic >= topology->topic_count)
        return shove_error_set(error, SHOVE_ECONFIG, "group '%s' refers to topic number %u of %u",
                               group->group_id, group->topic, topology->topic_count);
    if (group->kind > SHOVE_GROUP_DEAD_LETTERS)
        return shove_error_set(error, SHOVE_ECONFIG, "group '%s' is of an unknown kind",
                               group->group_id);
    const struct shove_topic *topic = &topology->topics[group->topic];
    if (group->kind == SHOVE_GROUP_DEAD_LETTERS && topic->dlq == NULL)
        return shove_error_set(
            error, SHOVE_ECONFIG,
            "dead letters of topic '%s' are to be handled, but it has no dlq: give it dlq = true",
            topic->name);
    if (check_group_numbers(group, error) < 0 || check_group_choices(group, error) < 0)
        return SHOVE_ECONFIG;
    if (group->kind == SHOVE_GROUP_CONSUMER && topic->sequencing != SHOVE_UNSEQUENCED &&
        group->consumers_max != 1)
        return shove_error_set(
            error, SHOVE_ECONFIG,
            "group '%s' is sequenced and has up to %u consumers: it has exactly one, which works "
            "on all keys in parallel",
            group->group_id, group->consumers_max);
    return 0;
}

/* --- The whole */

static int collide(const struct shove_topic *topic, const struct shove_topic *other,
                   const char *name, struct shove_error *error) {
    return shove_error_set(
        error, SHOVE_ECONFIG,
        "'%s' is a hold topic of '%s' and is used by '%s' (%s) as well: rename one of them", name,
        topic->name, other->name, other->at != NULL ? other->at : "the app");
}

/* Whether it is the queue, its DLQ or, if those are looked at, one of its holds. */
static bool has_name(const struct shove_topic *topic, const char *name, bool looks_at_holds) {
    for (uint32_t i = 0; looks_at_holds && i < topic->hold_count; i++) {
        if (strcmp(topic->holds[i], name) == 0)
            return true;
    }
    return is_same(topic->name, name) || is_same(topic->dlq, name);
}

/* No hold topic of `topic` is anything else. */
static int check_hold_names(const struct shove_topology *topology, const struct shove_topic *topic,
                            struct shove_error *error) {
    for (uint32_t h = 0; h < topic->hold_count; h++) {
        const char *name = topic->holds[h];
        for (uint32_t i = 0; i < topology->topic_count; i++) {
            const struct shove_topic *other = &topology->topics[i];
            if (other->broker == topic->broker && has_name(other, name, other != topic))
                return collide(topic, other, name, error);
        }
    }
    return 0;
}

/* Where poisoned keys are kept nothing else is. */
static int check_poison_name(const struct shove_topology *topology, const struct shove_topic *topic,
                             struct shove_error *error) {
    for (uint32_t i = 0; topic->poison != NULL && i < topology->topic_count; i++) {
        const struct shove_topic *other = &topology->topics[i];
        const bool is_shared = other != topic && is_same(other->poison, topic->poison);
        if (other->broker == topic->broker && (is_shared || has_name(other, topic->poison, true)))
            return shove_error_set(
                error, SHOVE_ECONFIG,
                "'%s' is where the poisoned keys of '%s' are kept and is used by '%s' (%s) as "
                "well: rename one of them",
                topic->poison, topic->name, other->name, other->at != NULL ? other->at : "the app");
    }
    return 0;
}

static int check_topics(const struct shove_topology *topology, struct shove_error *error) {
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *topic = &topology->topics[i];
        int rc = check_topic(topic, error);
        if (rc == 0 && topic->broker >= topology->broker_count)
            rc =
                shove_error_set(error, SHOVE_ECONFIG, "topic '%s' refers to broker number %u of %u",
                                topic->name, topic->broker, topology->broker_count);
        for (uint32_t j = 0; rc == 0 && j < i; j++) {
            const struct shove_topic *other = &topology->topics[j];
            if (is_same(other->name, topic->name) && other->broker != topic->broker)
                rc = shove_error_set(error, SHOVE_ECONFIG,
                                     "the topic '%s' is declared on another broker, too (%s): "
                                     "messages are published "
                                     "to a name, so an app has each once",
                                     topic->name, other->at != NULL ? other->at : "the app");
            else if (is_same(other->name, topic->name) &&
                     is_same(other->for_group, topic->for_group))
                rc = shove_error_set(
                    error, SHOVE_ECONFIG,
                    "topic '%s' was declared before (%s): a second, independent group on the same "
                    "topic needs for_group",
                    topic->name, other->at != NULL ? other->at : "the app");
        }
        if (rc < 0) {
            shove_error_prefix(error, "%s", topic->at != NULL ? topic->at : "the app");
            return SHOVE_ECONFIG;
        }
    }
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        if (check_hold_names(topology, &topology->topics[i], error) < 0 ||
            check_poison_name(topology, &topology->topics[i], error) < 0) {
            shove_error_prefix(error, "%s",
                               topology->topics[i].at != NULL ? topology->topics[i].at : "the app");
            return SHOVE_ECONFIG;
        }
    }
    return 0;
}

static int check_groups(const struct shove_topology *topology, struct shove_error *error) {
    for (uint32_t i = 0; i < topology->group_count; i++) {
        const struct shove_group *group = &topology->groups[i];
        int rc = check_group(topology, group, error);
        for (uint32_t j = 0; rc == 0 && j < i; j++) {
            const struct shove_group *other = &topology->groups[j];
            const char *where = other->at != NULL ? other->at : "the app";
            if (other->topic == group->topic && other->kind == group->kind)
                rc = shove_error_set(error, SHOVE_ECONFIG, "topic '%s' was registered before (%s)",
                                     topology->topics[group->topic].name, where);
            else if (strcmp(other->group_id, group->group_id) == 0 &&
                     shove_topology_broker_of(topology, other) ==
                         shove_topology_broker_of(topology, group))
                rc = shove_error_set(
                    error, SHOVE_ECONFIG,
                    "the group id '%s' is that of another group (%s): give one of them its own "
                    "group_id",
                    group->group_id, where);
        }
        if (rc < 0) {
            shove_error_prefix(error, "%s", group->at != NULL ? group->at : "the app");
            return SHOVE_ECONFIG;
        }
    }
    return 0;
}

static int check_brokers(const struct shove_topology *topology, struct shove_error *error) {
    if (topology->broker_count > SHOVE_BROKERS_MAX)
        return shove_error_set(error, SHOVE_ECONFIG, "%u brokers are more than the %d allowed",
                               topology->broker_count, SHOVE_BROKERS_MAX);
    for (uint32_t i = 0; i < topology->broker_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (is_same(topology->brokers[i].url, topology->brokers[j].url))
                return shove_error_set(error, SHOVE_ECONFIG, "the broker '%s' is listed twice",
                                       topology->brokers[i].url);
        }
    }
    return 0;
}

int shove_topology_check(const struct shove_topology *topology, struct shove_error *error) {
    int rc = check_brokers(topology, error);
    if (rc == 0)
        rc = check_topics(topology, error);
    return rc < 0 ? rc : check_groups(topology, error);
}
