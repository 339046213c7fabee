/* chance.h: the random numbers of the walks here. The same seed gives the same walk everywhere. */
#ifndef SPEC_UNIT_CORE_CHANCE_H
#define SPEC_UNIT_CORE_CHANCE_H

#include <stdint.h>

/* The next number; moves *state on. splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom
 * Number Generators", 2014). */
static inline uint64_t chance_draw(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

#endif
