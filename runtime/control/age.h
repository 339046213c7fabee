/* age.h: warns before retention takes away a message that is still open. Control only. */
#ifndef SHOVE_CONTROL_AGE_H
#define SHOVE_CONTROL_AGE_H

#include "control/state.h"

/* Looks at the oldest open message of each partition; one line per minute and flow. Called by a
 * timer. */
void shove_age_watch(struct shove_control *control);

#endif
