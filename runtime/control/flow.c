/* flow.c: see flow.h. Control only, loop's thread. */
#include "control/flow.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "control/drain.h"

#define LOG_LINES_PER_SECOND 5

static int init_flow(struct shove_control *control, struct shove_flow *flow, uint32_t index) {
    const struct shove_group *group = &control->topology.groups[index];
    const struct shove_topic *topic = &control->topology.topics[group->topic];
    flow->control = control;
    flow->group = group;
    flow->topic = topic;
    flow->index = index;
    flow->source = shove_topology_source(&control->topology, group);
    flow->policy = shove_topology_policy(&control->topology, group);
    flow->topic_count = 1 + flow->policy.hold_count;
    flow->topics = calloc(flow->topic_count, sizeof(*flow->topics));
    flow->capacity = calloc(control->worker_count, sizeof(*flow->capacity));
    flow->in_flight = calloc(control->worker_count, sizeof(*flow->in_flight));
    if (!flow->topics || !flow->capacity || !flow->in_flight)
        return SHOVE_ENOMEM;
    flow->topics[0] = flow->source;
    for (uint32_t i = 0; i < flow->policy.hold_count; i++)
        flow->topics[i + 1] = topic->holds[i];
    return 0;
}

int shove_flows_init(struct shove_control *control, struct shove_error *error) {
    control->flows = calloc(control->topology.group_count, sizeof(*control->flows));
    if (!control->flows && control->topology.group_count > 0)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < control->topology.group_count; i++) {
        control->flow_count = i + 1;
        if (init_flow(control, &control->flows[i], i) != 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    return 0;
}

void shove_flows_release(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        free(control->flows[i].topics);
        free(control->flows[i].capacity);
        free(control->flows[i].in_flight);
    }
    free(control->flows);
    control->flows = NULL;
    control->flow_count = 0;
}

int shove_flows_join(struct shove_control *control, struct shove_error *error) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        struct shove_subscribe what = {
            .group_id = flow->group->group_id,
            .topics = flow->topics,
            .topic_count = flow->topic_count,
            .reset = flow->group->reset,
            .hold_count = flow->topic_count - 1,
            .user = flow,
        };
        int rc = control->ops->subscribe(control->transport, &what, &flow->subscription, error);
        if (rc != 0)
            return rc;
        flow->state = SHOVE_FLOW_JOINED;
    }
    return 0;
}

uint64_t shove_flows_peak(const struct shove_control *control) {
    uint64_t peak = 0;
    for (uint32_t i = 0; i < control->topology.group_count; i++) {
        const struct shove_group *group = &control->topology.groups[i];
        peak += shove_group_capacity(group, group->consumers_min);
    }
    return peak;
}

void shove_flows_spread(struct shove_control *control) {
    uint32_t ready = 0;
    for (uint32_t w = 0; w < control->worker_count; w++)
        ready += control->workers[w].state == SHOVE_WORKER_READY;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        uint32_t position = 0;
        for (uint32_t w = 0; w < control->worker_count; w++) {
            flow->capacity[w] = 0;
            if (control->workers[w].state != SHOVE_WORKER_READY)
                continue;
            uint32_t first = (position++ + ready - flow->index % ready) % ready;
            uint32_t lanes = flow->group->consumers_min;
            uint32_t here = lanes / ready + (first < lanes % ready ? 1 : 0);
            flow->capacity[w] = (uint32_t)shove_group_capacity(flow->group, here);
        }
    }
}

void shove_flow_ended(struct shove_flow *flow, int code, const char *text) {
    struct shove_control *control = flow->control;
    flow->state = SHOVE_FLOW_ENDED;
    flow->subscription = NULL;
    if (code != 0) {
        flow->tally.is_failed = true;
        control->verdict.failed_groups++;
        shove_log_fields(SHOVE_LOG_ERROR, "a consumer group stopped and consumes no more", "group",
                         flow->group->group_id, "topic", flow->source, "code",
                         shove_error_name(code), "error", text, NULL);
    }
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
