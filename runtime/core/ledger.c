/* ledger.c: what is open, and therefore where the frontier stands. Control, one per claim. Pure.
 *
 * Invariants
 *   - the open list ascends, and all of it lies below next_offset;
 *   - marks[mark_next ..] ascend, and all of them lie in [next_offset, speaks_to), unless one of a
 *     keyed text was passed: then speaks_to lies before them, and they are marks no more;
 *   - together, in this order, they are all that is unfinished below known_end.
 *
 * So the frontier is the first open entry, else the first remaining mark, else known_end; while
 * there are keys, keyed_frontier: what is open beyond next_offset is not all in the marks then.
 * Delivering an offset passes every mark below it: a partition is read in order, and what did not
 * come by does not exist any more. Nothing moves the frontier back, because an entry is opened at
 * or past next_offset, and where that is below speaks_to it takes the place of its mark; clip can,
 * and is for the time before the first commit only; rewind does, when the log itself went back.
 *
 * The metadata codec is in ledger_codec.c.
 */
#include "core/ledger.h"

#include <stdlib.h>

#include "core/ledger_codec.h"
#include "core/ledger_keys.h"

void shove_ledger_init(struct shove_ledger *ledger, int64_t start_offset) {
    *ledger = (struct shove_ledger){.next_offset = start_offset, .speaks_to = start_offset};
}

static void drop_keys(struct shove_ledger *ledger) {
    shove_ledger_keys_free(ledger->keys);
    ledger->keys = NULL;
}

/* They have nothing more to say when all they speak of was delivered, or there are none. */
static void drop_passed_keys(struct shove_ledger *ledger) {
    if (ledger->keys == NULL)
        return;
    if (ledger->next_offset >= ledger->speaks_to ||
        (ledger->mark_next == ledger->mark_count && shove_ledger_keys_are_none(ledger->keys)))
        drop_keys(ledger);
}

void shove_ledger_release(struct shove_ledger *ledger) {
    drop_keys(ledger);
    free(ledger->marks);
    *ledger = (struct shove_ledger){0};
}

int shove_ledger_restore(struct shove_ledger *ledger, const char *text, size_t text_size,
                         struct shove_error *error) {
    if (text == NULL || text_size == 0)
        return 0;
    if (ledger->first != NULL || ledger->marks != NULL || ledger->speaks_to != ledger->next_offset)
        return shove_error_set(error, SHOVE_EINVAL,
                               "a ledger is restored once, before anything is delivered");
    struct shove_ledger_text read;
    int rc = shove_ledger_decode(text, text_size, ledger->next_offset, &read, error);
    if (rc < 0)
        return rc;
    if (read.is_keyed) {
        ledger->keys = shove_ledger_keys_new(read.mark_count);
        if (ledger->keys == NULL) {
            free(read.marks);
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory for %zu keys",
                                   read.mark_count);
        }
        ledger->keyed_frontier = ledger->next_offset;
    }
    ledger->marks = read.marks;
    ledger->mark_count = read.mark_count;
    ledger->mark_next = 0;
    ledger->speaks_to = read.speaks_to;
    return 0;
}

void shove_ledger_clip(struct shove_ledger *ledger, int64_t log_end) {
    int64_t end = log_end > ledger->next_offset ? log_end : ledger->next_offset;
    if (end >= ledger->speaks_to)
        return;
    ledger->speaks_to = end;
    while (ledger->mark_count > ledger->mark_next &&
           ledger->marks[ledger->mark_count - 1].offset >= end)
        ledger->mark_count--;
    drop_passed_keys(ledger);
}

static void link_last(struct shove_ledger *ledger, struct shove_ledger_entry *entry) {
    entry->previous = ledger->last;
    entry->next = NULL;
    if (ledger->last != NULL)
        ledger->last->next = entry;
    else
        ledger->first = entry;
    ledger->last = entry;
    entry->is_open = true;
    ledger->open_count++;
}

static void unlink_entry(struct shove_ledger *ledger, struct shove_ledger_entry *entry) {
    if (entry->previous != NULL)
        entry->previous->next = entry->next;
    else
        ledger->first = entry->next;
    if (entry->next != NULL)
        entry->next->previous = entry->previous;
    else
        ledger->last = entry->previous;
    entry->previous = NULL;
    entry->next = NULL;
    entry->is_open = false;
    ledger->open_count--;
}

/* What followed under the key of a mark that is gone is open, and nobody knows which that is. */
static void lose_key(struct shove_ledger *ledger, int64_t offset) {
    drop_keys(ledger);
    ledger->speaks_to = offset;
}

/* The mark at exactly `offset`, consumed; NULL when there is none. Marks below it are passed:
 * their records are gone. */
