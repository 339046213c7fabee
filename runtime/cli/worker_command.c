/* worker_command.c: `shove worker`, the hidden command by which control starts its worker processes
 * (control/spawn.c writes this command line). Worker process. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/report.h"
#include "core/tally.h"
#include "ipc/channel.h"
#include "worker/worker.h"

#define FIRST_CHANNEL_FD 3

struct worker_options {
    struct shove_common_options common; /* first */
    const char *script;
    const char *lua_dir;
    const char *keys_topic;
    int64_t index;
    int64_t parent_pid;
    int64_t memory_bytes;
    bool is_describe_only;
    bool runs_check;
    bool is_measuring;
};

static const struct shove_option options[] = {
    {.name = "script",
     .kind = SHOVE_OPTION_TEXT,
     .argument = "PATH",
     .help = "the app",
     .at = offsetof(struct worker_options, script)},
    {.name = "lua-dir",
     .kind = SHOVE_OPTION_TEXT,
     .argument = "PATH",
     .help = "shove's own Lua modules",
     .at = offsetof(struct worker_options, lua_dir)},
    {.name = "index",
     .kind = SHOVE_OPTION_NUMBER,
     .argument = "N",
     .help = "which worker this is",
     .at = offsetof(struct worker_options, index),
     .most = INT32_MAX},
    {.name = "parent",
     .kind = SHOVE_OPTION_NUMBER,
     .argument = "PID",
     .help = "the control process: ends with it",
     .at = offsetof(struct worker_options, parent_pid),
     .most = INT32_MAX},
    {.name = "memory",
     .kind = SHOVE_OPTION_SIZE,
     .argument = "SIZE",
     .help = "limit on memory; 0: none",
     .at = offsetof(struct worker_options, memory_bytes)},
    {.name = "describe",
     .kind = SHOVE_OPTION_FLAG,
     .help = "load the app, describe it, exit",
     .at = offsetof(struct worker_options, is_describe_only)},
    {.name = "check",
     .kind = SHOVE_OPTION_FLAG,
     .help = "run app:on_check once it is loaded",
     .at = offsetof(struct worker_options, runs_check)},
    {.name = "keys",
     .kind = SHOVE_OPTION_TEXT,
     .argument = "TOPIC",
     .help = "compute keys of messages to this topic",
     .at = offsetof(struct worker_options, keys_topic)},
    {.name = "measure",
     .kind = SHOVE_OPTION_FLAG,
     .help = "tell how long each handler took",
     .at = offsetof(struct worker_options, is_measuring)},
    SHOVE_BROKER_OPTION,
    SHOVE_LOG_OPTIONS,
};

static int run(const struct shove_command *command, int argc, char **argv) {
    struct worker_options given = {.common = SHOVE_COMMON_DEFAULTS};
    int operands;
    int exit_code = shove_options_parse(command, argc, argv, &given, &operands);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    static char source[32]; /* the log keeps it */
    snprintf(source, sizeof source, "worker %lld", (long long)given.index);
    bool is_apart = given.is_describe_only || given.keys_topic != NULL;
    exit_code = shove_common_setup_log(&given.common, is_apart ? NULL : source);
    if (exit_code != 0)
        return exit_code;
    if (given.script == NULL || given.lua_dir == NULL)
        return shove_report(SHOVE_EXIT_USAGE,
                            "'shove worker' is started by 'shove run', not by hand");
    struct shove_worker_options how = {
        .script = given.script,
        .lua_dir = given.lua_dir,
        .index = (uint32_t)given.index,
        .is_describe_only = given.is_describe_only,
        .runs_check = given.runs_check,
        .is_measuring = given.is_measuring,
        .keys_topic = given.keys_topic,
        .broker = given.common.broker,
        .memory_limit_bytes = given.memory_bytes,
        .parent_pid = (int)given.parent_pid,
    };
    for (int i = 0; i < SHOVE_CHANNEL_FD_COUNT; i++)
        how.channel_fds[i] = FIRST_CHANNEL_FD + i;
    return shove_worker_main(&how);
}

const struct shove_command shove_worker_command = {
    .name = "worker",
    .operands = "",
    .summary = "Runs handlers for a control process",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_max = 0,
    .is_hidden = true,
    .run = run,
};
