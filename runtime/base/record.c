/* record.c: the encoded header block of a record. Any process; no state.
 *
 * A block may come from a worker's memory or from a file, so the reader checks every size before it
 * moves. Sizes are compared against what is left, never added to a pointer first.
 */
#include "base/record.h"

#include <string.h>

#include "base/error.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "header blocks are stored in native byte order, which must be little endian");

#define NULL_VALUE_SIZE UINT32_MAX
#define SIZES_SIZE (2 * sizeof(uint32_t))

void shove_headers_append(struct shove_buffer *block, const void *name, size_t name_size,
                          const void *value, size_t value_size) {
    if (name_size >= UINT32_MAX || value_size >= NULL_VALUE_SIZE) {
        block->is_failed = true;
        return;
    }
    size_t bytes = value != NULL ? value_size : 0;
    uint8_t *room = shove_buffer_reserve(block, SIZES_SIZE + name_size + bytes);
    if (room == NULL)
        return;
    uint32_t sizes[2] = {(uint32_t)name_size,
                         value != NULL ? (uint32_t)value_size : NULL_VALUE_SIZE};
    memcpy(room, sizes, SIZES_SIZE);
    if (name_size > 0)
        memcpy(room + SIZES_SIZE, name, name_size);
    if (bytes > 0)
        memcpy(room + SIZES_SIZE + name_size, value, bytes);
    block->size += SIZES_SIZE + name_size + bytes;
}

int shove_headers_next(const uint8_t **at, const uint8_t *end, struct shove_header *out) {
    if (*at == end)
        return 0;
    size_t left = (size_t)(end - *at);
    if (left < SIZES_SIZE)
        return SHOVE_ECORRUPT;
    uint32_t sizes[2];
    memcpy(sizes, *at, SIZES_SIZE);
    left -= SIZES_SIZE;
    bool is_null = sizes[1] == NULL_VALUE_SIZE;
    uint32_t value_size = is_null ? 0 : sizes[1];
    if (sizes[0] > left || value_size > left - sizes[0])
        return SHOVE_ECORRUPT;
    const uint8_t *name = *at + SIZES_SIZE;
    out->name = (const char *)name;
    out->name_size = sizes[0];
    out->value = is_null ? NULL : name + sizes[0];
    out->value_size = value_size;
    *at = name + sizes[0] + value_size;
    return 1;
}
