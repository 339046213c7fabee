/* death.c: see death.h. Control only, loop's thread. */
#include "control/death.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "control/delivery.h"
#include "control/feed.h"
#include "control/isolation.h"
#include "control/metrics.h"
#include "control/pool.h"
#include "control/settle.h"
#include "control/strategy.h"

static struct shove_delivery *find_culprit(const struct shove_worker *worker) {
    uint32_t slot;
    uint32_t generation;
    int64_t since_ms;
    if (!shove_channel_running(worker->home->channel, &slot, &generation, &since_ms))
        return NULL;
    return shove_pool_delivery(worker, slot, generation);
}

static void report_death(const struct shove_worker *worker, const struct shove_delivery *culprit) {
    char how[64];
    char index[16];
    char in_flight[16];
    char place[SHOVE_PLACE_SIZE];
    snprintf(place, sizeof(place), "%s",
             shove_strategy_runs_in(worker) ? "the strategy of app:autoscale" : "none");
    shove_child_describe_end(&worker->child, how, sizeof(how));
    snprintf(index, sizeof(index), "%" PRIu32, worker->index);
    snprintf(in_flight, sizeof(in_flight), "%" PRIu32, worker->in_flight);
    if (culprit)
        shove_delivery_place(culprit, place);
    shove_log_fields(SHOVE_LOG_ERROR, "a worker process died; its messages go to another", "worker",
                     index, "how", how, "was handling", place, "in flight", in_flight, NULL);
}

/* What is said of the message. */
static int describe_blame(const struct shove_worker *worker, char *out, size_t size) {
    char how[64];
    shove_child_describe_end(&worker->child, how, sizeof(how));
    if (worker->is_killed_for_timeout)
        return snprintf(out, size, "the handler did not yield and ran past its timeout");
    if (worker->death == SHOVE_DEATH_MEMORY)
        return snprintf(out, size,
                        "it used up the worker process's memory with this message alone in it");
    return snprintf(out, size, "the worker process died %s: %s",
                    worker->has_suspect ? "with this message alone in it" : "in the handler", how);
}

static void blame(struct shove_worker *worker, struct shove_delivery *culprit) {
    char text[160];
    const int size = describe_blame(worker, text, sizeof(text));
    const enum shove_outcome outcome =
        worker->is_killed_for_timeout ? SHOVE_OUTCOME_TIMEOUT : SHOVE_OUTCOME_CRASHED;
    shove_metrics_handled(culprit, outcome, UINT16_MAX);
    shove_settle_leave_worker(culprit);
    shove_settle(worker->control, culprit, outcome, text, (size_t)size);
}

void shove_death_give_away(struct shove_delivery *delivery) {
    shove_settle_leave_worker(delivery);
    if (delivery->partition)
        shove_feed_again(delivery);
    else
        shove_delivery_free(delivery->flow->control, delivery);
}

void shove_death_hand_over(struct shove_worker *worker) {
    struct shove_control *control = worker->control;
    for (uint32_t slot = 0; slot < control->slot_count && worker->in_flight > 0; slot++) {
        struct shove_delivery *delivery = worker->slots[slot];
        if (!delivery)
            continue;
        delivery->is_redelivered = true;
        shove_death_give_away(delivery);
    }
}

void shove_death_mourn(struct shove_worker *worker) {
    struct shove_control *control = worker->control;
    struct shove_delivery *culprit = find_culprit(worker);
    if (!culprit && !worker->is_killed_for_timeout && !shove_strategy_runs_in(worker))
        culprit = shove_isolation_judge(worker);
    report_death(worker, culprit);
    control->verdict.worker_deaths++;
    control->deaths[worker->death == SHOVE_DEATH_EXIT && worker->child.signal ? SHOVE_DEATH_SIGNAL
                                                                              : worker->death]++;
    if (culprit)
        blame(worker, culprit);
    shove_death_hand_over(worker);
}
