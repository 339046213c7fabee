/* commands.c: from the command line to a command; help and version. Cli. */
#include "cli/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/suggest.h"
#include "cli/report.h"
#include "core/tally.h"

static const struct shove_command *const commands[] = {
    &shove_run_command,       &shove_check_command,       &shove_publish_command,
    &shove_dlq_list_command,  &shove_dlq_show_command,    &shove_dlq_replay_command,
    &shove_dlq_purge_command, &shove_poison_list_command, &shove_poison_clear_command,
    &shove_status_command,    &shove_reload_command,      &shove_scale_command,
    &shove_pause_command,     &shove_resume_command,      &shove_worker_command,
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

#define HELP_COLUMN 26

/* Does the first word of the command's name equal `word`? */
static bool starts_with_word(const struct shove_command *command, const char *word) {
    size_t size = strlen(word);
    return strncmp(command->name, word, size) == 0 &&
           (command->name[size] == '\0' || command->name[size] == ' ');
}

static const char *second_word(const struct shove_command *command) {
    const char *space = strchr(command->name, ' ');
    return space != NULL ? space + 1 : NULL;
}

/* The command that `words` begin with, or NULL; *used is the number of words of its name. */
static const struct shove_command *find(char **words, int count, int *used) {
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (count < 1 || !starts_with_word(commands[i], words[0]))
            continue;
        const char *second = second_word(commands[i]);
        *used = second != NULL ? 2 : 1;
        if (second == NULL || (count > 1 && strcmp(words[1], second) == 0))
            return commands[i];
    }
    return NULL;
}

static bool is_family(const char *word) {
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (starts_with_word(commands[i], word) && second_word(commands[i]) != NULL)
            return true;
    }
    return false;
}

static void print_summary(const struct shove_command *command, FILE *out) {
    int width = fprintf(out, "  %s %s", command->name, command->operands);
    if (width >= HELP_COLUMN + 12) {
        fputc('\n', out);
        width = 0;
    }
    fprintf(out, "%*s%s\n", HELP_COLUMN + 12 - width, "", command->summary);
}

/* All commands, or with `family` those that begin with that word. */
static void print_overview(FILE *out, const char *family) {
    if (family == NULL)
        fputs("shove runs message consumers written in Lua.\n\n"
              "usage: shove COMMAND [OPTION...] [OPERAND...]\n\n",
              out);
    else
        fprintf(out, "usage: shove %s COMMAND [OPTION...] [OPERAND...]\n\n", family);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (!commands[i]->is_hidden && (family == NULL || starts_with_word(commands[i], family)))
            print_summary(commands[i], out);
    }
    if (family == NULL) {
        fprintf(out, "  %-*s%s\n", HELP_COLUMN + 10, "help [COMMAND]", "says more about a command");
        fputs(
            "\n  -h, --help and -V, --version work too; 'man shove' is the whole of it.\n"
            "  Exit codes: 0 done, 1 failed, 2 a worker process died, 3 the drain timed out,\n"
            "  64 wrong usage, 69 the broker cannot be reached, 78 bad script or configuration.\n",
            out);
    } else {
        fprintf(out, "\n'shove help %s COMMAND' says more.\n", family);
    }
}

static void print_option(FILE *out, char letter, const char *name, const char *argument,
                         const char *help) {
    int width =
        letter != 0 ? fprintf(out, "  -%c, --%s", letter, name) : fprintf(out, "      --%s", name);
    if (argument != NULL)
        width += fprintf(out, " %s", argument);
    if (width >= HELP_COLUMN + 4) {
        fputc('\n', out);
        width = 0;
    }
    fprintf(out, "%*s%s\n", HELP_COLUMN + 4 - width, "", help);
}

void shove_command_help(const struct shove_command *command, FILE *out) {
    fprintf(out, "usage: shove %s [OPTION...] %s\n\n%s.\n", command->name, command->operands,
            command->summary);
    if (command->text != NULL)
        fprintf(out, "\n%s\n", command->text);
    fputs("\noptions:\n", out);
    for (size_t i = 0; i < command->option_count; i++) {
        const struct shove_option *option = &command->options[i];
        if (!option->is_hidden)
            print_option(out, option->letter, option->name, option->argument, option->help);
    }
    print_option(out, 'h', "help", NULL, "this text");
}

