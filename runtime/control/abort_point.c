/* abort_point.c: see abort_point.h. Control only, test builds only. */
#include "control/abort_point.h"

#ifdef SHOVE_ABORT_POINTS
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

void shove_abort_point(enum shove_step step) {
    static long wanted_step = -1;
    static long passes_left;
    if (wanted_step < 0) {
        const char *text = getenv("SHOVE_ABORT_AT");
        char *end = NULL;
        wanted_step = text ? strtol(text, &end, 10) : 0;
        passes_left = end && *end == ':' ? strtol(end + 1, NULL, 10) : 1;
    }
    if (wanted_step == (long)step && --passes_left == 0)
        kill(getpid(), SIGKILL);
}
#else
/* ISO C forbids an empty translation unit. */
extern int shove_abort_point_is_compiled_out;
#endif
