/* dlq_replay_command.c: `shove dlq replay`: dead letters go back to the queue they came from. Cli.
 *
 * What is produced: key, payload, timestamp and original headers as they are, byte for byte, and a
 * block with the message id and the death count. It goes to the partition it came from, so messages
 * of one key meet again wherever some other client's partitioner had put them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/dlq.h"
#include "cli/report.h"
#include "control/declare.h"
#include "core/tally.h"

static const struct shove_option options[] = {
    SHOVE_DLQ_FILTER_OPTIONS,
    SHOVE_DLQ_DRY_RUN_OPTION,
    SHOVE_DLQ_COMMON_OPTIONS,
};

struct target { /* a queue letters go back to */
    const char *name;
    int32_t partition_count; /* 0: not asked yet */
    uint64_t replayed;
};

struct replay {
    struct shove_dlq *dlq;
    struct target *targets; /* as many as the app has topics, some unused */
    uint32_t target_count;
    struct shove_buffer headers;
    uint64_t homeless; /* letters whose queue the app does not have on the DLQ's broker */
    /* of the batch at hand */
    bool *is_done;
    const struct shove_letter *letters;
    struct shove_error failure; /* the first; code 0: none */
};

/* --- Where to */

static struct target *find_target(struct replay *replay, const char *name, size_t size) {
    for (uint32_t i = 0; i < replay->target_count; i++) {
        if (strlen(replay->targets[i].name) == size &&
            memcmp(replay->targets[i].name, name, size) == 0)
            return &replay->targets[i];
    }
    return NULL;
}

static struct target *target_of(struct replay *replay, const struct shove_letter *letter) {
    struct shove_text origin = letter->info.original_queue;
    if (origin.data != NULL)
        return find_target(replay, origin.data, origin.size);
    const char *queue = replay->dlq->queue;
    return queue != NULL ? find_target(replay, queue, strlen(queue)) : NULL;
}

static bool has_home(void *ctx, const struct shove_letter *letter) {
    struct replay *replay = ctx;
    if (target_of(replay, letter) != NULL)
        return true;
    replay->homeless++;
    return false;
}

static int list_targets(struct replay *replay) {
    const struct shove_topology *topology = &replay->dlq->app.topology;
    replay->targets = calloc(topology->topic_count + 1, sizeof *replay->targets);
    if (replay->targets == NULL)
        return shove_report(SHOVE_EXIT_FAILURE, "out of memory");
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const char *name = topology->topics[i].name;
        if (topology->topics[i].broker != replay->dlq->broker)
            continue;
        if (find_target(replay, name, strlen(name)) == NULL)
            replay->targets[replay->target_count++].name = name;
    }
    return 0;
}

/* Before the first letter goes there: the queue exists, and how many partitions it has. */
static int open_target(struct replay *replay, struct target *target, struct shove_error *error) {
    const struct shove_client *client = &replay->dlq->client;
    int code = shove_declare_topic(client->transport, &replay->dlq->app.topology,
                                   replay->dlq->broker, target->name, error);
    if (code != 0)
        return code;
    long count =
        client->ops->partition_count(client->transport, target->name, client->timeout_ms, error);
    if (count < 0)
        return (int)count;
    target->partition_count = (int32_t)count;
    return 0;
}

/* The partition it came from, where the queue still has it; else by key. */
static int choose_partition(struct replay *replay, struct target *target,
                            const struct shove_letter *letter, int32_t *out,
                            struct shove_error *error) {
    int code = target->partition_count == 0 ? open_target(replay, target, error) : 0;
    bool is_known = letter->info.original_queue.data != NULL &&
                    letter->info.original_partition >= 0 &&
                    letter->info.original_partition < target->partition_count;
    *out = is_known ? letter->info.original_partition : -1;
    return code;
}

/* --- Sending */

