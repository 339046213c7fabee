/* sequence.c: see sequence.h. Pure; control only.
 *
 * A hash table of the keys that have messages (uthash), each with a list of its entries in the
 * order in which they entered: the turn is the first one's. A key is hashed with its partition
 * before it, so that the same key in two partitions is two keys.
 */
#include "core/sequence.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct shove_sequence_key {
    UT_hash_handle hh;
    struct shove_sequence_entry *first;
    struct shove_sequence_entry *last;
    size_t count;
    size_t half; /* of its entries when it became full; 0: it is not */
    char name[]; /* partition, key */
};

/* Keys up to here are looked up without an allocation. */
#define SHORT_NAME 256

static struct shove_sequence_key *find(const struct shove_sequence *sequence, const char *name,
                                       size_t name_size) {
    struct shove_sequence_key *key;
    HASH_FIND(hh, sequence->keys, name, name_size, key);
    return key;
}

// NOLINTNEXTLINE(readability-function-size): uthash's macro
static struct shove_sequence_key *add(struct shove_sequence *sequence, const char *name,
                                      size_t name_size) {
    struct shove_sequence_key *key = malloc(sizeof *key + name_size);
    if (key == NULL)
        return NULL;
    *key = (struct shove_sequence_key){0};
    memcpy(key->name, name, name_size);
    HASH_ADD_KEYPTR(hh, sequence->keys, key->name, name_size, key);
    if (key->hh.tbl == NULL) { /* no memory */
        free(key);
        return NULL;
    }
    sequence->key_count++;
    return key;
}

static enum shove_sequence_verdict enter_key(struct shove_sequence *sequence,
                                             struct shove_sequence_entry *entry, const char *name,
                                             size_t name_size, size_t waiting_max) {
    struct shove_sequence_key *key = find(sequence, name, name_size);
    if (key == NULL)
        key = add(sequence, name, name_size);
    if (key == NULL)
        return SHOVE_SEQUENCE_NO_MEMORY;
    if (key->count > waiting_max) {
        sequence->full_count += key->half == 0;
        key->half = key->count / 2 > 0 ? key->count / 2 : 1;
        return SHOVE_SEQUENCE_FULL;
    }
    *entry = (struct shove_sequence_entry){.key = key, .previous = key->last};
    if (key->last != NULL)
        key->last->next = entry;
    else
        key->first = entry;
    key->last = entry;
    key->count++;
    sequence->waiting_count += key->first != entry;
    return key->first == entry ? SHOVE_SEQUENCE_TURN : SHOVE_SEQUENCE_WAITS;
}

enum shove_sequence_verdict shove_sequence_enter(struct shove_sequence *sequence,
                                                 struct shove_sequence_entry *entry,
                                                 int32_t partition, const void *key, size_t size,
                                                 size_t waiting_max) {
    char buffer[SHORT_NAME];
    const size_t name_size = sizeof partition + size;
    char *name = name_size <= sizeof buffer ? buffer : malloc(name_size);
    if (name == NULL)
        return SHOVE_SEQUENCE_NO_MEMORY;
    memcpy(name, &partition, sizeof partition);
    if (size > 0)
        memcpy(name + sizeof partition, key, size);
    enum shove_sequence_verdict verdict = enter_key(sequence, entry, name, name_size, waiting_max);
    if (name != buffer)
        free(name);
    return verdict;
}

static void drop(struct shove_sequence *sequence, struct shove_sequence_key *key) {
    HASH_DEL(sequence->keys, key); // NOLINT(clang-analyzer-unix.Malloc): of the last key only
    free(key);
    sequence->key_count--;
}

struct shove_sequence_entry *shove_sequence_leave(struct shove_sequence *sequence,
                                                  struct shove_sequence_entry *entry) {
    struct shove_sequence_key *key = entry->key;
    const bool had_turn = key->first == entry;
    if (entry->previous != NULL)
        entry->previous->next = entry->next;
    else
        key->first = entry->next;
    if (entry->next != NULL)
        entry->next->previous = entry->previous;
    else
        key->last = entry->previous;
    key->count--;
    if (key->count <= key->half)
        key->half = 0;
    *entry = (struct shove_sequence_entry){0};
    struct shove_sequence_entry *turn = key->first;
    if (!had_turn || turn != NULL)
        sequence->waiting_count--;
    if (turn == NULL)
        drop(sequence, key);
    return had_turn ? turn : NULL;
}

void shove_sequence_release(struct shove_sequence *sequence) {
    struct shove_sequence_key *key;
    struct shove_sequence_key *next;
    HASH_ITER(hh, sequence->keys, key, next) {
        drop(sequence, key);
    }
    *sequence = (struct shove_sequence){0};
}
