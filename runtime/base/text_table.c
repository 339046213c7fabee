/* text_table.c: see text_table.h. Any process. */
#include "base/text_table.h"

#include <stdarg.h>
#include <string.h>

#define CELL_SIZE 513

void shove_text_table_add(struct shove_text_table *table, const char *format, ...) {
    char cell[CELL_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cell, sizeof cell, format, arguments);
    va_end(arguments);
    for (char *at = cell; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7F)
            *at = '?';
    }
    shove_buffer_append(&table->text, cell, strlen(cell) + 1);
}

static size_t shown_width(const char *text) {
    size_t width = 0;
    for (; *text != '\0'; text++)
        width +=
            ((unsigned char)*text & 0xC0) != 0x80; /* UTF-8 continuation bytes take no column */
    return width;
}

static void print_padding(FILE *out, size_t count) {
    fprintf(out, "%*s", (int)count, "");
}

static void print_row(const struct shove_text_table *table, const char *cell, const size_t *widths,
                      FILE *out) {
    size_t pending = 2; /* spaces owed before the next text: none is printed after the last */
    for (size_t column = 0; column < table->columns; column++) {
        size_t padding = widths[column] - shown_width(cell);
        if (table->is_number[column])
            pending += padding;
        if (cell[0] != '\0') {
            print_padding(out, pending);
            fputs(cell, out);
            pending = 0;
        }
        pending += (table->is_number[column] ? 0 : padding) + 2;
        cell += strlen(cell) + 1;
    }
    fputc('\n', out);
}

void shove_text_table_print(const struct shove_text_table *table, FILE *out) {
    size_t widths[SHOVE_TEXT_TABLE_COLUMNS_MAX] = {0};
    if (table->text.is_failed) {
        fputs("  (out of memory)\n", out);
        return;
    }
    const char *end = (const char *)table->text.data + table->text.size;
    size_t column = 0;
    for (const char *cell = (const char *)table->text.data; cell < end; cell += strlen(cell) + 1) {
        size_t width = shown_width(cell);
        if (width > widths[column])
            widths[column] = width;
        column = (column + 1) % table->columns;
    }
    const char *row = (const char *)table->text.data;
    while (row < end) {
        print_row(table, row, widths, out);
        for (size_t i = 0; i < table->columns; i++)
            row += strlen(row) + 1;
    }
}

void shove_text_table_release(struct shove_text_table *table) {
    shove_buffer_release(&table->text);
}
