/* publish_command.c: `shove publish`: one message per argument, or per line of standard input. Cli.
 *
 * Messages are numbered as the user sees them (arguments from 1, lines from 1, skipped ones
 * included); the number travels with each record through the transport as its opaque, so an answer
 * names its line without any table. Whatever stops the input (a line that is no JSON, a message
 * that the broker refuses, Ctrl-C, a silent broker), what was sent before is waited for and
 * reported.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/uuid.h"
#include "cli/app.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/lines.h"
#include "cli/report.h"
#include "control/declare.h"
#include "core/hop_headers.h"
#include "core/tally.h"

#define FEW 10          /* this many acknowledgements are listed one by one */
#define TURN_EVERY 256u /* messages between two looks at the loop */
#define PROGRESS_MS 1000

struct publish_options {
    struct shove_common_options common; /* first */
    const char *key;
    struct shove_texts headers;
    int64_t partition; /* -1: by key */
    int64_t timeout_ms;
    bool is_raw;
    bool is_quiet;
};

struct acknowledgement {
    uint64_t number;
    int32_t partition;
    int64_t offset;
};

struct publishing {
    struct publish_options options;
    struct shove_app app;
    struct shove_client client;
    const char *topic;
    const char *word; /* "line" or "message": what is numbered */
    bool checks_json;
    bool skips_empty;
    size_t most_bytes; /* of one message */
    struct shove_uuid_source ids;
    struct shove_buffer headers; /* the user's, then shove's of the message at hand */
    size_t user_headers_size;
    uint64_t sent;
    uint64_t sent_bytes;
    uint64_t acknowledged;
    uint64_t skipped;
    uint64_t refused;        /* answers that were failures */
    uint64_t refused_number; /* the first of them */
    struct acknowledgement few[FEW];
    int64_t started_ms;
    int64_t progress_ms;
    bool has_progress_line;
    struct shove_error stop; /* why it stopped early; code 0: it did not */
};

static const struct shove_option options[] = {
    {.name = "key",
     .letter = 'k',
     .kind = SHOVE_OPTION_TEXT,
     .argument = "KEY",
     .help = "the key of every message",
     .at = offsetof(struct publish_options, key)},
    {.name = "header",
     .letter = 'H',
     .kind = SHOVE_OPTION_TEXTS,
     .argument = "NAME=VALUE",
     .help = "a header of every message; may be repeated",
     .at = offsetof(struct publish_options, headers)},
    {.name = "raw",
     .kind = SHOVE_OPTION_FLAG,
     .help = "send bytes as they are; an empty line is an empty message",
     .at = offsetof(struct publish_options, is_raw)},
    {.name = "partition",
     .kind = SHOVE_OPTION_NUMBER,
     .argument = "N",
     .help = "to this partition (by key, or spread)",
     .at = offsetof(struct publish_options, partition),
     .most = INT32_MAX},
    {.name = "quiet",
     .letter = 'q',
     .kind = SHOVE_OPTION_FLAG,
     .help = "do not print what was acknowledged",
     .at = offsetof(struct publish_options, is_quiet)},
    {.name = "timeout",
     .kind = SHOVE_OPTION_DURATION,
     .argument = "TIME",
     .help = "give up when nothing is acknowledged for so long (30s)",
     .at = offsetof(struct publish_options, timeout_ms),
     .least = 1,
     .most = INT32_MAX},
    SHOVE_BROKER_OPTION,
    SHOVE_CONNECT_OPTION,
    SHOVE_LOAD_OPTION,
    SHOVE_LOG_OPTIONS,
};

/* --- What was asked for */

static int add_header(struct publishing *publishing, const char *text) {
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        return shove_report(SHOVE_EXIT_USAGE, "--header: '%s' must be NAME=VALUE", text);
    size_t prefix_size = sizeof SHOVE_HEADER_PREFIX - 1;
    if (strncasecmp(text, SHOVE_HEADER_PREFIX, prefix_size) == 0)
        return shove_report(SHOVE_EXIT_USAGE,
                            "--header: '%.*s' begins with %s, which is kept for shove's own "
                            "headers: choose another name",
                            (int)(equals - text), text, SHOVE_HEADER_PREFIX);
    shove_headers_append(&publishing->headers, text, (size_t)(equals - text), equals + 1,
                         strlen(equals + 1));
    return 0;
}

static int add_headers(struct publishing *publishing) {
    const struct shove_texts *headers = &publishing->options.headers;
    for (size_t i = 0; i < headers->count; i++) {
        int exit_code = add_header(publishing, headers->items[i]);
        if (exit_code != 0)
            return exit_code;
    }
    publishing->user_headers_size = publishing->headers.size;
    return 0;
}

