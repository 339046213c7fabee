/* drain.c: see drain.h. Control only, loop's thread. */
#include "control/drain.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/commit.h"
#include "control/delivery.h"
#include "control/flow.h"
#include "control/hop.h"
#include "control/on_start.h"
#include "control/partition.h"
#include "control/pool.h"
#include "control/reload.h"
#include "control/replacement.h"
#include "control/sequencing.h"

/* After the last commits were due, how long leaving the groups may take; and workers, to exit. */
#define LEAVE_MS (2 * SHOVE_REVOKE_COMMIT_MS)
#define STOP_MS 2000
/* When all stops at once, what the commit of what was finished may take. */
#define ABORT_COMMIT_MS 500

static size_t running_count(const struct shove_control *control) {
    size_t count = 0;
    for (uint32_t i = 0; i < control->flow_count; i++)
        count += control->flows[i].in_flight_total;
    return count;
}

static size_t hopping_count(const struct shove_control *control) {
    return control->hops_in_flight + control->hops.count + control->laid_aside_count;
}

static bool is_settled(const struct shove_control *control) {
    return running_count(control) == 0 && hopping_count(control) == 0 &&
           control->publishes_in_flight == 0;
}

static bool has_left(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const enum shove_flow_state state = control->flows[i].state;
        if (state == SHOVE_FLOW_JOINED || state == SHOVE_FLOW_LEAVING)
            return false;
    }
    return true;
}

static void leave(struct shove_control *control) {
    control->phase = SHOVE_PHASE_LEAVING;
    control->leave_deadline_ms = control->now_ms + LEAVE_MS;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        if (control->flows[i].state == SHOVE_FLOW_JOINED)
            shove_flow_leave(&control->flows[i]);
    }
}

static void stop(struct shove_control *control) {
    control->phase = SHOVE_PHASE_STOPPING;
    control->leave_deadline_ms = control->now_ms + STOP_MS;
    if (is_settled(control))
        shove_pool_stop(control);
    else
        shove_pool_kill(control);
}

void shove_drain_begin(struct shove_control *control, const char *why) {
    if (control->phase >= SHOVE_PHASE_DRAINING)
        return;
    char limit[32];
    snprintf(limit, sizeof(limit), "%" PRId64 " ms", control->options->drain_ms);
    shove_log_fields(SHOVE_LOG_INFO,
                     "draining: nothing new is taken, what is in flight is finished", "why", why,
                     "at most", limit, NULL);
    if (shove_on_start_cancel(control))
        shove_log(SHOVE_LOG_WARN,
                  "app:on_start has not returned: it is stopped where it waits, what it has "
                  "published is waited for");
    control->verdict.has_no_workers =
        control->replacement.is_told && !shove_replacement_is_staffed(control);
    control->phase = SHOVE_PHASE_DRAINING;
    control->drain_deadline_ms = control->now_ms + control->options->drain_ms;
    control->has_progress = true;
    shove_reload_watch(control); /* ends one that is under way, before its workers are told to go */
}

/* What becomes of the messages that a stop leaves unfinished. */
static const char *fate_of_open(const struct shove_control *control) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < control->cluster_count; i++)
        kept += (control->clusters[i].ops->capabilities & SHOVE_CAN_PERSIST) != 0;
    if (kept == control->cluster_count)
        return "will be handled again by the next run";
    return kept > 0 ? "will be handled again by the next run, except for what the memory broker had"
                    : "is gone: the memory broker keeps nothing";
}

void shove_drain_abort(struct shove_control *control) {
    if (control->phase >= SHOVE_PHASE_STOPPING)
        return;
    if (is_settled(control)) {
        shove_log(SHOVE_LOG_WARN, "stopping at once: nothing was in flight");
    } else {
        shove_log(SHOVE_LOG_WARN, "stopping at once: what was in flight %s", fate_of_open(control));
        control->verdict.has_drain_timeout = true;
    }
    shove_commit_round(control);
    control->phase = SHOVE_PHASE_STOPPING;
    control->leave_deadline_ms = control->now_ms + ABORT_COMMIT_MS;
    shove_pool_kill(control);
    control->has_progress = true;
}

static void check_running(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        if (control->flows[i].state != SHOVE_FLOW_ENDED)
            return;
    }
    if (control->topology.group_count > 0 && !shove_reload_awaits_group(control))
        shove_drain_begin(control, "no consumer group is left to run");
}

