/* options.c: parsing a command's options by its table. Cli.
 *
 * getopt_long does the parsing. Its own messages are off: ours name the command, suggest the option
 * that was meant, and say where the list is.
 */
#include "cli/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "cli/command.h"
#include "cli/report.h"
#include "cli/values.h"
#include "core/tally.h"

#define OPTIONS_MAX 32
#define HELP_INDEX OPTIONS_MAX
#define LONG_BASE 256 /* getopt_long's return values above any letter */

struct tables {
    struct option long_options[OPTIONS_MAX + 2];
    char letters[2 * OPTIONS_MAX + 4];
};

void shove_texts_release(struct shove_texts *texts) {
    free(texts->items);
    texts->items = NULL;
    texts->count = 0;
}

static int texts_add(struct shove_texts *texts, const char *text, struct shove_error *error) {
    const char **grown = realloc(texts->items, (texts->count + 1) * sizeof *grown);
    if (grown == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    texts->items = grown;
    texts->items[texts->count++] = text;
    return 0;
}

static void build_tables(const struct shove_command *command, struct tables *tables) {
    char *letter = tables->letters;
    *letter++ = ':'; /* tell a missing argument from an unknown option */
    *letter++ = 'h';
    for (size_t i = 0; i < command->option_count; i++) {
        const struct shove_option *option = &command->options[i];
        tables->long_options[i] = (struct option){
            .name = option->name,
            .has_arg = option->kind == SHOVE_OPTION_FLAG ? no_argument : required_argument,
            .val = LONG_BASE + (int)i,
        };
        if (option->letter != 0) {
            *letter++ = option->letter;
            if (option->kind != SHOVE_OPTION_FLAG)
                *letter++ = ':';
        }
    }
    *letter = '\0';
    tables->long_options[command->option_count] =
        (struct option){.name = "help", .val = LONG_BASE + HELP_INDEX};
    tables->long_options[command->option_count + 1] = (struct option){0};
}

static int option_index(const struct shove_command *command, int found) {
    if (found >= LONG_BASE)
        return found - LONG_BASE;
    if (found == 'h')
        return HELP_INDEX;
    for (size_t i = 0; i < command->option_count; i++) {
        if (command->options[i].letter == found)
            return (int)i;
    }
    return -1;
}

static int check_least(const struct shove_option *option, int64_t value, const char *text,
                       struct shove_error *error) {
    if (value >= option->least)
        return 0;
    if (option->kind == SHOVE_OPTION_SIZE)
        return shove_error_set(error, SHOVE_EUSAGE, "'%s' is too small: at least %lld bytes", text,
                               (long long)option->least);
    return shove_error_set(error, SHOVE_EUSAGE, "'%s' must be more than 0", text);
}

static int store(const struct shove_option *option, const char *text, void *values,
                 struct shove_error *error) {
    void *at = (char *)values + option->at;
    int code = 0;
    switch (option->kind) {
    case SHOVE_OPTION_FLAG:
        *(bool *)at = true;
        return 0;
    case SHOVE_OPTION_TEXT:
        *(const char **)at = text;
        return 0;
    case SHOVE_OPTION_TEXTS:
        return texts_add(at, text, error);
    case SHOVE_OPTION_NUMBER:
        return shove_value_number(text, option->least, option->most, at, error);
    case SHOVE_OPTION_DURATION:
        code = shove_value_duration(text, at, error);
        break;
    case SHOVE_OPTION_SIZE:
        code = shove_value_size(text, at, error);
        break;
    }
    return code != 0 ? code : check_least(option, *(int64_t *)at, text, error);
}

static void complain_unknown(const struct shove_command *command, const char *word) {
    const char *names[OPTIONS_MAX + 1];
    size_t count = 0;
    for (size_t i = 0; i < command->option_count; i++) {
        if (!command->options[i].is_hidden)
            names[count++] = command->options[i].name;
    }
    names[count++] = "help";
    char name[64];
    size_t dashes = strspn(word, "-");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + dashes, "="), word + dashes);
    const char *meant = dashes == 2 ? shove_suggest(name, names, count) : NULL;
    if (meant != NULL)
        shove_report(0, "unknown option '--%s' for 'shove %s': did you mean --%s?", name,
                     command->name, meant);
    else
        shove_report(0,
                     "unknown option '%s' for 'shove %s': 'shove help %s' lists its options, and "
                     "-- goes before an operand that begins with a dash",
                     word, command->name, command->name);
}

