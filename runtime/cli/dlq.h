/* dlq.h: what the `shove dlq` commands share: the DLQ they were given, reading it, which letters
 * they mean, and remembering what was settled. Cli.
 *
 * A letter is *settled* once it was replayed or purged; until then it waits. What is settled is the
 * commit of the group {dlq}-triage: one core/ledger per partition, its frontier as the offset and
 * the rest as metadata. So an interrupted replay goes on where it was, and nothing in the DLQ
 * itself is ever rewritten. One command at a time may settle letters of a DLQ; a second one is
 * noticed when the marks are not what they were.
 */
#ifndef SHOVE_CLI_DLQ_H
#define SHOVE_CLI_DLQ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/record.h"
#include "cli/app.h"
#include "cli/client.h"
#include "cli/command.h"
#include "core/hop_headers.h"
#include "core/ledger.h"

#define SHOVE_DLQ_BATCH 500

struct shove_dlq_options {
    struct shove_common_options common; /* first */
    const char *reason;                 /* NULL: any */
    const char *since;
    const char *key;
    int64_t limit; /* 0: none */
    int64_t timeout_ms;
    bool is_all; /* list: settled ones too */
    bool is_json;
    bool is_dry_run;
    bool is_yes;
};

struct shove_dlq {
    struct shove_dlq_options options;
    struct shove_app app;
    struct shove_client client;
    const char *name;  /* of the DLQ */
    uint32_t broker;   /* index: where it is */
    const char *queue; /* where a letter goes that does not say where it came from; NULL: unclear */
    const char *only_queue; /* only letters of this queue are meant; NULL: all */
    char triage[SHOVE_NAME_SIZE + 16];
    bool has_since;
    int64_t since_ms;
    size_t metadata_max; /* characters of a commit's metadata that the broker takes, as far as it
                            has refused any */
    int32_t partition_count; /* 0: the DLQ does not exist yet */
    int64_t *ends;           /* of the partitions when the command began: what is replayed may die
                                again meanwhile, and is not looked at twice */
};

struct shove_letter { /* borrows the batch it was read in */
    int32_t partition;
    const struct shove_record *record;
    struct shove_hop_info info;
    size_t originals_size; /* of record->headers: what was there before shove's block */
    bool is_settled;
};

/* One partition as it was when the command began. */
struct shove_dlq_partition {
    int32_t number;
    int64_t low;
    int64_t high;      /* letters that arrive later are not looked at */
    int64_t next;      /* offset to read */
    int64_t committed; /* what the group's marks were, to notice somebody else's; -1: none */
    char *metadata;    /* owned; NULL: none */
    struct shove_ledger ledger;
};

/* ---- dlq.c ---- */

/* Parses options, loads APP, resolves TOPIC, opens the broker. 0 and *operands (of which the first
 * two are APP and TOPIC), or an exit code (SHOVE_DLQ_ENDED: nothing more to do, exit 0). `dlq`
 * holds nothing but zeroes; shove_dlq_close in any case. */
#define SHOVE_DLQ_ENDED (-1)
int shove_dlq_open(struct shove_dlq *dlq, const struct shove_command *command, int argc,
                   char **argv, char ***operands);
void shove_dlq_close(struct shove_dlq *dlq);

/* Reads what the headers of a record say. Never fails: a record that shove did not write is a
 * letter without a reason. */
void shove_letter_read(struct shove_letter *letter, int32_t partition,
                       const struct shove_record *record);
/* Do the filters mean this letter? Settled or not is not looked at. */
bool shove_dlq_means(const struct shove_dlq *dlq, const struct shove_letter *letter);

/* ---- dlq_read.c ---- */

/* Watermarks and marks. 0, or an error; shove_dlq_partition_close in any case. */
int shove_dlq_partition_open(struct shove_dlq *dlq, struct shove_dlq_partition *partition,
                             int32_t number, struct shove_error *error);
void shove_dlq_partition_close(struct shove_dlq_partition *partition);

/* The next records below `high`, at most `max`: their number, to be given back with
 * client.ops->batch_release when > 0; 0 at the end. Negative: an error. */
