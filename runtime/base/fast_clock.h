/* fast_clock.h: nanoseconds at half the price of the system's clock, for what is measured once a
 * message. Any process, one owner.
 *
 * Where the kernel itself goes by the processor's time stamp counter, that is read, and its rate is
 * found out from the system's clock in the first moments; anywhere else this is the system's clock.
 */
#ifndef SHOVE_BASE_FAST_CLOCK_H
#define SHOVE_BASE_FAST_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct shove_fast_clock {
    bool may_count; /* the counter can be trusted */
    bool counts;    /* and its rate is known */
    uint64_t base_ns;
    uint64_t base_ticks;
    uint64_t ns_per_tick; /* times 2^32 */
};

void shove_fast_clock_init(struct shove_fast_clock *clock);

/* As shove_clock_mono_ns, to a ten-thousandth of the time since init. It may go back by a few
 * microseconds, once, when the rate is known. */
uint64_t shove_fast_clock_ns(const struct shove_fast_clock *clock);

/* Finds out the rate when it is time to; call now and then. */
void shove_fast_clock_tune(struct shove_fast_clock *clock);

#endif
