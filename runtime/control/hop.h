/* hop.h: steps 5 to 7 of a message's life: retries to hold topics, dead letters to DLQs. Control
 * only.
 *
 * A hop is offered to the transport until it is acknowledged: refusals and failures are tried again
 * with backoff, and the slot stays open all the while, so the frontier never passes it. Only a
 * retry that is too large for its hold topic waits where it is instead.
 */
#ifndef SHOVE_CONTROL_HOP_H
#define SHOVE_CONTROL_HOP_H

#include "control/state.h"

/* Begins a HOLD or DEAD hop, or a DISCARD that poisons. The delivery keeps its bytes until the hop
 * is acknowledged. */
void shove_hop_start(struct shove_control *control, struct shove_delivery *delivery,
                     const struct shove_hop *hop);

/* A WAIT hop: the delivery stays open and is handled again after the delay. */
void shove_hop_wait(struct shove_delivery *delivery, const struct shove_hop *hop);

/* The transport's answer for one delivery. */
void shove_hop_answered(struct shove_control *control, struct shove_delivery *delivery,
                        const struct shove_produced *result);

/* Its epoch ends: whatever is answered, it completes nothing. Takes one that is not with the
 * transport. */
void shove_hop_orphan(struct shove_control *control, struct shove_delivery *delivery);

/* The topic that it goes to now: where poisoned keys are kept, a hold, or the DLQ. */
const char *shove_hop_target(const struct shove_delivery *delivery);

/* Offers what was refused or failed and is due again. */
void shove_hop_round(struct shove_control *control);

/* Takes the bytes of those that have not been stored for a while out of the workers' arenas, which
 * other groups need: a broker may be away for long. Each second. */
void shove_hop_watch(struct shove_control *control);

/* Loop time at which the next failed hop is due; INT64_MAX: none waits. */
int64_t shove_hop_next_due_ms(const struct shove_control *control);

#endif
