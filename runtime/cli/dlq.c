/* dlq.c: which DLQ is meant, and which of its letters. Cli.
 *
 * TOPIC is a queue, which stands for its DLQ, or a DLQ's name. One DLQ may serve several queues:
 * then a queue's name means that queue's letters only, the DLQ's name all of them. Letters that do
 * not say where they came from (somebody else wrote them) belong to whichever name was given.
 */
#include "cli/dlq.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/suggest.h"
#include "cli/report.h"
#include "cli/values.h"
#include "core/tally.h"

static const char *const reasons[] = {
#define REASON_NAME(code, text) text,
    SHOVE_REASON_TABLE(REASON_NAME)
#undef REASON_NAME
};
#define REASON_COUNT (sizeof reasons / sizeof *reasons)

static bool text_equals(struct shove_text text, const char *other) {
    return text.data != NULL && text.size == strlen(other) &&
           memcmp(text.data, other, text.size) == 0;
}

/* --- Letters */

void shove_letter_read(struct shove_letter *letter, int32_t partition,
                       const struct shove_record *record) {
    letter->partition = partition;
    letter->record = record;
    letter->is_settled = false;
    long originals = shove_hop_headers_parse(record->headers, record->headers_size, &letter->info);
    if (originals < 0) {
        shove_hop_info_init(&letter->info);
        originals = (long)record->headers_size;
    }
    letter->originals_size = (size_t)originals;
}

bool shove_dlq_means(const struct shove_dlq *dlq, const struct shove_letter *letter) {
    const struct shove_hop_info *info = &letter->info;
    const struct shove_record *record = letter->record;
    const char *key = dlq->options.key;
    if (dlq->only_queue != NULL && info->original_queue.data != NULL &&
        !text_equals(info->original_queue, dlq->only_queue))
        return false;
    if (dlq->options.reason != NULL && !text_equals(info->death_reason, dlq->options.reason))
        return false;
    if (key != NULL && (record->key == NULL || record->key_size != strlen(key) ||
                        memcmp(record->key, key, record->key_size) != 0))
        return false;
    int64_t died_ms = info->died_ms >= 0 ? info->died_ms : record->timestamp_ms;
    return !dlq->has_since || died_ms >= dlq->since_ms;
}

/* --- Filters */

static int check_reason(const char *reason) {
    if (reason == NULL)
        return 0;
    char list[256] = "";
    for (size_t i = 1; i < REASON_COUNT; i++) {
        if (strcmp(reasons[i], reason) == 0)
            return 0;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 1 ? ", " : "",
                 reasons[i]);
    }
    const char *meant = shove_suggest(reason, reasons + 1, REASON_COUNT - 1);
    if (meant != NULL)
        return shove_report(SHOVE_EXIT_USAGE,
                            "--reason: messages do not die of '%s': did you mean '%s'?", reason,
                            meant);
    return shove_report(SHOVE_EXIT_USAGE, "--reason: messages do not die of '%s', but of %s",
                        reason, list);
}

static int check_filters(struct shove_dlq *dlq) {
    int exit_code = check_reason(dlq->options.reason);
    if (exit_code != 0 || dlq->options.since == NULL)
        return exit_code;
    struct shove_error error;
    dlq->has_since = true;
    if (shove_value_moment(dlq->options.since, shove_clock_wall_ms(), &dlq->since_ms, &error) == 0)
        return 0;
    return shove_report(SHOVE_EXIT_USAGE, "--since: %s", error.text);
}

/* --- Which DLQ */

static bool has_dlq(const struct shove_topic *topic, uint32_t broker, const char *dlq) {
    return topic->broker == broker && topic->dlq != NULL && strcmp(topic->dlq, dlq) == 0;
}

/* Different queues that share the DLQ of that name on a broker. */
static uint32_t count_queues(const struct shove_topology *topology, uint32_t broker,
                             const char *dlq) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *topic = &topology->topics[i];
        bool is_new = has_dlq(topic, broker, dlq);
        for (uint32_t j = 0; j < i && is_new; j++)
            is_new = !has_dlq(&topology->topics[j], broker, dlq) ||
                     strcmp(topology->topics[j].name, topic->name) != 0;
        count += is_new;
    }
    return count;
}

/* A queue with a DLQ per group (`for_group`) has to be told apart by the DLQ's name. */
static int check_single_dlq(const struct shove_topology *topology,
                            const struct shove_topic *topic) {
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *other = &topology->topics[i];
        if (other->dlq != NULL && strcmp(other->name, topic->name) == 0 &&
            strcmp(other->dlq, topic->dlq) != 0)
            return shove_report(SHOVE_EXIT_USAGE,
                                "'%s' has a DLQ for each of its groups: name one, for example '%s' "
                                "or '%s'",
                                topic->name, topic->dlq, other->dlq);
    }
    return 0;
}

