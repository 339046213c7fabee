/* due_heap.c: see due_heap.h. Each entry is due no later than its children, which are a list. */
#include "core/due_heap.h"

#include <stddef.h>

static bool is_before(const struct shove_due_entry *a, const struct shove_due_entry *b) {
    return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->number < b->number);
}

/* Two heaps, neither of which has a next. */
static struct shove_due_entry *meld(struct shove_due_entry *a, struct shove_due_entry *b) {
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    struct shove_due_entry *first = is_before(a, b) ? a : b;
    struct shove_due_entry *second = first == a ? b : a;
    second->next = first->child;
    first->child = second;
    return first;
}

static struct shove_due_entry *take(struct shove_due_entry **list) {
    struct shove_due_entry *entry = *list;
    if (entry != NULL) {
        *list = entry->next;
        entry->next = NULL;
    }
    return entry;
}

static void put(struct shove_due_entry **list, struct shove_due_entry *entry) {
    entry->next = *list;
    *list = entry;
}

/* One heap of many: in pairs on the way there, all of them on the way back. */
static struct shove_due_entry *meld_all(struct shove_due_entry *list) {
    struct shove_due_entry *pairs = NULL;
    struct shove_due_entry *all = NULL;
    while (list != NULL) {
        struct shove_due_entry *one = take(&list);
        put(&pairs, meld(one, take(&list)));
    }
    while (pairs != NULL)
        all = meld(all, take(&pairs));
    return all;
}

void shove_due_heap_insert(struct shove_due_heap *heap, struct shove_due_entry *entry,
                           int64_t due_ms) {
    *entry = (struct shove_due_entry){.due_ms = due_ms, .number = heap->inserted++};
    heap->first = meld(heap->first, entry);
}

struct shove_due_entry *shove_due_heap_pop(struct shove_due_heap *heap) {
    struct shove_due_entry *first = heap->first;
    if (first == NULL)
        return NULL;
    heap->first = meld_all(first->child);
    first->child = NULL;
    return first;
}

void shove_due_heap_filter(struct shove_due_heap *heap,
                           bool (*leaves)(void *ctx, struct shove_due_entry *entry), void *ctx) {
    struct shove_due_entry *rest = heap->first;
    heap->first = NULL;
    while (rest != NULL) {
        struct shove_due_entry *entry = take(&rest);
        while (entry->child != NULL)
            put(&rest, take(&entry->child));
        if (!leaves(ctx, entry))
            heap->first = meld(heap->first, entry);
    }
}
