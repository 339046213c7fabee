/* text_table.h: rows of cells for people, in aligned columns. Any process.
 *
 *     struct shove_text_table table = {.columns = 2, .is_number = {[1] = true}};
 *     shove_text_table_add(&table, "%s", "TOPIC");
 *     ...                                               row after row, all cells of each
 *     shove_text_table_print(&table, stdout);
 *     shove_text_table_release(&table);
 */
#ifndef SHOVE_BASE_TEXT_TABLE_H
#define SHOVE_BASE_TEXT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/buffer.h"

#define SHOVE_TEXT_TABLE_COLUMNS_MAX 12

struct shove_text_table {
    struct shove_buffer text; /* cells one after the other, each NUL-terminated */
    size_t columns;
    bool is_number[SHOVE_TEXT_TABLE_COLUMNS_MAX]; /* right-aligned */
};

/* Adds the next cell. Control bytes become '?', as the text may be a user's; longer ones than 512
 * bytes are cut. */
void shove_text_table_add(struct shove_text_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Widths are measured first; the last column is never padded, so no line ends in spaces. */
void shove_text_table_print(const struct shove_text_table *table, FILE *out);

void shove_text_table_release(struct shove_text_table *table);

#endif
