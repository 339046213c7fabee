/* slab_set.h: a set of small numbers that finds its lowest member at once. Private to arena.c.
 *
 * Two levels of bits: a word of `summary` says which of 64 `words` have a member, so the lowest of
 * a million members is found by looking at a handful of words, and inserting and removing are O(1).
 */
#ifndef SHOVE_IPC_SLAB_SET_H
#define SHOVE_IPC_SLAB_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHOVE_SLAB_SET_NONE UINT32_MAX

struct shove_slab_set {
    uint64_t *words;
    uint64_t *summary;
    uint32_t word_count;
    uint32_t summary_count;
};

/* Words of 64 bits that a set of `member_count` possible members needs, both levels together. */
static inline size_t shove_slab_set_words(uint32_t member_count) {
    size_t words = ((size_t)member_count + 63) / 64;
    return words + (words + 63) / 64;
}

/* `storage` (borrowed, zeroed) holds shove_slab_set_words(member_count) words. */
static inline void shove_slab_set_init(struct shove_slab_set *set, uint64_t *storage,
                                       uint32_t member_count) {
    set->word_count = (member_count + 63) / 64;
    set->summary_count = (set->word_count + 63) / 64;
    set->words = storage;
    set->summary = storage + set->word_count;
}

static inline bool shove_slab_set_has(const struct shove_slab_set *set, uint32_t member) {
    return (set->words[member / 64] >> (member % 64)) & 1;
}

static inline void shove_slab_set_add(struct shove_slab_set *set, uint32_t member) {
    uint32_t word = member / 64;
    set->words[word] |= UINT64_C(1) << (member % 64);
    set->summary[word / 64] |= UINT64_C(1) << (word % 64);
}

static inline void shove_slab_set_remove(struct shove_slab_set *set, uint32_t member) {
    uint32_t word = member / 64;
    set->words[word] &= ~(UINT64_C(1) << (member % 64));
    if (set->words[word] == 0) {
        set->summary[word / 64] &= ~(UINT64_C(1) << (word % 64));
    }
}

static inline uint32_t shove_slab_set_lowest(const struct shove_slab_set *set) {
    for (uint32_t i = 0; i < set->summary_count; i++) {
        if (set->summary[i] != 0) {
            uint32_t word = i * 64 + (uint32_t)__builtin_ctzll(set->summary[i]);
            return word * 64 + (uint32_t)__builtin_ctzll(set->words[word]);
        }
    }
    return SHOVE_SLAB_SET_NONE;
}

#endif
