/* sequence.h: which message of each key is handled, and which wait behind it.
 *
 * Control, one per group that consumes a sequenced topic. Pure: no clock, no I/O. A key is known
 * from the first of its messages that enters to the last that leaves: idle keys cost nothing. What
 * belongs to different partitions is never of one key, and bytes are compared exactly.
 */
#ifndef SHOVE_CORE_SEQUENCE_H
#define SHOVE_CORE_SEQUENCE_H

#include <stddef.h>
#include <stdint.h>

struct shove_sequence_key;

/* Embedded in whatever the caller keeps per message. Zeroed before first use. */
struct shove_sequence_entry {
    struct shove_sequence_key *key; /* NULL: it has not entered, or has left */
    struct shove_sequence_entry *previous;
    struct shove_sequence_entry *next;
};

struct shove_sequence {
    struct shove_sequence_key *keys;
    size_t key_count;
    size_t waiting_count; /* entries whose turn it is not */
    uint64_t full_count; /* times a key became full; it is so until half of its entries have left */
};

enum shove_sequence_verdict {
    SHOVE_SEQUENCE_TURN,     /* nothing of its key is before it */
    SHOVE_SEQUENCE_WAITS,    /* its turn comes: shove_sequence_leave of the one before it says so */
    SHOVE_SEQUENCE_FULL,     /* `waiting_max` wait behind that key already; it has not entered */
    SHOVE_SEQUENCE_NO_MEMORY /* it has not entered */
};

/* `size` bytes of key, copied. Messages of a key enter in the order in which they are to be
 * handled. */
enum shove_sequence_verdict shove_sequence_enter(struct shove_sequence *sequence,
                                                 struct shove_sequence_entry *entry,
                                                 int32_t partition, const void *key, size_t size,
                                                 size_t waiting_max);

/* It is settled, or is not this group's to handle any more; whether its turn had come or not.
 * Returns the entry whose turn it is now by that; NULL: nobody's. */
struct shove_sequence_entry *shove_sequence_leave(struct shove_sequence *sequence,
                                                  struct shove_sequence_entry *entry);

/* Forgets all keys. Entries are not touched: they must not be used again. */
void shove_sequence_release(struct shove_sequence *sequence);

#endif
