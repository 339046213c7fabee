/* print.c: see print.h. Cli. */
#include "cli/print.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/error.h"
#include "cli/report.h"

#define TIME_SIZE 25

/* --- Rows */

void shove_print_cell(FILE *out, const void *bytes, size_t size, size_t width) {
    size_t columns =
        bytes == NULL ? (size_t)fprintf(out, "-")
                      : shove_report_bytes(out, bytes, size, size <= width ? width : width - 3, 0);
    fprintf(out, "%*s", (int)(columns < width ? width - columns : 0) + 2, "");
}

void shove_print_time(FILE *out, int64_t wall_ms) {
    char text[TIME_SIZE] = "-";
    if (wall_ms >= 0)
        shove_clock_format(wall_ms, text);
    fprintf(out, "%-24s", text);
}

/* --- JSON */

void shove_json_set_bytes(json_t *object, const char *name, const void *bytes, size_t size) {
    if (bytes == NULL) {
        json_object_set_new(object, name, json_null());
        return;
    }
    json_t *text = json_stringn(bytes, size); /* NULL: not UTF-8 */
    if (text != NULL) {
        json_object_set_new(object, name, text);
        return;
    }
    char long_name[64];
    snprintf(long_name, sizeof long_name, "%s_base64", name);
    char *encoded = malloc(shove_base64_encoded_size(size) + 1);
    if (encoded == NULL)
        return;
    shove_base64_encode(bytes, size, encoded);
    json_object_set_new(object, long_name, json_string(encoded));
    free(encoded);
}

void shove_json_set_number(json_t *object, const char *name, int64_t value) {
    json_object_set_new(object, name, value >= 0 ? json_integer(value) : json_null());
}

void shove_json_set_moment(json_t *object, const char *name, int64_t wall_ms) {
    char text[TIME_SIZE];
    if (wall_ms >= 0)
        shove_clock_format(wall_ms, text);
    json_object_set_new(object, name, wall_ms >= 0 ? json_string(text) : json_null());
}

int shove_json_print_line(FILE *out, json_t *object) {
    int code = object == NULL || json_dumpf(object, out, JSON_COMPACT) != 0 ? SHOVE_ENOMEM : 0;
    json_decref(object);
    fputc('\n', out);
    return code;
}
