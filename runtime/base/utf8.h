/* utf8.h: where valid UTF-8 ends, for text that must be shown or cut without breaking a
 * character. Any process. */
#ifndef SHOVE_BASE_UTF8_H
#define SHOVE_BASE_UTF8_H

#include <limits.h>
#include <stddef.h>

/* Of a path, when none of its bytes is UTF-8. */
#define SHOVE_UTF8_PATH_SIZE ((size_t)4 * PATH_MAX)

/* Bytes of the well-formed character that `text` begins with (1 to 4; overlong forms, surrogates
 * and values past U+10FFFF are not well formed), or 0 when there is none. */
size_t shove_utf8_character(const char *text, size_t size);

/* The largest size <= max_bytes at which `text` can be cut without splitting a character. Bytes
 * that are not UTF-8 are cut anywhere. */
size_t shove_utf8_cut(const char *text, size_t size, size_t max_bytes);

/* Writes `text` with \xNN in place of each byte that is not UTF-8; what does not fit is left out.
 * `size` is at least 1. */
void shove_utf8_escape(const char *text, char *out, size_t size);

#endif
