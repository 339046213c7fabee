/* isolation.h: messages that are handled alone, because they kill workers. Control only.
 *
 * One whose handler has killed its worker twice is handled in a worker that has nothing else and
 * never had, so that a third time costs nobody but it, and is nobody else's doing.
 *
 * The running word names the culprit of a death inside a handler. A worker may also die, or hang,
 * between handlers: in a luv callback that a handler left behind, in a thread of a C library, on
 * descriptors that a handler closed, for want of the memory that a handler keeps while it waits.
 * Then any message that was in it may be to blame, and handing all of them over unchanged would go
 * on for ever. So each is suspected, and one that was there at a second such death is handled in a
 * worker of its own: an innocent one comes to its end there, and a guilty one is alone when it
 * kills the worker, which counts as its crash. In a process that has handled others before it may
 * be what those left behind: then it does not count, and the next time it is given a fresh one.
 *
 * A worker that has handled nothing is taken where there is one; else one is emptied, and, where it
 * is to be fresh, its process replaced. Where new processes do not come up (the script has changed,
 * and does not load), and where app:on_start has not ended, the emptied one has to do.
 *
 * One worker at a time, whoever waits: the others serve everybody. If it is the only one, it does
 * so between two suspects, for as long as it was kept for the first.
 */
#ifndef SHOVE_CONTROL_ISOLATION_H
#define SHOVE_CONTROL_ISOLATION_H

#include "control/state.h"

#define SHOVE_ISOLATION_AFTER 2

static inline bool shove_is_suspect(const struct shove_delivery *delivery) {
    return delivery->suspicions >= SHOVE_ISOLATION_AFTER ||
           delivery->crashes >= SHOVE_ISOLATION_AFTER;
}

/* Before each round of feeding: keeps one worker free of new messages when a suspect waits for its
 * turn, and has its process replaced when it is empty. Sets worker->is_reserved. */
void shove_isolation_reserve(struct shove_control *control);

/* The reserved worker for a suspect of this flow, once it is fresh; NULL: not yet. */
struct shove_worker *shove_isolation_cell(const struct shove_flow *flow);

/* The worker died, or was killed because it did not answer, with no handler on the CPU: the message
 * that must be to blame, or NULL and all in it are suspected. */
struct shove_delivery *shove_isolation_judge(struct shove_worker *worker);

#endif
