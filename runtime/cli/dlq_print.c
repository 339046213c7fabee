/* dlq_print.c: letters for a person, and as JSON. Cli.
 *
 * Everything in a letter came from outside: on a terminal it is shown, never obeyed. JSON carries
 * text as text, and what is not UTF-8 in base64 under the name with "_base64".
 */
#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/utf8.h"
#include "cli/dlq.h"
#include "cli/report.h"

#define TIME_SIZE 25
#define ERROR_COLUMNS 100
#define KEY_COLUMNS 20

/* --- A table row */

static void print_cell(FILE *out, const void *bytes, size_t size, size_t width) {
    size_t columns =
        bytes == NULL ? (size_t)fprintf(out, "-")
                      : shove_report_bytes(out, bytes, size, size <= width ? width : width - 3, 0);
    fprintf(out, "%*s", (int)(columns < width ? width - columns : 0) + 2, "");
}

static void print_time(FILE *out, int64_t wall_ms) {
    char text[TIME_SIZE] = "-";
    if (wall_ms >= 0)
        shove_clock_format(wall_ms, text);
    fprintf(out, "%-24s", text);
}

static size_t first_line(struct shove_text text) {
    const char *end = text.data != NULL ? memchr(text.data, '\n', text.size) : NULL;
    return end != NULL ? (size_t)(end - text.data) : text.size;
}

void shove_letter_print_head(FILE *out) {
    fprintf(out, "%-12s  %-24s  %-20s  %-7s  %-*s  %-20s  %s\n", "POSITION", "DIED", "REASON",
            "RETRIES", KEY_COLUMNS, "KEY", "QUEUE", "ERROR");
}

void shove_letter_print_row(FILE *out, const struct shove_letter *letter) {
    const struct shove_hop_info *info = &letter->info;
    char position[48];
    snprintf(position, sizeof position, "%d:%lld%s", letter->partition,
             (long long)letter->record->offset, letter->is_settled ? " settled" : "");
    fprintf(out, "%-12s  ", position);
    print_time(out, info->died_ms);
    fputs("  ", out);
    print_cell(out, info->death_reason.data, info->death_reason.size, 20);
    fprintf(out, "%7" PRIu32 "  ", info->retry_count);
    print_cell(out, letter->record->key, letter->record->key_size, KEY_COLUMNS);
    print_cell(out, info->original_queue.data, info->original_queue.size, 20);
    if (info->error.data != NULL)
        shove_report_bytes(out, info->error.data, first_line(info->error), ERROR_COLUMNS, 0);
    fputc('\n', out);
}

/* --- The whole of one */

static bool is_text(const void *bytes, size_t size) {
    const char *at = bytes;
    const char *end = at + size;
    while (at < end) {
        size_t length = shove_utf8_character(at, (size_t)(end - at));
        if (length == 0 ||
            (iscntrl((unsigned char)*at) && *at != '\n' && *at != '\t' && *at != '\r'))
            return false;
        at += length;
    }
    return true;
}

static void print_hex(FILE *out, const uint8_t *bytes, size_t size) {
    for (size_t row = 0; row < size; row += 16) {
        fprintf(out, "  %08zx ", row);
        for (size_t i = row; i < row + 16; i++) {
            if (i < size)
                fprintf(out, " %02x", bytes[i]);
            else
                fputs("   ", out);
        }
        fputs("  ", out);
        for (size_t i = row; i < row + 16 && i < size; i++)
            fputc(bytes[i] >= 0x20 && bytes[i] < 0x7F ? bytes[i] : '.', out);
        fputc('\n', out);
    }
}

static void print_bytes(FILE *out, const void *bytes, size_t size) {
    if (bytes == NULL)
        fputs("null", out);
    else
        shove_report_bytes(out, bytes, size, SIZE_MAX, 0);
}

static void print_text(FILE *out, const char *name, struct shove_text text) {
    if (text.data == NULL)
        return;
    fprintf(out, "%-16s", name);
    print_bytes(out, text.data, text.size);
    fputc('\n', out);
}

static void print_moment(FILE *out, const char *name, int64_t wall_ms) {
    if (wall_ms < 0)
        return;
    char text[TIME_SIZE];
    shove_clock_format(wall_ms, text);
    fprintf(out, "%-16s%s\n", name, text);
}

static void print_origin(FILE *out, const struct shove_hop_info *info) {
    if (info->original_queue.data == NULL) {
        fprintf(out, "%-16s%s\n", "from", "not recorded: shove did not write this letter");
        return;
    }
    fprintf(out, "%-16s", "from");
    print_bytes(out, info->original_queue.data, info->original_queue.size);
    if (info->original_partition >= 0)
        fprintf(out, ", partition %d", info->original_partition);
    if (info->original_offset >= 0)
        fprintf(out, ", offset %lld", (long long)info->original_offset);
    fputc('\n', out);
}

static void print_error(FILE *out, struct shove_text error) {
    if (error.data == NULL)
        return;
    fputs("error\n  ", out);
    const char *at = error.data;
    const char *end = at + error.size;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)((line_end != NULL ? line_end : end) - at);
        shove_report_bytes(out, at, size, SIZE_MAX, 0);
        at += size + (line_end != NULL);
        fputs(at < end ? "\n  " : "\n", out);
    }
}