/* What the topic asks of a message. */
static int check_topic(struct publishing *publishing, const char *name) {
    struct shove_error error;
    enum shove_app_topic_kind kind;
    const struct shove_topic *topic;
    if (shove_app_find_topic(&publishing->app, name, &kind, &topic, &error) != 0)
        return shove_report_error(&error);
    bool is_raw = publishing->options.is_raw;
    if (topic->codec == SHOVE_CODEC_CUSTOM && !is_raw)
        return shove_report(SHOVE_EXIT_USAGE,
                            "'%s' has a codec of its own, which only the script can run: give "
                            "--raw and bodies that are encoded already",
                            name);
    if (kind == SHOVE_APP_QUEUE && topic->sequencing != SHOVE_UNSEQUENCED &&
        publishing->options.key == NULL)
        return shove_report(SHOVE_EXIT_USAGE,
                            "'%s' is sequenced: its order is kept per key, so give --key", name);
    publishing->topic = name;
    publishing->checks_json = topic->codec == SHOVE_CODEC_JSON && !is_raw;
    publishing->skips_empty = publishing->checks_json;
    publishing->most_bytes = (size_t)shove_app_max_message_size(&publishing->app, name);
    return 0;
}

/* --- Answers */

static void on_produced(void *ctx, const struct shove_produced *result) {
    struct publishing *publishing = ctx;
    uint64_t number = (uint64_t)(uintptr_t)result->opaque;
    if (result->code == 0) {
        if (publishing->acknowledged < FEW)
            publishing->few[publishing->acknowledged] =
                (struct acknowledgement){number, result->partition, result->offset};
        publishing->acknowledged++;
        return;
    }
    if (publishing->refused++ == 0 || number < publishing->refused_number) {
        const char *detail = result->detail != NULL && result->detail[0] != '\0'
                                 ? result->detail
                                 : shove_error_sentence(result->code);
        publishing->refused_number = number;
        shove_error_set(&publishing->stop, result->code, "%s %" PRIu64 " was not acknowledged: %s",
                        publishing->word, number, detail);
    }
}

static void show_progress(struct publishing *publishing) {
    int64_t now_ms = shove_clock_mono_ms();
    if (publishing->options.is_quiet || now_ms - publishing->progress_ms < PROGRESS_MS ||
        !isatty(STDERR_FILENO))
        return;
    publishing->progress_ms = now_ms;
    publishing->has_progress_line = true;
    fprintf(stderr, "\rsent %" PRIu64 ", acknowledged %" PRIu64 " ", publishing->sent,
            publishing->acknowledged);
}

static void clear_progress(struct publishing *publishing) {
    if (publishing->has_progress_line)
        fputs("\r\033[K", stderr);
}

/* --- Sending */

