/* encoding.c: base64 and CRC-32. Any process, any thread; no state.
 *
 * The decoder is strict (no line breaks, no missing padding, no stray bits in the last character):
 * commit metadata that decodes at all decodes in one way only, so a text that another program wrote
 * has one chance less to look like ours.
 */
#include "base/encoding.h"

#include <stdbool.h>
#include <zlib.h>

#include "base/error.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t shove_base64_encoded_size(size_t size) {
    return (size + 2) / 3 * 4;
}

void shove_base64_encode(const uint8_t *data, size_t size, char *out) {
    size_t at = 0;
    for (; at + 3 <= size; at += 3) {
        uint32_t group = (uint32_t)data[at] << 16 | (uint32_t)data[at + 1] << 8 | data[at + 2];
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = alphabet[group >> 6 & 63];
        *out++ = alphabet[group & 63];
    }
    if (at < size) {
        bool has_two = size - at == 2;
        uint32_t group = (uint32_t)data[at] << 16 | (has_two ? (uint32_t)data[at + 1] << 8 : 0);
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = has_two ? alphabet[group >> 6 & 63] : '=';
        *out++ = '=';
    }
    *out = '\0';
}

/* 0 to 63, or 64 for a character outside the alphabet. */
static uint32_t value_of(char character) {
    if (character >= 'A' && character <= 'Z')
        return (uint32_t)(character - 'A');
    if (character >= 'a' && character <= 'z')
        return (uint32_t)(character - 'a' + 26);
    if (character >= '0' && character <= '9')
        return (uint32_t)(character - '0' + 52);
    if (character == '+')
        return 62;
    return character == '/' ? 63 : 64;
}

/* The last four characters may end in one or two '='. Returns bytes written (1 to 3) or
 * SHOVE_ECORRUPT. */
static long decode_tail(const char *text, uint8_t *out) {
    uint32_t a = value_of(text[0]), b = value_of(text[1]);
    if ((a | b) > 63)
        return SHOVE_ECORRUPT;
    out[0] = (uint8_t)(a << 2 | b >> 4);
    if (text[2] == '=')
        return text[3] == '=' && (b & 15) == 0 ? 1 : SHOVE_ECORRUPT;
    uint32_t c = value_of(text[2]);
    if (c > 63)
        return SHOVE_ECORRUPT;
    out[1] = (uint8_t)(b << 4 | c >> 2);
    if (text[3] == '=')
        return (c & 3) == 0 ? 2 : SHOVE_ECORRUPT;
    uint32_t d = value_of(text[3]);
    if (d > 63)
        return SHOVE_ECORRUPT;
    out[2] = (uint8_t)(c << 6 | d);
    return 3;
}

long shove_base64_decode(const char *text, size_t text_size, uint8_t *out) {
    if (text_size % 4 != 0)
        return SHOVE_ECORRUPT;
    if (text_size == 0)
        return 0;
    uint8_t *at = out;
    for (size_t i = 0; i + 4 < text_size; i += 4) {
        uint32_t a = value_of(text[i]), b = value_of(text[i + 1]);
        uint32_t c = value_of(text[i + 2]), d = value_of(text[i + 3]);
        if ((a | b | c | d) > 63)
            return SHOVE_ECORRUPT;
        *at++ = (uint8_t)(a << 2 | b >> 4);
        *at++ = (uint8_t)(b << 4 | c >> 2);
        *at++ = (uint8_t)(c << 6 | d);
    }
    long tail = decode_tail(text + text_size - 4, at);
    return tail < 0 ? tail : (at - out) + tail;
}

uint32_t shove_crc32(uint32_t seed, const void *data, size_t size) {
    if (size == 0) /* zlib takes a NULL pointer for "give me the initial value" */
        return seed;
    return (uint32_t)crc32_z(seed, data, size);
}
