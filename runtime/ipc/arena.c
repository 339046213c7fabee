/* arena.c: slabs, size classes and runs of slabs behind arena.h. Control only.
 *
 * Every slab is in one of three states: free (a member of `free_slabs`), serving a class, or part
 * of a run. A slab of a class keeps a bit per block (set: free) and is a member of that class's
 * `with_room` set while it has a free block; when its last block comes back it turns free again, so
 * a burst of one size leaves nothing behind. Both sets yield their lowest member, which keeps what
 * is in use at the bottom of the segment.
 *
 * Classes are multiples of 64 bytes so that every block is aligned to a cache line: 64, 128, 192,
 * 256, then four per doubling up to 32 KiB.
 *
 * Giving back what was not taken means that control's books are wrong, and a message may already
 * have been overwritten. The process stops: every message is still where it came from, and a
 * restart loses nothing, which cannot be said of going on.
 */
#include "ipc/arena.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"
#include "ipc/slab_set.h"

#define GRAIN_BYTES 64u
#define CLASS_COUNT 32u
#define CLASS_BYTES_MAX 32768u
#define BLOCKS_PER_SLAB_MAX (SHOVE_ARENA_SLAB_BYTES / GRAIN_BYTES)
#define BIT_WORDS (BLOCKS_PER_SLAB_MAX / 64)

enum slab_state { SLAB_FREE, SLAB_CLASS, SLAB_RUN_FIRST, SLAB_RUN_REST };

struct slab {
    uint8_t state;
    uint8_t size_class;   /* of SLAB_CLASS */
    uint16_t used_blocks; /* of SLAB_CLASS */
    uint32_t run_length;  /* of SLAB_RUN_FIRST, slabs */
};

struct shove_arena {
    struct slab *slabs;
    uint64_t (*free_blocks)[BIT_WORDS]; /* of slab i, meaningful while it serves a class */
    uint32_t slab_count;
    struct shove_slab_set free_slabs;
    struct shove_slab_set with_room[CLASS_COUNT];
    uint64_t *set_storage;
    size_t used_bytes;
    size_t block_count;
};

static uint32_t class_of(size_t size_bytes) {
    uint32_t grains =
        size_bytes == 0 ? 1 : (uint32_t)((size_bytes + GRAIN_BYTES - 1) / GRAIN_BYTES);
    if (grains <= 4) {
        return grains - 1;
    }
    uint32_t doubling = 31 - (uint32_t)__builtin_clz(grains - 1); /* 2 for 5..8, 3 for 9..16 */
    uint32_t quarter = (grains - 1) >> (doubling - 2);            /* 4..7 */
    return (doubling - 2) * 4 + quarter;
}

static uint32_t class_bytes(uint32_t size_class) {
    if (size_class < 4) {
        return (size_class + 1) * GRAIN_BYTES;
    }
    uint32_t shift = (size_class / 4 - 1) & 15; /* 0 to 9; the mask tells analysers so */
    return ((size_class % 4 + 5) << shift) * GRAIN_BYTES;
}

struct shove_arena *shove_arena_new(size_t size_bytes) {
    size_t slab_count = size_bytes / SHOVE_ARENA_SLAB_BYTES;
    if (slab_count == 0) {
        slab_count = 1;
    }
    if (slab_count >= SHOVE_SLAB_SET_NONE) {
        return NULL;
    }
    struct shove_arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL) {
        return NULL;
    }
    arena->slab_count = (uint32_t)slab_count;
    size_t set_words = shove_slab_set_words(arena->slab_count);
    arena->slabs = calloc(slab_count, sizeof *arena->slabs);
    arena->free_blocks = calloc(slab_count, sizeof *arena->free_blocks);
    arena->set_storage = calloc(set_words * (CLASS_COUNT + 1), sizeof *arena->set_storage);
    if (arena->slabs == NULL || arena->free_blocks == NULL || arena->set_storage == NULL) {
        shove_arena_free(arena);
        return NULL;
    }
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        shove_slab_set_init(&arena->with_room[i], arena->set_storage + i * set_words,
                            arena->slab_count);
    }
    shove_slab_set_init(&arena->free_slabs, arena->set_storage + CLASS_COUNT * set_words,
                        arena->slab_count);
    for (uint32_t i = 0; i < arena->slab_count; i++) {
        shove_slab_set_add(&arena->free_slabs, i);
    }
    return arena;
}

void shove_arena_free(struct shove_arena *arena) {
    if (arena == NULL) {
        return;
    }
    free(arena->slabs);
    free(arena->free_blocks);
    free(arena->set_storage);
    free(arena);
}

static void open_slab(struct shove_arena *arena, uint32_t index, uint32_t size_class) {
    struct slab *slab = &arena->slabs[index];
    slab->state = SLAB_CLASS;
    slab->size_class = (uint8_t)size_class;
    slab->used_blocks = 0;
    uint32_t blocks = SHOVE_ARENA_SLAB_BYTES / class_bytes(size_class);
    uint64_t *bits = arena->free_blocks[index];
    for (uint32_t word = 0; word < BIT_WORDS; word++) {
        uint32_t first = word * 64;
        if (blocks >= first + 64) {
            bits[word] = UINT64_MAX;
        } else {
            bits[word] = blocks > first ? (UINT64_C(1) << (blocks - first)) - 1 : 0;
        }
    }
    shove_slab_set_remove(&arena->free_slabs, index);
    shove_slab_set_add(&arena->with_room[size_class], index);
}

