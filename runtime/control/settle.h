/* settle.h: step 4 of a message's life: an outcome becomes the next hop. The only settle path.
 * Control only. */
#ifndef SHOVE_CONTROL_SETTLE_H
#define SHOVE_CONTROL_SETTLE_H

#include "control/state.h"
#include "core/outcome.h"

/* Settles a delivery that is no longer in any worker. `text` (borrowed, may be NULL) is what the
 * handler said. An orphan is freed. takes. */
void shove_settle(struct shove_control *control, struct shove_delivery *delivery,
                  enum shove_outcome outcome, const char *text, size_t text_size);

/* A line about an audit that had no end in time; the delivery's outcome stands. */
void shove_settle_report_audit(const struct shove_delivery *delivery, enum shove_outcome outcome,
                               const char *text, size_t size);

/* It is gone: closes and counts it. takes. */
void shove_settle_discard(struct shove_control *control, struct shove_delivery *delivery,
                          enum shove_reason reason);

/* Takes a delivery out of its worker's slot: it runs there no more. */
void shove_settle_leave_worker(struct shove_delivery *delivery);

#endif
