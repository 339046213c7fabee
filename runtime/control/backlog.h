/* backlog.h: what a group has set aside, the bound on it, and the line that says it is reached.
 * Control only.
 *
 * Messages that wait in place, and retries and dead letters on their way to the broker, count
 * against no prefetch, but against memory. The retries of a sequenced topic have no other place to
 * wait, each with a key of its own: they are bounded by their bytes alone.
 */
#ifndef SHOVE_CONTROL_BACKLOG_H
#define SHOVE_CONTROL_BACKLOG_H

#include "control/state.h"

/* Messages of a group that may wait in place, and as many that may wait for their retry or dead
 * letter to be stored, before nothing new is fed; nor while all of them take more than the size of
 * an arena. */
#define SHOVE_BACKLOG_MAX 10000u
/* Those that wait for a worker of their own, before nothing new is fed. */
#define SHOVE_BACKLOG_SUSPECTS_MAX 100u

/* Nothing new of the group is fed. */
bool shove_backlog_is_full(const struct shove_flow *flow);

/* Warns of a group whose backlog stays full; one line per minute and group. Called by a timer. */
void shove_backlog_watch(struct shove_control *control);

#endif