static uint64_t take_block(struct shove_arena *arena, uint32_t size_class) {
    uint32_t index = shove_slab_set_lowest(&arena->with_room[size_class]);
    if (index == SHOVE_SLAB_SET_NONE) {
        index = shove_slab_set_lowest(&arena->free_slabs);
        if (index == SHOVE_SLAB_SET_NONE) {
            return SHOVE_ARENA_NONE;
        }
        open_slab(arena, index, size_class);
    }
    uint64_t *bits = arena->free_blocks[index];
    uint32_t word = 0;
    while (bits[word] == 0) {
        word++;
    }
    uint32_t block = word * 64 + (uint32_t)__builtin_ctzll(bits[word]);
    bits[word] &= bits[word] - 1;

    struct slab *slab = &arena->slabs[index];
    uint32_t size = class_bytes(size_class);
    slab->used_blocks++;
    if (slab->used_blocks == SHOVE_ARENA_SLAB_BYTES / size) {
        shove_slab_set_remove(&arena->with_room[size_class], index);
    }
    arena->used_bytes += size;
    arena->block_count++;
    return (uint64_t)index * SHOVE_ARENA_SLAB_BYTES + (uint64_t)block * size;
}

/* The lowest index at which `length` free slabs follow each other. */
static uint32_t find_run(const struct shove_arena *arena, uint32_t length) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < arena->slab_count; i++) {
        if (i % 64 == 0 && arena->free_slabs.words[i / 64] == 0) {
            found = 0;
            i += 63;
            continue;
        }
        found = shove_slab_set_has(&arena->free_slabs, i) ? found + 1 : 0;
        if (found == length) {
            return i + 1 - length;
        }
    }
    return SHOVE_SLAB_SET_NONE;
}

static uint64_t take_run(struct shove_arena *arena, size_t size_bytes) {
    if (size_bytes > (size_t)arena->slab_count * SHOVE_ARENA_SLAB_BYTES) {
        return SHOVE_ARENA_NONE;
    }
    uint32_t length =
        (uint32_t)((size_bytes + SHOVE_ARENA_SLAB_BYTES - 1) / SHOVE_ARENA_SLAB_BYTES);
    uint32_t first = find_run(arena, length);
    if (first == SHOVE_SLAB_SET_NONE) {
        return SHOVE_ARENA_NONE;
    }
    for (uint32_t i = first; i < first + length; i++) {
        arena->slabs[i].state = i == first ? SLAB_RUN_FIRST : SLAB_RUN_REST;
        shove_slab_set_remove(&arena->free_slabs, i);
    }
    arena->slabs[first].run_length = length;
    arena->used_bytes += (size_t)length * SHOVE_ARENA_SLAB_BYTES;
    arena->block_count++;
    return (uint64_t)first * SHOVE_ARENA_SLAB_BYTES;
}

uint64_t shove_arena_take(struct shove_arena *arena, size_t size_bytes) {
    if (size_bytes > CLASS_BYTES_MAX) {
        return take_run(arena, size_bytes);
    }
    return take_block(arena, class_of(size_bytes));
}

static void give_block(struct shove_arena *arena, uint32_t index, uint32_t block) {
    struct slab *slab = &arena->slabs[index];
    arena->free_blocks[index][block / 64] |= UINT64_C(1) << (block % 64);
    slab->used_blocks--;
    arena->used_bytes -= class_bytes(slab->size_class);
    arena->block_count--;
    if (slab->used_blocks == 0) {
        slab->state = SLAB_FREE;
        shove_slab_set_remove(&arena->with_room[slab->size_class], index);
        shove_slab_set_add(&arena->free_slabs, index);
    } else {
        shove_slab_set_add(&arena->with_room[slab->size_class], index);
    }
}

static void give_run(struct shove_arena *arena, uint32_t first) {
    uint32_t length = arena->slabs[first].run_length;
    for (uint32_t i = first; i < first + length; i++) {
        arena->slabs[i].state = SLAB_FREE;
        shove_slab_set_add(&arena->free_slabs, i);
    }
    arena->used_bytes -= (size_t)length * SHOVE_ARENA_SLAB_BYTES;
    arena->block_count--;
}

static bool is_block_taken(const struct shove_arena *arena, uint32_t index, uint32_t within) {
    uint32_t size = class_bytes(arena->slabs[index].size_class);
    uint32_t block = within / size;
    return within % size == 0 && block < SHOVE_ARENA_SLAB_BYTES / size &&
           ((arena->free_blocks[index][block / 64] >> (block % 64)) & 1) == 0;
}

void shove_arena_give(struct shove_arena *arena, uint64_t offset) {
    uint64_t index = offset / SHOVE_ARENA_SLAB_BYTES;
    uint32_t within = (uint32_t)(offset % SHOVE_ARENA_SLAB_BYTES);
    if (index < arena->slab_count) {
        const struct slab *slab = &arena->slabs[index];
        if (slab->state == SLAB_CLASS && is_block_taken(arena, (uint32_t)index, within)) {
            give_block(arena, (uint32_t)index, within / class_bytes(slab->size_class));
            return;
        }
        if (slab->state == SLAB_RUN_FIRST && within == 0) {
            give_run(arena, (uint32_t)index);
            return;
        }
    }
    shove_log(SHOVE_LOG_ERROR,
              "arena: offset %" PRIu64
              " was given back but is not taken; stopping before a message "
              "is overwritten",
              offset);
    abort();
}

size_t shove_arena_used_bytes(const struct shove_arena *arena) {
    return arena->used_bytes;
}

size_t shove_arena_block_count(const struct shove_arena *arena) {
    return arena->block_count;
}
