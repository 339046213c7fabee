/* partition.h: a partition from its assignment until it is given up: one epoch. Control only. */
#ifndef SHOVE_CONTROL_PARTITION_H
#define SHOVE_CONTROL_PARTITION_H

#include "control/state.h"

/* Transport events. */
void shove_partitions_assigned(struct shove_flow *flow, struct shove_claim **claims, size_t count);
void shove_partitions_revoking(struct shove_flow *flow, struct shove_claim **claims, size_t count);
void shove_partitions_lost(struct shove_flow *flow, struct shove_claim **claims, size_t count);

/* Moves revocations on: waits for what is in flight up to the deadline, sends the last commit,
 * waits for its answer up to a deadline, gives the partition up. Called every round; cheap when
 * nothing is being revoked. */
void shove_partitions_step(struct shove_control *control);

bool shove_partitions_are_revoking(const struct shove_control *control);

/* Gives back the batch being fed, if there is one. */
void shove_partition_drop_batch(struct shove_partition *partition);

/* The log was cut at `offset` and is read again from there: what is open from there on completes
 * nothing any more. Nothing may be pending. */
void shove_partition_rewind(struct shove_partition *partition, int64_t offset);

/* Names what a stop at once leaves uncommitted though it is finished, and counts it as a failure.
 */
void shove_partitions_report_uncommitted(struct shove_control *control);

/* Everything, without commits: at the end of a run, before the transport is closed. */
void shove_partitions_release_all(struct shove_control *control);

#endif
