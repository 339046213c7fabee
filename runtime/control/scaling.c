/* scaling.c: see scaling.h. Control only, loop's thread.
 *
 * An idle consumer is one whose share of the group's places in flight nobody uses: which places
 * those are does not matter, as lanes are counted and not kept. Where less room is left in a worker
 * than it has in flight, nothing is taken from it, and it is given nothing until it is below.
 */
#include "control/scaling.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/flow.h"
#include "control/strategy.h"

static void report(const struct shove_flow *flow, uint32_t before, const char *why) {
    char from[16];
    char to[16];
    snprintf(from, sizeof(from), "%" PRIu32, before);
    snprintf(to, sizeof(to), "%" PRIu32, flow->consumers);
    shove_log_fields(SHOVE_LOG_INFO,
                     flow->consumers > before ? "consumers were added"
                                              : "consumers were taken away",
                     "group", flow->group->group_id, "before", from, "consumers", to, "why", why,
                     SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

static void set_consumers(struct shove_flow *flow, uint32_t consumers) {
    flow->consumers = consumers;
    shove_flows_spread(flow->control);
}

int shove_scaling_set(struct shove_flow *flow, const struct shove_group *group, int64_t consumers,
                      struct shove_error *error) {
    if (consumers < group->consumers_min || consumers > group->consumers_max)
        return shove_error_set(
            error, SHOVE_EINVAL,
            "%" PRId64 " consumers for group '%s': its script allows %" PRIu32 " to %" PRIu32,
            consumers, group->group_id, group->consumers_min, group->consumers_max);
    if (flow->consumers == (uint32_t)consumers)
        return 0;
    const uint32_t before = flow->consumers;
    set_consumers(flow, (uint32_t)consumers);
    shove_autoscale_changed(&flow->autoscale, flow->control->now_ms);
    report(flow, before, "by command");
    return 0;
}

/* ---- what is ready ---- */

static int64_t hold_delay_ms(const struct shove_partition *partition) {
    const struct shove_flow *flow = partition->flow;
    return shove_topology_hold_delay_ms(flow->source, flow->topic->for_group, partition->topic);
}

static int64_t unfed(const struct shove_partition *partition) {
    return partition->has_batch ? (int64_t)(partition->batch.count - partition->cursor) : 0;
}

/* Of a hold only what was read and is due: its records are there by the time they were stored, and
 * how many of those not yet read are due is not known. */
static int64_t due_in_batch(const struct shove_partition *partition) {
    const int64_t stored_until_ms = partition->flow->control->wall_ms - hold_delay_ms(partition);
    int64_t due = 0;
    for (size_t i = partition->cursor; i < partition->batch.count; i++) {
        if (partition->batch.records[i].timestamp_ms > stored_until_ms)
            break;
        due++;
    }
    return due;
}

int64_t shove_scaling_ready(const struct shove_flow *flow) {
    const struct shove_cluster *cluster = flow->cluster;
    int64_t ready =
        (int64_t)flow->in_flight_total + (int64_t)flow->again.count + (int64_t)flow->suspects.count;
    for (struct shove_partition *p = flow->partitions; p; p = p->next) {
        if (p->is_revoking)
            continue;
        if (p->is_hold) {
            ready += p->has_batch ? due_in_batch(p) : 0;
            continue;
        }
        const int64_t unread = cluster->ops->backlog(cluster->transport, p->claim, NULL);
        if (unread < 0)
            return unread;
        ready += unread + unfed(p);
    }
    return ready;
}

int64_t shove_scaling_partition_lag(const struct shove_partition *partition) {
    const struct shove_cluster *cluster = partition->flow->cluster;
    const int64_t unread = cluster->ops->backlog(cluster->transport, partition->claim, NULL);
    if (unread < 0)
        return unread;
    /* The record under the cursor may be open already. */
    return unread + unfed(partition) + (int64_t)partition->ledger.open_count -
           (partition->pending != NULL);
}

int64_t shove_scaling_lag(const struct shove_flow *flow) {
    int64_t lag = 0;
    for (const struct shove_partition *p = flow->partitions; p; p = p->next) {
        const int64_t of_partition = p->is_hold ? 0 : shove_scaling_partition_lag(p);
        if (of_partition < 0)
            return of_partition;
        lag += of_partition;
    }
    return lag;
}

/* ---- the autoscaler ---- */

static enum shove_scale by_rule(struct shove_flow *flow, int64_t ready) {
    const struct shove_control *control = flow->control;
    if (ready < 0)
        return SHOVE_SCALE_NONE;
    const struct shove_autoscale_reading reading = {
        .ready = (uint64_t)ready, .capacity = shove_group_capacity(flow->group, flow->consumers)};
    return shove_autoscale_decide(&flow->autoscale, &control->topology.autoscale, &reading,
                                  control->now_ms);
}

/* One consumer more, below consumers.max. */
static void add(struct shove_flow *flow) {
    if (flow->consumers < flow->group->consumers_max)
        set_consumers(flow, flow->consumers + 1);
}

/* One idle consumer less, above consumers.min. */
static void remove_idle(struct shove_flow *flow) {
    if (flow->consumers > flow->group->consumers_min &&
        flow->in_flight_total <= shove_group_capacity(flow->group, flow->consumers - 1))
        set_consumers(flow, flow->consumers - 1);
}

static void step(struct shove_flow *flow, enum shove_scale direction) {
    if (direction == SHOVE_SCALE_UP)
        add(flow);
    else if (direction == SHOVE_SCALE_DOWN)
        remove_idle(flow);
}

/* As with 'shove scale', a number takes those that are busy away when they have finished. */
static void heed(struct shove_flow *flow, const struct shove_advice *advice) {
    const struct shove_control *control = flow->control;
    const struct shove_consumers consumers = {.now = flow->consumers,
                                              .min = flow->group->consumers_min,
                                              .max = flow->group->consumers_max};
    const uint32_t wanted = shove_autoscale_heed(&flow->autoscale, &control->topology.autoscale,
                                                 advice, &consumers, control->now_ms);
    if (wanted < flow->consumers && advice->kind == SHOVE_ADVICE_DOWN)
        remove_idle(flow);
    else if (wanted != flow->consumers)
        set_consumers(flow, wanted);
}

static void explain(const struct shove_advice *advice, int64_t ready, char *why, size_t size) {
    if (advice->kind == SHOVE_ADVICE_COUNT)
        snprintf(why, size, "the strategy said %" PRId64, advice->consumers);
    else if (shove_advice_decides(advice))
        snprintf(why, size, "the strategy said \"%s\"",
                 advice->kind == SHOVE_ADVICE_UP ? "up" : "down");
    else
        snprintf(why, size, "%" PRId64 " messages are ready", ready);
}

static bool is_scaled(const struct shove_flow *flow) {
    return flow->control->phase == SHOVE_PHASE_RUNNING && flow->state == SHOVE_FLOW_JOINED &&
           !flow->is_paused && !flow->is_removed;
}

void shove_scaling_decide(struct shove_flow *flow, const struct shove_advice *advice) {
    if (!is_scaled(flow)) {
        flow->autoscale.leaning = SHOVE_SCALE_NONE; /* what was so before says nothing after */
        return;
    }
    const int64_t ready = shove_scaling_ready(flow);
    const uint32_t before = flow->consumers;
    /* The rule sees every reading, whoever decides: it knows for how long it has been so. */
    const enum shove_scale rule = by_rule(flow, ready);
    if (shove_advice_decides(advice))
        heed(flow, advice);
    else
        step(flow, rule);
    if (flow->consumers == before)
        return;
    shove_autoscale_changed(&flow->autoscale, flow->control->now_ms);
    if (flow->consumers > before)
        flow->scaled_up++;
    else
        flow->scaled_down++;
    char why[64];
    explain(advice, ready, why, sizeof(why));
    report(flow, before, why);
}

static bool has_range(const struct shove_group *group) {
    return group->consumers_min < group->consumers_max;
}

static void on_poll(uv_timer_t *timer) {
    struct shove_control *control = timer->data;
    if (control->phase != SHOVE_PHASE_RUNNING || shove_strategy_is_asked(control))
        return;
    control->now_ms = (int64_t)uv_now(&control->loop);
    const bool is_due = shove_strategy_is_due(control);
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        flow->awaits_advice = is_due && has_range(flow->group) && is_scaled(flow);
        if (!flow->awaits_advice)
            shove_scaling_decide(flow, &(struct shove_advice){.kind = SHOVE_ADVICE_NONE});
    }
    if (is_due)
        shove_strategy_ask(control);
}

void shove_scaling_start(struct shove_control *control) {
    bool is_needed = false;
    for (uint32_t i = 0; i < control->topology.group_count; i++)
        is_needed |= has_range(&control->topology.groups[i]);
    const uint64_t poll_ms = (uint64_t)control->topology.autoscale.poll_ms;
    uv_timer_stop(&control->scale_timer); /* of the rule before a reload */
    if (is_needed)
        uv_timer_start(&control->scale_timer, on_poll, poll_ms, poll_ms);
}
