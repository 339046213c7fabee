/* remote_commands.c: `shove reload`, `scale`, `pause` and `resume`: what an operator does to a
 * running app and its groups. Cli.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/command.h"
#include "cli/remote_client.h"
#include "cli/report.h"
#include "cli/values.h"
#include "core/tally.h"

#define CONSUMERS_MAX 1024

struct remote_options {
    int64_t pid;
};

static const struct shove_option options[] = {
    {.name = "pid",
     .kind = SHOVE_OPTION_NUMBER,
     .argument = "PID",
     .help = "the run with that process id, where the app runs more than once",
     .at = offsetof(struct remote_options, pid),
     .least = 1,
     .most = INT32_MAX},
};

static const json_t *group_in(const json_t *status, const char *name) {
    size_t index;
    json_t *group;
    json_array_foreach(json_object_get(status, "groups"), index, group) {
        const char *id = json_string_value(json_object_get(group, "group"));
        if (id != NULL && strcmp(id, name) == 0)
            return group;
    }
    return NULL;
}

/* Uses `request` up. *status: how the app stands then, owned by the caller. An exit code. */
static int ask(const char *app, int64_t pid, int patience_s, json_t *request, json_t **status) {
    struct shove_error error;
    *status = shove_remote_command(app, pid, patience_s, request, &error);
    if (*status == NULL)
        return shove_report(error.code == SHOVE_EUSAGE ? SHOVE_EXIT_USAGE : SHOVE_EXIT_FAILURE,
                            "%s", error.text);
    return 0;
}

static int reload(const struct shove_command *command, int argc, char **argv) {
    struct remote_options given = {0};
    json_t *status;
    int at;
    int exit_code = shove_options_parse(command, argc, argv, &given, &at);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    exit_code = ask(argv[at], given.pid, SHOVE_REMOTE_NO_LIMIT,
                    json_pack("{s:s}", "command", "reload"), &status);
    if (exit_code != 0)
        return exit_code;
    printf("%s: reloaded, generation %" JSON_INTEGER_FORMAT "\n", argv[at],
           json_integer_value(json_object_get(status, "generation")));
    json_decref(status);
    return 0;
}

/* Uses `request` up, and says how the group stands then. */
static int steer(const char *app, int64_t pid, const char *name, json_t *request) {
    json_t *status;
    int exit_code = ask(app, pid, SHOVE_REMOTE_PATIENCE_S, request, &status);
    if (exit_code != 0)
        return exit_code;
    const json_t *group = group_in(status, name);
    printf("%s: %s, %" JSON_INTEGER_FORMAT " consumers\n", name,
           json_is_true(json_object_get(group, "paused")) ? "paused" : "consuming",
           json_integer_value(json_object_get(group, "consumers")));
    json_decref(status);
    return 0;
}

static int scale(const struct shove_command *command, int argc, char **argv) {
    struct remote_options given = {0};
    struct shove_error error;
    int64_t consumers;
    int at;
    int exit_code = shove_options_parse(command, argc, argv, &given, &at);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    if (shove_value_number(argv[at + 2], 0, CONSUMERS_MAX, &consumers, &error) != 0)
        return shove_report(SHOVE_EXIT_USAGE, "consumers: %s", error.text);
    return steer(argv[at], given.pid, argv[at + 1],
                 json_pack("{s:s, s:s, s:I}", "command", "scale", "group", argv[at + 1],
                           "consumers", (json_int_t)consumers));
}

/* `pause` and `resume` are their own request. */
static int pause_or_resume(const struct shove_command *command, int argc, char **argv) {
    struct remote_options given = {0};
    int at;
    int exit_code = shove_options_parse(command, argc, argv, &given, &at);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    return steer(argv[at], given.pid, argv[at + 1],
                 json_pack("{s:s, s:s}", "command", command->name, "group", argv[at + 1]));
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
    .run = reload,
};

const struct shove_command shove_scale_command = {
    .name = "scale",
    .operands = "APP GROUP N",
    .summary = "Gives a group of a running app N consumers",
    .text =
        "N is within consumers.min and consumers.max. The autoscaler goes on from there, after\n"
        "its cooldown.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 3,
    .operands_max = 3,
    .run = scale,
};

const struct shove_command shove_pause_command = {
    .name = "pause",
    .operands = "APP GROUP",
    .summary = "Gives a group of a running app nothing new to handle",
    .text =
        "What it has in flight is finished; it keeps its partitions. Lasts until 'shove resume'\n"
        "or until the app is started again.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = 2,
    .run = pause_or_resume,
};

const struct shove_command shove_resume_command = {
    .name = "resume",
    .operands = "APP GROUP",
    .summary = "Lets a paused group go on",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 2,
    .operands_max = 2,
    .run = pause_or_resume,
};
