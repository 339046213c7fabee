/* scheduler.h: runs tasks: begins them, resumes them, settles them, and ends those that took too
 * long. Worker only.
 */
#ifndef SHOVE_WORKER_SCHEDULER_H
#define SHOVE_WORKER_SCHEDULER_H

#include "worker/host.h"

/* Tells control, once, that the process is spent, when it is: before it gives anything back. */
void shove_scheduler_tell_spent(struct shove_host *host);

/* Handles up to a portion of what control submitted. Returns whether there was anything. */
bool shove_scheduler_portion(struct shove_host *host);

/* Resumes a task whose coroutine has `result_count` values on its stack to be returned from the
 * call in which it waited. */
void shove_scheduler_resume(struct shove_task *task, int result_count);

/* Calls `body_ref`(`function_ref`, id of the task) in the task's coroutine. */
void shove_scheduler_call(struct shove_task *task, int body_ref, int function_ref);

/* What to restore when the task leaves the CPU again. */
struct shove_cpu_mark {
    struct shove_task *previous;
};
void shove_scheduler_enter(struct shove_task *task, struct shove_cpu_mark *mark);
void shove_scheduler_leave(struct shove_host *host, const struct shove_cpu_mark *mark);

/* The coroutine of the task has yielded, by itself or in one of the calls that wait. */
void shove_scheduler_yielded(struct shove_task *task);

/* The coroutine of the task has ended, or must end here: settles it with `text` when nothing else
 * was said, and frees the task. Where the group is audited and its audit did not begin yet, that
 * runs first, in another task (audit.h). */
void shove_scheduler_end(struct shove_task *task, enum shove_outcome outcome, const char *text,
                         size_t size, bool is_coroutine_spent);

/* Says to control what became of the message, once; after it the message's bytes are gone. `text`
 * (borrowed) is cut to SHOVE_OUTCOME_TEXT_MAX. */
#define SHOVE_OUTCOME_TEXT_MAX 4096
void shove_scheduler_settle(struct shove_task *task, enum shove_outcome outcome, const char *text,
                            size_t size);

/* How long the handler of the task has taken, as a note says it; 0 while nothing is measured. */
uint16_t shove_scheduler_duration(struct shove_task *task);

/* Publishes notes and releases submits. */
void shove_scheduler_flush(struct shove_host *host);

#endif
