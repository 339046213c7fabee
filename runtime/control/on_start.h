/* on_start.h: app:on_start, which runs in one worker, once per run. Control only. */
#ifndef SHOVE_CONTROL_ON_START_H
#define SHOVE_CONTROL_ON_START_H

#include "control/state.h"

/* Runs it in the first ready worker. */
void shove_on_start_send(struct shove_control *control);

/* Stops it where it waits. False: it is not running. */
bool shove_on_start_cancel(struct shove_control *control);

/* The worker makes way: if it runs there, it is stopped where it waits, and run again elsewhere
 * once the worker has said that it was stopped, not that it had ended by then. */
void shove_on_start_move(struct shove_worker *worker);

/* The worker says that it has ended: without a text, with that of its error, or cancelled. */
void shove_on_start_returned(struct shove_worker *worker, const struct shove_note *note,
                             const uint8_t *payload);

/* The worker is dead. */
void shove_on_start_lost(struct shove_worker *worker);

#endif
