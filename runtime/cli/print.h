/* print.h: the parts of what is listed, a row or a JSON object for each. Cli.
 *
 * Rows are printed as they are found, so their columns have widths of their own. What came from
 * outside is shown on a terminal, never obeyed. JSON carries text as text, and what is not UTF-8 in
 * base64 under the name with "_base64".
 */
#ifndef SHOVE_CLI_PRINT_H
#define SHOVE_CLI_PRINT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Padded to `width` and two blanks; cut with "..." when longer; "-" for NULL. */
void shove_print_cell(FILE *out, const void *bytes, size_t size, size_t width);
/* 24 columns; negative: "-". */
void shove_print_time(FILE *out, int64_t wall_ms);

/* "name": text, or "name_base64" when it is not UTF-8, or null. */
void shove_json_set_bytes(json_t *object, const char *name, const void *bytes, size_t size);
/* Negative: null. */
void shove_json_set_number(json_t *object, const char *name, int64_t value);
void shove_json_set_moment(json_t *object, const char *name, int64_t wall_ms);

/* Takes the object, which may be NULL. 0 or SHOVE_ENOMEM. */
int shove_json_print_line(FILE *out, json_t *object);

#endif
