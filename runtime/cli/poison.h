/* poison.h: what the `shove poison` commands share: the topic they were given, and which of its
 * keys are poisoned. Cli.
 *
 * A key is poisoned when the latest record of the poison topic that has it, in its partition, is no
 * tombstone. The same key in two partitions is two keys. What is held in memory at a time is the
 * poisoned keys of one partition, however many records it has.
 */
#ifndef SHOVE_CLI_POISON_H
#define SHOVE_CLI_POISON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/app.h"
#include "cli/client.h"
#include "cli/command.h"
#include "control/poison_record.h"

struct shove_poison_options {
    struct shove_common_options common; /* first */
    const char *key;                    /* as it was given; NULL: all */
    int64_t timeout_ms;
    bool is_base64; /* the key */
    bool is_json;
    bool is_dry_run;
};

struct shove_poison {
    struct shove_poison_options options;
    struct shove_app app;
    struct shove_client client;
    const char *name; /* of the poison topic */
    uint32_t broker;  /* index: where it is */
    const void *key;  /* the only one that is meant; NULL: all */
    size_t key_size;
    uint8_t *decoded;        /* owned: the key, when it was given in base64 */
    int32_t partition_count; /* 0: no key was ever poisoned */
};

struct shove_poisoned { /* one key */
    struct shove_poisoned *next;
    struct shove_poisoned *previous;
    int32_t partition;
    struct shove_poison_record record;
    size_t key_size;
    const uint8_t *key;
};

/* ---- poison.c ---- */

/* Parses options and a KEY behind APP and TOPIC, loads APP, finds TOPIC, opens the broker. 0, or an
 * exit code (SHOVE_POISON_ENDED: nothing more to do, exit 0). `poison` holds nothing but zeroes;
 * shove_poison_close in any case. */
#define SHOVE_POISON_ENDED (-1)
int shove_poison_open(struct shove_poison *poison, const struct shove_command *command, int argc,
                      char **argv);
void shove_poison_close(struct shove_poison *poison);

/* "2 keys are poisoned". */
void shove_poison_print_end(FILE *out, uint64_t count);
void shove_poisoned_print_head(FILE *out);
void shove_poisoned_print_row(FILE *out, const struct shove_poisoned *key);
/* One line of JSON. 0 or SHOVE_ENOMEM. */
int shove_poisoned_print_json(FILE *out, const struct shove_poisoned *key);

/* ---- poison_read.c ---- */

/* Calls `each` for every partition that has poisoned keys that are meant, with their list in the
 * order in which they were poisoned; it lives for the call. `each` returns 0 or an error, which
 * ends the walk. 0 or an error; from a partition that is damaged somewhere no key is known, and the
 * walk goes on to the next one. */
typedef int shove_poison_each(void *ctx, const struct shove_poisoned *first,
                              struct shove_error *error);
int shove_poison_walk(struct shove_poison *poison, shove_poison_each *each, void *ctx,
                      struct shove_error *error);

/* ---- option tables ---- */

#define SHOVE_POISON_BASE64_OPTION                                                                 \
    {                                                                                              \
        .name = "base64", .kind = SHOVE_OPTION_FLAG, .help = "KEY is in base64, as --json shows",  \
        .at = offsetof(struct shove_poison_options, is_base64)                                     \
    }
#define SHOVE_POISON_COMMON_OPTIONS                                                                \
    SHOVE_SILENCE_OPTION(struct shove_poison_options), SHOVE_BROKER_OPTION, SHOVE_CONNECT_OPTION,  \
        SHOVE_LOAD_OPTION, SHOVE_LOG_OPTIONS

#endif
