/* ledger_keys.h: hashes of the keys that a restored, keyed text speaks of. Pure; for the ledger
 * alone (ledger.h, "Sequenced topics").
 *
 * A table with open addressing and linear probing (Knuth, The Art of Computer Programming, 6.4,
 * algorithm L), made once for as many keys as there can be; nothing is removed.
 */
#ifndef SHOVE_CORE_LEDGER_KEYS_H
#define SHOVE_CORE_LEDGER_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shove_ledger_keys;

/* For up to `count_max` keys. gives; NULL: no memory. */
struct shove_ledger_keys *shove_ledger_keys_new(size_t count_max);
void shove_ledger_keys_free(struct shove_ledger_keys *keys);

/* A hash is not 0. Adding one that is there changes nothing. */
void shove_ledger_keys_add(struct shove_ledger_keys *keys, uint64_t hash);
bool shove_ledger_keys_have(const struct shove_ledger_keys *keys, uint64_t hash);
bool shove_ledger_keys_are_none(const struct shove_ledger_keys *keys);

/* The message at `offset` was settled: the last of its key so far. Nothing if the key is not there.
 */
void shove_ledger_keys_settle(struct shove_ledger_keys *keys, uint64_t hash, int64_t offset);

/* The offsets told to shove_ledger_keys_settle, of each key the last, ascending. gives *offsets,
 * NULL if there are none. 0 or SHOVE_ENOMEM. */
int shove_ledger_keys_settled(const struct shove_ledger_keys *keys, int64_t **offsets,
                              size_t *count);
/* How many that would be. */
size_t shove_ledger_keys_settled_count(const struct shove_ledger_keys *keys);

#endif