long shove_dlq_partition_read(struct shove_dlq *dlq, struct shove_dlq_partition *partition,
                              size_t max, struct shove_batch *batch, struct shove_error *error);

/* Calls `each` for the letters of all partitions, in order, settled ones included. It returns 0 to
 * go on, 1 to end the walk. 0 or an error; from a partition that is damaged somewhere the walk goes
 * on to the next one. */
typedef int shove_dlq_each(void *ctx, const struct shove_letter *letter);
int shove_dlq_walk(struct shove_dlq *dlq, shove_dlq_each *each, void *ctx,
                   struct shove_error *error);

/* ---- dlq_settle.c ---- */

/* Does what is to be done with the `count` letters and sets is_done[i] for those that need it no
 * longer. 0 or an error, which ends the whole after the marks were written. */
typedef int shove_dlq_act(void *ctx, const struct shove_letter *letters, size_t count,
                          bool *is_done, struct shove_error *error);
/* A partition is through, its marks are written. 0 or an error. */
typedef int shove_dlq_partition_done(void *ctx, const struct shove_dlq_partition *partition,
                                     struct shove_error *error);

struct shove_dlq_settling {
    shove_dlq_act *act;
    shove_dlq_partition_done *partition_done;                        /* NULL: nothing */
    bool (*is_wanted)(void *ctx, const struct shove_letter *letter); /* beyond the filters; NULL */
    void *ctx;
    uint64_t settled; /* acted on and marked */
    uint64_t left;    /* seen, waiting, not meant */
};

/* Settles the letters that the filters mean, batch by batch: act, then mark. 0 or an error. */
int shove_dlq_settle(struct shove_dlq *dlq, struct shove_dlq_settling *settling,
                     struct shove_error *error);

/* ---- dlq_print.c ---- */

void shove_letter_print_head(FILE *out);
void shove_letter_print_row(FILE *out, const struct shove_letter *letter);
void shove_letter_print(FILE *out, const struct shove_dlq *dlq, const struct shove_letter *letter);
/* One line of JSON; with `is_whole` headers and payload too. 0 or SHOVE_ENOMEM. */
int shove_letter_print_json(FILE *out, const struct shove_letter *letter, bool is_whole);

/* ---- option tables ---- */

#define SHOVE_DLQ_FILTER_OPTIONS                                                                   \
    {.name = "reason",                                                                             \
     .kind = SHOVE_OPTION_TEXT,                                                                    \
     .argument = "REASON",                                                                         \
     .help = "only those that died of this",                                                       \
     .at = offsetof(struct shove_dlq_options, reason),                                             \
     .is_single = true},                                                                           \
        {.name = "since",                                                                          \
         .kind = SHOVE_OPTION_TEXT,                                                                \
         .argument = "WHEN",                                                                       \
         .help = "only those that died at or after it: 2h, 2026-01-31T12:00:00Z",                  \
         .at = offsetof(struct shove_dlq_options, since),                                          \
         .is_single = true},                                                                       \
        {.name = "key",                                                                            \
         .letter = 'k',                                                                            \
         .kind = SHOVE_OPTION_TEXT,                                                                \
         .argument = "KEY",                                                                        \
         .help = "only those with this key",                                                       \
         .at = offsetof(struct shove_dlq_options, key),                                            \
         .is_single = true},                                                                       \
    {                                                                                              \
        .name = "limit", .letter = 'n', .kind = SHOVE_OPTION_NUMBER, .argument = "N",              \
        .help = "at most so many", .at = offsetof(struct shove_dlq_options, limit), .least = 1,    \
        .most = INT64_MAX                                                                          \
    }
#define SHOVE_DLQ_JSON_OPTION SHOVE_JSON_OPTION(struct shove_dlq_options)
#define SHOVE_DLQ_DRY_RUN_OPTION SHOVE_DRY_RUN_OPTION(struct shove_dlq_options)
#define SHOVE_DLQ_COMMON_OPTIONS                                                                   \
    SHOVE_SILENCE_OPTION(struct shove_dlq_options), SHOVE_BROKER_OPTION, SHOVE_CONNECT_OPTION,     \
        SHOVE_LOAD_OPTION, SHOVE_LOG_OPTIONS

#endif
