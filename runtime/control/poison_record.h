/* poison_record.h: what is kept of a poisoned key. Control and cli.
 *
 * A record of the poison topic has the key of the messages as its key, and lies in the partition
 * that has the number of theirs. Its payload says which message poisoned the key; a null payload
 * clears it. The latest record of a key is what counts, so the topic may be compacted.
 */
#ifndef SHOVE_CONTROL_POISON_RECORD_H
#define SHOVE_CONTROL_POISON_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "core/outcome.h"

struct shove_buffer;
struct shove_record;

struct shove_poison_record {
    int64_t offset;           /* of the message; those behind it are dead letters */
    enum shove_reason reason; /* why it died; NONE: not known to this version */
    int64_t poisoned_ms;      /* wall; -1: not known */
};

/* Appends the payload: {"offset":7,"reason":"rejected","poisoned_at":1700000000000}. */
void shove_poison_record_write(const struct shove_poison_record *record,
                               struct shove_buffer *payload);

enum shove_poison_word {
    SHOVE_POISON_SET,
    SHOVE_POISON_CLEARED,
    SHOVE_POISON_STRANGE /* not written by shove: it says nothing */
};

/* What a record of the poison topic says of its key; fills `out` when it is SET. */
enum shove_poison_word shove_poison_record_read(const struct shove_record *record,
                                                struct shove_poison_record *out);

#endif
