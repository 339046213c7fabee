/* buffer.h: a growable byte buffer. Any process, one owner.
 *
 * Growth doubles, so appends are amortised constant. Appending after a failed allocation keeps
 * failing (the buffer is marked), so a run of appends is checked once at the end, in is_failed.
 */
#ifndef SHOVE_BASE_BUFFER_H
#define SHOVE_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shove_buffer {
    uint8_t *data;
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
    bool is_failed;
};

void shove_buffer_init(struct shove_buffer *buffer);
void shove_buffer_release(struct shove_buffer *buffer);
/* Keeps the memory, clears the failure mark. */
void shove_buffer_clear(struct shove_buffer *buffer);

/* Room for `size` more bytes; returns where to write them, without changing buffer->size; NULL when
 * out of memory. */
uint8_t *shove_buffer_reserve(struct shove_buffer *buffer, size_t size);
void shove_buffer_append(struct shove_buffer *buffer, const void *data, size_t size);
void shove_buffer_append_text(struct shove_buffer *buffer, const char *text);
void shove_buffer_printf(struct shove_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Varints are LEB128, as in Protocol Buffers: seven bits a byte, lowest first. Returns the bytes
 * written. */
#define SHOVE_VARINT_MAX 10
size_t shove_varint_write(uint8_t out[SHOVE_VARINT_MAX], uint64_t value);

/* Reads a varint at *at (advanced) before end. Returns 0 or SHOVE_ECORRUPT. */
int shove_varint_read(const uint8_t **at, const uint8_t *end, uint64_t *out);

#endif
