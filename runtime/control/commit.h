/* commit.h: step 8 of a message's life: frontiers and what is finished beyond them, to the broker.
 * Control only. */
#ifndef SHOVE_CONTROL_COMMIT_H
#define SHOVE_CONTROL_COMMIT_H

#include "control/state.h"

/* Every partition with something new, one commit per flow. Called every SHOVE_COMMIT_INTERVAL_MS.
 */
void shove_commit_round(struct shove_control *control);

/* One partition, now. Nothing is sent when a commit of it is still unanswered (the answer's
 * handler, or the next round, sends what is new then). */
void shove_commit_partition(struct shove_partition *partition);

/* The same, for what a retry in place counts; or the next round, where so much is open that saying
 * it takes a while. */
void shove_commit_retry(struct shove_partition *partition);

/* Of any partition that is still ours. */
bool shove_commit_is_under_way(const struct shove_control *control);

/* The transport's answer. */
void shove_commit_answered(struct shove_flow *flow, const struct shove_commit *commits,
                           size_t count);

/* The message crashed its worker: it is handled again only after its crash count is committed. */
void shove_commit_record_crash(struct shove_delivery *delivery);

#endif
