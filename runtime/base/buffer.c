/* buffer.c: a growable byte buffer. Any process, one owner; no locks.
 *
 * A failed allocation marks the buffer and leaves what it held in place; every later append does
 * nothing, so callers check once. Varints are LEB128: seven bits a byte, lowest first.
 */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define FIRST_CAPACITY 64

void shove_buffer_init(struct shove_buffer *buffer) {
    *buffer = (struct shove_buffer){0};
}

void shove_buffer_release(struct shove_buffer *buffer) {
    free(buffer->data);
    shove_buffer_init(buffer);
}

void shove_buffer_clear(struct shove_buffer *buffer) {
    buffer->size = 0;
    buffer->is_failed = false;
}

uint8_t *shove_buffer_reserve(struct shove_buffer *buffer, size_t size) {
    if (buffer->is_failed)
        return NULL;
    if (buffer->data != NULL && size <= buffer->capacity - buffer->size)
        return buffer->data + buffer->size;
    uint8_t *grown = NULL;
    size_t capacity = buffer->capacity > 0 ? buffer->capacity : FIRST_CAPACITY;
    if (size <= SIZE_MAX / 2 - buffer->size) {
        while (capacity < buffer->size + size)
            capacity *= 2;
        grown = realloc(buffer->data, capacity);
    }
    if (grown == NULL) {
        buffer->is_failed = true;
        return NULL;
    }
    buffer->data = grown;
    buffer->capacity = capacity;
    return buffer->data + buffer->size;
}

void shove_buffer_append(struct shove_buffer *buffer, const void *data, size_t size) {
    uint8_t *room = shove_buffer_reserve(buffer, size);
    if (room == NULL || size == 0)
        return;
    memcpy(room, data, size);
    buffer->size += size;
}

void shove_buffer_append_text(struct shove_buffer *buffer, const char *text) {
    shove_buffer_append(buffer, text, strlen(text));
}

void shove_buffer_printf(struct shove_buffer *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (wanted < 0) {
        buffer->is_failed = true;
        return;
    }
    char *room = (char *)shove_buffer_reserve(buffer, (size_t)wanted + 1);
    if (room == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(room, (size_t)wanted + 1, format, arguments);
    va_end(arguments);
    buffer->size += (size_t)wanted;
}

size_t shove_varint_write(uint8_t out[SHOVE_VARINT_MAX], uint64_t value) {
    size_t size = 0;
    while (value >= 0x80) {
        out[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[size++] = (uint8_t)value;
    return size;
}

int shove_varint_read(const uint8_t **at, const uint8_t *end, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned i = 0; i < SHOVE_VARINT_MAX; i++) {
        if (*at + i >= end)
            return SHOVE_ECORRUPT;
        uint8_t byte = (*at)[i];
        if (i == SHOVE_VARINT_MAX - 1 && byte > 1) /* past 64 bits */
            return SHOVE_ECORRUPT;
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80) {
            *at += i + 1;
            *out = value;
            return 0;
        }
    }
    return SHOVE_ECORRUPT;
}
