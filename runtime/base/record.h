/* record.h: a message as every part of shove passes it around, with its headers in one encoded
 * block.
 *
 * A borrowed view: who fills it says how long the pointers live. `key` and `payload` are NULL for a
 * null key or a null payload (a tombstone), which is not the same as size 0: an empty one is a
 * non-NULL pointer with size 0.
 *
 * Header block: for each header, in order, duplicates kept: u32 name size, u32 value size
 * (UINT32_MAX: null value), name bytes, value bytes; native byte order, unaligned, no padding. The
 * block never leaves the machine: Kafka gets real headers, the embedded broker stores it in its own
 * files (little endian machines only, checked at build time).
 */
#ifndef SHOVE_BASE_RECORD_H
#define SHOVE_BASE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

struct shove_record {
    const void *key;
    const void *payload;
    const void *headers; /* encoded block, NULL when headers_size is 0 */
    size_t key_size;
    size_t payload_size;
    size_t headers_size;
    int64_t timestamp_ms; /* wall clock; -1: unknown (on produce: now) */
    int64_t offset;       /* -1 on produce */
};

struct shove_header {
    const char *name;  /* not NUL-terminated */
    const void *value; /* NULL: null value */
    uint32_t name_size;
    uint32_t value_size;
};

void shove_headers_append(struct shove_buffer *block, const void *name, size_t name_size,
                          const void *value, size_t value_size); /* value NULL: null value */

/* Walks a block: *at starts at the block's first byte. Returns 1 and fills `out` (borrows the
 * block), 0 at the end, or SHOVE_ECORRUPT. */
int shove_headers_next(const uint8_t **at, const uint8_t *end, struct shove_header *out);

#endif
