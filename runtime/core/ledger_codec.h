/* ledger_codec.h: the reading half of the metadata codec, and what both halves know of the ledger;
 * for ledger.c alone. The writing half is shove_ledger_metadata.
 */
#ifndef SHOVE_CORE_LEDGER_CODEC_H
#define SHOVE_CORE_LEDGER_CODEC_H

#include "core/ledger.h"

struct shove_ledger_text {
    struct shove_ledger_mark *marks; /* ascending, never empty; owned by whoever decoded it */
    size_t mark_count;
    int64_t speaks_to;
    bool is_keyed;
};

/* Restored offsets that count as open, or as the last of their key, until they come by. */
static inline size_t shove_ledger_marks_left(const struct shove_ledger *ledger) {
    return ledger->next_offset < ledger->speaks_to ? ledger->mark_count - ledger->mark_next : 0;
}

/* Reads what was committed with `frontier`. gives out->marks. 0, SHOVE_ECORRUPT or SHOVE_ENOMEM. */
int shove_ledger_decode(const char *text, size_t text_size, int64_t frontier,
                        struct shove_ledger_text *out, struct shove_error *error);

#endif
