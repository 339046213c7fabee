/* scaling.h: consumers of a group, added and taken away while it runs. Control only.
 *
 * A consumer is a lane (flow.h), so a change is done when this returns: no process is started, and
 * the broker hears nothing of it.
 */
#ifndef SHOVE_CONTROL_SCALING_H
#define SHOVE_CONTROL_SCALING_H

#include "control/state.h"

/* So many consumers, at once: those too many take nothing more and are gone when they are idle.
 * SHOVE_EINVAL outside of consumers.min and consumers.max of `group`: that of the flow, or of the
 * one that takes its place. */
int shove_scaling_set(struct shove_flow *flow, const struct shove_group *group, int64_t consumers,
                      struct shove_error *error);

/* Messages behind the committed offset that are not finished, on the partitions of this process.
 * Negative: not known now. */
int64_t shove_scaling_lag(const struct shove_flow *flow);
/* The same of one partition, which is none of a hold. */
int64_t shove_scaling_partition_lag(const struct shove_partition *partition);

/* Messages that a consumer could take now, or has: what is behind the committed offset and not
 * finished, without what waits for its retry to be due. Negative: not known now. */
int64_t shove_scaling_ready(const struct shove_flow *flow);

/* Decides for a group, now: by the advice, where it decides, else by the rule. Nothing while the
 * group does not consume, is paused, or the app drains. */
void shove_scaling_decide(struct shove_flow *flow, const struct shove_advice *advice);

/* Starts the autoscaler's timer, if any group has consumers to add or take away; it acts only while
 * the app runs, not while it drains. */
void shove_scaling_start(struct shove_control *control);

#endif
