/* audit.c: see audit.h. Worker only. */
#include "worker/audit.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"
#include "worker/timeouts.h"

void shove_audit_keep(struct shove_task *task, enum shove_outcome outcome, const char *text,
                      size_t size) {
    shove_timeouts_remove(task);
    task->duration = shove_scheduler_duration(task);
    task->handler_ns = shove_clock_mono_ns() - task->called_ns;
    task->verdict = (uint8_t)outcome;
    shove_buffer_clear(&task->verdict_text);
    if (size != 0) {
        shove_buffer_append(&task->verdict_text, text,
                            shove_utf8_cut(text, size, SHOVE_OUTCOME_TEXT_MAX));
    }
}

struct shove_task *shove_audit_move(struct shove_task *task, enum shove_outcome outcome,
                                    const char *text, size_t size) {
    static const char no_memory[] = "the worker has no memory for its coroutine";
    shove_audit_keep(task, outcome, text, size);
    struct shove_task *audit = shove_task_take(task->host);
    if (audit == NULL) {
        shove_audit_fail(task, no_memory, sizeof no_memory - 1);
        return NULL;
    }
    audit->envelope = task->envelope;
    audit->slot = task->slot;
    audit->generation = task->generation;
    audit->group = task->group;
    audit->verdict = task->verdict;
    audit->begun_mono_ms = task->begun_mono_ms;
    audit->duration = task->duration;
    audit->handler_ns = task->handler_ns;
    struct shove_buffer spare = audit->verdict_text;
    audit->verdict_text = task->verdict_text;
    task->verdict_text = spare;
    task->envelope = NULL;
    task->is_settled = true;
    return audit;
}

void shove_audit_pass(struct shove_task *task) {
    shove_scheduler_settle(task, (enum shove_outcome)task->verdict,
                           (const char *)task->verdict_text.data, task->verdict_text.size);
}

void shove_audit_fail(struct shove_task *task, const char *text, size_t size) {
    struct shove_buffer *why = &task->host->scratch;
    shove_buffer_clear(why);
    shove_buffer_append_text(why, "the audit failed: ");
    shove_buffer_append(why, text, text != NULL ? size : 0);
    shove_buffer_printf(why, "\n(the handler's outcome was %s%s",
                        shove_outcome_name((enum shove_outcome)task->verdict),
                        task->verdict_text.size != 0 ? ": " : "");
    shove_buffer_append(why, task->verdict_text.data, task->verdict_text.size);
    shove_buffer_append_text(why, ")");
    shove_scheduler_settle(task, SHOVE_OUTCOME_ERROR, (const char *)why->data, why->size);
}

void shove_audit_give_up(struct shove_task *task, const char *text, size_t size) {
    struct shove_note note = {.type = SHOVE_NOTE_AUDIT_LATE,
                              .outcome = task->verdict,
                              .slot = task->slot,
                              .generation = task->generation};
    struct shove_part part = {.data = text, .size = size};
    shove_channel_note(task->host->channel, &note, &part, 1);
    shove_audit_pass(task);
}
