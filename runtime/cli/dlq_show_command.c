/* dlq_show_command.c: `shove dlq show`: everything about one dead letter. Cli. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli/dlq.h"
#include "cli/report.h"
#include "core/tally.h"

static const struct shove_option options[] = {SHOVE_DLQ_JSON_OPTION, SHOVE_DLQ_COMMON_OPTIONS};

struct showing {
    struct shove_dlq *dlq;
    const char *id;
    uint64_t shown;
};

static void show_letter(const struct shove_dlq *dlq, const struct shove_letter *letter) {
    if (dlq->options.is_json)
        shove_letter_print_json(stdout, letter, true);
    else
        shove_letter_print(stdout, dlq, letter);
}

/* "3:1042". */
static bool parse_position(const char *text, int32_t *partition, int64_t *offset) {
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    long number = strtol(text, &end, 10);
    if (*end != ':' || !isdigit((unsigned char)end[1]) || number > INT32_MAX)
        return false;
    *partition = (int32_t)number;
    *offset = strtoll(end + 1, &end, 10);
    return *end == '\0';
}

static int show_match(void *ctx, const struct shove_letter *letter) {
    struct showing *showing = ctx;
    struct shove_text id = letter->info.message_id;
    if (id.data == NULL || id.size != strlen(showing->id) ||
        memcmp(id.data, showing->id, id.size) != 0)
        return 0;
    if (showing->shown++ > 0 && !showing->dlq->options.is_json)
        putchar('\n');
    show_letter(showing->dlq, letter);
    return 0;
}

/* A message that died, was replayed and died again is there more than once. */
static int show_by_id(struct shove_dlq *dlq, const char *id) {
    struct showing showing = {.dlq = dlq, .id = id};
    struct shove_error error;
    if (shove_dlq_walk(dlq, show_match, &showing, &error) != 0)
        return shove_report_error(&error);
    if (showing.shown > 0)
        return 0;
    return shove_report(
        SHOVE_EXIT_FAILURE,
        "no letter in %s has the message id '%s': 'shove dlq list' shows positions, "
        "with --json ids too",
        dlq->name, id);
}

static int complain_range(const struct shove_dlq *dlq, const struct shove_dlq_partition *partition,
                          int64_t offset) {
    if (partition->low == partition->high)
        return shove_report(SHOVE_EXIT_FAILURE, "%s has nothing at %d:%lld: partition %d is empty",
                            dlq->name, partition->number, (long long)offset, partition->number);
    return shove_report(SHOVE_EXIT_FAILURE,
                        "%s has nothing at %d:%lld: partition %d holds offsets %lld to %lld",
                        dlq->name, partition->number, (long long)offset, partition->number,
                        (long long)partition->low, (long long)partition->high - 1);
}

static int show_read(struct shove_dlq *dlq, struct shove_dlq_partition *partition, int64_t offset) {
    struct shove_error error;
    struct shove_batch batch;
    if (offset < partition->low || offset >= partition->high)
        return complain_range(dlq, partition, offset);
    int64_t frontier_next = partition->ledger.next_offset;
    partition->next = offset;
    long count = shove_dlq_partition_read(dlq, partition, 1, &batch, &error);
    if (count < 0)
        return shove_report_error(&error);
    int exit_code = 0;
    if (count == 0 || batch.records[0].offset != offset) {
        exit_code = shove_report(SHOVE_EXIT_FAILURE, "%s has no record at %d:%lld", dlq->name,
                                 partition->number, (long long)offset);
    } else {
        struct shove_letter letter;
        struct shove_ledger_entry entry;
        shove_letter_read(&letter, partition->number, &batch.records[0]);
        letter.is_settled =
            offset < frontier_next ||
            shove_ledger_deliver(&partition->ledger, &entry, offset, 0) != SHOVE_LEDGER_OPENED;
        if (!letter.is_settled)
            shove_ledger_close(&partition->ledger, &entry);
        show_letter(dlq, &letter);
    }
    if (count > 0)
        dlq->client.ops->batch_release(dlq->client.transport, &batch);
    return exit_code;
}

static int show_by_position(struct shove_dlq *dlq, int32_t number, int64_t offset) {
    if (number >= dlq->partition_count)
        return shove_report(SHOVE_EXIT_FAILURE, "%s has %d partitions, counted from 0, and no %d",
                            dlq->name, dlq->partition_count, number);
    struct shove_dlq_partition partition;
    struct shove_error error;
    int exit_code;
    if (shove_dlq_partition_open(dlq, &partition, number, &error) == 0)
        exit_code = show_read(dlq, &partition, offset);
    else
        exit_code = shove_report_error(&error);
    shove_dlq_partition_close(&partition);
    return exit_code;
}

static int show(struct shove_dlq *dlq, const char *what) {
    if (dlq->partition_count == 0)
        return shove_report(SHOVE_EXIT_FAILURE, "no dead letters: %s does not exist yet",
                            dlq->name);
    int32_t partition;
    int64_t offset;
    if (parse_position(what, &partition, &offset))
        return show_by_position(dlq, partition, offset);
    return show_by_id(dlq, what);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct shove_dlq dlq = {0};
    char **operands;
    int exit_code = shove_dlq_open(&dlq, command, argc, argv, &operands);
    if (exit_code == 0)
        exit_code = show(&dlq, operands[2]);
    shove_dlq_close(&dlq);
    return exit_code == SHOVE_DLQ_ENDED ? 0 : exit_code;
}

const struct shove_command shove_dlq_show_command = {
    .name = "dlq show",
    .operands = "APP TOPIC PARTITION:OFFSET|ID",
    .summary = "Shows one dead letter: why it died, headers, payload",
    .text = "By its position, as 'shove dlq list' prints it, or by its message id (all letters of\n"
            "that message). A payload that is no text is shown in hexadecimal.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 3,
    .operands_max = 3,
    .run = run,
};
