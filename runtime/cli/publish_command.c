/* publish_command.c: `shove publish`: one message per argument, or per line of standard input. Cli.
 * What is asked for is checked here; publish.c does it. */
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/record.h"
#include "cli/app.h"
#include "cli/command.h"
#include "cli/keys.h"
#include "cli/publish.h"
#include "cli/report.h"
#include "control/declare.h"
#include "core/hop_headers.h"
#include "core/tally.h"

struct publish_options {
    struct shove_common_options common; /* first */
    const char *key;
    struct shove_texts headers;
    int64_t partition; /* -1: by key */
    int64_t timeout_ms;
    bool is_raw;
    bool is_quiet;
};

struct publish_command {
    struct publish_options options;
    struct shove_app app;
    struct shove_publishing publishing;
    struct shove_keys keys;
    bool computes_keys;
    uint32_t broker; /* index: of the topic */
};

static const struct shove_option options[] = {
    {.name = "key",
     .letter = 'k',
     .kind = SHOVE_OPTION_TEXT,
     .argument = "KEY",
     .help = "the key of every message (by the topic's key function)",
     .at = offsetof(struct publish_options, key),
     .is_single = true},
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
     .help = "give up when nothing is acknowledged, or a key computed, for so long (30s)",
     .at = offsetof(struct publish_options, timeout_ms),
     .least = 1,
     .most = INT32_MAX},
    SHOVE_BROKER_OPTION,
    SHOVE_CONNECT_OPTION,
    SHOVE_LOAD_OPTION,
    SHOVE_LOG_OPTIONS,
};

/* --- What was asked for */

static int add_header(struct shove_buffer *headers, const char *text) {
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        return shove_report(SHOVE_EXIT_USAGE, "--header: '%s' must be NAME=VALUE", text);
    size_t prefix_size = sizeof SHOVE_HEADER_PREFIX - 1;
    if (strncasecmp(text, SHOVE_HEADER_PREFIX, prefix_size) == 0)
        return shove_report(SHOVE_EXIT_USAGE,
                            "--header: '%.*s' begins with %s, which is kept for shove's own "
                            "headers: choose another name",
                            (int)(equals - text), text, SHOVE_HEADER_PREFIX);
    shove_headers_append(headers, text, (size_t)(equals - text), equals + 1, strlen(equals + 1));
    return 0;
}

static int add_headers(struct publish_command *command) {
    const struct shove_texts *headers = &command->options.headers;
    struct shove_publishing *publishing = &command->publishing;
    for (size_t i = 0; i < headers->count; i++) {
        int exit_code = add_header(&publishing->headers, headers->items[i]);
        if (exit_code != 0)
            return exit_code;
    }
    publishing->user_headers_size = publishing->headers.size;
    return 0;
}

/* What the topic asks of a message. */
static int check_topic(struct publish_command *command, const char *name) {
    struct shove_publishing *publishing = &command->publishing;
    struct shove_error error;
    enum shove_app_topic_kind kind;
    const struct shove_topic *topic;
    if (shove_app_find_topic(&command->app, name, &kind, &topic, &error) != 0)
        return shove_report_error(&error);
    bool is_raw = command->options.is_raw;
    if (topic->codec == SHOVE_CODEC_CUSTOM && !is_raw)
        return shove_report(SHOVE_EXIT_USAGE,
                            "'%s' has a codec of its own, which only the script can run: give "
                            "--raw and bodies that are encoded already",
                            name);
    bool needs_key = kind == SHOVE_APP_QUEUE && command->options.key == NULL;
    command->computes_keys = needs_key && shove_app_has_key(&command->app, name);
    if (needs_key && !command->computes_keys && topic->sequencing != SHOVE_UNSEQUENCED)
        return shove_report(SHOVE_EXIT_USAGE,
                            "'%s' is sequenced: its order is kept per key, so give --key (or the "
                            "topic a key function)",
                            name);
    command->broker = topic->broker;
    publishing->topic = name;
    publishing->checks_json = topic->codec == SHOVE_CODEC_JSON && !is_raw;
    publishing->skips_empty = publishing->checks_json;
    publishing->most_bytes = (size_t)shove_app_max_message_size(&command->app, name);
    return 0;
}

