/* groups.h: what app:groups() shows in a worker: the groups of this run, as JSON. Control only,
 * loop's thread.
 *
 * A worker asks with a note and is answered through its arena. It has one question under way at a
 * time, so the bytes of an answer may go when the next one is asked for. However many ask, the text
 * is made once in SHOVE_GROUPS_FRESH_MS at most.
 */
#ifndef SHOVE_CONTROL_GROUPS_H
#define SHOVE_CONTROL_GROUPS_H

#include "control/state.h"

#define SHOVE_GROUPS_FRESH_MS 10

/* Answers a worker that asked, if there is room for it; else later. */
void shove_groups_answer(struct shove_worker *worker);

/* The worker is dead: gives back what it has in its arena. */
void shove_groups_forget_worker(struct shove_worker *worker);

void shove_groups_release(struct shove_control *control);

#endif
