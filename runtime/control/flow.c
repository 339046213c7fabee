/* flow.c: see flow.h. Control only, loop's thread. */
#include "control/flow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "control/cluster.h"
#include "control/drain.h"
#include "control/metrics.h"
#include "control/pool.h"
#include "control/supervision.h"

#define LOG_LINES_PER_SECOND 5
#define FORMER_TIMEOUT_MS 3000
/* For groups that reloads add; and all that there are may leave and join again at once. */
#define SPARE_PLACES 256u

/* A sequenced topic's retries wait in place: nothing travels. */
static uint32_t hold_topics(const struct shove_policy *policy) {
    return policy->is_sequenced ? 0 : policy->hold_count;
}

/* What a description says of a group, for the workers of `set`. There is room in flow->topics. */
static void point_at(struct shove_flow *flow, const struct shove_topology *topology,
                     uint32_t number, uint32_t set) {
    const struct shove_group *group = &topology->groups[number];
    flow->group = group;
    flow->group_number = number;
    flow->topic = &topology->topics[group->topic];
    flow->timeouts_ms[set] = group->handler_timeout_ms + group->audit_timeout_ms;
    flow->source = shove_topology_source(topology, group);
    flow->policy = shove_topology_policy(topology, group);
    flow->topics[0] = flow->source;
    for (uint32_t i = 0; i < hold_topics(&flow->policy); i++)
        flow->topics[i + 1] = flow->topic->holds[i];
}

static int init_flow(struct shove_control *control, struct shove_flow *flow, uint32_t number) {
    const struct shove_group *group = &control->topology.groups[number];
    const struct shove_policy policy = shove_topology_policy(&control->topology, group);
    flow->control = control;
    flow->cluster = shove_cluster_of(control, group);
    flow->consumers = group->consumers_min;
    flow->topic_count = 1 + hold_topics(&policy);
    flow->topics = calloc(flow->topic_count, sizeof(*flow->topics));
    flow->capacity = calloc(control->worker_count, sizeof(*flow->capacity));
    flow->in_flight = calloc(control->worker_count, sizeof(*flow->in_flight));
    if (!flow->topics || !flow->capacity || !flow->in_flight)
        return SHOVE_ENOMEM;
    point_at(flow, &control->topology, number, control->set);
    return 0;
}

