/* clock.h: the two clocks. Any process, any thread. core/ never includes this: it takes time as an
 * argument. */
#ifndef SHOVE_BASE_CLOCK_H
#define SHOVE_BASE_CLOCK_H

#include <stdint.h>

/* Monotonic, for deadlines and durations. Shared by all processes of one machine since boot. */
int64_t shove_clock_mono_ms(void);
int64_t shove_clock_mono_us(void);
uint64_t shove_clock_mono_ns(void);

/* Wall clock, milliseconds since 1970 UTC, for record timestamps and due times that outlive the
 * process. */
int64_t shove_clock_wall_ms(void);

/* RFC 3339 with milliseconds, UTC ("2026-01-31T12:00:00.123Z"); `out` holds at least 25 bytes. */
void shove_clock_format(int64_t wall_ms, char out[25]);

#endif
