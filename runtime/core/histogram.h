/* histogram.h: how often values fell between fixed bounds, for the metrics. Pure; control, and the
 * worker for shove_duration_pack.
 *
 * Bounds are log-spaced and the same for all histograms of a scale, so counting is a few
 * comparisons and an increment: small values, of which there may be millions a second, need the
 * fewest.
 */
#ifndef SHOVE_CORE_HISTOGRAM_H
#define SHOVE_CORE_HISTOGRAM_H

#include <stdint.h>

#define SHOVE_HISTOGRAM_BOUNDS_MAX 22

struct shove_histogram_scale {
    const uint64_t *bounds; /* ascending; a value that equals one is below it */
    uint32_t bound_count;
    uint64_t unit; /* what a value is divided by where it is shown: 10^9 (ns in a second) or 1 */
};

/* Nanoseconds, shown as seconds: 10 us to 100 s, three bounds a decade. */
extern const struct shove_histogram_scale shove_duration_scale;
/* Bytes: 64 B to 1 GiB, each four times the one before. */
extern const struct shove_histogram_scale shove_size_scale;

struct shove_histogram {                             /* zeroed: empty */
    uint64_t counts[SHOVE_HISTOGRAM_BOUNDS_MAX + 1]; /* not cumulative; last: above all bounds */
    uint64_t sum;
};

void shove_histogram_add(const struct shove_histogram_scale *scale,
                         struct shove_histogram *histogram, uint64_t value);

/* Of all values. */
uint64_t shove_histogram_count(const struct shove_histogram_scale *scale,
                               const struct shove_histogram *histogram);

/* A duration of up to 584 years in 16 bits, at most a thousandth below the real one; ordered like
 * what it stands for. */
uint16_t shove_duration_pack(uint64_t duration_ns);
uint64_t shove_duration_unpack(uint16_t packed); /* of any bits, a worker may have written them */

#endif
