/* groups.h: questions to control for the state of the groups, until the answers are there. Worker
 * only.
 *
 * At most one is under way, for all handlers that ask. One that asks meanwhile waits for the next,
 * so nobody is told what was so before it asked.
 */
#ifndef SHOVE_WORKER_GROUPS_H
#define SHOVE_WORKER_GROUPS_H

#include "worker/host.h"

/* Asks for a task, which is to yield: SHOVE_WAIT_GROUPS. */
void shove_groups_ask(struct shove_task *task);

/* Control's answer (borrowed): resumes the tasks that waited for it, which find a copy in
 * host->groups_text. */
void shove_groups_answered(struct shove_host *host, const uint8_t *text, size_t size);

#endif
