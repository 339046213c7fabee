/* topology.c: names and numbers of an app. Pure; control and cli.
 *
 * Every name that is derived from a queue's name is derived here and nowhere else: a second place
 * that builds a group id would one day differ, and then lag is read of a group that nobody commits
 * for.
 *
 * A NULL for_group is the default group. The checks of a whole app are in topology_check.c.
 */
#include "core/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Ownership */

static void release_topic(struct shove_topic *topic) {
    for (uint32_t i = 0; topic->holds != NULL && i < topic->hold_count; i++)
        free(topic->holds[i]);
    free(topic->holds);
    free(topic->holds_ms);
    free(topic->name);
    free(topic->for_group);
    free(topic->dlq);
    free(topic->poison);
    free(topic->at);
}

static void release_broker(struct shove_broker *broker) {
    for (uint32_t i = 0; i < broker->property_count; i++) {
        free(broker->properties[i].name);
        free(broker->properties[i].value);
    }
    free(broker->properties);
    free(broker->url);
    free(broker->at);
}

void shove_topology_release(struct shove_topology *topology) {
    for (uint32_t i = 0; i < topology->topic_count; i++)
        release_topic(&topology->topics[i]);
    for (uint32_t i = 0; i < topology->group_count; i++) {
        free(topology->groups[i].group_id);
        free(topology->groups[i].at);
    }
    for (uint32_t i = 0; i < topology->broker_count; i++)
        release_broker(&topology->brokers[i]);
    for (uint32_t i = 0; i < topology->warning_count; i++)
        free(topology->warnings[i]);
    for (uint32_t i = 0; i < topology->file_count; i++)
        free(topology->files[i]);
    free(topology->files);
    free(topology->topics);
    free(topology->groups);
    free(topology->warnings);
    free(topology->brokers);
    free(topology->at);
    *topology = (struct shove_topology){0};
}

/* --- Names */

/* "{queue}{-group}{suffix}", which is what every derived name looks like. */
static int derive(const char *queue, const char *for_group, const char *suffix,
                  char out[SHOVE_NAME_SIZE], struct shove_error *error) {
    const char *dash = for_group != NULL ? "-" : "";
    const char *group = for_group != NULL ? for_group : "";
    size_t size = strlen(queue) + strlen(dash) + strlen(group) + strlen(suffix);
    if (size > SHOVE_TOPIC_NAME_MAX)
        return shove_error_set(error, SHOVE_EINVAL,
                               "the name '%s%s%s%s' has %zu characters and at most %d are allowed: "
                               "shorten the name of the topic",
                               queue, dash, group, suffix, size, SHOVE_TOPIC_NAME_MAX);
    snprintf(out, SHOVE_NAME_SIZE, "%s%s%s%s", queue, dash, group, suffix);
    return 0;
}

int shove_topology_hold_name(const char *queue, const char *for_group, int64_t delay_ms,
                             char out[SHOVE_NAME_SIZE], struct shove_error *error) {
    char suffix[40];
    if (delay_ms <= 0)
        return shove_error_set(error, SHOVE_EINVAL,
                               "a hold delay must be longer than 0 ms, not %lld ms",
                               (long long)delay_ms);
    if (delay_ms % 1000 == 0)
        snprintf(suffix, sizeof suffix, "-hold-%llds", (long long)(delay_ms / 1000));
    else
        snprintf(suffix, sizeof suffix, "-hold-%lldms", (long long)delay_ms);
    return derive(queue, for_group, suffix, out, error);
}

int64_t shove_topology_hold_delay_ms(const char *queue, const char *for_group, const char *name) {
    char same[SHOVE_NAME_SIZE];
    struct shove_error error;
    char *unit = NULL;
    const char *dash = strrchr(name, '-');
    const long long number = dash != NULL ? strtoll(dash + 1, &unit, 10) : 0;
    if (number <= 0 || number > INT64_MAX / 1000)
        return 0;
    const int64_t delay_ms = strcmp(unit, "ms") == 0 ? number : number * 1000;
    if (shove_topology_hold_name(queue, for_group, delay_ms, same, &error) != 0)
        return 0;
    return strcmp(same, name) == 0 ? delay_ms : 0;
}

int shove_topology_dlq_name(const char *queue, const char *for_group, char out[SHOVE_NAME_SIZE],
                            struct shove_error *error) {
    return derive(queue, for_group, "-dlq", out, error);
}

