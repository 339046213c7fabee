/* encoding.h: base64 (RFC 4648, padded) for commit metadata, and the CRC-32 that guards what shove
 * stores (zlib's). */
#ifndef SHOVE_BASE_ENCODING_H
#define SHOVE_BASE_ENCODING_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of text for `size` bytes, without the final NUL. */
size_t shove_base64_encoded_size(size_t size);

/* Writes encoded_size + 1 bytes (NUL-terminated). */
void shove_base64_encode(const uint8_t *data, size_t size, char *out);

/* Returns the number of bytes written to `out` (at most text_size / 4 * 3), or SHOVE_ECORRUPT
 * for anything that is not canonical padded base64. */
long shove_base64_decode(const char *text, size_t text_size, uint8_t *out);

uint32_t shove_crc32(uint32_t seed, const void *data, size_t size);

#endif
