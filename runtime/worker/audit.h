/* audit.h: audited messages, between their handler's outcome and the note to control. Worker only.
 *
 * Where a group is audited, the outcome (the *verdict*) is kept in the task and not told. Then the
 * audit runs under the message's name, with a deadline of its own, and the verdict is told: as it
 * was, also when the audit ran out of time, or as an error when it failed.
 *
 * The audit runs in the handler's coroutine, behind it (lua/shove/run.lua). Where that cannot go on
 * (the handler timed out while it waited, ran out of memory for its own end, or was resumed by
 * something in C), the message moves to another task first: answers to what the handler had asked
 * for must not reach the audit. What no handler came to an end of in this process (it was killed)
 * has no audit.
 */
#ifndef SHOVE_WORKER_AUDIT_H
#define SHOVE_WORKER_AUDIT_H

#include "worker/host.h"

/* Whether an outcome of the task must be kept: its group is audited, and none is kept yet. */
static inline bool shove_audit_is_due(const struct shove_task *task) {
    return task->kind == SHOVE_TASK_MESSAGE && task->verdict == 0 &&
           task->host->groups[task->group].is_audited;
}

/* Keeps the outcome; `text` (borrowed) is cut to SHOVE_OUTCOME_TEXT_MAX. The handler's deadline is
 * over. */
void shove_audit_keep(struct shove_task *task, enum shove_outcome outcome, const char *text,
                      size_t size);

/* Moves the message and its outcome to another task, whose audit is to be called; the old one
 * counts as settled. NULL: no memory for that, so the message was settled as one whose audit
 * failed. */
struct shove_task *shove_audit_move(struct shove_task *task, enum shove_outcome outcome,
                                    const char *text, size_t size);

/* Each settles the message: as kept; as an error that says why; as kept, and control writes a line
 * with the text about it. */
void shove_audit_pass(struct shove_task *task);
void shove_audit_fail(struct shove_task *task, const char *text, size_t size);
void shove_audit_give_up(struct shove_task *task, const char *text, size_t size);

#endif
