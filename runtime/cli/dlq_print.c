/* dlq_print.c: letters for a person, and as JSON. Cli.
 *
 * Everything in a letter came from outside: on a terminal it is shown, never obeyed.
 */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "cli/dlq.h"
#include "cli/print.h"
#include "cli/report.h"

#define TIME_SIZE 25
#define ERROR_COLUMNS 100
#define KEY_COLUMNS 20

/* --- A table row */

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
    shove_print_time(out, info->died_ms);
    fputs("  ", out);
    shove_print_cell(out, info->death_reason.data, info->death_reason.size, 20);
    fprintf(out, "%7" PRIu32 "  ", info->retry_count);
    shove_print_cell(out, letter->record->key, letter->record->key_size, KEY_COLUMNS);
    shove_print_cell(out, info->original_queue.data, info->original_queue.size, 20);
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

static void set_text(json_t *object, const char *name, struct shove_text text) {
    shove_json_set_bytes(object, name, text.data, text.size);
}

static void set_headers(json_t *object, const struct shove_letter *letter) {
    json_t *list = json_array();
    const uint8_t *at = letter->record->headers;
    const uint8_t *end = at + letter->originals_size;
    struct shove_header header;
    while (letter->originals_size > 0 && shove_headers_next(&at, end, &header) == 1) {
        json_t *pair = json_object();
        shove_json_set_bytes(pair, "name", header.name, header.name_size);
        shove_json_set_bytes(pair, "value", header.value, header.value_size);
        json_array_append_new(list, pair);
    }
    json_object_set_new(object, "headers", list);
}

int shove_letter_print_json(FILE *out, const struct shove_letter *letter, bool is_whole) {
    const struct shove_hop_info *info = &letter->info;
    json_t *object = json_object();
    shove_json_set_number(object, "partition", letter->partition);
    shove_json_set_number(object, "offset", letter->record->offset);
    json_object_set_new(object, "state", json_string(letter->is_settled ? "settled" : "waiting"));
    set_text(object, "id", info->message_id);
    set_text(object, "reason", info->death_reason);
    shove_json_set_moment(object, "died", info->died_ms);
    shove_json_set_moment(object, "first_seen", info->first_seen_ms);
    shove_json_set_moment(object, "timestamp", letter->record->timestamp_ms);
    set_text(object, "original_queue", info->original_queue);
    shove_json_set_number(object, "original_partition", info->original_partition);
    shove_json_set_number(object, "original_offset", info->original_offset);
    set_text(object, "group", info->group);
    shove_json_set_number(object, "retry_count", info->retry_count);
    shove_json_set_number(object, "crash_count", info->crash_count);
    shove_json_set_number(object, "death_count", info->death_count);
    shove_json_set_bytes(object, "key", letter->record->key, letter->record->key_size);
    set_text(object, "error", info->error);
    if (is_whole) {
        set_headers(object, letter);
        shove_json_set_bytes(object, "payload", letter->record->payload,
                             letter->record->payload_size);
    }
    return shove_json_print_line(out, object);
}
