/* poison.c: see poison.h. Pure; control only. */
#include "core/poison.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct shove_poisoned_key {
    UT_hash_handle hh;
    int64_t offset;     /* of the message */
    int64_t at;         /* of the record that says so */
    int64_t cleared_at; /* is_unplaced: of the last record that clears it; -1: none was read */
    bool is_unplaced;   /* one that says so is somewhere, and has not been read for certain */
    char key[];
};

static struct shove_poisoned_key *find(const struct shove_poisoned_keys *poison, const void *key,
                                       size_t size) {
    struct shove_poisoned_key *found;
    HASH_FIND(hh, poison->keys, key, size, found);
    return found;
}

static void add_again(struct shove_poisoned_key *known, int64_t offset, int64_t at) {
    if (at > known->at) {
        known->at = at;
        known->offset = offset;
    } else if (at < 0 && offset < known->offset) {
        known->offset = offset;
    }
    known->is_unplaced |= at < 0;
}

// NOLINTNEXTLINE(readability-function-size): uthash's macro
int shove_poison_add(struct shove_poisoned_keys *poison, const void *key, size_t size,
                     int64_t offset, int64_t at) {
    struct shove_poisoned_key *known = find(poison, key, size);
    if (known != NULL) {
        add_again(known, offset, at);
        return 0;
    }
    struct shove_poisoned_key *added = malloc(sizeof *added + size);
    if (added == NULL)
        return SHOVE_ENOMEM;
    *added = (struct shove_poisoned_key){
        .offset = offset, .at = at, .cleared_at = -1, .is_unplaced = at < 0};
    if (size > 0)
        memcpy(added->key, key, size);
    HASH_ADD_KEYPTR(hh, poison->keys, added->key, size, added);
    if (added->hh.tbl == NULL) { /* no memory */
        free(added);
        return SHOVE_ENOMEM;
    }
    poison->count++;
    return 0;
}

static void drop(struct shove_poisoned_keys *poison, struct shove_poisoned_key *known) {
    HASH_DEL(poison->keys, known); // NOLINT(clang-analyzer-unix.Malloc): of the last key only
    free(known);
    poison->count--;
}

void shove_poison_clear(struct shove_poisoned_keys *poison, const void *key, size_t size,
                        int64_t at) {
    struct shove_poisoned_key *known = find(poison, key, size);
    if (known == NULL)
        return;
    if (known->is_unplaced)
        known->cleared_at = at > known->cleared_at ? at : known->cleared_at;
    else if (at > known->at)
        drop(poison, known);
}

void shove_poison_read_all(struct shove_poisoned_keys *poison) {
    struct shove_poisoned_key *known;
    struct shove_poisoned_key *next;
    HASH_ITER(hh, poison->keys, known, next) {
        if (known->is_unplaced && known->cleared_at > known->at)
            drop(poison, known);
        else
            known->is_unplaced = false;
    }
}

bool shove_poison_covers(const struct shove_poisoned_keys *poison, const void *key, size_t size,
                         int64_t offset) {
    const struct shove_poisoned_key *known = find(poison, key, size);
    return known != NULL && offset > known->offset;
}

void shove_poison_release(struct shove_poisoned_keys *poison) {
    struct shove_poisoned_key *known;
    struct shove_poisoned_key *next;
    HASH_ITER(hh, poison->keys, known, next) {
        drop(poison, known);
    }
    *poison = (struct shove_poisoned_keys){0};
}
