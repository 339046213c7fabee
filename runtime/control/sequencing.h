/* sequencing.h: messages of a sequenced topic wait for those of their key that came before. Control
 * only.
 *
 * A message keeps its turn from before it is given to a worker until it is settled: through
 * retries, which wait in place, deaths of workers, and until its dead letter is stored. It keeps
 * it as an orphan, too: whoever has lost a partition and gets it again does not begin a key whose
 * message is still being handled here.
 *
 * A hot key that is poisoned would be written off one round trip at a time. So what waits behind a
 * dead letter that is on its way for that reason may go ahead (feed.c): its own is on its way,
 * too, and it stays where it is among those of its key, for whatever comes after it, for the bounds
 * on what waits, and for the commit's metadata.
 */
#ifndef SHOVE_CONTROL_SEQUENCING_H
#define SHOVE_CONTROL_SEQUENCING_H

#include "control/delivery.h"
#include "control/state.h"

/* A partition whose waiting messages take as much is not read on: a bound on memory. */
#define SHOVE_SEQUENCING_BYTES_MAX ((size_t)8 * 1024 * 1024)

/* How a key is named wherever one is written, log or status: by its CRC-32, because keys may be
 * secrets; as it is with --log-keys; "-" for none. Returns `out`. */
const char *shove_sequencing_name_key(const struct shove_control *control,
                                      const struct shove_record *record, char *out, size_t size);

/* A warning that names the message and its key; why it died, unless that is NONE. */
void shove_sequencing_report(const struct shove_delivery *delivery,
                             const struct shove_record *record, const char *text,
                             enum shove_reason reason);

/* Says how often something held up a partition that no line told of, when a line is due. Each
 * second. */
void shove_sequencing_log_unsaid(struct shove_flow *flow);

enum shove_turn {
    SHOVE_TURN_NOW,
    SHOVE_TURN_LATER,  /* it has bytes of its own, and is fed again when its turn comes */
    SHOVE_TURN_BLOCKED /* too many wait behind its key, or in its partition, or no memory: the
                          partition is not read on until a turn ends (is_blocked) */
};

/* Asks for the turn of a message that is open and in no list. */
enum shove_turn shove_sequencing_enter(struct shove_delivery *delivery,
                                       const struct shove_incoming *incoming);

/* The one before it of its key, and the one behind it; NULL: there is none. */
struct shove_delivery *shove_sequencing_previous(const struct shove_delivery *delivery);
struct shove_delivery *shove_sequencing_next(const struct shove_delivery *delivery);

/* One that is QUEUED is to be settled now, though it is not its turn. */
void shove_sequencing_go_ahead(struct shove_delivery *delivery);
/* One that went ahead counts as the others do: its turn has come, or its partition goes. */
void shove_sequencing_fall_in(struct shove_delivery *delivery);

/* It is settled, or given up: the next of its key has its turn. Nothing when it has entered no
 * sequence. */
void shove_sequencing_leave(struct shove_delivery *delivery);

/* Its epoch ends, and so does that of all behind it: nobody's turn comes. */
void shove_sequencing_forget(struct shove_delivery *delivery);

#endif
