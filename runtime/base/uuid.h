/* uuid.h: version 7 UUIDs (RFC 9562), for ids of messages. Any process, one owner per source.
 *
 * Time-ordered; the random part is drawn once and counted up, so an id costs no system call and two
 * sources never meet.
 */
#ifndef SHOVE_BASE_UUID_H
#define SHOVE_BASE_UUID_H

#include <stdint.h>

#define SHOVE_UUID_SIZE 36 /* characters, without the final NUL */

struct shove_uuid_source {
    uint64_t high; /* 12 bits */
    uint64_t low;  /* 62 bits, counted up */
};

/* Draws the random part; 0 or SHOVE_EIO when the system has no randomness to give. */
int shove_uuid_init(struct shove_uuid_source *source);

/* Writes the next one, lower case, NUL-terminated. wall_ms >= 0. */
void shove_uuid_next(struct shove_uuid_source *source, int64_t wall_ms,
                     char out[SHOVE_UUID_SIZE + 1]);

#endif