static int build_headers(struct replay *replay, const struct shove_letter *letter,
                         struct shove_error *error) {
    char derived[SHOVE_MESSAGE_ID_MAX];
    struct shove_hop_info info;
    shove_hop_info_init(&info);
    info.message_id = letter->info.message_id;
    info.death_count = letter->info.death_count;
    if (info.message_id.data == NULL)
        info.message_id = (struct shove_text){
            derived, shove_message_id_derive(replay->dlq->name, letter->partition,
                                             letter->record->offset, derived)};
    shove_buffer_clear(&replay->headers);
    if (letter->originals_size > 0)
        shove_buffer_append(&replay->headers, letter->record->headers, letter->originals_size);
    shove_hop_headers_append(&replay->headers, &info);
    if (replay->headers.is_failed)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory building headers");
    return 0;
}

static void name_letter(const struct replay *replay, const struct shove_letter *letter,
                        struct shove_error *error) {
    shove_error_prefix(error, "%s %d:%lld was not replayed", replay->dlq->name, letter->partition,
                       (long long)letter->record->offset);
}

static int send_letter(struct replay *replay, size_t index, struct shove_error *error) {
    const struct shove_letter *letter = &replay->letters[index];
    struct target *target = target_of(replay, letter);
    struct shove_produce what = {.is_hop = true,
                                 .topic = target->name,
                                 .record = *letter->record,
                                 .opaque = (void *)(uintptr_t)index};
    int code = choose_partition(replay, target, letter, &what.partition, error);
    if (code == 0)
        code = build_headers(replay, letter, error);
    what.record.headers = replay->headers.data;
    what.record.headers_size = replay->headers.size;
    what.record.offset = -1;
    if (code == 0)
        code = shove_client_produce(&replay->dlq->client, &what, error);
    if (code != 0 && code != SHOVE_ECLOSED)
        name_letter(replay, letter, error);
    return code;
}

static void on_produced(void *ctx, const struct shove_produced *result) {
    struct replay *replay = ctx;
    size_t index = (size_t)(uintptr_t)result->opaque;
    const struct shove_letter *letter = &replay->letters[index];
    if (result->code == 0) {
        replay->is_done[index] = true;
        target_of(replay, letter)->replayed++;
    } else if (replay->failure.code == 0) {
        shove_error_set(&replay->failure, result->code, "%s", shove_client_refusal(result));
        name_letter(replay, letter, &replay->failure);
    }
}

static int replay_batch(void *ctx, const struct shove_letter *letters, size_t count, bool *is_done,
                        struct shove_error *error) {
    struct replay *replay = ctx;
    replay->letters = letters;
    replay->is_done = is_done;
    int code = 0;
    for (size_t i = 0; i < count && code == 0 && replay->failure.code == 0; i++)
        code = send_letter(replay, i, error);
    /* What was sent is waited for in any case: what arrived must be marked. */
    struct shove_error waiting;
    int waited = shove_client_settle(&replay->dlq->client, 0, &waiting);
    if (code != 0)
        return code;
    if (waited != 0) {
        *error = waiting;
        return waited;
    }
    if (replay->failure.code != 0)
        *error = replay->failure;
    return replay->failure.code;
}

/* --- The command */

struct preview {
    struct replay *replay;
    uint64_t count;
};

static int preview_letter(void *ctx, const struct shove_letter *letter) {
    struct preview *preview = ctx;
    struct replay *replay = preview->replay;
    const struct shove_dlq *dlq = replay->dlq;
    if (letter->is_settled || !shove_dlq_means(dlq, letter) || !has_home(replay, letter))
        return 0;
    if (preview->count++ == 0)
        shove_letter_print_head(stdout);
    shove_letter_print_row(stdout, letter);
    target_of(replay, letter)->replayed++;
    return dlq->options.limit > 0 && preview->count >= (uint64_t)dlq->options.limit;
}

/* What goes back to a queue goes to all its groups: whoever handled it the first time does so
 * again. */