static int check_partition(struct publish_command *command) {
    struct shove_publishing *publishing = &command->publishing;
    const struct publish_options *given = &command->options;
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

static int open_client(struct publish_command *command) {
    struct shove_publishing *publishing = &command->publishing;
    struct shove_client_options how = {
        .timeout_ms = command->options.common.connect_timeout_ms,
        .max_message_size_bytes = (int64_t)publishing->most_bytes,
        .broker = command->broker,
        .purpose = "publish",
    };
    struct shove_error error;
    struct shove_client *client = &publishing->client;
    if (shove_client_open(client, &command->app, &how, shove_publish_produced, publishing,
                          &error) != 0)
        return shove_report_error(&error);
    client->timeout_ms = command->options.timeout_ms;
    if (shove_declare_topic(client->transport, &command->app.topology, command->broker,
                            publishing->topic, &error) != 0)
        return shove_report_error(&error);
    if (shove_uuid_init(&publishing->ids) != 0)
        return shove_report(SHOVE_EXIT_FAILURE, "the system gives no random numbers for ids");
    return check_partition(command);
}

static int open_keys(struct publish_command *command) {
    const struct shove_common_options *common = &command->options.common;
    const struct shove_keys_options how = {
        .app = &command->app,
        .topic = command->publishing.topic,
        .broker = common->broker,
        .most_bytes = command->publishing.most_bytes,
        .load_timeout_ms = common->load_timeout_ms,
        .timeout_ms = command->options.timeout_ms,
    };
    struct shove_error error;
    if (!command->computes_keys)
        return 0;
    command->publishing.keys = &command->keys;
    if (shove_keys_open(&command->keys, &command->publishing.client, &how, &error) != 0)
        return shove_report_error(&error);
    return 0;
}

static int publish(struct publish_command *command, char **operands, int count) {
    struct shove_publishing *publishing = &command->publishing;
    publishing->key = command->options.key;
    publishing->partition = (int32_t)command->options.partition;
    publishing->is_quiet = command->options.is_quiet;
    int exit_code = add_headers(command);
    if (exit_code == 0)
        exit_code = shove_app_load(&command->app, operands[0], &command->options.common);
    if (exit_code == 0)
        exit_code = check_topic(command, operands[1]);
    if (exit_code == 0)
        exit_code = open_client(command);
    if (exit_code == 0)
        exit_code = open_keys(command);
    if (exit_code != 0)
        return exit_code;
    shove_client_catch_signals(&publishing->client);
    publishing->started_ms = publishing->progress_ms = shove_clock_mono_ms();
    publishing->word = count > 2 ? "message" : "line";
    if (count > 2)
        shove_publish_arguments(publishing, operands + 2, count - 2);
    else
        shove_publish_input(publishing);
    return shove_publish_finish(publishing);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct publish_command this = {
        .options = {.common = SHOVE_COMMON_DEFAULTS, .partition = -1, .timeout_ms = 30000}};
    int operands;
    int exit_code = shove_options_parse(command, argc, argv, &this.options, &operands);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    exit_code = shove_common_setup_log(&this.options.common, NULL);
    if (exit_code == 0)
        exit_code = publish(&this, argv + operands, argc - operands);
    shove_keys_close(&this.keys);
    shove_client_close(&this.publishing.client);
    shove_app_release(&this.app);
    shove_buffer_release(&this.publishing.headers);
    shove_texts_release(&this.options.headers);
    return exit_code;
}

const struct shove_command shove_publish_command = {
    .name = "publish",
    .operands = "APP TOPIC [BODY...]",
    .summary = "Publishes messages: one per BODY, or one per line of standard input",
    .text =
        "A body must be valid JSON when the topic's codec is json (the default). Where the topic\n"
        "has a key function, it computes each message's key, unless --key is given. The topic\n"
        "is created when it does not exist yet. Prints what the broker has acknowledged; exits\n"
        "0 only when that is everything.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = SHOVE_OPERANDS_ANY,
    .run = run,
};
