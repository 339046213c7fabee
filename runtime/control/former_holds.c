/* former_holds.c: see former_holds.h. Control only, loop's thread. */
#include "control/former_holds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "control/cluster.h"

#define ASK_MS 3000

static bool may_have_any(const struct shove_flow *flow, const struct shove_cluster *cluster) {
    return flow->cluster == cluster && flow->state == SHOVE_FLOW_IDLE &&
           flow->group->kind == SHOVE_GROUP_CONSUMER && !flow->policy.is_sequenced;
}

/* What the names of all queues begin with that are consumed from there, so that the broker is asked
 * once. False: there are none. */
static bool common_prefix(const struct shove_cluster *cluster, char prefix[SHOVE_NAME_SIZE]) {
    const struct shove_control *control = cluster->control;
    bool has_any = false;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const struct shove_flow *flow = &control->flows[i];
        if (!may_have_any(flow, cluster))
            continue;
        if (!has_any)
            snprintf(prefix, SHOVE_NAME_SIZE, "%s", flow->source);
        has_any = true;
        size_t same = 0;
        while (prefix[same] != '\0' && prefix[same] == flow->source[same])
            same++;
        prefix[same] = '\0';
    }
    return has_any;
}

static bool is_declared(const struct shove_topology *topology, uint32_t broker, const char *name) {
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *topic = &topology->topics[i];
        if (topic->broker != broker)
            continue;
        if (strcmp(topic->name, name) == 0 || (topic->dlq && strcmp(topic->dlq, name) == 0))
            return true;
        for (uint32_t h = 0; h < topic->hold_count; h++) {
            if (strcmp(topic->holds[h], name) == 0)
                return true;
        }
    }
    return false;
}

/* Tried, because a group ends when one of its topics may not be read. */
static bool can_read(const struct shove_cluster *cluster, const char *name) {
    struct shove_error error;
    struct shove_batch batch;
    int64_t low;
    int64_t high;
    long rc = cluster->ops->watermarks(cluster->transport, name, 0, &low, &high, ASK_MS, &error);
    if (rc == 0)
        rc = cluster->ops->read(cluster->transport, name, 0, low, 1, ASK_MS, &batch, &error);
    if (rc > 0)
        cluster->ops->batch_release(cluster->transport, &batch);
    if (rc < 0)
        shove_log_fields(
            SHOVE_LOG_WARN,
            "a hold that is not declared any more cannot be read, and what waits in it "
            "is not handled in this run",
            "hold", name, "code", shove_error_name((int)rc), "error", error.text, NULL);
    return rc >= 0;
}

static int add_topic(struct shove_flow *flow, const char *name) {
    const char **topics = realloc(flow->topics, (flow->topic_count + 1) * sizeof(*topics));
    if (!topics)
        return SHOVE_ENOMEM;
    flow->topics = topics;
    topics[flow->topic_count] = strdup(name);
    if (!topics[flow->topic_count])
        return SHOVE_ENOMEM;
    flow->topic_count++;
    return 0;
}

static int add_those_of(struct shove_flow *flow, const struct shove_buffer *names) {
    const struct shove_control *control = flow->control;
    struct shove_buffer added;
    shove_buffer_init(&added);
    const char *end = (const char *)names->data + names->size;
    int rc = 0;
    for (const char *name = (const char *)names->data; rc == 0 && name < end;
         name += strlen(name) + 1) {
        if (shove_topology_hold_delay_ms(flow->source, flow->topic->for_group, name) == 0 ||
            is_declared(&control->topology, flow->topic->broker, name) ||
            !can_read(flow->cluster, name))
            continue;
        shove_buffer_printf(&added, "%s%s", added.size > 0 ? ", " : "", name);
        rc = add_topic(flow, name);
    }
    shove_buffer_append(&added, "", 1);
    if (added.size > 1 && !added.is_failed)
        shove_log_fields(SHOVE_LOG_INFO,
                         "holds that are not declared any more are read as well, because retries "
                         "may wait in them: delete them when they are empty",
                         "holds", (const char *)added.data, "queue", flow->source, "group",
                         flow->group->group_id, SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
    shove_buffer_release(&added);
    return rc;
}

int shove_former_holds_add(const struct shove_cluster *cluster) {
    const struct shove_control *control = cluster->control;
    char prefix[SHOVE_NAME_SIZE];
    if (!common_prefix(cluster, prefix))
        return 0;
    struct shove_error words;
    struct shove_buffer names;
    shove_buffer_init(&names);
    int rc = cluster->is_away
                 ? shove_error_set(&words, SHOVE_EUNREACHABLE, "it is away")
                 : cluster->ops->topic_names(cluster->transport, prefix, &names, ASK_MS, &words);
    if (rc != 0)
        shove_log_fields(SHOVE_LOG_WARN,
                         "holds that are not declared any more are not looked for in this run",
                         "code", shove_error_name(rc), "error", words.text, NULL);
    int failed = 0;
    for (uint32_t i = 0; rc == 0 && failed == 0 && i < control->flow_count; i++) {
        if (may_have_any(&control->flows[i], cluster))
            failed = add_those_of(&control->flows[i], &names);
    }
    shove_buffer_release(&names);
    return failed;
}

int shove_former_holds_add_all(const struct shove_control *control, struct shove_error *error) {
    for (uint32_t i = 0; i < control->cluster_count; i++) {
        if (shove_former_holds_add(&control->clusters[i]) != 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    return 0;
}
