/* flow.c: see flow.h. Control only, loop's thread. */
#include "control/flow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/drain.h"
#include "control/former_holds.h"
#include "control/metrics.h"
#include "control/pool.h"
#include "control/supervision.h"

#define LOG_LINES_PER_SECOND 5
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

bool shove_flow_is_of(const struct shove_flow *flow, const struct shove_cluster *cluster,
                      const char *group_id, const char *source) {
    return flow->cluster == cluster && strcmp(flow->group->group_id, group_id) == 0 &&
           strcmp(flow->source, source) == 0;
}

/* Counts go on where those of the same group and topic stopped, and so does what an operator has
 * said. */
static void succeed(struct shove_flow *flow) {
    for (uint32_t i = 0; i < flow->control->flow_count; i++) {
        struct shove_flow *before = &flow->control->flows[i];
        if (!before->is_removed || before->is_succeeded || before->state != SHOVE_FLOW_ENDED ||
            !shove_flow_is_of(before, flow->cluster, flow->group->group_id, flow->source))
            continue;
        before->is_succeeded = true;
        flow->is_paused = before->is_paused;
        flow->autoscale = before->autoscale;
        flow->autoscale.leaning = SHOVE_SCALE_NONE;
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
        if (shove_former_holds_add(cluster) != 0)
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
