/* drain.h: the end of a run: stop feeding, wait for what is in flight, commit, leave, stop. Control
 * only.
 *
 *   RUNNING   --signal, or nothing left to run-->      DRAINING
 *   DRAINING  --all settled, or --drain is over-->     LEAVING
 *   LEAVING   --last commits answered, groups left-->  STOPPING
 *   STOPPING  --workers gone-->                        DONE
 *
 * A second signal goes to STOPPING at once: what was in flight is redelivered by the next run.
 */
#ifndef SHOVE_CONTROL_DRAIN_H
#define SHOVE_CONTROL_DRAIN_H

#include "control/state.h"

/* A signal came, or everything ended. */
void shove_drain_begin(struct shove_control *control, const char *why);
void shove_drain_abort(struct shove_control *control);

/* Moves the phase on when its condition holds. Cheap; called whenever something was settled or
 * left, and every round after RUNNING. */
void shove_drain_check(struct shove_control *control);

/* One line that says what is waited for. Called every second after RUNNING. */
void shove_drain_report(struct shove_control *control);

/* One line per group: what was handled. */
void shove_drain_summary(struct shove_control *control);

#endif
