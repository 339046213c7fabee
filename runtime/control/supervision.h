/* supervision.h: what becomes of a group whose subscription ended with an error. Control only.
 *
 * Where trying again can help, it is joined anew: after 2, 4, 8 and 16 s, then, its breaker open,
 * every 300 s (core/respawn.h). One that has been assigned partitions for a minute has come back,
 * and a later failure is its first again. Everything else stays down until the app is started
 * again; when no group is left that runs or will be tried, the app drains.
 */
#ifndef SHOVE_CONTROL_SUPERVISION_H
#define SHOVE_CONTROL_SUPERVISION_H

#include "control/state.h"

/* The flow's subscription is gone; `code` is not 0. */
void shove_supervision_failed(struct shove_flow *flow, int code, const char *text);

/* Joins those whose time has come, and sees whether any is left; called a few times a second while
 * the app runs. */
void shove_supervision_watch(struct shove_control *control);

/* Seconds, rounded up, until one that rests is joined again. */
int64_t shove_supervision_left_s(const struct shove_flow *flow);

#endif
