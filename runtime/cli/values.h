/* values.h: the texts a person gives for durations, sizes, times and numbers. Cli. Pure.
 *
 * The same forms as in app.lua: "500ms", "5s", "5m", "1h" or seconds; "10MiB" or bytes.
 */
#ifndef SHOVE_CLI_VALUES_H
#define SHOVE_CLI_VALUES_H

#include <stdint.h>

#include "base/error.h"

/* All return 0, or SHOVE_EUSAGE with a sentence that quotes the text and says what is allowed; the
 * caller puts the option's name in front. */
int shove_value_duration(const char *text, int64_t *out_ms, struct shove_error *error);
int shove_value_size(const char *text, int64_t *out_bytes, struct shove_error *error);
int shove_value_number(const char *text, int64_t least, int64_t most, int64_t *out,
                       struct shove_error *error);

/* A moment: RFC 3339 ("2026-01-31T12:00:00Z", "...+02:00", fractions; a date alone is its midnight,
 * UTC), or a duration, which is that long before now_ms. Wall clock, milliseconds since 1970. */
int shove_value_moment(const char *text, int64_t now_ms, int64_t *out_ms,
                       struct shove_error *error);

#endif