/* The declaration of the queue that has a DLQ, if any of them has. */
static const struct shove_topic *with_dlq(const struct shove_topology *topology,
                                          const struct shove_topic *topic) {
    for (uint32_t i = 0; i < topology->topic_count && topic->dlq == NULL; i++) {
        const struct shove_topic *other = &topology->topics[i];
        if (other->dlq != NULL && strcmp(other->name, topic->name) == 0)
            topic = other;
    }
    return topic;
}

static int resolve(struct shove_dlq *dlq, const char *name) {
    const struct shove_topology *topology = &dlq->app.topology;
    struct shove_error error;
    enum shove_app_topic_kind kind;
    const struct shove_topic *topic;
    if (shove_app_find_topic(&dlq->app, name, &kind, &topic, &error) != 0)
        return shove_report_error(&error);
    topic = with_dlq(topology, topic);
    if (kind == SHOVE_APP_QUEUE && topic->dlq == NULL &&
        count_queues(topology, topic->broker, name) == 0)
        return shove_report(SHOVE_EXIT_USAGE,
                            "'%s' has no DLQ (%s): what it cannot handle is discarded; declare it "
                            "with dlq = true",
                            name, topic->at);
    /* A queue that is itself a DLQ and has none: its name can only mean that. */
    bool is_by_queue = kind == SHOVE_APP_QUEUE && topic->dlq != NULL;
    dlq->broker = topic->broker;
    dlq->name = is_by_queue ? topic->dlq : name;
    bool is_shared = count_queues(topology, dlq->broker, dlq->name) > 1;
    if (is_by_queue) {
        dlq->queue = topic->name;
        dlq->only_queue = is_shared ? topic->name : NULL;
        int exit_code = check_single_dlq(topology, topic);
        if (exit_code != 0)
            return exit_code;
    } else if (!is_shared) {
        for (uint32_t i = 0; i < topology->topic_count; i++) {
            if (has_dlq(&topology->topics[i], dlq->broker, name))
                dlq->queue = topology->topics[i].name;
        }
    }
    snprintf(dlq->triage, sizeof dlq->triage, "%s-triage", dlq->name);
    return 0;
}

/* --- Opening and closing */

static int read_ends(struct shove_dlq *dlq, struct shove_error *error) {
    const struct shove_client *client = &dlq->client;
    dlq->ends = calloc((size_t)dlq->partition_count, sizeof *dlq->ends);
    if (dlq->ends == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    int code = 0;
    for (int32_t i = 0; i < dlq->partition_count && code == 0; i++) {
        int64_t low;
        code = client->ops->watermarks(client->transport, dlq->name, i, &low, &dlq->ends[i],
                                       client->timeout_ms, error);
    }
    return code;
}

static int open_client(struct shove_dlq *dlq) {
    struct shove_client_options how = {
        .timeout_ms = dlq->options.common.connect_timeout_ms,
        .max_message_size_bytes = shove_app_max_message_size(&dlq->app, dlq->name),
        .must_exist = true,
        .broker = dlq->broker,
        .purpose = "look into the DLQ",
    };
    struct shove_error error;
    struct shove_client *client = &dlq->client;
    if (shove_client_open(client, &dlq->app, &how, NULL, NULL, &error) != 0)
        return shove_report_error(&error);
    client->timeout_ms = dlq->options.timeout_ms;
    int code = shove_client_count_partitions(client, dlq->name, &dlq->partition_count, &error);
    if (code == 0 && dlq->partition_count > 0)
        code = read_ends(dlq, &error);
    return code == 0 ? 0 : shove_report_error(&error);
}

int shove_dlq_open(struct shove_dlq *dlq, const struct shove_command *command, int argc,
                   char **argv, char ***operands) {
    dlq->options.common = (struct shove_common_options)SHOVE_COMMON_DEFAULTS;
    dlq->options.timeout_ms = 30000;
    int at;
    int exit_code = shove_options_parse(command, argc, argv, &dlq->options, &at);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code == 0 ? SHOVE_DLQ_ENDED : exit_code;
    *operands = argv + at;
    exit_code = shove_common_setup_log(&dlq->options.common, NULL);
    if (exit_code == 0)
        exit_code = check_filters(dlq);
    if (exit_code == 0)
        exit_code = shove_app_load(&dlq->app, argv[at], &dlq->options.common);
    if (exit_code == 0)
        exit_code = resolve(dlq, argv[at + 1]);
    if (exit_code == 0)
        exit_code = open_client(dlq);
    return exit_code;
}

void shove_dlq_close(struct shove_dlq *dlq) {
    shove_client_close(&dlq->client);
    shove_app_release(&dlq->app);
    free(dlq->ends);
}
