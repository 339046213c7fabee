/* ledger_keys.c: see ledger_keys.h. */
#include "core/ledger_keys.h"

#include <stdlib.h>

#include "base/error.h"

struct slot {
    uint64_t hash;   /* 0: free */
    int64_t settled; /* -1: nothing of it was */
};

struct shove_ledger_keys {
    size_t mask; /* slots are a power of two, half of them free at least */
    size_t count;
    size_t settled_count;
    struct slot slots[];
};

struct shove_ledger_keys *shove_ledger_keys_new(size_t count_max) {
    size_t size = 4;
    while (size < 2 * count_max)
        size *= 2;
    struct shove_ledger_keys *keys = calloc(1, sizeof *keys + size * sizeof keys->slots[0]);
    if (keys != NULL)
        keys->mask = size - 1;
    return keys;
}

void shove_ledger_keys_free(struct shove_ledger_keys *keys) {
    free(keys);
}

/* Where it is, or would be. */
static size_t find(const struct shove_ledger_keys *keys, uint64_t hash) {
    size_t at = (hash ^ hash >> 32) & keys->mask;
    while (keys->slots[at].hash != 0 && keys->slots[at].hash != hash)
        at = (at + 1) & keys->mask;
    return at;
}

void shove_ledger_keys_add(struct shove_ledger_keys *keys, uint64_t hash) {
    struct slot *slot = &keys->slots[find(keys, hash)];
    if (slot->hash != 0)
        return;
    *slot = (struct slot){.hash = hash, .settled = -1};
    keys->count++;
}

bool shove_ledger_keys_have(const struct shove_ledger_keys *keys, uint64_t hash) {
    return keys->slots[find(keys, hash)].hash != 0;
}

bool shove_ledger_keys_are_none(const struct shove_ledger_keys *keys) {
    return keys->count == 0;
}

void shove_ledger_keys_settle(struct shove_ledger_keys *keys, uint64_t hash, int64_t offset) {
    struct slot *slot = &keys->slots[find(keys, hash)];
    if (slot->hash == 0 || offset <= slot->settled)
        return;
    keys->settled_count += slot->settled < 0;
    slot->settled = offset;
}

size_t shove_ledger_keys_settled_count(const struct shove_ledger_keys *keys) {
    return keys->settled_count;
}

static int compare(const void *a, const void *b) {
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

int shove_ledger_keys_settled(const struct shove_ledger_keys *keys, int64_t **offsets,
                              size_t *count) {
    *offsets = NULL;
    *count = 0;
    if (keys->settled_count == 0)
        return 0;
    *offsets = malloc(keys->settled_count * sizeof **offsets);
    if (*offsets == NULL)
        return SHOVE_ENOMEM;
    for (size_t i = 0; i <= keys->mask; i++) {
        if (keys->slots[i].hash != 0 && keys->slots[i].settled >= 0)
            (*offsets)[(*count)++] = keys->slots[i].settled;
    }
    qsort(*offsets, *count, sizeof **offsets, compare);
    return 0;
}
