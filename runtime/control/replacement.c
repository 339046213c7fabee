/* replacement.c: see replacement.h. Control only, loop's thread. */
#include "control/replacement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/abort_point.h"
#include "control/drain.h"
#include "control/pool.h"
#include "core/respawn.h"

bool shove_replacement_is_staffed(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->set_size; i++) {
        if (shove_pool_worker(control, control->set, i)->state == SHOVE_WORKER_READY)
            return true;
    }
    return false;
}

static void forget(struct shove_replacement *replacement) {
    free(replacement->why);
    *replacement = (struct shove_replacement){0};
}

void shove_replacement_note(struct shove_control *control, const char *text, size_t size) {
    free(control->replacement.why);
    control->replacement.why = strndup(text, size);
}

void shove_replacement_refused(struct shove_worker *worker, const char *text, size_t size) {
    struct shove_control *control = worker->control;
    worker->has_refused = true;
    shove_replacement_note(control, text, size);
    shove_log(SHOVE_LOG_ERROR, "a replacement worker cannot load the script: %.*s", (int)size,
              text);
}

void shove_replacement_ended(const struct shove_worker *worker) {
    struct shove_control *control = worker->control;
    if (control->phase != SHOVE_PHASE_RUNNING || shove_pool_set_of(worker) != control->set)
        return;
    if (worker->state == SHOVE_WORKER_LOADING || worker->state == SHOVE_WORKER_ABSENT)
        control->replacement.failures++;
    else
        forget(&control->replacement);
}

static void begin(struct shove_control *control) {
    char limit[32];
    snprintf(limit, sizeof(limit), "%d s", SHOVE_RESPAWN_WORKERS_MS / 1000);
    control->replacement.is_told = true;
    shove_log_fields(SHOVE_LOG_ERROR,
                     "no worker is left: nothing is handled until one loads the script, which is "
                     "tried again and again; after that the app drains",
                     "at most", limit, NULL);
}

static void give_up(struct shove_control *control) {
    const char *why = control->replacement.why;
    char text[SHOVE_ERROR_TEXT_SIZE];
    snprintf(text, sizeof(text), "no worker is left, and none can be started: %s",
             why ? why : "they end while they load the script");
    shove_drain_begin(control, text);
}

void shove_replacement_watch(struct shove_control *control) {
    struct shove_replacement *replacement = &control->replacement;
    if (control->phase != SHOVE_PHASE_RUNNING)
        return;
    if (shove_replacement_is_staffed(control)) {
        if (replacement->is_told)
            shove_log(SHOVE_LOG_INFO, "a worker is there again: messages are handled");
        forget(replacement);
        return;
    }
    if (replacement->since_ms == 0)
        replacement->since_ms = control->now_ms;
    if (replacement->failures > 0 && !replacement->is_told)
        begin(control);
    const bool is_reloading = control->reload.is_wanted || control->reload.is_loading;
    const int64_t without_ms =
        shove_hurried_ms(control->now_ms - replacement->since_ms, SHOVE_RESPAWN_WORKERS_MS);
    if (!is_reloading && shove_respawn_is_hopeless(replacement->failures, without_ms))
        give_up(control);
}

void shove_replacement_release(struct shove_control *control) {
    forget(&control->replacement);
}