void shove_drain_check(struct shove_control *control) {
    if (control->phase == SHOVE_PHASE_RUNNING)
        check_running(control);
    if (control->phase == SHOVE_PHASE_DRAINING) {
        const bool is_over = control->now_ms >= control->drain_deadline_ms;
        /* To leave in the middle of a revocation would cost its last commit. */
        const bool may_leave = is_settled(control) && !shove_partitions_are_revoking(control);
        if (!may_leave && !is_over)
            return;
        if (!is_settled(control)) {
            control->verdict.has_drain_timeout = true;
            shove_drain_report(control);
            shove_log(SHOVE_LOG_WARN, "the drain timed out: what is still in flight %s",
                      fate_of_open(control));
        }
        leave(control);
    }
    if (control->phase == SHOVE_PHASE_LEAVING) {
        if (!has_left(control) && control->now_ms < control->leave_deadline_ms)
            return;
        if (!has_left(control))
            shove_log(
                SHOVE_LOG_WARN,
                "a consumer group could not be left in time: the broker will notice by itself");
        stop(control);
    }
    if (control->phase == SHOVE_PHASE_STOPPING) {
        /* A publish that was asked for after all had been settled has its answer to come. */
        const bool is_over = shove_pool_is_gone(control) && !shove_commit_is_under_way(control) &&
                             control->publishes_in_flight == 0;
        if (!is_over && control->now_ms < control->leave_deadline_ms)
            return;
        if (!shove_pool_is_gone(control)) {
            shove_pool_kill(control);
            return;
        }
        shove_partitions_report_uncommitted(control);
        control->phase = SHOVE_PHASE_DONE;
        uv_stop(&control->loop);
    }
}

static const struct shove_delivery *older(const struct shove_delivery *a,
                                          const struct shove_delivery *b) {
    return !a || (b && b->submitted_ms < a->submitted_ms) ? b : a;
}

static const struct shove_delivery *oldest_running(const struct shove_control *control) {
    const struct shove_delivery *oldest = NULL;
    for (uint32_t w = 0; w < control->worker_count; w++) {
        for (uint32_t slot = 0; slot < control->slot_count; slot++)
            oldest = older(oldest, control->workers[w].slots[slot]);
    }
    return oldest;
}

static const struct shove_delivery *oldest_hopping(const struct shove_control *control) {
    const struct shove_delivery *oldest = NULL;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        for (const struct shove_partition *p = control->flows[i].partitions; p; p = p->next) {
            for (const struct shove_ledger_entry *e = p->ledger.first; e; e = e->next) {
                const struct shove_delivery *delivery = (const struct shove_delivery *)e;
                if (delivery->state == SHOVE_DELIVERY_HOPPING)
                    oldest = older(oldest, delivery);
            }
        }
    }
    return oldest;
}

/* "orders/3@1042 key 028c7948 for 2.1 s", of a hop with where it goes before the time. */
static void describe_oldest(const struct shove_control *control, char *out, size_t size) {
    const struct shove_delivery *oldest = older(oldest_running(control), oldest_hopping(control));
    if (!oldest) {
        snprintf(out, size, "-");
        return;
    }
    const struct shove_record message = shove_delivery_record(oldest);
    const bool is_hopping = oldest->state == SHOVE_DELIVERY_HOPPING;
    char place[SHOVE_PLACE_SIZE];
    char key[64];
    snprintf(out, size, "%s key %s%s%s for %.1f s", shove_delivery_place(oldest, place),
             shove_sequencing_name_key(control, &message, key, sizeof(key)),
             is_hopping ? " on its way to " : "", is_hopping ? shove_hop_target(oldest) : "",
             (double)(control->now_ms - oldest->submitted_ms) / 1000.0);
}

void shove_drain_report(struct shove_control *control) {
    char handlers[24];
    char hops[24];
    char publishes[24];
    char oldest[SHOVE_PLACE_SIZE + SHOVE_NAME_SIZE + 128];
    snprintf(handlers, sizeof(handlers), "%zu", running_count(control));
    snprintf(hops, sizeof(hops), "%zu", hopping_count(control));
    snprintf(publishes, sizeof(publishes), "%" PRIu32, control->publishes_in_flight);
    describe_oldest(control, oldest, sizeof(oldest));
    shove_log_fields(SHOVE_LOG_INFO,
                     control->phase == SHOVE_PHASE_DRAINING ? "still draining" : "still leaving",
                     "handlers", handlers, "retries and dead letters on their way", hops,
                     "publishes", publishes, "oldest", oldest, NULL);
}

/* "rejected 2, oversize 1": what messages died of, with or without a DLQ. */
static const char *describe_reasons(const struct shove_tally *tally, char *out, size_t size) {
    size_t used = 0;
    snprintf(out, size, "-");
    for (unsigned reason = 0; reason < SHOVE_REASON_COUNT_ && used < size; reason++) {
        if (tally->failed[reason] > 0)
            used += (size_t)snprintf(out + used, size - used, "%s%s %" PRIu64, used > 0 ? ", " : "",
                                     shove_reason_name(reason), tally->failed[reason]);
    }
    return out;
}

void shove_drain_summary(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (flow->is_succeeded)
            continue;
        shove_flow_log_left_out(flow);
        const struct shove_tally *tally = &flow->tally;
        char done[24];
        char delayed[24];
        char dead[24];
        char discarded[24];
        char reasons[320];
        snprintf(done, sizeof(done), "%" PRIu64, tally->done);
        snprintf(delayed, sizeof(delayed), "%" PRIu64, tally->delayed);
        snprintf(dead, sizeof(dead), "%" PRIu64, tally->dead);
        snprintf(discarded, sizeof(discarded), "%" PRIu64, tally->discarded);
        shove_log_fields(SHOVE_LOG_INFO, "handled", "group", flow->group->group_id, "acked", done,
                         "retried or deferred", delayed, "dead letters", dead, "discarded",
                         discarded, "reasons", describe_reasons(tally, reasons, sizeof(reasons)),
                         SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
    }
}
