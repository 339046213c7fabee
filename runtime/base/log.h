/* log.h: one line per event on standard error, readable on a terminal, plain or JSON elsewhere.
 *
 * Any process, main thread or not (one write(2) per line, so lines of several processes do not
 * mix). Never called per message on the hot path. Fields are given as alternating name, value
 * pairs, values already text; NULL ends the list.
 */
#ifndef SHOVE_BASE_LOG_H
#define SHOVE_BASE_LOG_H

#include <stdbool.h>

enum shove_log_level { SHOVE_LOG_DEBUG, SHOVE_LOG_INFO, SHOVE_LOG_WARN, SHOVE_LOG_ERROR };
enum shove_log_format { SHOVE_LOG_AUTO, SHOVE_LOG_PLAIN, SHOVE_LOG_JSON };

/* Chooses format and threshold once, before threads start. AUTO: colours when stderr is a
 * terminal and NO_COLOR is not set, plain otherwise. `source` (borrowed, static: "control",
 * "worker 2") is shown on each line; may be NULL. */
void shove_log_setup(enum shove_log_format format, enum shove_log_level threshold,
                     const char *source);

/* What to pass to a child so that it logs alike: "auto", "plain", "json". */
const char *shove_log_format_name(void);
int shove_log_format_parse(const char *name, enum shove_log_format *out);
bool shove_log_is_on(enum shove_log_level level);

/* One line. `message` is a whole sentence without a full stop. Control bytes in any text are
 * escaped. Long values are cut (a line is at most 8 KiB). */
void shove_log_fields(enum shove_log_level level, const char *message, ...)
    __attribute__((sentinel));

/* Same, with `count` names and values in arrays (the Lua binding's form). */
void shove_log_pairs(enum shove_log_level level, const char *message, const char *const *names,
                     const char *const *values, unsigned count);

/* printf form, no fields. */
void shove_log(enum shove_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