int shove_topology_poison_name(const char *queue, const char *for_group, char out[SHOVE_NAME_SIZE],
                               struct shove_error *error) {
    return derive(queue, for_group, "-poison", out, error);
}

int shove_topology_group_id(const char *explicit_id, const char *queue, const char *for_group,
                            bool is_fifo, char out[SHOVE_NAME_SIZE], struct shove_error *error) {
    if (explicit_id == NULL)
        return derive(queue, for_group, is_fifo ? "-fifo" : "-consumer", out, error);
    size_t size = strlen(explicit_id);
    if (size == 0)
        return shove_error_set(error, SHOVE_EINVAL,
                               "group_id is empty: leave it out, or give it a name");
    if (size > SHOVE_TOPIC_NAME_MAX)
        return shove_error_set(error, SHOVE_EINVAL,
                               "group_id has %zu characters and at most %d are allowed", size,
                               SHOVE_TOPIC_NAME_MAX);
    memcpy(out, explicit_id, size + 1);
    return 0;
}

static bool is_name_character(char character) {
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || character == '.' || character == '_' ||
           character == '-';
}

int shove_topology_check_name(const char *name, struct shove_error *error) {
    if (name == NULL || name[0] == '\0')
        return shove_error_set(error, SHOVE_EINVAL, "a topic name is empty");
    size_t size = strlen(name);
    if (size > SHOVE_TOPIC_NAME_MAX)
        return shove_error_set(
            error, SHOVE_EINVAL,
            "the topic name that begins with '%.40s' has %zu characters and at most %d are allowed",
            name, size, SHOVE_TOPIC_NAME_MAX);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return shove_error_set(error, SHOVE_EINVAL, "a topic cannot be named '%s'", name);
    for (const char *at = name; *at != '\0'; at++) {
        if (!is_name_character(*at))
            return shove_error_set(
                error, SHOVE_EINVAL,
                "the topic name '%s' has a character that is not allowed (the one at position %d): "
                "use letters, digits, '.', '_' and '-'",
                name, (int)(at - name) + 1);
    }
    return 0;
}

/* --- What a group means */

uint32_t shove_group_effective_prefetch(const struct shove_group *group) {
    return group->is_concurrent ? group->prefetch : 1;
}

uint64_t shove_group_capacity(const struct shove_group *group, uint32_t consumers) {
    return (uint64_t)consumers * shove_group_effective_prefetch(group);
}

uint64_t shove_topology_peak(const struct shove_topology *topology) {
    uint64_t peak = 0;
    for (uint32_t i = 0; i < topology->group_count; i++)
        peak += shove_group_capacity(&topology->groups[i], topology->groups[i].consumers_max);
    return peak;
}

int64_t shove_topology_largest_message(const struct shove_topology *topology) {
    int64_t largest = 0;
    for (uint32_t i = 0; i < topology->group_count; i++) {
        if (topology->groups[i].max_message_size_bytes > largest)
            largest = topology->groups[i].max_message_size_bytes;
    }
    return largest;
}

struct shove_policy shove_topology_policy(const struct shove_topology *topology,
                                          const struct shove_group *group) {
    struct shove_policy policy = {.max_retries = group->max_retries,
                                  .max_crashes = group->max_crashes,
                                  .timeout_outcome = group->timeout_outcome};
    if (group->kind == SHOVE_GROUP_DEAD_LETTERS)
        return policy;
    const struct shove_topic *topic = &topology->topics[group->topic];
    policy.holds_ms = topic->holds_ms;
    policy.hold_count = topic->hold_count;
    policy.has_dlq = topic->dlq != NULL;
    policy.is_sequenced = topic->sequencing != SHOVE_UNSEQUENCED;
    policy.poisons = topic->sequencing == SHOVE_SEQUENCED_FAIL_ALL;
    return policy;
}

const char *shove_topology_source(const struct shove_topology *topology,
                                  const struct shove_group *group) {
    const struct shove_topic *topic = &topology->topics[group->topic];
    return group->kind == SHOVE_GROUP_DEAD_LETTERS ? topic->dlq : topic->name;
}

uint32_t shove_topology_broker_of(const struct shove_topology *topology,
                                  const struct shove_group *group) {
    return topology->topics[group->topic].broker;
}
