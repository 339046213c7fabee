/* due_heap.h: what waits, each for its own time: the first that is due is at hand. Pure.
 *
 * A pairing heap (Fredman, Sedgewick, Sleator, Tarjan, "The Pairing Heap", 1986). Its links are in
 * what waits, so nothing is allocated and an insertion cannot fail, which it could in an array.
 * Inserting takes the same few steps whatever waits, in whatever order it comes; taking the first
 * out takes O(log n), amortised. Of those due at the same time the one inserted first comes first.
 */
#ifndef SHOVE_CORE_DUE_HEAP_H
#define SHOVE_CORE_DUE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

/* Embedded in what waits; in one heap at a time. */
struct shove_due_entry {
    int64_t due_ms;
    uint64_t number; /* of its insertion */
    struct shove_due_entry *child;
    struct shove_due_entry *next; /* child of the same parent */
};

struct shove_due_heap {            /* empty when zero */
    struct shove_due_entry *first; /* NULL: none */
    uint64_t inserted;             /* so many ever were */
};

void shove_due_heap_insert(struct shove_due_heap *heap, struct shove_due_entry *entry,
                           int64_t due_ms);

/* Takes the first out. NULL: there is none. */
struct shove_due_entry *shove_due_heap_pop(struct shove_due_heap *heap);

/* Takes out all for which `leaves` is true; it may free them. O(n). */
void shove_due_heap_filter(struct shove_due_heap *heap,
                           bool (*leaves)(void *ctx, struct shove_due_entry *entry), void *ctx);

#endif
