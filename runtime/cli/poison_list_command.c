/* poison_list_command.c: `shove poison list`. Cli. */
#include "cli/poison.h"
#include "cli/report.h"

static const struct shove_option options[] = {
    {.name = "key",
     .letter = 'k',
     .kind = SHOVE_OPTION_TEXT,
     .argument = "KEY",
     .help = "only this one",
     .at = offsetof(struct shove_poison_options, key),
     .is_single = true},
    SHOVE_POISON_BASE64_OPTION,
    SHOVE_JSON_OPTION(struct shove_poison_options),
    SHOVE_POISON_COMMON_OPTIONS,
};

struct listing {
    bool is_json;
    uint64_t listed;
};

static int list_keys(void *ctx, const struct shove_poisoned *first, struct shove_error *error) {
    struct listing *listing = ctx;
    for (const struct shove_poisoned *key = first; key != NULL; key = key->next) {
        if (!listing->is_json && listing->listed == 0)
            shove_poisoned_print_head(stdout);
        if (!listing->is_json)
            shove_poisoned_print_row(stdout, key);
        else if (shove_poisoned_print_json(stdout, key) != 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
        listing->listed++;
    }
    return 0;
}

static int list(struct shove_poison *poison) {
    struct listing listing = {.is_json = poison->options.is_json};
    struct shove_error error;
    int code = shove_poison_walk(poison, list_keys, &listing, &error);
    if (!listing.is_json && (code == 0 || listing.listed > 0))
        shove_poison_print_end(stdout, listing.listed);
    return code == 0 ? 0 : shove_report_error(&error);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct shove_poison poison = {0};
    int exit_code = shove_poison_open(&poison, command, argc, argv);
    if (exit_code == 0)
        exit_code = list(&poison);
    shove_poison_close(&poison);
    return exit_code == SHOVE_POISON_ENDED ? 0 : exit_code;
}

const struct shove_command shove_poison_list_command = {
    .name = "poison list",
    .operands = "APP TOPIC",
    .summary = "Lists the keys of a fail_all topic that are poisoned",
    .text =
        "TOPIC is a queue, or the name of the topic where its poisoned keys are kept. OFFSET is\n"
        "that of the message that poisoned the key; those behind it are dead letters.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = 2,
    .run = run,
};