/* getopt said ':' or '?'; `at` is the word it looked at. */
static void complain(const struct shove_command *command, int found, const char *at) {
    int index = optopt != 0 ? option_index(command, optopt) : -1;
    if (found == ':')
        shove_report(0, "option '%s' of 'shove %s' needs a value%s%s", at, command->name,
                     index >= 0 && index < HELP_INDEX ? ": " : "",
                     index >= 0 && index < HELP_INDEX ? command->options[index].argument : "");
    else if (optopt >= LONG_BASE)
        shove_report(0, "option '%s' of 'shove %s' takes no value", at, command->name);
    else if (optopt != 0) {
        char word[3] = {'-', (char)optopt, '\0'};
        complain_unknown(command, word);
    } else
        complain_unknown(command, at);
}

static int check_operands(const struct shove_command *command, int count, char **operands) {
    if (count < command->operands_min) {
        shove_report(0, "'shove %s' needs %s; 'shove help %s' says more", command->name,
                     command->operands, command->name);
        return SHOVE_EXIT_USAGE;
    }
    if (command->operands_max != SHOVE_OPERANDS_ANY && count > command->operands_max) {
        shove_report(0, "'%s' is one operand too many: usage is shove %s %s",
                     operands[command->operands_max], command->name, command->operands);
        return SHOVE_EXIT_USAGE;
    }
    return SHOVE_OPTIONS_OK;
}

int shove_options_parse(const struct shove_command *command, int argc, char **argv, void *values,
                        int *operands) {
    bool is_given[OPTIONS_MAX] = {false};
    struct tables tables;
    build_tables(command, &tables);
    opterr = 0;
    optind = 0; /* GNU: start afresh */
    for (;;) {
        optopt = 0;
        int before = optind > 0 ? optind : 1;
        int found = getopt_long(argc, argv, tables.letters, tables.long_options, NULL);
        if (found == -1)
            break;
        if (found == ':' || found == '?') {
            /* A cluster of letters stays at its word; everything else has moved past it. */
            complain(command, found, argv[optind > before ? optind - 1 : before]);
            return SHOVE_EXIT_USAGE;
        }
        int index = option_index(command, found);
        if (index == HELP_INDEX) {
            shove_command_help(command, stdout);
            return 0;
        }
        const struct shove_option *option = &command->options[index];
        struct shove_error error;
        if (option->is_single && is_given[index])
            return shove_report(SHOVE_EXIT_USAGE, "--%s is given twice: it takes one %s",
                                option->name, option->argument);
        is_given[index] = true;
        if (store(option, optarg, values, &error) != 0)
            return shove_report(SHOVE_EXIT_USAGE, "--%s: %s", option->name, error.text);
    }
    *operands = optind;
    return check_operands(command, argc - optind, argv + optind);
}

static int level_parse(const char *name, enum shove_log_level *out) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum shove_log_level)i;
            return 0;
        }
    }
    return SHOVE_EUSAGE;
}

int shove_common_setup_log(const struct shove_common_options *common, const char *source) {
    enum shove_log_format format;
    enum shove_log_level level;
    if (shove_log_format_parse(common->log, &format) != 0)
        return shove_report(SHOVE_EXIT_USAGE, "--log: '%s' must be auto, plain or json",
                            common->log);
    if (level_parse(common->log_level, &level) != 0)
        return shove_report(SHOVE_EXIT_USAGE,
                            "--log-level: '%s' must be debug, info, warn or error",
                            common->log_level);
    shove_log_setup(format, level, source);
    return 0;
}
