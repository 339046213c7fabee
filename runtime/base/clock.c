/* clock.c: the only file that asks the system what time it is. Any process, any thread. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

/* What fits in four digits of year; anything else is a value gone wrong and is shown at the edge.
 */
#define FIRST_FORMATTED_MS INT64_C(-62167219200000)
#define LAST_FORMATTED_MS INT64_C(253402300799999)

static int64_t read_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t shove_clock_mono_ms(void) {
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t shove_clock_mono_us(void) {
    return read_us(CLOCK_MONOTONIC);
}

uint64_t shove_clock_mono_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int64_t shove_clock_wall_ms(void) {
    return read_us(CLOCK_REALTIME) / 1000;
}

void shove_clock_format(int64_t wall_ms, char out[25]) {
    if (wall_ms < FIRST_FORMATTED_MS)
        wall_ms = FIRST_FORMATTED_MS;
    if (wall_ms > LAST_FORMATTED_MS)
        wall_ms = LAST_FORMATTED_MS;
    int64_t millis = wall_ms % 1000;
    int64_t seconds = wall_ms / 1000;
    if (millis < 0) { /* before 1970 */
        millis += 1000;
        seconds -= 1;
    }
    time_t when = (time_t)seconds;
    struct tm utc;
    gmtime_r(&when, &utc);
    size_t size = strftime(out, 20, "%Y-%m-%dT%H:%M:%S", &utc);
    if (size != 19) { /* a libc that does not pad years below 1000 */
        for (size_t i = 0; i < 19; i++)
            out[i] = "0000-01-01T00:00:00"[i];
    }
    out[19] = '.';
    out[20] = (char)('0' + millis / 100);
    out[21] = (char)('0' + millis / 10 % 10);
    out[22] = (char)('0' + millis % 10);
    out[23] = 'Z';
    out[24] = '\0';
}
