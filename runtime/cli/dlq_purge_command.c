/* dlq_purge_command.c: `shove dlq purge`: dead letters are given up. Cli.
 *
 * They are marked like replayed ones, and then everything below the frontier is deleted: a log can
 * only be cut at its beginning, so a purged letter behind one that still waits stays on disk, out
 * of sight, until that one is settled too.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/dlq.h"
#include "cli/report.h"
#include "core/tally.h"

static const struct shove_option options[] = {
    SHOVE_DLQ_FILTER_OPTIONS,
    SHOVE_DLQ_DRY_RUN_OPTION,
    {.name = "yes",
     .letter = 'y',
     .kind = SHOVE_OPTION_FLAG,
     .help = "do not ask",
     .at = offsetof(struct shove_dlq_options, is_yes)},
    SHOVE_DLQ_COMMON_OPTIONS,
};

struct preview {
    const struct shove_dlq *dlq;
    uint64_t count;
};

static int preview_letter(void *ctx, const struct shove_letter *letter) {
    struct preview *preview = ctx;
    const struct shove_dlq_options *given = &preview->dlq->options;
    if (letter->is_settled || !shove_dlq_means(preview->dlq, letter))
        return 0;
    if (given->is_dry_run && preview->count == 0)
        shove_letter_print_head(stdout);
    if (given->is_dry_run)
        shove_letter_print_row(stdout, letter);
    preview->count++;
    return given->limit > 0 && preview->count >= (uint64_t)given->limit;
}

static int mark_batch(void *ctx, const struct shove_letter *letters, size_t count, bool *is_done,
                      struct shove_error *error) {
    (void)ctx;
    (void)letters;
    (void)error;
    memset(is_done, true, count);
    return 0;
}

static int delete_settled(void *ctx, const struct shove_dlq_partition *partition,
                          struct shove_error *error) {
    const struct shove_dlq *dlq = ctx;
    const struct shove_client *client = &dlq->client;
    int64_t frontier = shove_ledger_frontier(&partition->ledger);
    if (frontier > partition->high)
        frontier = partition->high;
    if (frontier <= partition->low)
        return 0;
    return client->ops->delete_before(client->transport, dlq->name, partition->number, frontier,
                                      client->timeout_ms, error);
}

static bool is_agreed(const struct shove_dlq *dlq, uint64_t count) {
    char answer[16];
    fprintf(stderr, "purge %" PRIu64 " dead letter%s of %s for good? [y/N] ", count,
            count == 1 ? "" : "s", dlq->name);
    return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int purge_all(struct shove_dlq *dlq) {
    struct shove_dlq_settling settling = {
        .act = mark_batch, .partition_done = delete_settled, .ctx = dlq};
    struct shove_error error;
    shove_client_catch_signals(&dlq->client);
    int code = shove_dlq_settle(dlq, &settling, &error);
    printf("purged %" PRIu64 " dead letter%s of %s\n", settling.settled,
           settling.settled == 1 ? "" : "s", dlq->name);
    if (code == 0)
        return 0;
    if (code != SHOVE_EUNSUPPORTED) /* which says by itself what to do */
        shove_error_prefix(&error, "the purge did not finish (run it again to go on)");
    return shove_report_stop(&error);
}

static int purge(struct shove_dlq *dlq) {
    const struct shove_dlq_options *given = &dlq->options;
    struct preview preview = {.dlq = dlq};
    struct shove_error error;
    bool asks = !given->is_yes && !given->is_dry_run;
    if (asks && !isatty(STDIN_FILENO))
        return shove_report(SHOVE_EXIT_USAGE,
                            "'shove dlq purge' deletes dead letters for good and cannot ask here: "
                            "give --yes, or --dry-run to see which");
    if ((asks || given->is_dry_run) && shove_dlq_walk(dlq, preview_letter, &preview, &error) != 0)
        return shove_report_error(&error);
    if (given->is_dry_run) {
        printf("would purge %" PRIu64 " dead letter%s of %s\n", preview.count,
               preview.count == 1 ? "" : "s", dlq->name);
        return 0;
    }
    if (asks && preview.count == 0) {
        printf("no dead letters to purge in %s\n", dlq->name);
        return 0;
    }
    if (asks && !is_agreed(dlq, preview.count))
        return shove_report(SHOVE_EXIT_FAILURE, "nothing was purged");
    return purge_all(dlq);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct shove_dlq dlq = {0};
    char **operands;
    int exit_code = shove_dlq_open(&dlq, command, argc, argv, &operands);
    if (exit_code == 0)
        exit_code = purge(&dlq);
    shove_dlq_close(&dlq);
    return exit_code == SHOVE_DLQ_ENDED ? 0 : exit_code;
}

const struct shove_command shove_dlq_purge_command = {
    .name = "dlq purge",
    .operands = "APP TOPIC",
    .summary = "Gives dead letters up for good",
    .text =
        "Asks first on a terminal; elsewhere --yes is needed. Letters behind one that still waits\n"
        "are out of sight at once, and leave the disk when that one is settled.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = 2,
    .run = run,
};