/* The words that may stand where an unknown one stood: first words, or second words of a family.
 * Owned by nobody: `storage` holds them. Returns how many. */
static size_t list_words(const char *family, char storage[][16], const char **words) {
    size_t count = 0;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct shove_command *command = commands[i];
        if (command->is_hidden || (family != NULL && !starts_with_word(command, family)))
            continue;
        const char *word = family != NULL ? second_word(command) : command->name;
        snprintf(storage[count], sizeof storage[count], "%.*s", (int)strcspn(word, " "), word);
        words[count] = storage[count];
        if (count == 0 || strcmp(words[count - 1], words[count]) != 0)
            count++;
    }
    if (family == NULL)
        words[count++] = "help";
    return count;
}

/* 64, after saying which commands there are. */
static int complain_unknown(char **words, int count) {
    char storage[COMMAND_COUNT][16];
    const char *known[COMMAND_COUNT + 1];
    const char *family = is_family(words[0]) ? words[0] : NULL;
    size_t known_count = list_words(family, storage, known);
    char list[256] = "";
    for (size_t i = 0; i < known_count; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s",
                 i == 0                 ? ""
                 : i + 1 == known_count ? " and "
                                        : ", ",
                 known[i]);
    if (family != NULL && count < 2)
        return shove_report(SHOVE_EXIT_USAGE, "'shove %s' alone does nothing: there are %s", family,
                            list);
    const char *word = family != NULL ? words[1] : words[0];
    const char *meant = shove_suggest(word, known, known_count);
    return shove_report(SHOVE_EXIT_USAGE, "unknown command '%s%s%s': %s%s%sthere are %s",
                        family != NULL ? family : "", family != NULL ? " " : "", word,
                        meant != NULL ? "did you mean '" : "", meant != NULL ? meant : "",
                        meant != NULL ? "'? " : "", list);
}

static int help(char **words, int count) {
    if (count == 0) {
        print_overview(stdout, NULL);
        return 0;
    }
    int used;
    const struct shove_command *command = find(words, count, &used);
    if (command != NULL)
        shove_command_help(command, stdout);
    else if (count == 1 && is_family(words[0]))
        print_overview(stdout, words[0]);
    else if (strcmp(words[0], "help") == 0)
        print_overview(stdout, NULL);
    else
        return complain_unknown(words, count);
    return 0;
}

static bool is_word(const char *word, const char *letter, const char *name) {
    return strcmp(word, letter) == 0 || strcmp(word, name) == 0;
}

/* What was printed must have arrived: a full disk or a closed pipe is not success. */
static int flush_output(int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    int code = shove_report(SHOVE_EXIT_FAILURE, "cannot write to standard output");
    return exit_code != 0 ? exit_code : code;
}

/* A program started without one of the standard descriptors would give its number to the next file
 * it opens, and then print into it. The wrong direction keeps use of it an error. */
static void fill_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            abort(); /* the lowest free number is this one; without /dev/null nothing is safe */
    }
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr, NULL);
        return SHOVE_EXIT_USAGE;
    }
    if (is_word(argv[1], "-h", "--help"))
        return help(argv + 2, argc - 2);
    if (strcmp(argv[1], "help") == 0)
        return help(argv + 2, argc - 2);
    if (is_word(argv[1], "-V", "--version")) {
        printf("shove %s\n", SHOVE_VERSION);
        return 0;
    }
    if (argv[1][0] == '-')
        return shove_report(
            SHOVE_EXIT_USAGE,
            "unknown option '%s': a command comes first, as in 'shove run app.lua'; "
            "'shove help' lists them",
            argv[1]);
    int used;
    const struct shove_command *command = find(argv + 1, argc - 1, &used);
    if (command != NULL)
        return command->run(command, argc - used, argv + used);
    if (argc > 2 && is_family(argv[1]) && is_word(argv[2], "-h", "--help"))
        return help(argv + 1, 1);
    return complain_unknown(argv + 1, argc - 1);
}

int shove_cli_main(int argc, char **argv) {
    fill_standard_descriptors();
    return flush_output(dispatch(argc, argv));
}
