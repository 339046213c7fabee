/* dead_letter.h: what a dead-letter handler is told beyond the record itself. Control only. */
#ifndef SHOVE_CONTROL_DEAD_LETTER_H
#define SHOVE_CONTROL_DEAD_LETTER_H

#include "control/delivery.h"

/* {"reason": ..., "original_queue": ..., "death_count": ...} as JSON, from shove's own headers;
 * fields the record does not carry are left out. Borrows a buffer of control's, valid until the
 * next call. */
struct shove_buffer *shove_dead_letter_describe(struct shove_control *control,
                                                const struct shove_incoming *incoming);

#endif
