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

bool shove_on_start_cancel(struct shove_control *control) {
    for (uint32_t i = 0; i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        if (!worker->runs_start)
            continue;
        worker->runs_start = false;
        shove_channel_submit(
            worker->home->channel,
            &(struct shove_submit){.type = SHOVE_SUBMIT_CANCEL, .slot = SHOVE_START_SLOT});
        shove_channel_flush(worker->home->channel);
        return true;
    }
    return false;
}

void shove_on_start_returned(struct shove_worker *worker, const char *text, size_t size) {
    if (!worker->runs_start)
        return;
    if (size > 0)
        shove_log(SHOVE_LOG_ERROR, "app:on_start failed: %.*s", (int)size, text);
    worker->runs_start = false;
}

/* It runs once: what it did so far would be done twice. */
void shove_on_start_lost(struct shove_worker *worker) {
    if (!worker->runs_start)
        return;
    worker->runs_start = false;
    shove_log(SHOVE_LOG_ERROR,
              "app:on_start did not come to its end, because its worker process died; it is not "
              "run again");
}
