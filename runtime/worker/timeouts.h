/* timeouts.h: cancels handlers that wait past their group's handler_timeout, and audits that wait
 * past theirs. Worker only.
 *
 * Only a task that has yielded can be late here; one that never yields is killed by control with
 * its process. The timeout is the same for all messages of a group, and for all audits, so tasks
 * stand in lists in the order of their deadlines, and one timer serves the earliest of all: a
 * message costs a list entry when it first yields, and nothing when it does not.
 */
#ifndef SHOVE_WORKER_TIMEOUTS_H
#define SHOVE_WORKER_TIMEOUTS_H

#include "worker/host.h"

void shove_timeouts_init(struct shove_host *host);

/* The task waits; its deadline counts from its handler's call, whatever it did of that on the CPU,
 * its audit's from when that first waited. What runs beside messages has none. */
void shove_timeouts_add(struct shove_task *task);
void shove_timeouts_remove(struct shove_task *task); /* fine when it is no member */

#endif