static const struct shove_ledger_mark *take_mark(struct shove_ledger *ledger, int64_t offset) {
    while (ledger->mark_next < ledger->mark_count &&
           ledger->marks[ledger->mark_next].offset < offset) {
        if (ledger->keys != NULL)
            lose_key(ledger, offset);
        ledger->mark_next++;
    }
    if (ledger->mark_next == ledger->mark_count ||
        ledger->marks[ledger->mark_next].offset != offset)
        return NULL;
    return &ledger->marks[ledger->mark_next++];
}

/* Whether it is open, as far as what was restored speaks of it. */
static bool is_listed(struct shove_ledger *ledger, const struct shove_ledger_mark *mark,
                      int64_t offset, uint64_t key_hash) {
    if (ledger->keys == NULL || key_hash == 0)
        return mark != NULL;
    if (mark == NULL)
        return shove_ledger_keys_have(ledger->keys, key_hash);
    shove_ledger_keys_add(ledger->keys, key_hash);
    if (mark->is_settled)
        shove_ledger_keys_settle(ledger->keys, key_hash, offset);
    return !mark->is_settled;
}

enum shove_ledger_verdict shove_ledger_deliver(struct shove_ledger *ledger,
                                               struct shove_ledger_entry *entry, int64_t offset,
                                               uint64_t key_hash) {
    if (offset < ledger->next_offset)
        return SHOVE_LEDGER_REWOUND;
    if (ledger->next_offset == ledger->keyed_frontier) /* below are none any more */
        ledger->keyed_frontier = offset;
    const struct shove_ledger_mark *mark = take_mark(ledger, offset);
    const bool is_open = is_listed(ledger, mark, offset, key_hash);
    const bool is_old = offset < ledger->speaks_to;
    ledger->next_offset = offset + 1;
    if (is_old && !is_open) {
        drop_passed_keys(ledger);
        return SHOVE_LEDGER_FINISHED;
    }
    entry->offset = offset;
    entry->key_hash = key_hash;
    entry->attempts = mark != NULL ? mark->attempts : 0;
    entry->crashes = mark != NULL ? mark->crashes : 0;
    entry->due_ms = mark != NULL ? mark->due_ms : 0;
    entry->was_open = mark != NULL;
    link_last(ledger, entry);
    drop_passed_keys(ledger);
    return SHOVE_LEDGER_OPENED;
}

bool shove_ledger_close(struct shove_ledger *ledger, struct shove_ledger_entry *entry) {
    if (!entry->is_open)
        return false;
    if (ledger->keys != NULL && entry->key_hash != 0)
        shove_ledger_keys_settle(ledger->keys, entry->key_hash, entry->offset);
    const bool moves_frontier = ledger->first == entry && ledger->keys == NULL;
    unlink_entry(ledger, entry);
    return moves_frontier;
}

void shove_ledger_abandon(struct shove_ledger *ledger,
                          void (*forget)(void *ctx, struct shove_ledger_entry *entry), void *ctx) {
    /* With its open entries gone the frontier would jump past them: a commit made by mistake
     * after the end of the epoch must not lose what they stood for. */
    int64_t frontier = shove_ledger_frontier(ledger);
    drop_keys(ledger);
    ledger->next_offset = frontier;
    ledger->speaks_to = frontier;
    ledger->mark_count = 0;
    ledger->mark_next = 0;
    while (ledger->first != NULL) {
        struct shove_ledger_entry *entry = ledger->first;
        unlink_entry(ledger, entry);
        if (forget != NULL)
            forget(ctx, entry);
    }
}

void shove_ledger_rewind(struct shove_ledger *ledger, int64_t offset,
                         void (*forget)(void *ctx, struct shove_ledger_entry *entry), void *ctx) {
    drop_keys(ledger);
    ledger->next_offset = offset;
    ledger->speaks_to = offset;
    ledger->mark_count = 0;
    ledger->mark_next = 0;
    while (ledger->last != NULL && ledger->last->offset >= offset) {
        struct shove_ledger_entry *entry = ledger->last;
        unlink_entry(ledger, entry);
        if (forget != NULL)
            forget(ctx, entry);
    }
}

int64_t shove_ledger_known_end(const struct shove_ledger *ledger) {
    return ledger->next_offset > ledger->speaks_to ? ledger->next_offset : ledger->speaks_to;
}

int64_t shove_ledger_frontier(const struct shove_ledger *ledger) {
    if (ledger->keys != NULL)
        return ledger->keyed_frontier;
    if (ledger->first != NULL)
        return ledger->first->offset;
    if (shove_ledger_marks_left(ledger) > 0)
        return ledger->marks[ledger->mark_next].offset;
    return shove_ledger_known_end(ledger);
}

int64_t shove_ledger_finished_beyond(const struct shove_ledger *ledger) {
    size_t unfinished = ledger->open_count + shove_ledger_marks_left(ledger);
    return shove_ledger_known_end(ledger) - shove_ledger_frontier(ledger) - (int64_t)unfinished;
}

uint64_t shove_ledger_hash(const void *key, size_t size) {
    const uint8_t *bytes = key;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash != 0 ? hash : 1;
}
