/* topology_print.c: an app as tables for people. Control and cli; prints, decides nothing.
 *
 * One row per topic that exists on the broker, so that the names a newcomer will meet there (holds,
 * dead letters) stand beside the queue they belong to and say what they are for.
 */
#include "control/topology_print.h"

#include <inttypes.h>

#include "base/text_table.h"

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

/* The rest of a row of a hold or DLQ is its queue's. */
static void add_blanks(struct shove_text_table *table) {
    for (size_t column = 2; column < table->columns; column++)
        shove_text_table_add(table, "%s", "");
}

static void add_queue(struct shove_text_table *table, const struct shove_topology *topology,
                      const struct shove_topic *topic) {
    static const char *const orders[] = {
        [SHOVE_UNSEQUENCED] = "",
        [SHOVE_SEQUENCED_SKIP] = ", in order per key, skips what fails",
        [SHOVE_SEQUENCED_FAIL_ALL] = ", in order per key, stops a key that fails"};
    const char *group = topic->for_group != NULL ? topic->for_group : "";
    shove_text_table_add(table, "%s", topic->name);
    shove_text_table_add(table, "queue%s%s%s%s", topic->is_external ? ", made elsewhere" : "",
                         orders[topic->sequencing], group[0] != '\0' ? ", for group " : "", group);
    if (topic->is_external) /* it has as many as it was given there */
        shove_text_table_add(table, "%s", "-");
    else
        shove_text_table_add(table, "%" PRId32, topic->partitions);
    shove_text_table_add(table, "%s", codec_text(topic->codec));
    if (topology->broker_count > 1)
        shove_text_table_add(table, "%s", topology->brokers[topic->broker].url);
    shove_text_table_add(table, "%s", topic->at != NULL ? topic->at : "");
}

static void add_topic(struct shove_text_table *table, const struct shove_topology *topology,
                      const struct shove_topic *topic) {
    char text[32];
    add_queue(table, topology, topic);
    for (uint32_t i = 0; i < topic->hold_count; i++) {
        const bool has_topic = topic->sequencing == SHOVE_UNSEQUENCED;
        shove_text_table_add(table, "%s", has_topic ? topic->holds[i] : "");
        shove_text_table_add(table, "  %s %s before retry %u%s",
                             has_topic ? "hold: waits" : "keeps the key waiting",
                             duration_text(topic->holds_ms[i], text), i + 1,
                             i + 1 == topic->hold_count ? " and later ones" : "");
        add_blanks(table);
    }
    if (topic->dlq != NULL) {
        shove_text_table_add(table, "%s", topic->dlq);
        shove_text_table_add(table, "%s", "  dlq: dead letters");
        add_blanks(table);
    }
    if (topic->poison != NULL) {
        shove_text_table_add(table, "%s", topic->poison);
        shove_text_table_add(table, "%s", "  the keys that are poisoned");
        add_blanks(table);
    }
}

static void print_topics(const struct shove_topology *topology, FILE *out) {
    const bool has_brokers = topology->broker_count > 1;
    struct shove_text_table table = {.columns = has_brokers ? 6 : 5, .is_number = {[2] = true}};
    fputs("\nTopics\n", out);
    if (topology->topic_count == 0) {
        fputs("  none\n", out);
        return;
    }
    static const char *const titles[] = {"TOPIC", "WHAT IT IS", "PARTITIONS", "CODEC"};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        shove_text_table_add(&table, "%s", titles[i]);
    if (has_brokers)
        shove_text_table_add(&table, "%s", "BROKER");
    shove_text_table_add(&table, "%s", "DECLARED AT");
    for (uint32_t i = 0; i < topology->topic_count; i++)
        add_topic(&table, topology, &topology->topics[i]);
    shove_text_table_print(&table, out);
    shove_text_table_release(&table);
}

static void add_group(struct shove_text_table *table, const struct shove_topology *topology,
                      const struct shove_group *group) {
    char text[32];
    const char *source = shove_topology_source(topology, group);
    shove_text_table_add(table, "%s", group->group_id);
    shove_text_table_add(table, "%s%s", source,
                         group->kind == SHOVE_GROUP_DEAD_LETTERS ? " (dead letters)" : "");
    if (group->consumers_min == group->consumers_max)
        shove_text_table_add(table, "%u", group->consumers_max);
    else
        shove_text_table_add(table, "%u to %u", group->consumers_min, group->consumers_max);
    shove_text_table_add(table, "%u", shove_group_effective_prefetch(group));
    shove_text_table_add(table, "%u", group->max_retries);
    shove_text_table_add(table, "%s", duration_text(group->handler_timeout_ms, text));
    if (topology->broker_count > 1)
        shove_text_table_add(table, "%s",
                             topology->brokers[topology->topics[group->topic].broker].url);
    shove_text_table_add(table, "%s", group->at != NULL ? group->at : "");
}

static void print_groups(const struct shove_topology *topology, FILE *out) {
    const bool has_brokers = topology->broker_count > 1;
    struct shove_text_table table = {.columns = has_brokers ? 8 : 7,
                                     .is_number = {[3] = true, [4] = true}};
    fputs("\nGroups\n", out);
    if (topology->group_count == 0) {
        fputs("  none: no handler is registered\n", out);
        return;
    }
    static const char *const titles[] = {"GROUP",    "CONSUMES", "CONSUMERS",
                                         "PREFETCH", "RETRIES",  "TIMEOUT"};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        shove_text_table_add(&table, "%s", titles[i]);
    if (has_brokers)
        shove_text_table_add(&table, "%s", "BROKER");
    shove_text_table_add(&table, "%s", "REGISTERED AT");
    for (uint32_t i = 0; i < topology->group_count; i++)
        add_group(&table, topology, &topology->groups[i]);
    shove_text_table_print(&table, out);
    shove_text_table_release(&table);
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
    fputs(topology->broker_count > 1 ? "Brokers\n" : "Broker\n", out);
    if (topology->broker_count == 0)
        fputs("  none\n", out);
    for (uint32_t i = 0; i < topology->broker_count; i++)
        fprintf(out, "  %s\n", topology->brokers[i].url);
    print_topics(topology, out);
    print_groups(topology, out);
    print_warnings(topology, out);
}
