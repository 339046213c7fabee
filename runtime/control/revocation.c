/* revocation.c: see revocation.h. Control only, loop's thread. */
#include "control/revocation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/cluster.h"

#define WAIT_MS 5000
/* Beside the time that a handler has, and the grace after which one is killed. */
#define MARGIN_MS 1000
/* Of what the broker waits: for the last commit and the way there. */
#define RESERVE_MS 10000

/* A handler with this timeout has ended by then, come what may. */
static int64_t end_ms(int64_t timeout_ms) {
    return timeout_ms + SHOVE_KILL_GRACE_MS + MARGIN_MS;
}

/* INT64_MAX: nobody else waits for them. */
static int64_t limit_ms(const struct shove_transport_ops *ops, const struct shove_broker *broker) {
    if (!ops->rebalance_ms)
        return INT64_MAX;
    const int64_t limit = ops->rebalance_ms(broker->properties, broker->property_count);
    return limit - RESERVE_MS > WAIT_MS ? limit - RESERVE_MS : WAIT_MS;
}

int64_t shove_revocation_wait_ms(const struct shove_flow *flow) {
    if (!flow->policy.is_sequenced)
        return WAIT_MS;
    int64_t timeout_ms = 0;
    for (uint32_t set = 0; set < SHOVE_WORKER_SETS; set++) {
        if (flow->timeouts_ms[set] > timeout_ms)
            timeout_ms = flow->timeouts_ms[set];
    }
    const struct shove_control *control = flow->control;
    const int64_t wait_ms = end_ms(timeout_ms) > WAIT_MS ? end_ms(timeout_ms) : WAIT_MS;
    const int64_t most_ms =
        limit_ms(flow->cluster->ops, &control->topology.brokers[flow->cluster - control->clusters]);
    return wait_ms < most_ms ? wait_ms : most_ms;
}

/* ---- before the run ---- */

static int add_warning(struct shove_topology *topology, const struct shove_group *group,
                       int64_t wanted_ms, int64_t given_ms) {
    char **warnings =
        realloc(topology->warnings, (topology->warning_count + 1) * sizeof(*topology->warnings));
    if (!warnings)
        return SHOVE_ENOMEM;
    topology->warnings = warnings;
    char text[512];
    snprintf(text, sizeof(text),
             "%s%sgroup %s: a partition that moves to another process is waited for %" PRId64
             " ms, and a handler may take %" PRId64
             " ms: the next message of its key may begin beside it; raise "
             "kafka[\"max.poll.interval.ms\"] to %" PRId64 ", or lower handler_timeout",
             group->at ? group->at : "", group->at ? ": " : "", group->group_id, given_ms,
             wanted_ms, wanted_ms + RESERVE_MS);
    warnings[topology->warning_count] = strdup(text);
    return warnings[topology->warning_count++] ? 0 : SHOVE_ENOMEM;
}

int shove_revocation_check(struct shove_topology *topology) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < topology->group_count; i++) {
        const struct shove_group *group = &topology->groups[i];
        if (!shove_topology_policy(topology, group).is_sequenced)
            continue;
        const struct shove_broker *broker =
            &topology->brokers[topology->topics[group->topic].broker];
        const struct shove_transport_ops *ops;
        const char *address;
        struct shove_error error;
        if (shove_transport_find(broker->url, &ops, &address, &error) != 0)
            continue;
        const int64_t wanted_ms = end_ms(group->handler_timeout_ms + group->audit_timeout_ms);
        const int64_t given_ms = limit_ms(ops, broker);
        if (wanted_ms > given_ms)
            rc = add_warning(topology, group, wanted_ms, given_ms);
    }
    return rc;
}

/* ---- meanwhile ---- */

static void report(const struct shove_flow *flow) {
    size_t partitions = 0;
    uint32_t running = 0;
    uint32_t hopping = 0;
    int64_t deadline_ms = 0;
    for (const struct shove_partition *p = flow->partitions; p; p = p->next) {
        if (!p->is_revoking || p->is_final_sent)
            continue;
        partitions++;
        running += p->running_count;
        hopping += p->hopping_count;
        deadline_ms = p->revoke_deadline_ms > deadline_ms ? p->revoke_deadline_ms : deadline_ms;
    }
    if (running + hopping == 0)
        return;
    char texts[4][32];
    snprintf(texts[0], sizeof(texts[0]), "%zu", partitions);
    snprintf(texts[1], sizeof(texts[1]), "%" PRIu32, running);
    snprintf(texts[2], sizeof(texts[2]), "%" PRIu32, hopping);
    snprintf(texts[3], sizeof(texts[3]), "%" PRId64 " ms", deadline_ms - flow->control->now_ms);
    shove_log_fields(SHOVE_LOG_INFO, "partitions that are given up wait for what is in flight",
                     "group", flow->group->group_id, "topic", flow->source, "partitions", texts[0],
                     "handlers", texts[1], "retries and dead letters on their way", texts[2],
                     "at most", texts[3], SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

void shove_revocation_report(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++)
        report(&control->flows[i]);
}
