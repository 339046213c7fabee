/* uuid.c: version 7 UUIDs. Any process. */
#include "base/uuid.h"

#include <sys/random.h>

#include "base/error.h"

#define LOW_MASK ((UINT64_C(1) << 62) - 1)

int shove_uuid_init(struct shove_uuid_source *source) {
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return SHOVE_EIO;
    source->high = random[0] & 0xFFF;
    source->low = random[1] & LOW_MASK;
    return 0;
}

void shove_uuid_next(struct shove_uuid_source *source, int64_t wall_ms,
                     char out[SHOVE_UUID_SIZE + 1]) {
    static const char digits[] = "0123456789abcdef";
    source->low = (source->low + 1) & LOW_MASK;
    uint64_t halves[2] = {
        ((uint64_t)wall_ms & 0xFFFFFFFFFFFF) << 16 | 0x7000 | source->high,
        UINT64_C(1) << 63 | source->low,
    };
    char *at = out;
    for (unsigned i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            *at++ = '-';
        *at++ = digits[halves[i / 16] >> (60 - 4 * (i % 16)) & 0xF];
    }
    *at = '\0';
}
