/* fast_clock.c: see fast_clock.h. Any process.
 *
 * The kernel keeps watch over the counter's rate and whether all processors agree on it, and says
 * which clock it has chosen. The rate it uses is not told, so it is measured, over long enough a
 * time that the few nanoseconds between two readings do not count.
 */
#include "base/fast_clock.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#define HAS_COUNTER 1
static inline uint64_t read_ticks(void) {
    return __rdtsc();
}
#else
#define HAS_COUNTER 0
static inline uint64_t read_ticks(void) {
    return 0;
}
#endif

#define TUNE_AFTER_NS UINT64_C(20000000)
#define READING_TICKS_MAX 2000 /* more: this process was interrupted between two readings */
#define FIRST_READINGS 8       /* the first of a process brings its pages in */

__extension__ typedef unsigned __int128 wide;

static bool is_kernels_clock(void) {
    char name[16] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (!file)
        return false;
    const bool is_read = fgets(name, sizeof name, file) != NULL;
    fclose(file);
    return is_read && strcmp(name, "tsc\n") == 0;
}

/* Both clocks at the same time. False: not really. */
static bool read_both(uint64_t *ns, uint64_t *ticks) {
    const uint64_t before = read_ticks();
    *ns = shove_clock_mono_ns();
    const uint64_t took = read_ticks() - before;
    *ticks = before + took / 2;
    return took <= READING_TICKS_MAX;
}

void shove_fast_clock_init(struct shove_fast_clock *clock) {
    *clock = (struct shove_fast_clock){0};
    if (!HAS_COUNTER || !is_kernels_clock())
        return;
    for (int i = 0; i < FIRST_READINGS && !clock->may_count; i++)
        clock->may_count = read_both(&clock->base_ns, &clock->base_ticks);
}

uint64_t shove_fast_clock_ns(const struct shove_fast_clock *clock) {
    if (!clock->counts)
        return shove_clock_mono_ns();
    return clock->base_ns +
           (uint64_t)((wide)(read_ticks() - clock->base_ticks) * clock->ns_per_tick >> 32);
}

void shove_fast_clock_tune(struct shove_fast_clock *clock) {
    uint64_t ns;
    uint64_t ticks;
    if (!clock->may_count || clock->counts || !read_both(&ns, &ticks) ||
        ns - clock->base_ns < TUNE_AFTER_NS || ticks <= clock->base_ticks)
        return;
    clock->ns_per_tick =
        (uint64_t)(((wide)(ns - clock->base_ns) << 32) / (ticks - clock->base_ticks));
    clock->counts = true;
}
