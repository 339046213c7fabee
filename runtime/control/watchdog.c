/* watchdog.c: see watchdog.h. Control only, loop's thread. Times are of control's own clock. */
#include "control/watchdog.h"

#include "control/flow.h"
#include "control/pool.h"
#include "control/reload.h"
#include "control/strategy.h"

/* Of a handler and its audit, of which control sees nothing: what the code that the worker has
 * loaded says; that of other workers may say something else. */
static int64_t timeout_ms(const struct shove_flow *flow, const struct shove_worker *worker) {
    return flow->timeouts_ms[shove_pool_set_of(worker)];
}

static int64_t longest_timeout_ms(const struct shove_worker *worker) {
    const struct shove_control *control = worker->control;
    int64_t longest_ms = 0;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const int64_t this_ms = timeout_ms(&control->flows[i], worker);
        longest_ms = this_ms > longest_ms ? this_ms : longest_ms;
    }
    return longest_ms;
}

/* The same coroutine on the CPU, without a pause, for longer than its group allows, by control's
 * own clock. The worker's word only says whether it is still the same stretch. */
static bool is_hogged(struct shove_worker *worker) {
    const int64_t now_ms = worker->control->now_ms;
    uint32_t slot;
    uint32_t generation;
    int64_t since_ms;
    if (!shove_channel_running(worker->home->channel, &slot, &generation, &since_ms)) {
        worker->watched_since_ms = 0;
        return false;
    }
    if (worker->watched_since_ms == 0 || slot != worker->watched_slot ||
        generation != worker->watched_generation || since_ms != worker->watched_stretch_ms) {
        worker->watched_slot = slot;
        worker->watched_stretch_ms = since_ms;
        worker->watched_generation = generation;
        worker->watched_since_ms = now_ms;
        return false;
    }
    const struct shove_delivery *delivery = shove_pool_delivery(worker, slot, generation);
    int64_t limit_ms = delivery ? timeout_ms(delivery->flow, worker) : longest_timeout_ms(worker);
    if (shove_strategy_runs_in(worker))
        limit_ms = SHOVE_STRATEGY_LIMIT_MS;
    return now_ms - worker->watched_since_ms > limit_ms + SHOVE_KILL_GRACE_MS;
}

/* Stopped, or deaf: messages are there and nothing at all has come back for longer than any handler
 * may take. */
static bool is_stuck(const struct shove_worker *worker) {
    if (worker->in_flight == 0)
        return false;
    const int64_t now_ms = worker->control->now_ms;
    int64_t oldest_ms = now_ms;
    for (uint32_t slot = 0; slot < worker->control->slot_count; slot++) {
        const struct shove_delivery *delivery = worker->slots[slot];
        if (delivery && delivery->submitted_ms < oldest_ms)
            oldest_ms = delivery->submitted_ms;
    }
    int64_t since_ms = worker->last_progress_ms > oldest_ms ? worker->last_progress_ms : oldest_ms;
    return now_ms - since_ms > longest_timeout_ms(worker) + 2 * SHOVE_KILL_GRACE_MS;
}

void shove_watchdog_look(struct shove_worker *worker) {
    struct shove_control *control = worker->control;
    if (worker->state == SHOVE_WORKER_LOADING) {
        static const char late[] = "it did not finish loading the script in time";
        if (control->now_ms - worker->started_ms <= control->options->load_timeout_ms)
            return;
        if (shove_reload_owns(control, worker))
            shove_reload_worker_failed(worker, late, sizeof(late) - 1);
        else
            shove_pool_condemn(worker, SHOVE_DEATH_UNRESPONSIVE, late);
        return;
    }
    /* At the end of the run the drain sees to it. */
    if (worker->state == SHOVE_WORKER_STOPPING && control->phase <= SHOVE_PHASE_DRAINING &&
        control->now_ms - worker->stopping_since_ms > SHOVE_KILL_GRACE_MS)
        shove_pool_condemn(worker, SHOVE_DEATH_UNRESPONSIVE,
                           "it has nothing to do any more and does not end");
    if ((worker->state != SHOVE_WORKER_READY && worker->state != SHOVE_WORKER_RETIRING) ||
        worker->is_condemned)
        return;
    if (is_hogged(worker)) {
        worker->is_killed_for_timeout = true;
        shove_pool_condemn(worker, SHOVE_DEATH_TIMEOUT,
                           shove_strategy_runs_in(worker)
                               ? "the strategy of app:autoscale did not yield"
                               : "a handler did not yield and ran past its timeout");
    } else if (is_stuck(worker)) {
        shove_pool_condemn(worker, SHOVE_DEATH_UNRESPONSIVE, "it does not answer any more");
    }
}