static void print_groups(const struct shove_topology *topology, const struct target *target) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < topology->group_count; i++)
        count += strcmp(shove_topology_source(topology, &topology->groups[i]), target->name) == 0;
    if (count < 2)
        return;
    printf("every group of %s is given them, not only the one they died in", target->name);
    const char *separator = ": ";
    for (uint32_t i = 0; i < topology->group_count; i++) {
        if (strcmp(shove_topology_source(topology, &topology->groups[i]), target->name) != 0)
            continue;
        printf("%s%s", separator, topology->groups[i].group_id);
        separator = ", ";
    }
    putchar('\n');
}

static void print_result(const struct replay *replay, const char *verb, uint64_t count) {
    const char *separator = " to ";
    uint64_t sent = 0;
    printf("%s %" PRIu64 " dead letter%s from %s", verb, count, count == 1 ? "" : "s",
           replay->dlq->name);
    for (uint32_t i = 0; i < replay->target_count; i++) {
        const struct target *target = &replay->targets[i];
        if (target->replayed == 0)
            continue;
        printf("%s%s (%" PRIu64 ")", separator, target->name, target->replayed);
        separator = ", ";
        sent += target->replayed;
    }
    putchar('\n');
    if (sent > count)
        printf("%" PRIu64
               " of those sent could not be marked: they still wait, and the next replay "
               "sends them again\n",
               sent - count);
    for (uint32_t i = 0; i < replay->target_count; i++) {
        if (replay->targets[i].replayed > 0)
            print_groups(&replay->dlq->app.topology, &replay->targets[i]);
    }
    if (replay->homeless > 0)
        printf("%" PRIu64 " left: the queue they came from is not one of %s, or not recorded%s\n",
               replay->homeless, replay->dlq->app.script,
               replay->dlq->queue == NULL ? " (name the queue, not the DLQ, to say where they go)"
                                          : "");
}

static int preview(struct replay *replay) {
    struct preview preview = {.replay = replay};
    struct shove_error error;
    if (shove_dlq_walk(replay->dlq, preview_letter, &preview, &error) != 0)
        return shove_report_error(&error);
    print_result(replay, "would replay", preview.count);
    return 0;
}

static int replay_all(struct replay *replay) {
    struct shove_dlq *dlq = replay->dlq;
    struct shove_dlq_settling settling = {
        .act = replay_batch, .is_wanted = has_home, .ctx = replay};
    struct shove_error error;
    dlq->client.produced = on_produced;
    dlq->client.ctx = replay;
    shove_client_catch_signals(&dlq->client);
    int code = shove_dlq_settle(dlq, &settling, &error);
    print_result(replay, "replayed", settling.settled);
    if (code == 0)
        return 0;
    if (code != SHOVE_EUNSUPPORTED) /* which says by itself what to do */
        shove_error_prefix(&error, "the replay did not finish (run it again to go on)");
    return shove_report_stop(&error);
}

static int replay_command(struct shove_dlq *dlq) {
    struct replay replay = {.dlq = dlq};
    int exit_code = list_targets(&replay);
    if (exit_code == 0)
        exit_code = dlq->options.is_dry_run ? preview(&replay) : replay_all(&replay);
    shove_buffer_release(&replay.headers);
    free(replay.targets);
    return exit_code;
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct shove_dlq dlq = {0};
    char **operands;
    int exit_code = shove_dlq_open(&dlq, command, argc, argv, &operands);
    if (exit_code == 0)
        exit_code = replay_command(&dlq);
    shove_dlq_close(&dlq);
    return exit_code == SHOVE_DLQ_ENDED ? 0 : exit_code;
}

const struct shove_command shove_dlq_replay_command = {
    .name = "dlq replay",
    .operands = "APP TOPIC",
    .summary = "Sends dead letters back to the queue they came from",
    .text =
        "Bytes, headers, key and timestamp are sent as they were. A letter is marked once the\n"
        "broker has acknowledged it, so a replay that was interrupted goes on where it was; at\n"
        "most the last 500 before a crash are sent twice. One replay or purge of a DLQ at a\n"
        "time. Every group that consumes the queue is given them. A letter that does not say\n"
        "where it came from goes to TOPIC's queue.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = 2,
    .run = run,
};
