/* poison_clear_command.c: `shove poison clear`: messages of a poisoned key are handled again. Cli.
 *
 * A key is cleared by a tombstone in the partition that has its poison, which is the partition of
 * its messages. Partition by partition: read, clear, wait for the acknowledgements. To clear twice
 * does no harm, so a clear that was interrupted is run again.
 */
#include <inttypes.h>

#include "cli/poison.h"
#include "cli/report.h"
#include "core/tally.h"

static const struct shove_option options[] = {
    SHOVE_POISON_BASE64_OPTION,
    SHOVE_DRY_RUN_OPTION(struct shove_poison_options),
    SHOVE_POISON_COMMON_OPTIONS,
};

struct clearing {
    struct shove_poison *poison;
    uint64_t cleared;           /* acknowledged; of a dry run: would be */
    struct shove_error failure; /* the first; code 0: none */
};

static int preview_keys(void *ctx, const struct shove_poisoned *first, struct shove_error *error) {
    struct clearing *clearing = ctx;
    (void)error;
    for (const struct shove_poisoned *key = first; key != NULL; key = key->next) {
        if (clearing->cleared++ == 0)
            shove_poisoned_print_head(stdout);
        shove_poisoned_print_row(stdout, key);
    }
    return 0;
}

static void on_produced(void *ctx, const struct shove_produced *result) {
    struct clearing *clearing = ctx;
    if (result->code == 0)
        clearing->cleared++;
    else if (clearing->failure.code == 0)
        shove_error_set(&clearing->failure, result->code, "%s/%d: %s", clearing->poison->name,
                        (int)(uintptr_t)result->opaque, shove_client_refusal(result));
}

static int clear_key(struct shove_poison *poison, const struct shove_poisoned *key,
                     struct shove_error *error) {
    struct shove_produce what = {
        .topic = poison->name,
        .partition = key->partition,
        .record = {.key = key->key, .key_size = key->key_size, .timestamp_ms = -1, .offset = -1},
        .is_hop = true, /* what was written under this key can be written again */
        .opaque = (void *)(uintptr_t)key->partition,
    };
    return shove_client_produce(&poison->client, &what, error);
}

static int clear_keys(void *ctx, const struct shove_poisoned *first, struct shove_error *error) {
    struct clearing *clearing = ctx;
    struct shove_client *client = &clearing->poison->client;
    struct shove_error waiting;
    int code = 0;
    for (const struct shove_poisoned *key = first;
         key != NULL && code == 0 && clearing->failure.code == 0; key = key->next)
        code = clear_key(clearing->poison, key, error);
    /* What was sent is waited for in any case: what arrived must be counted. */
    int waited = shove_client_settle(client, 0, &waiting);
    if (code == 0 && waited != 0)
        *error = waiting;
    else if (code == 0 && clearing->failure.code != 0)
        *error = clearing->failure;
    else if (code == 0)
        return 0;
    return error->code;
}

static const char *plural(uint64_t count) {
    return count == 1 ? "" : "s";
}

static int complain_absent(const struct shove_poison *poison) {
    return shove_report(SHOVE_EXIT_FAILURE,
                        "the key '%.200s' is not poisoned ('shove poison list' shows those that "
                        "are)",
                        poison->options.key);
}

static int preview(struct shove_poison *poison) {
    struct clearing clearing = {.poison = poison};
    struct shove_error error;
    if (shove_poison_walk(poison, preview_keys, &clearing, &error) != 0)
        return shove_report_error(&error);
    if (poison->key != NULL && clearing.cleared == 0)
        return complain_absent(poison);
    printf("would clear %" PRIu64 " key%s\n", clearing.cleared, plural(clearing.cleared));
    return 0;
}

static int clear(struct shove_poison *poison) {
    struct clearing clearing = {.poison = poison};
    struct shove_error error;
    poison->client.produced = on_produced;
    poison->client.ctx = &clearing;
    shove_client_catch_signals(&poison->client);
    int code = shove_poison_walk(poison, clear_keys, &clearing, &error);
    if (code == 0 && clearing.cleared == 0 && poison->key != NULL)
        return complain_absent(poison);
    if (code == 0 && clearing.cleared == 0) {
        shove_poison_print_end(stdout, 0);
        return 0;
    }
    printf("cleared %" PRIu64 " key%s%s\n", clearing.cleared, plural(clearing.cleared),
           clearing.cleared == 0   ? ""
           : clearing.cleared == 1 ? "; a running app goes on with it within 6 s"
                                   : "; a running app goes on with them within 6 s");
    if (code == 0)
        return 0;
    shove_error_prefix(&error, "not all is cleared (run it again to go on)");
    return shove_report_stop(&error);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct shove_poison poison = {0};
    int exit_code = shove_poison_open(&poison, command, argc, argv);
    if (exit_code == 0)
        exit_code = poison.options.is_dry_run ? preview(&poison) : clear(&poison);
    shove_poison_close(&poison);
    return exit_code == SHOVE_POISON_ENDED ? 0 : exit_code;
}

const struct shove_command shove_poison_clear_command = {
    .name = "poison clear",
    .operands = "APP TOPIC [KEY]",
    .summary = "Has messages of a poisoned key handled again; without KEY, of all of them",
    .text =
        "What is published under the key from then on, or waits, is handled. Dead letters stay\n"
        "where they are: send them back with 'shove dlq replay' once the key is cleared.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = 3,
    .run = run,
};
