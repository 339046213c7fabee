/* histogram.c: see histogram.h. Pure.
 *
 * A packed duration is a floating-point number: six bits of exponent over ten of mantissa, whose
 * leading one is left out. Below 1,024 it is the number itself.
 */
#include "core/histogram.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)
#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

#define MANTISSA_BITS 10
#define MANTISSA_ONE (UINT64_C(1) << MANTISSA_BITS)

static const uint64_t duration_bounds[] = {
    10 * US,   25 * US, 50 * US, 100 * US, 250 * US, 500 * US, 1 * MS,   2500 * US,
    5 * MS,    10 * MS, 25 * MS, 50 * MS,  100 * MS, 250 * MS, 500 * MS, 1 * S,
    2500 * MS, 5 * S,   10 * S,  25 * S,   50 * S,   100 * S,
};

static const uint64_t size_bounds[] = {
    64,      256,     1 * KIB,  4 * KIB,  16 * KIB,  64 * KIB, 256 * KIB,
    1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1 * GIB,
};

const struct shove_histogram_scale shove_duration_scale = {
    .bounds = duration_bounds,
    .bound_count = sizeof duration_bounds / sizeof *duration_bounds,
    .unit = S,
};

const struct shove_histogram_scale shove_size_scale = {
    .bounds = size_bounds,
    .bound_count = sizeof size_bounds / sizeof *size_bounds,
    .unit = 1,
};

void shove_histogram_add(const struct shove_histogram_scale *scale,
                         struct shove_histogram *histogram, uint64_t value) {
    uint32_t bucket = 0;
    while (bucket < scale->bound_count && value > scale->bounds[bucket])
        bucket++;
    histogram->counts[bucket]++;
    histogram->sum += value;
}

uint64_t shove_histogram_count(const struct shove_histogram_scale *scale,
                               const struct shove_histogram *histogram) {
    uint64_t count = 0;
    for (uint32_t bucket = 0; bucket <= scale->bound_count; bucket++)
        count += histogram->counts[bucket];
    return count;
}

uint16_t shove_duration_pack(uint64_t duration_ns) {
    if (duration_ns < MANTISSA_ONE)
        return (uint16_t)duration_ns;
    const unsigned shift = 63 - (unsigned)__builtin_clzll(duration_ns) - MANTISSA_BITS;
    return (uint16_t)((uint64_t)(shift + 1) << MANTISSA_BITS |
                      ((duration_ns >> shift) - MANTISSA_ONE));
}

uint64_t shove_duration_unpack(uint16_t packed) {
    const unsigned exponent = packed >> MANTISSA_BITS;
    const uint64_t mantissa = packed & (MANTISSA_ONE - 1);
    if (exponent == 0)
        return mantissa;
    const unsigned shift = exponent - 1;
    return shift > 63 - MANTISSA_BITS ? UINT64_MAX : (mantissa | MANTISSA_ONE) << shift;
}
