/* check_command.c: `shove check`: loads and validates an app and prints its topology. Cli. The
 * broker is not asked anything, and nothing is written. */
#include <inttypes.h>

#include "cli/app.h"
#include "cli/command.h"
#include "cli/report.h"
#include "control/topology_print.h"
#include "core/tally.h"

static const struct shove_option options[] = {
    SHOVE_BROKER_OPTION,
    SHOVE_LOAD_OPTION,
    SHOVE_LOG_OPTIONS,
};

static int check(const struct shove_common_options *common, const char *script) {
    struct shove_app app;
    int exit_code = shove_app_check(&app, script, common);
    if (exit_code == 0)
        shove_topology_print(&app.topology, stdout);
    shove_app_release(&app);
    return exit_code;
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct shove_common_options given = SHOVE_COMMON_DEFAULTS;
    int operands;
    int exit_code = shove_options_parse(command, argc, argv, &given, &operands);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    exit_code = shove_common_setup_log(&given, NULL);
    return exit_code != 0 ? exit_code : check(&given, argv[operands]);
}

const struct shove_command shove_check_command = {
    .name = "check",
    .operands = "APP",
    .summary = "Loads and validates the app and prints its topology; runs nothing",
    .text =
        "Prints topics with their holds and DLQs, consumer groups, and warnings. Runs the app's\n"
        "own check, app:on_check. Does not speak to the broker and writes nothing. Exits 78 when\n"
        "the script or its configuration is wrong.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 1,
    .operands_max = 1,
    .run = run,
};