/* 0, or a code with publishing->stop set. */
static int check_body(struct publishing *publishing, uint64_t number, const uint8_t *body,
                      size_t size) {
    struct shove_error *stop = &publishing->stop;
    if (size > publishing->most_bytes)
        return shove_error_set(stop, SHOVE_ETOOLARGE,
                               "%s %" PRIu64 " is larger than %zu bytes, the most that a consumer "
                               "of '%s' takes (max_message_size)",
                               publishing->word, number, publishing->most_bytes, publishing->topic);
    if (!publishing->checks_json)
        return 0;
    json_error_t why;
    json_t *value = json_loadb((const char *)body, size,
                               JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    if (value == NULL)
        return shove_error_set(stop, SHOVE_EINVAL,
                               "%s %" PRIu64 " is not valid JSON, column %d: %s (--raw sends bytes "
                               "as they are)",
                               publishing->word, number, why.column, why.text);
    json_decref(value);
    return 0;
}

static int build_headers(struct publishing *publishing) {
    char id[SHOVE_UUID_SIZE + 1];
    shove_uuid_next(&publishing->ids, shove_clock_wall_ms(), id);
    struct shove_hop_info info;
    shove_hop_info_init(&info);
    info.message_id = (struct shove_text){id, SHOVE_UUID_SIZE};
    publishing->headers.size = publishing->user_headers_size;
    shove_hop_headers_append(&publishing->headers, &info);
    if (publishing->headers.is_failed)
        return shove_error_set(&publishing->stop, SHOVE_ENOMEM, "out of memory building headers");
    return 0;
}

static int send_message(struct publishing *publishing, uint64_t number, const uint8_t *body,
                        size_t size) {
    const struct publish_options *given = &publishing->options;
    int code = check_body(publishing, number, body, size);
    if (code == 0)
        code = build_headers(publishing);
    if (code != 0)
        return code;
    struct shove_produce what = {
        .topic = publishing->topic,
        .partition = (int32_t)given->partition,
        .record = {.key = given->key,
                   .key_size = given->key != NULL ? strlen(given->key) : 0,
                   .payload = body,
                   .payload_size = size,
                   .headers = publishing->headers.data,
                   .headers_size = publishing->headers.size,
                   .timestamp_ms = -1,
                   .offset = -1},
        .opaque = (void *)(uintptr_t)number,
    };
    struct shove_error error;
    code = shove_client_produce(&publishing->client, &what, &error);
    if (code == SHOVE_ECLOSED || code == SHOVE_ETIMEOUT)
        return shove_error_set(&publishing->stop, code, "%s", error.text);
    if (code != 0)
        return shove_error_set(&publishing->stop, code, "%s %" PRIu64 " was refused: %s",
                               publishing->word, number, error.text);
    publishing->sent++;
    publishing->sent_bytes += size;
    return 0;
}

/* Lets answers in; false when the input should not go on. */
static bool goes_on(struct publishing *publishing) {
    if (publishing->sent % TURN_EVERY == 0) {
        shove_client_turn(&publishing->client);
        show_progress(publishing);
    }
    if (publishing->client.is_interrupted && publishing->stop.code == 0)
        shove_error_set(&publishing->stop, SHOVE_ECLOSED, "interrupted");
    return publishing->stop.code == 0;
}

static void send_arguments(struct publishing *publishing, char **bodies, int count) {
    for (int i = 0; i < count && goes_on(publishing); i++) {
        if (send_message(publishing, (uint64_t)i + 1, (const uint8_t *)bodies[i],
                         strlen(bodies[i])) != 0)
            return;
    }
}

/* Everything in the buffer. */
static int send_lines(struct publishing *publishing, struct shove_lines *lines) {
    const uint8_t *line;
    size_t size;
    int found;
    while ((found = shove_lines_next(lines, &line, &size)) == 1) {
        if (size == 0 && publishing->skips_empty) {
            publishing->skipped++;
            continue;
        }
        int code = send_message(publishing, lines->number, line, size);
        if (code != 0)
            return code;
        if (!goes_on(publishing))
            return publishing->stop.code;
    }
    if (found < 0)
        return check_body(publishing, lines->number, NULL, publishing->most_bytes + 1);
    return 0;
}

static void send_input(struct publishing *publishing) {
    struct shove_lines lines;
    if (shove_lines_init(&lines, STDIN_FILENO, publishing->most_bytes, &publishing->stop) != 0)
        return;
    if (isatty(STDIN_FILENO) && !publishing->options.is_quiet)
        fputs("reading one message per line from the terminal; Ctrl-D ends\n", stderr);
    while (send_lines(publishing, &lines) == 0 && !lines.is_at_end) {
        if (shove_client_wait_input(&publishing->client, STDIN_FILENO, &publishing->stop) != 0 ||
            shove_lines_fill(&lines, &publishing->stop) != 0)
            break;
        if (!goes_on(publishing))
            break;
    }
    shove_lines_release(&lines);
}

/* --- The end */

static int by_number(const void *a, const void *b) {
    const struct acknowledgement *left = a;
    const struct acknowledgement *right = b;
    return left->number < right->number ? -1 : left->number > right->number;
}

static void print_acknowledged(struct publishing *publishing) {
    uint64_t count = publishing->acknowledged;
    double seconds = (double)(shove_clock_mono_ms() - publishing->started_ms) / 1000.0;
    printf("acknowledged %" PRIu64 " message%s to %s", count, count == 1 ? "" : "s",
           publishing->topic);
    if (count > FEW)
        printf(" in %.2f s (%.0f/s)", seconds, (double)count / (seconds > 0.001 ? seconds : 0.001));
    else if (count > 0) {
        qsort(publishing->few, count, sizeof *publishing->few, by_number);
        for (uint64_t i = 0; i < count; i++)
            printf("%s partition %d offset %lld", i == 0 ? ":" : ",", publishing->few[i].partition,
                   (long long)publishing->few[i].offset);
    }
    if (publishing->skipped > 0)
        printf("; %" PRIu64 " empty line%s skipped", publishing->skipped,
               publishing->skipped == 1 ? "" : "s");
    putchar('\n');
}

static int finish(struct publishing *publishing) {
    struct shove_error error;
    int code = shove_client_settle(&publishing->client, 0, &error);
    if (code != 0 && publishing->stop.code == 0)
        publishing->stop = error;
    clear_progress(publishing);
    if (!publishing->options.is_quiet)
        print_acknowledged(publishing);
    if (publishing->stop.code == 0)
        return 0;
    uint64_t open = publishing->sent - publishing->acknowledged;
    if (publishing->sent == 0)
        shove_error_set(&error, publishing->stop.code, "%s; nothing was published",
                        publishing->stop.text);
    else if (open > 0)
        shove_error_set(&error, publishing->stop.code,
                        "%s; stopped there: %" PRIu64 " sent, %" PRIu64 " acknowledged",
                        publishing->stop.text, publishing->sent, publishing->acknowledged);
    else
        shove_error_set(&error, publishing->stop.code,
                        "%s; stopped there: all %" PRIu64 " sent before are acknowledged",
                        publishing->stop.text, publishing->sent);
    return shove_report_stop(&error);
}

static int check_partition(struct publishing *publishing) {
    const struct publish_options *given = &publishing->options;
    if (given->partition < 0)
        return 0;
    struct shove_client *client = &publishing->client;
    struct shove_error error;
    long count = client->ops->partition_count(client->transport, publishing->topic,
                                              given->common.connect_timeout_ms, &error);
    if (count < 0)
        return shove_report_error(&error);
    if (given->partition < count)
        return 0;
    return shove_report(SHOVE_EXIT_USAGE, "--partition: '%s' has partitions 0 to %ld, not %lld",
                        publishing->topic, count - 1, (long long)given->partition);
}

static int open_client(struct publishing *publishing) {
    struct shove_client_options how = {
        .timeout_ms = publishing->options.common.connect_timeout_ms,
        .max_message_size_bytes = (int64_t)publishing->most_bytes,
        .purpose = "publish",
    };
    struct shove_error error;
    struct shove_client *client = &publishing->client;
    if (shove_client_open(client, &publishing->app, &how, on_produced, publishing, &error) != 0)
        return shove_report_error(&error);
    client->timeout_ms = publishing->options.timeout_ms;
    if (shove_declare_topic(client->transport, &publishing->app.topology, publishing->topic,
                            &error) != 0)
        return shove_report_error(&error);
    if (shove_uuid_init(&publishing->ids) != 0)
        return shove_report(SHOVE_EXIT_FAILURE, "the system gives no random numbers for ids");
    return check_partition(publishing);
}

static int publish(struct publishing *publishing, char **operands, int count) {
    int exit_code = add_headers(publishing);
    if (exit_code == 0)
        exit_code = shove_app_load(&publishing->app, operands[0], &publishing->options.common);
    if (exit_code == 0)
        exit_code = check_topic(publishing, operands[1]);
    if (exit_code == 0)
        exit_code = open_client(publishing);
    if (exit_code != 0)
        return exit_code;
    shove_client_catch_signals(&publishing->client);
    publishing->started_ms = publishing->progress_ms = shove_clock_mono_ms();
    publishing->word = count > 2 ? "message" : "line";
    if (count > 2)
        send_arguments(publishing, operands + 2, count - 2);
    else
        send_input(publishing);
    return finish(publishing);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct publishing publishing = {
        .options = {.common = SHOVE_COMMON_DEFAULTS, .partition = -1, .timeout_ms = 30000}};
    int operands;
    switch (shove_options_parse(command, argc, argv, &publishing.options, &operands)) {
    case SHOVE_OPTIONS_HELP:
        return 0;
    case SHOVE_OPTIONS_WRONG:
        return SHOVE_EXIT_USAGE;
    case SHOVE_OPTIONS_OK:
        break;
    }
    int exit_code = shove_common_setup_log(&publishing.options.common, NULL);
    if (exit_code == 0)
        exit_code = publish(&publishing, argv + operands, argc - operands);
    shove_client_close(&publishing.client);
    shove_app_release(&publishing.app);
    shove_buffer_release(&publishing.headers);
    shove_texts_release(&publishing.options.headers);
    return exit_code;
}

const struct shove_command shove_publish_command = {
    .name = "publish",
    .operands = "APP TOPIC [BODY...]",
    .summary = "Publishes messages: one per BODY, or one per line of standard input",
    .text = "A body must be valid JSON when the topic's codec is json (the default). The topic is\n"
            "created when it does not exist yet. Prints what the broker has acknowledged; exits 0\n"
            "only when that is everything.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = SHOVE_OPERANDS_ANY,
    .run = run,
};
