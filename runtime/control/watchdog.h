/* watchdog.h: workers that hang are found and killed. Control only. */
#ifndef SHOVE_CONTROL_WATCHDOG_H
#define SHOVE_CONTROL_WATCHDOG_H

#include "control/state.h"

/* Before each round of looks, which are SHOVE_WATCH_INTERVAL_MS apart, unless control stood still:
 * then that is nobody's fault. */
void shove_watchdog_begin(struct shove_control *control);

/* Looks at one that has a process: has it not loaded the script in time, has a handler kept the CPU
 * past its timeout, or does it say nothing at all any more? */
void shove_watchdog_look(struct shove_worker *worker);

#endif
