/* report.h: how a command says that it failed, and the exit code that goes with it. Cli. */
#ifndef SHOVE_CLI_REPORT_H
#define SHOVE_CLI_REPORT_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

#define SHOVE_EXIT_FAILURE 1

/* One "shove: ..." on standard error (a log line under --log json). Returns exit_code. */
int shove_report(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for an error; the exit code follows from its code (control/exit_code.h). */
int shove_report_error(const struct shove_error *error);

/* The same for what stopped a command that was under way: 69 when the broker went away, 78 when
 * the app or its configuration is wrong, else 1. */
int shove_report_stop(const struct shove_error *error);

/* Writes bytes that came from outside so that a terminal shows them and obeys none of them: control
 * characters and what is not UTF-8 become escapes; at most `max_chars` characters, then "...".
 * Line ends and tabs stay when `keeps_lines`. Returns the number of columns written. */
size_t shove_report_bytes(FILE *out, const void *bytes, size_t size, size_t max_chars,
                          int keeps_lines);

#endif
