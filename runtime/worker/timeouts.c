/* timeouts.c: see timeouts.h. Worker only. */
#include "worker/timeouts.h"

#include <stdio.h>

#include "base/clock.h"
#include "worker/scheduler.h"

static void on_timeout(uv_timer_t *timer);

static void arm(struct shove_host *host, int64_t at_mono_ms) {
    if (at_mono_ms >= host->timeout_at_mono_ms) {
        return;
    }
    int64_t now_ms = shove_clock_mono_ms();
    uv_update_time(&host->loop);
    uv_timer_start(&host->timeout, on_timeout,
                   at_mono_ms > now_ms ? (uint64_t)(at_mono_ms - now_ms) : 0, 0);
    host->timeout_at_mono_ms = at_mono_ms;
}

void shove_timeouts_init(struct shove_host *host) {
    uv_timer_init(&host->loop, &host->timeout);
    host->timeout.data = host;
    host->timeout_at_mono_ms = INT64_MAX;
}

void shove_timeouts_add(struct shove_task *task) {
    if (task->kind != SHOVE_TASK_MESSAGE || task->is_timed) {
        return;
    }
    struct shove_handler_group *group = &task->host->groups[task->group];
    task->is_timed = true;
    task->deadline_mono_ms = shove_clock_mono_ms() + group->timeout_ms;
    task->next = NULL;
    task->previous = group->timed_last;
    if (group->timed_last != NULL) {
        group->timed_last->next = task;
    } else {
        group->timed_first = task;
        arm(task->host, task->deadline_mono_ms);
    }
    group->timed_last = task;
}

void shove_timeouts_remove(struct shove_task *task) {
    if (!task->is_timed) {
        return;
    }
    struct shove_handler_group *group = &task->host->groups[task->group];
    if (task->previous != NULL) {
        task->previous->next = task->next;
    } else {
        group->timed_first = task->next;
    }
    if (task->next != NULL) {
        task->next->previous = task->previous;
    } else {
        group->timed_last = task->previous;
    }
    task->is_timed = false;
    task->previous = NULL;
    task->next = NULL;
}

static void cancel(struct shove_task *task, int64_t timeout_ms) {
    static const char *const waits[] = {
        [SHOVE_WAIT_FOREIGN] = "it yielded outside shove and was not resumed",
        [SHOVE_WAIT_SLEEP] = "it was in shove.sleep",
        [SHOVE_WAIT_PUBLISH] = "it was waiting for a publication to be acknowledged",
        [SHOVE_WAIT_GROUPS] = "it was in app:groups",
    };
    char text[160];
    int size = snprintf(text, sizeof text, "the handler did not finish within %g s: %s",
                        (double)timeout_ms / 1000.0, waits[task->wait]);
    shove_scheduler_end(task, SHOVE_OUTCOME_TIMEOUT, text, (size_t)size, true);
}

static void on_timeout(uv_timer_t *timer) {
    struct shove_host *host = timer->data;
    int64_t now_ms = shove_clock_mono_ms();
    int64_t next_ms = INT64_MAX;
    for (uint32_t i = 0; i < host->group_count; i++) {
        struct shove_handler_group *group = &host->groups[i];
        while (group->timed_first != NULL && group->timed_first->deadline_mono_ms <= now_ms) {
            cancel(group->timed_first, group->timeout_ms);
        }
        if (group->timed_first != NULL && group->timed_first->deadline_mono_ms < next_ms) {
            next_ms = group->timed_first->deadline_mono_ms;
        }
    }
    host->timeout_at_mono_ms = INT64_MAX;
    if (next_ms != INT64_MAX) {
        arm(host, next_ms);
    }
}
