/* utf8.c: the well-formed byte sequences of Unicode's table 3-7, as four ranges for the second
 * byte.
 *
 * Any process. Log lines, error texts and hop headers carry text from handlers, brokers and files:
 * none of it can be trusted to be UTF-8, and all of it may have to be cut.
 */
#include "base/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool is_continuation(uint8_t byte) {
    return (byte & 0xC0) == 0x80;
}

/* Bytes that the first byte promises, and the range its second byte must lie in; 0 for a byte
 * that begins nothing. */
static size_t expected_size(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xBF;
    if (first < 0x80)
        return 1;
    if (first >= 0xC2 && first <= 0xDF)
        return 2;
    if (first >= 0xE0 && first <= 0xEF) {
        if (first == 0xE0)
            *low = 0xA0;
        if (first == 0xED)
            *high = 0x9F;
        return 3;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        if (first == 0xF0)
            *low = 0x90;
        if (first == 0xF4)
            *high = 0x8F;
        return 4;
    }
    return 0;
}

size_t shove_utf8_character(const char *text, size_t size) {
    const uint8_t *bytes = (const uint8_t *)text;
    uint8_t low, high;
    if (size == 0)
        return 0;
    size_t expected = expected_size(bytes[0], &low, &high);
    if (expected <= 1)
        return expected;
    if (size < expected || bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < expected; i++) {
        if (!is_continuation(bytes[i]))
            return 0;
    }
    return expected;
}

size_t shove_utf8_cut(const char *text, size_t size, size_t max_bytes) {
    if (size <= max_bytes)
        return size;
    /* Only a character that begins in the last three bytes can be split by the cut. */
    for (size_t back = 1; back <= 3 && back <= max_bytes; back++) {
        size_t at = max_bytes - back;
        if (is_continuation((uint8_t)text[at]))
            continue;
        return shove_utf8_character(text + at, size - at) > back ? at : max_bytes;
    }
    return max_bytes;
}

void shove_utf8_escape(const char *text, char *out, size_t size) {
    const char *end = text + strlen(text);
    size_t used = 0;
    out[0] = '\0';
    while (text < end) {
        const size_t length = shove_utf8_character(text, (size_t)(end - text));
        const size_t needed = length > 0 ? length : strlen("\\xNN");
        if (needed >= size - used)
            return;
        if (length > 0)
            snprintf(out + used, size - used, "%.*s", (int)length, text);
        else
            snprintf(out + used, size - used, "\\x%02x", (unsigned)(unsigned char)*text);
        used += needed;
        text += length > 0 ? length : 1;
    }
}
