/* topology_print.c: an app as tables for people. Control and cli; prints, decides nothing.
 *
 * One row per topic that exists on the broker, so that the names a newcomer will meet there (holds,
 * dead letters) stand beside the queue they belong to and say what they are for. A table is a list
 * of rows of text cells; widths are measured first, and the last column is never padded, so no line
 * ends in spaces.
 */
#include "control/topology_print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

#define COLUMNS_MAX 8

struct table { /* cells one after the other, each NUL-terminated */
    struct shove_buffer text;
    size_t columns;
    bool is_number[COLUMNS_MAX]; /* right-aligned */
};

/* Text of the app is the user's: control bytes do not reach the terminal. */
__attribute__((format(printf, 2, 3))) static void add_cell(struct table *table, const char *format,
                                                           ...) {
    char cell[SHOVE_NAME_SIZE + 64];
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

static void print_row(const struct table *table, const char *cell, const size_t *widths,
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

static void print_table(struct table *table, FILE *out) {
    size_t widths[COLUMNS_MAX] = {0};
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

/* "500ms", "5s", "5m", "1h": the largest unit that divides it, of those that a script may write. */
static const char *duration_text(int64_t ms, char out[32]) {
    static const struct {
        int64_t ms;
        const char *unit;
    } units[] = {{3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;
    while (ms % units[i].ms != 0)
        i++;
    snprintf(out, 32, "%" PRId64 "%s", ms / units[i].ms, units[i].unit);
    return out;
}

static const char *codec_text(enum shove_codec codec) {
    static const char *const names[] = {
        [SHOVE_CODEC_JSON] = "json", [SHOVE_CODEC_RAW] = "raw", [SHOVE_CODEC_CUSTOM] = "custom"};
    return names[codec];
}

static void add_queue(struct table *table, const struct shove_topic *topic) {
    static const char *const orders[] = {
        [SHOVE_UNSEQUENCED] = "",
        [SHOVE_SEQUENCED_SKIP] = ", in order per key, skips what fails",
        [SHOVE_SEQUENCED_FAIL_ALL] = ", in order per key, stops a key that fails"};
    const char *group = topic->for_group != NULL ? topic->for_group : "";
    add_cell(table, "%s", topic->name);
    add_cell(table, "queue%s%s%s%s", topic->is_external ? ", made elsewhere" : "",
             orders[topic->sequencing], group[0] != '\0' ? ", for group " : "", group);
    if (topic->is_external) /* it has as many as it was given there */
        add_cell(table, "%s", "-");
    else
        add_cell(table, "%" PRId32, topic->partitions);
    add_cell(table, "%s", codec_text(topic->codec));
    add_cell(table, "%s", topic->at != NULL ? topic->at : "");
}

static void add_topic(struct table *table, const struct shove_topic *topic) {
    char text[32];
    add_queue(table, topic);
    for (uint32_t i = 0; i < topic->hold_count; i++) {
        add_cell(table, "%s", topic->holds[i]);
        add_cell(table, "  hold: waits %s before retry %u%s",
                 duration_text(topic->holds_ms[i], text), i + 1,
                 i + 1 == topic->hold_count ? " and later ones" : "");
        for (int blank = 0; blank < 3; blank++)
            add_cell(table, "%s", "");
    }
    if (topic->dlq != NULL) {
        add_cell(table, "%s", topic->dlq);
        add_cell(table, "%s", "  dlq: dead letters");
        for (int blank = 0; blank < 3; blank++)
            add_cell(table, "%s", "");
    }
}

static void print_topics(const struct shove_topology *topology, FILE *out) {
    struct table table = {.columns = 5, .is_number = {[2] = true}};
    fputs("\nTopics\n", out);
    if (topology->topic_count == 0) {
        fputs("  none\n", out);
        return;
    }
    static const char *const titles[] = {"TOPIC", "WHAT IT IS", "PARTITIONS", "CODEC",
                                         "DECLARED AT"};
    for (size_t i = 0; i < table.columns; i++)
        add_cell(&table, "%s", titles[i]);
    for (uint32_t i = 0; i < topology->topic_count; i++)
        add_topic(&table, &topology->topics[i]);
    print_table(&table, out);
    shove_buffer_release(&table.text);
}

static void add_group(struct table *table, const struct shove_topology *topology,
                      const struct shove_group *group) {
    char text[32];
    const char *source = shove_topology_source(topology, group);
    add_cell(table, "%s", group->group_id);
    add_cell(table, "%s%s", source,
             group->kind == SHOVE_GROUP_DEAD_LETTERS ? " (dead letters)" : "");
    if (group->consumers_min == group->consumers_max)
        add_cell(table, "%u", group->consumers_max);
    else
        add_cell(table, "%u to %u", group->consumers_min, group->consumers_max);
    add_cell(table, "%u", shove_group_effective_prefetch(group));
    add_cell(table, "%u", group->max_retries);
    add_cell(table, "%s", duration_text(group->handler_timeout_ms, text));
    add_cell(table, "%s", group->at != NULL ? group->at : "");
}

static void print_groups(const struct shove_topology *topology, FILE *out) {
    struct table table = {.columns = 7, .is_number = {[3] = true, [4] = true}};
    fputs("\nGroups\n", out);
    if (topology->group_count == 0) {
        fputs("  none: no handler is registered\n", out);
        return;
    }
    static const char *const titles[] = {"GROUP",   "CONSUMES", "CONSUMERS",    "PREFETCH",
                                         "RETRIES", "TIMEOUT",  "REGISTERED AT"};
    for (size_t i = 0; i < table.columns; i++)
        add_cell(&table, "%s", titles[i]);
    for (uint32_t i = 0; i < topology->group_count; i++)
        add_group(&table, topology, &topology->groups[i]);
    print_table(&table, out);
    shove_buffer_release(&table.text);
}

static void print_warnings(const struct shove_topology *topology, FILE *out) {
    if (topology->warning_count > 0)
        fputs("\nWarnings\n", out);
    for (uint32_t i = 0; i < topology->warning_count; i++) {
        fputs("  ", out);
        for (const char *at = topology->warnings[i]; *at != '\0'; at++)
            fputc((unsigned char)*at < ' ' || *at == 0x7F ? '?' : *at, out);
        fputc('\n', out);
    }
}

void shove_topology_print(const struct shove_topology *topology, FILE *out) {
    fprintf(out, "Broker\n  %s\n", topology->broker != NULL ? topology->broker : "none");
    print_topics(topology, out);
    print_groups(topology, out);
    print_warnings(topology, out);
}
