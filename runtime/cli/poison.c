/* poison.c: which topic's poisoned keys are meant, and how they are shown. Cli.
 *
 * TOPIC is a queue, which stands for its poison topic, or a poison topic's name: a queue with
 * several groups (`for_group`) can have one for each, and then only that name tells them apart.
 */
#include "cli/poison.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/encoding.h"
#include "cli/print.h"
#include "cli/report.h"
#include "core/tally.h"

#define KEY_COLUMNS 32
#define REASON_COLUMNS 20

#define ONLY_FAIL_ALL "only topics with sequenced = \"fail_all\" have poisoned keys"

/* --- Which topic */

static int take(struct shove_poison *poison, const struct shove_topic *topic) {
    poison->name = topic->poison;
    poison->broker = topic->broker;
    return 0;
}

/* All declarations of a queue are sequenced alike. */
static int choose_by_queue(struct shove_poison *poison, const struct shove_topic *queue) {
    const struct shove_topology *topology = &poison->app.topology;
    if (queue->poison == NULL)
        return shove_report(SHOVE_EXIT_USAGE, "'%s' has none (%s): " ONLY_FAIL_ALL, queue->name,
                            queue->at);
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *other = &topology->topics[i];
        if (other->poison != NULL && strcmp(other->name, queue->name) == 0 &&
            strcmp(other->poison, queue->poison) != 0)
            return shove_report(SHOVE_EXIT_USAGE,
                                "'%s' has poisoned keys for each of its groups: name where they "
                                "are kept, for example '%s' or '%s'",
                                queue->name, queue->poison, other->poison);
    }
    return take(poison, queue);
}

static int choose_by_name(struct shove_poison *poison, const char *name) {
    const struct shove_topology *topology = &poison->app.topology;
    const struct shove_topic *found = NULL;
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *topic = &topology->topics[i];
        if (topic->poison == NULL || strcmp(topic->poison, name) != 0)
            continue;
        if (found != NULL) /* one broker has a name once */
            return shove_report(SHOVE_EXIT_USAGE,
                                "'%s' is on several brokers: name its queue, '%s' or '%s'", name,
                                found->name, topic->name);
        found = topic;
    }
    return found != NULL ? take(poison, found) : SHOVE_POISON_ENDED;
}

/* A queue first, as everywhere. */
static int choose(struct shove_poison *poison, const char *name) {
    struct shove_error error;
    enum shove_app_topic_kind kind;
    const struct shove_topic *topic;
    int code = shove_app_find_topic(&poison->app, name, &kind, &topic, &error);
    if (code == 0 && kind == SHOVE_APP_QUEUE)
        return choose_by_queue(poison, topic);
    int exit_code = choose_by_name(poison, name);
    if (exit_code != SHOVE_POISON_ENDED)
        return exit_code;
    if (code != 0)
        return shove_report_error(&error);
    return shove_report(SHOVE_EXIT_USAGE, "'%s' is a DLQ: " ONLY_FAIL_ALL, name);
}

/* --- Which key */

static int read_key(struct shove_poison *poison) {
    const struct shove_poison_options *given = &poison->options;
    if (given->key == NULL && given->is_base64)
        return shove_report(SHOVE_EXIT_USAGE, "--base64: no key was given");
    if (given->key == NULL)
        return 0;
    poison->key = given->key;
    poison->key_size = strlen(given->key);
    if (!given->is_base64)
        return 0;
    poison->decoded = malloc(poison->key_size + 1);
    if (poison->decoded == NULL)
        return shove_report(SHOVE_EXIT_FAILURE, "out of memory");
    long size = shove_base64_decode(given->key, poison->key_size, poison->decoded);
    if (size < 0)
        return shove_report(SHOVE_EXIT_USAGE, "--base64: '%s' is not base64", given->key);
    poison->key = poison->decoded;
    poison->key_size = (size_t)size;
    return 0;
}

/* --- Opening and closing */

static int open_client(struct shove_poison *poison) {
    struct shove_client_options how = {
        .timeout_ms = poison->options.common.connect_timeout_ms,
        .max_message_size_bytes = shove_topology_largest_message(&poison->app.topology),
        .must_exist = true,
        .broker = poison->broker,
        .purpose = "look for poisoned keys",
    };
    struct shove_error error;
    struct shove_client *client = &poison->client;
    if (shove_client_open(client, &poison->app, &how, NULL, NULL, &error) != 0)
        return shove_report_error(&error);
    client->timeout_ms = poison->options.timeout_ms;
    if (shove_client_count_partitions(client, poison->name, &poison->partition_count, &error) != 0)
        return shove_report_error(&error);
    return 0;
}

int shove_poison_open(struct shove_poison *poison, const struct shove_command *command, int argc,
                      char **argv) {
    poison->options.common = (struct shove_common_options)SHOVE_COMMON_DEFAULTS;
    poison->options.timeout_ms = 30000;
    int at;
    int exit_code = shove_options_parse(command, argc, argv, &poison->options, &at);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code == 0 ? SHOVE_POISON_ENDED : exit_code;
    if (argc - at > 2)
        poison->options.key = argv[at + 2];
    exit_code = shove_common_setup_log(&poison->options.common, NULL);
    if (exit_code == 0)
        exit_code = read_key(poison);
    if (exit_code == 0)
        exit_code = shove_app_load(&poison->app, argv[at], &poison->options.common);
    if (exit_code == 0)
        exit_code = choose(poison, argv[at + 1]);
    if (exit_code == 0)
        exit_code = open_client(poison);
    return exit_code;
}

void shove_poison_close(struct shove_poison *poison) {
    shove_client_close(&poison->client);
    shove_app_release(&poison->app);
    free(poison->decoded);
}

/* --- Printing */

void shove_poison_print_end(FILE *out, uint64_t count) {
    if (count == 0)
        fputs("no key is poisoned\n", out);
    else
        fprintf(out, "%" PRIu64 " key%s poisoned\n", count, count == 1 ? " is" : "s are");
}

void shove_poisoned_print_head(FILE *out) {
    fprintf(out, "%-*s  %9s  %10s  %-*s  %s\n", KEY_COLUMNS, "KEY", "PARTITION", "OFFSET",
            REASON_COLUMNS, "REASON", "POISONED AT");
}

/* NULL: not known to this version. */
static const char *reason_of(const struct shove_poisoned *key) {
    enum shove_reason reason = key->record.reason;
    return reason != SHOVE_REASON_NONE ? shove_reason_name(reason) : NULL;
}

void shove_poisoned_print_row(FILE *out, const struct shove_poisoned *key) {
    const char *reason = reason_of(key);
    shove_print_cell(out, key->key, key->key_size, KEY_COLUMNS);
    fprintf(out, "%9" PRId32 "  %10" PRId64 "  %-*s  ", key->partition, key->record.offset,
            REASON_COLUMNS, reason != NULL ? reason : "-");
    shove_print_time(out, key->record.poisoned_ms);
    fputc('\n', out);
}

int shove_poisoned_print_json(FILE *out, const struct shove_poisoned *key) {
    const char *reason = reason_of(key);
    json_t *object = json_object();
    shove_json_set_bytes(object, "key", key->key, key->key_size);
    shove_json_set_number(object, "partition", key->partition);
    shove_json_set_number(object, "offset", key->record.offset);
    shove_json_set_bytes(object, "reason", reason, reason != NULL ? strlen(reason) : 0);
    shove_json_set_moment(object, "poisoned_at", key->record.poisoned_ms);
    return shove_json_print_line(out, object);
}
