/* poisoning.h: keys of a fail_all topic whose messages are dead letters, because one before them
 * was. Control only.
 *
 * A partition is handled only once its poisoned keys were read. From then on they are known here:
 * what this process adds it knows by itself, and what `shove poison clear` takes away is looked
 * for, as long as there is something to clear. A message that poisons its key keeps the key's turn
 * until both its poison and its dead letter are stored, in this order: a crash in between leaves a
 * message that is handled again, never one that is handled though its key is poisoned.
 */
#ifndef SHOVE_CONTROL_POISONING_H
#define SHOVE_CONTROL_POISONING_H

#include "control/state.h"

/* Of a partition that was just assigned. Nothing is fed of it until this has come to its end. */
void shove_poisoning_learn(struct shove_partition *partition);

/* The partition is given up. */
void shove_poisoning_forget(struct shove_partition *partition);

/* The transport's answer (struct shove_scanned). */
void shove_poisoning_scanned(struct shove_control *control, const struct shove_scanned *result);

/* Looks for keys that were cleared, and begins again what failed. */
void shove_poisoning_watch(struct shove_control *control);

/* Answers that do not come any more: after the transports are closed. */
void shove_poisoning_release(struct shove_control *control);

/* Whether the message is a dead letter because of its key. */
bool shove_poisoning_covers(const struct shove_partition *partition,
                            const struct shove_record *record);

/* Of all partitions that this process has. */
size_t shove_poisoning_count(const struct shove_flow *flow);

/* What is to be stored of the key of a delivery that dies, before anything else. `produce` borrows
 * from the delivery and from control->scratch. 0 or SHOVE_ENOMEM. */
int shove_poisoning_describe(struct shove_control *control, const struct shove_delivery *delivery,
                             struct shove_produce *produce);

/* It is stored, at `at` (negative: not known). 0 or SHOVE_ENOMEM: then it has to be stored once
 * more. */
int shove_poisoning_stored(const struct shove_delivery *delivery, int64_t at);

/* It was stored after its partition was lost: who has the partition now has to look again. */
void shove_poisoning_orphaned(const struct shove_delivery *delivery);

#endif