static void print_headers(FILE *out, const struct shove_letter *letter) {
    const uint8_t *at = letter->record->headers;
    const uint8_t *end = at + letter->originals_size;
    struct shove_header header;
    if (letter->originals_size > 0)
        fputs("headers\n", out);
    while (letter->originals_size > 0 && shove_headers_next(&at, end, &header) == 1) {
        fputs("  ", out);
        shove_report_bytes(out, header.name, header.name_size, SIZE_MAX, 0);
        fputs(": ", out);
        print_bytes(out, header.value, header.value_size);
        fputc('\n', out);
    }
}

static void print_payload(FILE *out, const struct shove_record *record) {
    if (record->payload == NULL) {
        fputs("payload         null\n", out);
        return;
    }
    bool is_readable = is_text(record->payload, record->payload_size);
    fprintf(out, "payload         %zu bytes%s\n", record->payload_size,
            is_readable ? "" : ", binary");
    if (!is_readable) {
        print_hex(out, record->payload, record->payload_size);
        return;
    }
    shove_report_bytes(out, record->payload, record->payload_size, SIZE_MAX, 1);
    fputc('\n', out);
}

void shove_letter_print(FILE *out, const struct shove_dlq *dlq, const struct shove_letter *letter) {
    const struct shove_hop_info *info = &letter->info;
    fprintf(out, "%-16s%d:%lld in %s\n", "position", letter->partition,
            (long long)letter->record->offset, dlq->name);
    fprintf(out, "%-16s%s\n", "state", letter->is_settled ? "replayed or purged" : "waiting");
    print_text(out, "message id", info->message_id);
    print_text(out, "reason", info->death_reason);
    print_moment(out, "died", info->died_ms);
    print_moment(out, "first seen", info->first_seen_ms);
    print_moment(out, "timestamp", letter->record->timestamp_ms);
    print_origin(out, info);
    print_text(out, "group", info->group);
    fprintf(out, "%-16s%" PRIu32 "\n", "retries", info->retry_count);
    if (info->crash_count > 0)
        fprintf(out, "%-16s%" PRIu32 "\n", "crashes", info->crash_count);
    fprintf(out, "%-16s%" PRIu32 "\n", "deaths", info->death_count);
    fprintf(out, "%-16s", "key");
    print_bytes(out, letter->record->key, letter->record->key_size);
    fputc('\n', out);
    print_error(out, info->error);
    print_headers(out, letter);
    print_payload(out, letter->record);
}

/* --- JSON */

/* "name": text, or "name_base64" when it is not UTF-8, or null. */
static void set_bytes(json_t *object, const char *name, const void *bytes, size_t size) {
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

static void set_text(json_t *object, const char *name, struct shove_text text) {
    set_bytes(object, name, text.data, text.size);
}

static void set_number(json_t *object, const char *name, int64_t value) {
    json_object_set_new(object, name, value >= 0 ? json_integer(value) : json_null());
}

static void set_moment(json_t *object, const char *name, int64_t wall_ms) {
    char text[TIME_SIZE];
    if (wall_ms >= 0)
        shove_clock_format(wall_ms, text);
    json_object_set_new(object, name, wall_ms >= 0 ? json_string(text) : json_null());
}

static void set_headers(json_t *object, const struct shove_letter *letter) {
    json_t *list = json_array();
    const uint8_t *at = letter->record->headers;
    const uint8_t *end = at + letter->originals_size;
    struct shove_header header;
    while (letter->originals_size > 0 && shove_headers_next(&at, end, &header) == 1) {
        json_t *pair = json_object();
        set_bytes(pair, "name", header.name, header.name_size);
        set_bytes(pair, "value", header.value, header.value_size);
        json_array_append_new(list, pair);
    }
    json_object_set_new(object, "headers", list);
}

int shove_letter_print_json(FILE *out, const struct shove_letter *letter, bool is_whole) {
    const struct shove_hop_info *info = &letter->info;
    json_t *object = json_object();
    set_number(object, "partition", letter->partition);
    set_number(object, "offset", letter->record->offset);
    json_object_set_new(object, "state", json_string(letter->is_settled ? "settled" : "waiting"));
    set_text(object, "id", info->message_id);
    set_text(object, "reason", info->death_reason);
    set_moment(object, "died", info->died_ms);
    set_moment(object, "first_seen", info->first_seen_ms);
    set_moment(object, "timestamp", letter->record->timestamp_ms);
    set_text(object, "original_queue", info->original_queue);
    set_number(object, "original_partition", info->original_partition);
    set_number(object, "original_offset", info->original_offset);
    set_text(object, "group", info->group);
    set_number(object, "retry_count", info->retry_count);
    set_number(object, "crash_count", info->crash_count);
    set_number(object, "death_count", info->death_count);
    set_bytes(object, "key", letter->record->key, letter->record->key_size);
    set_text(object, "error", info->error);
    if (is_whole) {
        set_headers(object, letter);
        set_bytes(object, "payload", letter->record->payload, letter->record->payload_size);
    }
    int code = object == NULL || json_dumpf(object, out, JSON_COMPACT) != 0 ? SHOVE_ENOMEM : 0;
    json_decref(object);
    fputc('\n', out);
    return code;
}
