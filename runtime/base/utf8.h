/* utf8.h: where valid UTF-8 ends, for text that must be shown or cut without breaking a
 * character. Any process. */
#ifndef SHOVE_BASE_UTF8_H
#define SHOVE_BASE_UTF8_H

#include <stddef.h>

/* Bytes of the well-formed character that `text` begins with (1 to 4; overlong forms, surrogates
 * and values past U+10FFFF are not well formed), or 0 when there is none. */
size_t shove_utf8_character(const char *text, size_t size);

/* The largest size <= max_bytes at which `text` can be cut without splitting a character. Bytes
 * that are not UTF-8 are cut anywhere. */
size_t shove_utf8_cut(const char *text, size_t size, size_t max_bytes);

#endif
