/* ledger_codec.h: the reading half of the metadata codec, for ledger.c alone. The writing half is
 * shove_ledger_metadata.
 */
#ifndef SHOVE_CORE_LEDGER_CODEC_H
#define SHOVE_CORE_LEDGER_CODEC_H

#include "core/ledger.h"

/* Reads what was committed with `frontier`. gives *marks (ascending, never empty). 0,
 * SHOVE_ECORRUPT or SHOVE_ENOMEM. */
int shove_ledger_decode(const char *text, size_t text_size, int64_t frontier,
                        struct shove_ledger_mark **marks, size_t *mark_count, int64_t *speaks_to,
                        struct shove_error *error);

#endif
