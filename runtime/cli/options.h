/* options.h: a command's options as one table, from which they are parsed and from which its help
 * is printed. Cli.
 *
 * Options may stand before and after operands; "--" ends them. Values land in the command's own
 * struct, at the offset the table names.
 */
#ifndef SHOVE_CLI_OPTIONS_H
#define SHOVE_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum shove_option_kind {
    SHOVE_OPTION_FLAG,     /* bool */
    SHOVE_OPTION_TEXT,     /* const char * */
    SHOVE_OPTION_TEXTS,    /* struct shove_texts: may be repeated */
    SHOVE_OPTION_NUMBER,   /* int64_t */
    SHOVE_OPTION_DURATION, /* int64_t, ms */
    SHOVE_OPTION_SIZE      /* int64_t, bytes */
};

struct shove_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum shove_option_kind kind;
    const char *argument; /* as help shows it: "URL"; NULL for a flag */
    const char *help;     /* one line */
    size_t at;            /* offsetof the value */
    int64_t least;        /* of numbers, durations (ms) and sizes */
    int64_t most;
    bool is_hidden;
    bool is_single; /* given twice it is refused: the second would pass for an addition. Of others
                       the last one counts */
};

struct shove_texts {    /* owned; shove_texts_release */
    const char **items; /* each borrowed from argv */
    size_t count;
};
void shove_texts_release(struct shove_texts *texts);

struct shove_command;

#define SHOVE_OPTIONS_OK (-1)

/* Parses argv (argv[0] is the command's last word) into `values`, which holds the defaults.
 * SHOVE_OPTIONS_OK: *operands is where the operands begin in argv (moved to its end), their number
 * as the command allows. Anything else is the exit code to end with: 0, help was asked for and
 * printed; 64, what is wrong was said on standard error. */
int shove_options_parse(const struct shove_command *command, int argc, char **argv, void *values,
                        int *operands);

/* ---- what most commands share: first member of their struct, named `common` ---- */

struct shove_common_options {
    const char *broker;
    const char *log;
    const char *log_level;
    int64_t load_timeout_ms;
    int64_t connect_timeout_ms;
};
#define SHOVE_COMMON_DEFAULTS                                                                      \
    { NULL, "auto", "info", 10000, 10000 }

#define SHOVE_BROKER_OPTION                                                                        \
    {                                                                                              \
        .name = "broker", .kind = SHOVE_OPTION_TEXT, .argument = "URL",                            \
        .help = "this broker, not the one the registry names",                                     \
        .at = offsetof(struct shove_common_options, broker)                                        \
    }
#define SHOVE_CONNECT_OPTION                                                                       \
    {                                                                                              \
        .name = "connect-timeout", .kind = SHOVE_OPTION_DURATION, .argument = "TIME",              \
        .help = "how long to wait for the broker at start (10s)",                                  \
        .at = offsetof(struct shove_common_options, connect_timeout_ms), .least = 1,               \
        .most = INT32_MAX                                                                          \
    }
#define SHOVE_LOAD_OPTION                                                                          \
    {                                                                                              \
        .name = "load-timeout", .kind = SHOVE_OPTION_DURATION, .argument = "TIME",                 \
        .help = "how long the script may take to load (10s)",                                      \
        .at = offsetof(struct shove_common_options, load_timeout_ms), .least = 1,                  \
        .most = INT32_MAX                                                                          \
    }
/* Of what a command adds to them, `type` being its struct. */
#define SHOVE_SILENCE_OPTION(type)                                                                 \
    {                                                                                              \
        .name = "timeout", .kind = SHOVE_OPTION_DURATION, .argument = "TIME",                      \
        .help = "give up when the broker is silent for so long (30s)",                             \
        .at = offsetof(type, timeout_ms), .least = 1, .most = INT32_MAX                            \
    }
#define SHOVE_JSON_OPTION(type)                                                                    \
    {                                                                                              \
        .name = "json", .kind = SHOVE_OPTION_FLAG, .help = "one JSON object per line",             \
        .at = offsetof(type, is_json)                                                              \
    }
#define SHOVE_DRY_RUN_OPTION(type)                                                                 \
    {                                                                                              \
        .name = "dry-run", .kind = SHOVE_OPTION_FLAG,                                              \
        .help = "say what would be done, do nothing", .at = offsetof(type, is_dry_run)             \
    }
#define SHOVE_LOG_OPTIONS                                                                          \
    {.name = "log",                                                                                \
     .kind = SHOVE_OPTION_TEXT,                                                                    \
     .argument = "FORMAT",                                                                         \
     .help = "auto, plain or json (auto: colours on a terminal)",                                  \
     .at = offsetof(struct shove_common_options, log)},                                            \
    {                                                                                              \
        .name = "log-level", .kind = SHOVE_OPTION_TEXT, .argument = "LEVEL",                       \
        .help = "debug, info, warn or error (info)",                                               \
        .at = offsetof(struct shove_common_options, log_level)                                     \
    }

/* Sets up logging as `common` says. 0, or 64 after saying what is wrong. `source` as in base/log.h.
 */
int shove_common_setup_log(const struct shove_common_options *common, const char *source);

#endif
