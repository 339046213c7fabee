/* dlq_list_command.c: `shove dlq list`. Cli. */
#include <inttypes.h>

#include "cli/dlq.h"
#include "cli/report.h"
#include "core/tally.h"

static const struct shove_option options[] = {
    SHOVE_DLQ_FILTER_OPTIONS,
    {.name = "all",
     .letter = 'a',
     .kind = SHOVE_OPTION_FLAG,
     .help = "those that were replayed or purged already, too",
     .at = offsetof(struct shove_dlq_options, is_all)},
    SHOVE_DLQ_JSON_OPTION,
    SHOVE_DLQ_COMMON_OPTIONS,
};

struct listing {
    struct shove_dlq *dlq;
    uint64_t listed;
    bool has_more; /* than the limit shows */
};

static int list_letter(void *ctx, const struct shove_letter *letter) {
    struct listing *listing = ctx;
    const struct shove_dlq_options *given = &listing->dlq->options;
    if ((letter->is_settled && !given->is_all) || !shove_dlq_means(listing->dlq, letter))
        return 0;
    listing->has_more = given->limit > 0 && listing->listed == (uint64_t)given->limit;
    if (listing->has_more)
        return 1;
    if (!given->is_json && listing->listed == 0)
        shove_letter_print_head(stdout);
    if (given->is_json)
        shove_letter_print_json(stdout, letter, false);
    else
        shove_letter_print_row(stdout, letter);
    listing->listed++;
    return 0;
}

static bool is_filtered(const struct shove_dlq *dlq) {
    return dlq->options.reason != NULL || dlq->has_since || dlq->options.key != NULL ||
           dlq->only_queue != NULL;
}

static void print_end(const struct listing *listing) {
    const struct shove_dlq *dlq = listing->dlq;
    const char *filtered = is_filtered(dlq) ? " that the filters mean" : "";
    if (listing->listed == 0 && dlq->partition_count == 0)
        printf("no dead letters: %s does not exist yet\n", dlq->name);
    else if (listing->listed == 0)
        printf("no dead letters wait in %s%s\n", dlq->name, filtered);
    else if (listing->has_more)
        printf("the first %" PRIu64 " in %s%s; there are more\n", listing->listed, dlq->name,
               filtered);
    else
        printf("%" PRIu64 " in %s%s\n", listing->listed, dlq->name, filtered);
}

static int list(struct shove_dlq *dlq) {
    struct listing listing = {.dlq = dlq};
    struct shove_error error;
    int code = shove_dlq_walk(dlq, list_letter, &listing, &error);
    if (!dlq->options.is_json && (code == 0 || listing.listed > 0))
        print_end(&listing);
    return code == 0 ? 0 : shove_report_error(&error);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct shove_dlq dlq = {0};
    char **operands;
    int exit_code = shove_dlq_open(&dlq, command, argc, argv, &operands);
    if (exit_code == 0)
        exit_code = list(&dlq);
    shove_dlq_close(&dlq);
    return exit_code == SHOVE_DLQ_ENDED ? 0 : exit_code;
}

const struct shove_command shove_dlq_list_command = {
    .name = "dlq list",
    .operands = "APP TOPIC",
    .summary = "Lists the dead letters of a topic that wait to be replayed or purged",
    .text =
        "TOPIC is a queue, which stands for its DLQ, or the name of a DLQ. Where one DLQ serves\n"
        "several queues, a queue's name means its letters only. POSITION is partition:offset.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = 2,
    .run = run,
};
