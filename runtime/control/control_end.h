/* control_end.h: how the files of control/ end a start-up that cannot succeed. Control only. */
#ifndef SHOVE_CONTROL_CONTROL_END_H
#define SHOVE_CONTROL_CONTROL_END_H

#include "control/state.h"

/* Remembers the first failure (exit code and words for the user) and ends the loop. Start-up only.
 */
void shove_control_fail_start(struct shove_control *control, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
