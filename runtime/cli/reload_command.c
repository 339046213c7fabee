/* reload_command.c: `shove reload`: new code for a running app. Cli. */
#include "cli/command.h"
#include "cli/remote_client.h"
#include "cli/report.h"
#include "core/tally.h"

struct reload_options {
    int64_t pid;
};

static const struct shove_option options[] = {
    {.name = "pid",
     .kind = SHOVE_OPTION_NUMBER,
     .argument = "PID",
     .help = "the run with that process id, where the app runs more than once",
     .at = offsetof(struct reload_options, pid),
     .least = 1,
     .most = INT32_MAX},
};

static int run(const struct shove_command *command, int argc, char **argv) {
    struct reload_options given = {0};
    struct shove_error error;
    int at;
    int exit_code = shove_options_parse(command, argc, argv, &given, &at);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    json_t *status = shove_remote_command(argv[at], given.pid, SHOVE_REMOTE_NO_LIMIT,
                                          json_pack("{s:s}", "command", "reload"), &error);
    if (status == NULL)
        return shove_report(error.code == SHOVE_EUSAGE ? SHOVE_EXIT_USAGE : SHOVE_EXIT_FAILURE,
                            "%s", error.text);
    printf("%s: reloaded, generation %" JSON_INTEGER_FORMAT "\n", argv[at],
           json_integer_value(json_object_get(status, "generation")));
    json_decref(status);
    return 0;
}

const struct shove_command shove_reload_command = {
    .name = "reload",
    .operands = "APP",
    .summary = "Gives a running app the code that is in its files now",
    .text =
        "New worker processes load the script; when all have, new messages go to them, and the\n"
        "old ones finish what they have. Where the script does not load, or has changed what\n"
        "cannot change under way, the app goes on as it was, and this says why and exits 1.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 1,
    .operands_max = 1,
    .run = run,
};
