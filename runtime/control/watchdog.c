/* watchdog.c: see watchdog.h. Control only, loop's thread. Times are of control's own clock. */
#include "control/watchdog.h"

#include "control/flow.h"
#include "control/pool.h"
#include "control/publish.h"
#include "control/reload.h"
#include "control/strategy.h"

/* Of a handler and its audit, of which control sees nothing: what the code that the worker has
 * loaded says; that of other workers may say something else. */
static int64_t timeout_ms(const struct shove_flow *flow, const struct shove_worker *worker) {
    return flow->timeouts_ms[shove_pool_set_of(worker)];
}

static int64_t earlier(int64_t a_ms, int64_t b_ms) {
    return a_ms < b_ms ? a_ms : b_ms;
}

static int64_t later(int64_t a_ms, int64_t b_ms) {
    return a_ms > b_ms ? a_ms : b_ms;
}

static int64_t longest_timeout_ms(const struct shove_worker *worker) {
    const struct shove_control *control = worker->control;
    int64_t longest_ms = 0;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const int64_t this_ms = timeout_ms(&control->flows[i], worker);
        longest_ms = later(longest_ms, this_ms);
    }
    return longest_ms;
}

/* When its handler was called, by the worker's word, which may lie: no earlier than it was given
 * the message, and no later than control has seen it run. Without what control was not there for.
 */
static int64_t begun_ms(const struct shove_worker *worker, const struct shove_delivery *delivery) {
    const int64_t word_ms = shove_channel_begun(worker->home->channel);
    const int64_t called_ms = later(word_ms, delivery->submitted_ms) + worker->excused_ms;
    return earlier(called_ms, worker->watched_since_ms);
}

/* What is on the CPU, and since when: the worker's word only says whether it is still the same
 * stretch. False: nothing is, or since now. */
static bool runs_on(struct shove_worker *worker, uint32_t slot, uint32_t generation,
                    int64_t since_ms) {
    if (worker->watched_since_ms != 0 && slot == worker->watched_slot &&
        generation == worker->watched_generation && since_ms == worker->watched_stretch_ms)
        return true;
    worker->watched_slot = slot;
    worker->watched_stretch_ms = since_ms;
    worker->watched_generation = generation;
    worker->watched_since_ms = worker->control->now_ms;
    const int64_t called_ms = shove_channel_begun(worker->home->channel);
    worker->excused_ms =
        called_ms < worker->control->absent_until_ms ? worker->control->absent_ms : 0;
    return false;
}

/* A handler on the CPU without a pause, for longer than its group allows since it was called. One
 * that was late before, because another kept the CPU, has the grace all the same. */
static bool is_hogged(struct shove_worker *worker) {
    const int64_t now_ms = worker->control->now_ms;
    uint32_t slot;
    uint32_t generation;
    int64_t since_ms;
    if (!shove_channel_running(worker->home->channel, &slot, &generation, &since_ms)) {
        worker->watched_since_ms = 0;
        return false;
    }
    worker->last_running_ms = now_ms;
    if (!runs_on(worker, slot, generation, since_ms))
        return false;
    const struct shove_delivery *delivery = shove_pool_delivery(worker, slot, generation);
    int64_t limit_ms = delivery ? timeout_ms(delivery->flow, worker) : longest_timeout_ms(worker);
    if (shove_strategy_runs_in(worker))
        limit_ms = SHOVE_STRATEGY_LIMIT_MS;
    const int64_t from_ms = delivery ? begun_ms(worker, delivery) : worker->watched_since_ms;
    return now_ms - from_ms > limit_ms + SHOVE_KILL_GRACE_MS &&
           now_ms - worker->watched_since_ms > SHOVE_KILL_GRACE_MS;
}

/* Stopped, or deaf: nothing at all has come back for longer than one of its messages may take, and
 * no handler was on the CPU meanwhile that others have to wait for; or for longer than any may
 * take, whatever it says of the CPU. */
static bool is_stuck(struct shove_worker *worker) {
    const struct shove_control *control = worker->control;
    const int64_t longest_ms = longest_timeout_ms(worker);
    const int64_t idle_ms = control->now_ms - worker->last_running_ms;
    uint32_t left = worker->in_flight;
    if (shove_publish_waits(control)) /* nothing is read */
        worker->last_progress_ms = control->now_ms;
    for (uint32_t slot = 0; slot < control->slot_count && left > 0; slot++) {
        const struct shove_delivery *delivery = worker->slots[slot];
        if (!delivery)
            continue;
        left--;
        const int64_t silent_ms =
            control->now_ms - later(delivery->submitted_ms, worker->last_progress_ms);
        const int64_t limit_ms = timeout_ms(delivery->flow, worker) + 2 * SHOVE_KILL_GRACE_MS;
        if ((silent_ms > limit_ms && idle_ms > limit_ms) ||
            silent_ms > longest_ms + 2 * SHOVE_KILL_GRACE_MS)
            return true;
    }
    return false;
}

/* While control itself stood still, workers may have gone on and said so: what they are watched for
 * is counted in time that control was there for. */
static void leave_out(struct shove_worker *worker, int64_t gap_ms) {
    const int64_t now_ms = worker->control->now_ms;
    worker->last_progress_ms = earlier(worker->last_progress_ms + gap_ms, now_ms);
    worker->last_running_ms = earlier(worker->last_running_ms + gap_ms, now_ms);
    worker->started_ms = earlier(worker->started_ms + gap_ms, now_ms);
    worker->stopping_since_ms = earlier(worker->stopping_since_ms + gap_ms, now_ms);
    if (worker->watched_since_ms == 0)
        return;
    worker->watched_since_ms = earlier(worker->watched_since_ms + gap_ms, now_ms);
    worker->excused_ms += gap_ms;
}

void shove_watchdog_begin(struct shove_control *control) {
    const int64_t gap_ms = control->now_ms - control->watched_ms - SHOVE_WATCH_INTERVAL_MS;
    control->watched_ms = control->now_ms;
    if (gap_ms <= SHOVE_WATCH_INTERVAL_MS)
        return;
    control->absent_ms = gap_ms;
    control->absent_until_ms = control->now_ms;
    for (uint32_t i = 0; i < control->worker_count; i++)
        leave_out(&control->workers[i], gap_ms);
    if (control->replacement.since_ms != 0)
        control->replacement.since_ms =
            earlier(control->replacement.since_ms + gap_ms, control->now_ms);
    control->strategy.asked_ms = earlier(control->strategy.asked_ms + gap_ms, control->now_ms);
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
