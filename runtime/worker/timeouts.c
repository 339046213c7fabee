/* timeouts.c: see timeouts.h. Worker only. */
#include "worker/timeouts.h"

#include <stdio.h>

#include "base/clock.h"
#include "worker/audit.h"
#include "worker/scheduler.h"

/* The coarse clock, which says when a handler was called, may be as much behind: no timeout comes
 * early. */
#define COARSE_MS 10

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

/* What is measured: a handler's time counts from its call, on the CPU or not; an audit's from its
 * first wait. */
static int64_t begun_ms(const struct shove_task *task) {
    return task->verdict != 0 ? shove_clock_mono_ms() : task->begun_mono_ms + COARSE_MS;
}

void shove_timeouts_add(struct shove_task *task) {
    if (task->kind != SHOVE_TASK_MESSAGE || task->deadlines != NULL) {
        return;
    }
    struct shove_host *host = task->host;
    struct shove_deadlines *list =
        task->verdict != 0 ? &host->audits : &host->groups[task->group].deadlines;
    task->deadlines = list;
    task->deadline_mono_ms = begun_ms(task) + list->timeout_ms;
    task->next = NULL;
    task->previous = list->last;
    if (list->last != NULL) {
        list->last->next = task;
    } else {
        list->first = task;
        arm(host, task->deadline_mono_ms);
    }
    list->last = task;
}

void shove_timeouts_remove(struct shove_task *task) {
    struct shove_deadlines *list = task->deadlines;
    if (list == NULL) {
        return;
    }
    if (task->previous != NULL) {
        task->previous->next = task->next;
    } else {
        list->first = task->next;
    }
    if (task->next != NULL) {
        task->next->previous = task->previous;
    } else {
        list->last = task->previous;
    }
    task->deadlines = NULL;
    task->previous = NULL;
    task->next = NULL;
}

static void cancel(struct shove_task *task) {
    static const char *const waits[] = {
        [SHOVE_WAIT_FOREIGN] = "it yielded outside shove and was not resumed",
        [SHOVE_WAIT_SLEEP] = "it was in shove.sleep",
        [SHOVE_WAIT_PUBLISH] = "it was waiting for a publication to be acknowledged",
        [SHOVE_WAIT_GROUPS] = "it was in app:groups",
    };
    char text[160];
    const bool is_audit = task->verdict != 0;
    int size = snprintf(text, sizeof text, "the %s did not finish within %g s: %s",
                        is_audit ? "audit" : "handler",
                        (double)task->deadlines->timeout_ms / 1000.0, waits[task->wait]);
    if (is_audit) {
        shove_audit_give_up(task, text, (size_t)size);
    }
    shove_scheduler_end(task, SHOVE_OUTCOME_TIMEOUT, text, (size_t)size, true);
}

/* Cancels what was to end by then. Returns the earliest deadline of the others; INT64_MAX: there
 * are none. */
static int64_t look_at(const struct shove_deadlines *list, int64_t until_ms) {
    while (list->first != NULL && list->first->deadline_mono_ms <= until_ms) {
        cancel(list->first);
    }
    return list->first != NULL ? list->first->deadline_mono_ms : INT64_MAX;
}

/* A handler's end may begin its audit, which may wait and arm the timer meanwhile. Where a handler
 * has kept the CPU it is later than the timer says: what became due in between has its turn first,
 * and may be a sleep of what would be late by now. */
static void on_timeout(uv_timer_t *timer) {
    struct shove_host *host = timer->data;
    const int64_t until_ms = host->timeout_at_mono_ms;
    host->timeout_at_mono_ms = INT64_MAX;
    int64_t next_ms = INT64_MAX;
    for (uint32_t i = 0; i < host->group_count; i++) {
        int64_t at_ms = look_at(&host->groups[i].deadlines, until_ms);
        next_ms = at_ms < next_ms ? at_ms : next_ms;
    }
    int64_t at_ms = look_at(&host->audits, until_ms);
    next_ms = at_ms < next_ms ? at_ms : next_ms;
    if (next_ms != INT64_MAX) {
        arm(host, next_ms);
    }
}
