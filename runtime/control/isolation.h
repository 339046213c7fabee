/* isolation.h: messages that are handled alone, because they kill workers. Control only.
 *
 * One whose handler has killed its worker twice is handled in a worker that has nothing else, so
 * that a third time costs nobody but it.
 *
 * The running word names the culprit of a death inside a handler. A worker may also die, or hang,
 * between handlers: in a luv callback that a handler left behind, in a thread of a C library, on
 * descriptors that a handler closed. Then any message that was in it may be to blame, and handing
 * all of them over unchanged would go on for ever. So each is suspected, and one that was there at
 * a second such death is handled in a worker that has nothing else: an innocent one comes to its
 * end there, and a guilty one is alone when it kills the worker, which counts as its crash.
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
 * turn. Sets worker->is_reserved. */
void shove_isolation_reserve(struct shove_control *control);

/* The reserved worker for a suspect of this flow, once it is empty; NULL: not yet. */
struct shove_worker *shove_isolation_cell(const struct shove_flow *flow);

/* The worker died, or was killed because it did not answer, with no handler on the CPU: the message
 * that must be to blame, or NULL and all in it are suspected. */
struct shove_delivery *shove_isolation_judge(struct shove_worker *worker);

#endif
