/* on_start.c: see on_start.h. Control only, loop's thread. */
#include "control/on_start.h"

#include "base/log.h"

void shove_on_start_send(struct shove_control *control) {
    for (uint32_t i = 0; i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        if (worker->state != SHOVE_WORKER_READY || worker->is_condemned)
            continue;
        control->is_start_sent = true;
        worker->runs_start = true;
        shove_channel_submit(worker->home->channel,
                             &(struct shove_submit){.type = SHOVE_SUBMIT_START});
        shove_channel_flush(worker->home->channel);
        return;
    }
}

static void cancel(struct shove_worker *worker) {
    shove_channel_submit(worker->home->channel, &(struct shove_submit){.type = SHOVE_SUBMIT_CANCEL,
                                                                       .slot = SHOVE_START_SLOT});
    shove_channel_flush(worker->home->channel);
}

bool shove_on_start_cancel(struct shove_control *control) {
    for (uint32_t i = 0; i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        if (!worker->runs_start)
            continue;
        worker->runs_start = false;
        cancel(worker);
        return true;
    }
    return false;
}

void shove_on_start_move(struct shove_worker *worker) {
    if (!worker->runs_start || worker->moves_start)
        return;
    worker->moves_start = true;
    cancel(worker);
}

/* It is run again by the round that finds a worker for it. */
static void end(struct shove_worker *worker, bool is_run_again) {
    if (is_run_again)
        worker->control->is_start_sent = false;
    worker->runs_start = false;
    worker->moves_start = false;
}

void shove_on_start_returned(struct shove_worker *worker, const struct shove_note *note,
                             const uint8_t *payload) {
    if (!worker->runs_start)
        return;
    const bool was_cancelled = note->outcome == SHOVE_OUTCOME_DEFER;
    if (note->size > 0 && !was_cancelled)
        shove_log(SHOVE_LOG_ERROR, "app:on_start failed: %.*s", (int)note->size,
                  (const char *)payload);
    end(worker, was_cancelled && worker->moves_start);
}

/* It runs once: what it did so far would be done twice. */
void shove_on_start_lost(struct shove_worker *worker) {
    if (!worker->runs_start)
        return;
    if (!worker->moves_start)
        shove_log(SHOVE_LOG_ERROR,
                  "app:on_start did not come to its end, because its worker process died; it is "
                  "not run again");
    end(worker, worker->moves_start);
}