int shove_flows_init(struct shove_control *control, struct shove_error *error) {
    control->flow_places = 2 * control->topology.group_count + SPARE_PLACES;
    control->flows = calloc(control->flow_places, sizeof(*control->flows));
    if (!control->flows)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < control->topology.group_count; i++) {
        control->flow_count = i + 1;
        control->flows[i].index = i;
        if (init_flow(control, &control->flows[i], i) != 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    return 0;
}

static void set_consumers_within(struct shove_flow *flow, uint32_t consumers) {
    const struct shove_group *group = flow->group;
    flow->consumers = consumers < group->consumers_min   ? group->consumers_min
                      : consumers > group->consumers_max ? group->consumers_max
                                                         : consumers;
}

void shove_flow_adopt(struct shove_flow *flow, const struct shove_topology *topology,
                      uint32_t number, uint32_t set) {
    point_at(flow, topology, number, set);
    for (struct shove_partition *p = flow->partitions; p; p = p->next)
        p->topic = flow->topics[p->claim->topic_index];
    set_consumers_within(flow, flow->consumers);
}

void shove_flow_remove(struct shove_flow *flow, bool returns) {
    flow->is_removed = true;
    if (flow->state == SHOVE_FLOW_RESTING)
        flow->state = SHOVE_FLOW_ENDED;
    shove_log_fields(SHOVE_LOG_INFO,
                     returns ? "the group finishes what it has, leaves, and joins with other topics"
                             : "the group is not in the app any more: it finishes what it has and "
                               "leaves",
                     "group", flow->group->group_id, "topic", flow->source,
                     SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

void shove_flow_leave(struct shove_flow *flow) {
    flow->state = SHOVE_FLOW_LEAVING;
    flow->cluster->ops->unsubscribe(flow->cluster->transport, flow->subscription);
}

void shove_flows_part(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (flow->is_removed && flow->state == SHOVE_FLOW_JOINED && !shove_flow_has_work(flow))
            shove_flow_leave(flow);
    }
}

static void release_flow(struct shove_flow *flow) {
    for (size_t t = 1 + (size_t)hold_topics(&flow->policy); flow->topics && t < flow->topic_count;
         t++)
        free((char *)flow->topics[t]);
    shove_sequence_release(&flow->sequence);
    free(flow->topics);
    free(flow->metrics);
    free(flow->failure);
    free(flow->capacity);
    free(flow->in_flight);
}

void shove_flows_release(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++)
        release_flow(&control->flows[i]);
    free(control->flows);
    control->flows = NULL;
    control->flow_count = 0;
}

/* ---- holds of earlier runs ---- */

static bool may_have_former_holds(const struct shove_flow *flow,
                                  const struct shove_cluster *cluster) {
    return flow->cluster == cluster && flow->state == SHOVE_FLOW_IDLE &&
           flow->group->kind == SHOVE_GROUP_CONSUMER && !flow->policy.is_sequenced;
}

/* What the names of all queues begin with that are consumed from there, so that the broker is asked
 * once. False: there are none. */
static bool common_prefix(const struct shove_flow *flows, uint32_t count,
                          const struct shove_cluster *cluster, char prefix[SHOVE_NAME_SIZE]) {
    bool has_any = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct shove_flow *flow = &flows[i];
        if (!may_have_former_holds(flow, cluster))
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
    long rc = cluster->ops->watermarks(cluster->transport, name, 0, &low, &high, FORMER_TIMEOUT_MS,
                                       &error);
    if (rc == 0)
        rc = cluster->ops->read(cluster->transport, name, 0, low, 1, FORMER_TIMEOUT_MS, &batch,
                                &error);
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

static int add_former_holds(struct shove_flow *flow, const struct shove_buffer *names) {
    struct shove_control *control = flow->control;
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

/* 0 or SHOVE_ENOMEM. */
static int find_former_holds(const struct shove_cluster *cluster, struct shove_flow *flows,
                             uint32_t count) {
    char prefix[SHOVE_NAME_SIZE];
    if (!common_prefix(flows, count, cluster, prefix))
        return 0;
    struct shove_error words;
    struct shove_buffer names;
    shove_buffer_init(&names);
    int rc = cluster->is_away ? shove_error_set(&words, SHOVE_EUNREACHABLE, "it is away")
                              : cluster->ops->topic_names(cluster->transport, prefix, &names,
                                                          FORMER_TIMEOUT_MS, &words);
    if (rc != 0)
        shove_log_fields(SHOVE_LOG_WARN,
                         "holds that are not declared any more are not looked for in this run",
                         "code", shove_error_name(rc), "error", words.text, NULL);
    int failed = 0;
    for (uint32_t i = 0; rc == 0 && failed == 0 && i < count; i++) {
        if (may_have_former_holds(&flows[i], cluster))
            failed = add_former_holds(&flows[i], &names);
    }
    shove_buffer_release(&names);
    return failed;
}

int shove_flows_add_former_holds(struct shove_control *control, struct shove_error *error) {
    for (uint32_t i = 0; i < control->cluster_count; i++) {
        if (find_former_holds(&control->clusters[i], control->flows, control->flow_count) != 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    return 0;
}

/* ---- joining, and who has how much ---- */

int shove_flow_join(struct shove_flow *flow, struct shove_error *error) {
    const struct shove_cluster *cluster = flow->cluster;
    struct shove_subscribe what = {
        .group_id = flow->group->group_id,
        .topics = flow->topics,
        .topic_count = flow->topic_count,
        .reset = flow->group->reset,
        .hold_count = flow->topic_count - 1,
        .user = flow,
    };
    int rc = cluster->ops->subscribe(cluster->transport, &what, &flow->subscription, error);
    if (rc == 0)
        flow->state = SHOVE_FLOW_JOINED;
    return rc;
}

/* Counts go on where those of the same group and topic stopped, and so does what an operator has
 * said. */
static void succeed(struct shove_flow *flow) {
    for (uint32_t i = 0; i < flow->control->flow_count; i++) {
        struct shove_flow *before = &flow->control->flows[i];
        if (!before->is_removed || before->is_succeeded || before->state != SHOVE_FLOW_ENDED ||
            before->cluster != flow->cluster ||
            strcmp(before->group->group_id, flow->group->group_id) != 0 ||
            strcmp(before->source, flow->source) != 0)
            continue;
        before->is_succeeded = true;
        flow->is_paused = before->is_paused;
        set_consumers_within(flow, before->consumers);
        flow->tally = before->tally;
        flow->tally.is_failed = false;
        flow->scaled_up = before->scaled_up;
        flow->strategy_failures = before->strategy_failures;
        flow->scaled_down = before->scaled_down;
        free(flow->metrics);
        flow->metrics = before->metrics;
        before->metrics = NULL;
    }
}

/* Nothing is known of it that its successor does not know. */
static bool is_spare(const struct shove_flow *flow) {
    return flow->is_succeeded && flow->state == SHOVE_FLOW_ENDED && flow->partitions == NULL &&
           !shove_flow_has_work(flow);
}

uint32_t shove_flow_free_places(const struct shove_control *control) {
    uint32_t count = control->flow_places - control->flow_count;
    for (uint32_t i = 0; i < control->flow_count; i++)
        count += is_spare(&control->flows[i]);
    return count;
}

static struct shove_flow *take_place(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (is_spare(flow)) {
            release_flow(flow);
            memset(flow, 0, sizeof(*flow));
            return flow;
        }
    }
    return &control->flows[control->flow_count++];
}

int shove_flow_add(struct shove_control *control, uint32_t number) {
    struct shove_flow added = {0};
    int rc = init_flow(control, &added, number);
    if (rc == 0)
        rc = shove_metrics_start_flow(&added);
    if (rc != 0) {
        release_flow(&added);
        return rc;
    }
    struct shove_flow *flow = take_place(control);
    *flow = added;
    flow->index = (uint32_t)(flow - control->flows);
    succeed(flow);
    return 0;
}

static void join_or_end(struct shove_flow *flow) {
    struct shove_error error;
    const int rc = shove_flow_join(flow, &error);
    if (rc == 0)
        return;
    flow->state = SHOVE_FLOW_ENDED;
    shove_supervision_failed(flow, rc, error.text);
}

void shove_flows_join_added(struct shove_control *control) {
    for (uint32_t c = 0; c < control->cluster_count; c++) {
        const struct shove_cluster *cluster = &control->clusters[c];
        if (find_former_holds(cluster, control->flows, control->flow_count) != 0)
            shove_log(SHOVE_LOG_WARN, "holds that are not declared any more are not all looked for "
                                      "in this run: out of memory");
        for (uint32_t i = 0; i < control->flow_count; i++) {
            struct shove_flow *flow = &control->flows[i];
            if (flow->cluster == cluster && flow->state == SHOVE_FLOW_IDLE)
                join_or_end(flow);
        }
    }
}

int shove_flows_join(struct shove_control *control, struct shove_error *error) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < control->flow_count; i++)
        rc = shove_flow_join(&control->flows[i], error);
    return rc;
}

/* What the worker that is the `first`-th of those that are ready takes. A sequenced group has one
 * lane, and keys enough for all of them. */
static uint32_t share(const struct shove_flow *flow, uint32_t ready, uint32_t first) {
    const uint32_t lanes = flow->consumers;
    if (!flow->policy.is_sequenced)
        return (uint32_t)shove_group_capacity(flow->group,
                                              lanes / ready + (first < lanes % ready ? 1 : 0));
    const uint32_t slots = (uint32_t)shove_group_capacity(flow->group, lanes);
    return slots / ready + (first < slots % ready ? 1 : 0);
}

void shove_flows_spread(struct shove_control *control) {
    const uint32_t ready = shove_pool_ready_count(control);
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        uint32_t position = 0;
        flow->capacity_total = 0;
        for (uint32_t w = 0; w < control->worker_count; w++) {
            flow->capacity[w] = 0;
            if (control->workers[w].state != SHOVE_WORKER_READY)
                continue;
            uint32_t first = (position++ + ready - flow->index % ready) % ready;
            flow->capacity[w] = share(flow, ready, first);
            flow->capacity_total += flow->capacity[w];
        }
    }
}

void shove_flow_ended(struct shove_flow *flow, int code, const char *text) {
    struct shove_control *control = flow->control;
    flow->state = SHOVE_FLOW_ENDED;
    flow->subscription = NULL;
    if (code != 0)
        shove_supervision_failed(flow, code, text);
    shove_drain_check(control);
}

void shove_flow_log_left_out(struct shove_flow *flow) {
    struct shove_log_limit *limit = &flow->log_limit;
    if (limit->suppressed == 0)
        return;
    shove_log(SHOVE_LOG_WARN, "%" PRIu32 " more lines about messages of %s were left out",
              limit->suppressed, flow->source);
    limit->suppressed = 0;
}

bool shove_flow_may_log(struct shove_flow *flow) {
    struct shove_log_limit *limit = &flow->log_limit;
    const int64_t now_ms = flow->control->now_ms;
    if (now_ms - limit->window_ms >= 1000) {
        shove_flow_log_left_out(flow);
        limit->window_ms = now_ms;
        limit->count = 0;
    }
    if (limit->count < LOG_LINES_PER_SECOND) {
        limit->count++;
        return true;
    }
    limit->suppressed++;
    return false;
}
