/* abort_point.c: see abort_point.h. Control only, test builds only. */
#include "control/abort_point.h"

#ifdef SHOVE_ABORT_POINTS
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

void shove_abort_point(enum shove_step step) {
    static long wanted_step = -1;
    static long passes_left;
    static long outcomes_left;
    if (wanted_step < 0) {
        const char *text = getenv("SHOVE_ABORT_AT");
        char *end = NULL;
        wanted_step = text ? strtol(text, &end, 10) : 0;
        passes_left = end && *end == ':' ? strtol(end + 1, &end, 10) : 1;
        outcomes_left = end && *end == ':' ? strtol(end + 1, NULL, 10) : 0;
    }
    if (outcomes_left > 0) {
        outcomes_left -= step == SHOVE_STEP_DECIDED;
        return;
    }
    if (wanted_step == (long)step && --passes_left == 0)
        kill(getpid(), SIGKILL);
}

void shove_stall_point(void) {
    static long every = -1;
    static long stall_ms;
    static long rounds;
    if (every < 0) {
        const char *text = getenv("SHOVE_STALL");
        char *end = NULL;
        every = text ? strtol(text, &end, 10) : 0;
        stall_ms = end && *end == ':' ? strtol(end + 1, NULL, 10) : 0;
    }
    if (every > 0 && ++rounds % every == 0)
        usleep((useconds_t)stall_ms * 1000);
}

int64_t shove_hurried_ms(int64_t ms, int64_t limit_ms) {
    const char *text = getenv("SHOVE_HURRY");
    return text && ms >= strtol(text, NULL, 10) ? limit_ms : ms;
}
#else
/* ISO C forbids an empty translation unit. */
extern int shove_abort_point_is_compiled_out;
#endif
