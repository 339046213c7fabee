/* command.h: the commands of the program. Cli.
 *
 * One table in commands.c. A command has a file of its own, but for reload, scale, pause and
 * resume, which share remote_commands.c. It gets argv from its own last word on and returns the
 * program's exit code; whatever fails has been said on standard error by then.
 */
#ifndef SHOVE_CLI_COMMAND_H
#define SHOVE_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/options.h"

#define SHOVE_OPERANDS_ANY (-1)

struct shove_command {
    const char *name;     /* "run", "dlq list" */
    const char *operands; /* as usage shows them: "APP TOPIC [BODY...]" */
    const char *summary;  /* one line of `shove help` */
    const char *text;     /* what its own help adds; NULL: nothing */
    const struct shove_option *options;
    size_t option_count;
    int operands_min;
    int operands_max; /* SHOVE_OPERANDS_ANY: no limit */
    bool is_hidden;
    int (*run)(const struct shove_command *command, int argc, char **argv);
};

extern const struct shove_command shove_run_command;
extern const struct shove_command shove_check_command;
extern const struct shove_command shove_publish_command;
extern const struct shove_command shove_status_command;
extern const struct shove_command shove_reload_command;
extern const struct shove_command shove_scale_command;
extern const struct shove_command shove_pause_command;
extern const struct shove_command shove_resume_command;
extern const struct shove_command shove_dlq_list_command;
extern const struct shove_command shove_dlq_show_command;
extern const struct shove_command shove_dlq_replay_command;
extern const struct shove_command shove_dlq_purge_command;
extern const struct shove_command shove_poison_list_command;
extern const struct shove_command shove_poison_clear_command;
extern const struct shove_command shove_worker_command;

int shove_cli_main(int argc, char **argv);

/* Usage, text and options of one command. */
void shove_command_help(const struct shove_command *command, FILE *out);

#endif
