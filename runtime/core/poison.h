/* poison.h: the keys of one partition that are poisoned.
 *
 * Control, one per assigned partition of a fail_all topic. Pure: no clock, no I/O. What is known
 * comes from the records of the poison topic, in their order or twice: of each key the one with
 * the highest offset counts. Bytes of keys are compared exactly.
 */
#ifndef SHOVE_CORE_POISON_H
#define SHOVE_CORE_POISON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shove_poisoned_key;

struct shove_poisoned_keys { /* zeroed: nothing is */
    struct shove_poisoned_key *keys;
    size_t count;
};

/* A record at `at` says that the message at `offset` poisoned the key. `at` negative: at a place
 * that is not known, so that both that record and what is known of the key count, whatever clears
 * it, until all records were read. 0, or SHOVE_ENOMEM. */
int shove_poison_add(struct shove_poisoned_keys *poison, const void *key, size_t size,
                     int64_t offset, int64_t at);

/* A record at `at` clears the key. */
void shove_poison_clear(struct shove_poisoned_keys *poison, const void *key, size_t size,
                        int64_t at);

/* All records were given, from the oldest to one behind all of an unknown place. */
void shove_poison_read_all(struct shove_poisoned_keys *poison);

/* Whether the message of that key at `offset` follows the one that poisoned it. */
bool shove_poison_covers(const struct shove_poisoned_keys *poison, const void *key, size_t size,
                         int64_t offset);

void shove_poison_release(struct shove_poisoned_keys *poison);

#endif
