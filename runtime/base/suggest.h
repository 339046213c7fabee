/* suggest.h: "did you mean". Any process. Pure. */
#ifndef SHOVE_BASE_SUGGEST_H
#define SHOVE_BASE_SUGGEST_H

#include <stddef.h>

/* The candidate nearest to `word` (edits, neighbours swapped count once), or NULL when none is near
 * enough to be what was meant. Borrows from `candidates`; NULL entries are skipped. */
const char *shove_suggest(const char *word, const char *const *candidates, size_t count);

#endif
