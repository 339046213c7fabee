/* feed.h: steps 1 to 3 of a message's life: from its partition's queue into a worker. Control only.
 */
#ifndef SHOVE_CONTROL_FEED_H
#define SHOVE_CONTROL_FEED_H

#include "control/state.h"

/* One round over all flows: first what must be handled again, then what the partitions have, as far
 * as there is room. Sets control->has_progress. Never blocks. */
void shove_feed_round(struct shove_control *control);

/* Puts a delivery whose bytes control still has into its flow's `again` list. */
void shove_feed_again(struct shove_delivery *delivery);

/* Keeps a delivery where it is for the delay of a WAIT hop, then handles it again. */
void shove_feed_wait(struct shove_delivery *delivery, const struct shove_hop *hop);

/* Earliest loop time at which a feeding round has something to do that no event announces;
 * INT64_MAX: never. */
int64_t shove_feed_next_due_ms(const struct shove_control *control);

#endif
