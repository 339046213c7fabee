/* status_command.c: `shove status`: what the runs on this machine are doing. Cli. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text_table.h"
#include "cli/command.h"
#include "cli/remote_client.h"
#include "cli/report.h"

#define WATCH_INTERVAL_US 1000000

struct status_options {
    int64_t pid;
    bool is_json;
    bool watches;
};

static const struct shove_option options[] = {
    {.name = "json",
     .kind = SHOVE_OPTION_FLAG,
     .help = "one JSON array, a run an object",
     .at = offsetof(struct status_options, is_json)},
    {.name = "watch",
     .kind = SHOVE_OPTION_FLAG,
     .help = "again every second, until Ctrl-C or until nothing runs any more",
     .at = offsetof(struct status_options, watches)},
    {.name = "pid",
     .kind = SHOVE_OPTION_NUMBER,
     .argument = "PID",
     .help = "the run with that process id only",
     .at = offsetof(struct status_options, pid),
     .least = 1,
     .most = INT32_MAX},
};

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

static void add_number(struct shove_text_table *table, const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value))
        shove_text_table_add(table, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        shove_text_table_add(table, "%s", "-");
}

static void add_group(struct shove_text_table *table, const json_t *group, bool has_brokers) {
    const bool is_paused = json_is_true(json_object_get(group, "paused"));
    shove_text_table_add(table, "%s", text_of(group, "group"));
    shove_text_table_add(table, "%s", is_paused ? "paused" : text_of(group, "state"));
    shove_text_table_add(
        table, "%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT,
        json_integer_value(json_object_get(group, "consumers")),
        json_integer_value(json_object_get(group, "min")),
        json_integer_value(json_object_get(group, "max")));
    static const char *const numbers[] = {"in_flight", "ready",        "lag",      "acked",
                                          "delayed",   "dead_letters", "discarded"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        add_number(table, group, numbers[i]);
    if (has_brokers)
        shove_text_table_add(table, "%s", text_of(group, "broker"));
}

static void print_groups(const json_t *groups, bool has_brokers) {
    static const char *const titles[] = {"GROUP", "STATE",     "CONSUMERS", "IN FLIGHT",
                                         "READY", "LAG",       "ACKED",     "DELAYED",
                                         "DEAD",  "DISCARDED", "BROKER"};
    struct shove_text_table table = {.columns = sizeof titles / sizeof *titles - !has_brokers};
    for (size_t i = 0; i < table.columns; i++) {
        shove_text_table_add(&table, "%s", titles[i]);
        table.is_number[i] = i > 2 && i < 10;
    }
    size_t index;
    json_t *group;
    json_array_foreach(groups, index, group) add_group(&table, group, has_brokers);
    shove_text_table_print(&table, stdout);
    shove_text_table_release(&table);
}

static void print_workers(const json_t *workers) {
    size_t index;
    json_t *worker;
    fputs("  workers:", stdout);
    json_array_foreach(workers, index, worker) {
        const json_t *pid = json_object_get(worker, "pid");
        fputs(index > 0 ? ", " : " ", stdout);
        if (json_is_integer(pid))
            printf("%" JSON_INTEGER_FORMAT " ", json_integer_value(pid));
        fputs(text_of(worker, "state"), stdout);
    }
    fputc('\n', stdout);
}

/* "kafka://a, embedded:./b.db (cannot be reached)" */
static void print_brokers(const json_t *brokers) {
    size_t index;
    json_t *broker;
    json_array_foreach(brokers, index, broker)
        printf("%s%s%s", index > 0 ? ", " : "", text_of(broker, "broker"),
               json_is_false(json_object_get(broker, "reached")) ? " (cannot be reached)" : "");
}

static void print_run(const json_t *run) {
    const json_t *brokers = json_object_get(run, "brokers");
    const json_int_t uptime_s = json_integer_value(json_object_get(run, "uptime_ms")) / 1000;
    printf("%s: %s for %" JSON_INTEGER_FORMAT " s, pid %" JSON_INTEGER_FORMAT
           ", generation %" JSON_INTEGER_FORMAT ", on ",
           text_of(run, "app"), text_of(run, "phase"), uptime_s,
           json_integer_value(json_object_get(run, "pid")),
           json_integer_value(json_object_get(run, "generation")));
    print_brokers(brokers);
    fputc('\n', stdout);
    print_workers(json_object_get(run, "workers"));
    if (json_is_string(json_object_get(run, "error")))
        printf("  %s\n", text_of(run, "error"));
    print_groups(json_object_get(run, "groups"), json_array_size(brokers) > 1);
}

static void print(const json_t *runs, const struct status_options *given) {
    size_t index;
    json_t *run;
    if (given->is_json) {
        json_dumpf(runs, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        return;
    }
    if (given->watches && isatty(STDOUT_FILENO))
        fputs("\033[H\033[2J", stdout);
    json_array_foreach(runs, index, run) {
        if (index > 0)
            fputc('\n', stdout);
        print_run(run);
    }
}

static int show(const struct status_options *given, const char *app) {
    struct shove_error error;
    size_t count;
    bool was_there = false;
    do {
        json_t *runs = shove_remote_find(app, given->pid, &error);
        if (runs == NULL)
            return shove_report_error(&error);
        count = json_array_size(runs);
        if (count > 0 || given->is_json)
            print(runs, given);
        json_decref(runs);
        was_there |= count > 0;
        if (fflush(stdout) != 0)
            return SHOVE_EXIT_FAILURE;
        if (given->watches && count > 0)
            usleep(WATCH_INTERVAL_US);
    } while (given->watches && count > 0);
    if (was_there && given->watches)
        return app == NULL ? shove_report(0, "nothing is running here any more")
                           : shove_report(0, "%s is not running here any more", app);
    if (was_there)
        return 0;
    if (app == NULL)
        return shove_report(SHOVE_EXIT_FAILURE, "nothing is running here");
    return shove_report(SHOVE_EXIT_FAILURE, "%s is not running here: nobody listens for it", app);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct status_options given = {0};
    int operands;
    int exit_code = shove_options_parse(command, argc, argv, &given, &operands);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    return show(&given, operands < argc ? argv[operands] : NULL);
}

const struct shove_command shove_status_command = {
    .name = "status",
    .operands = "[APP]",
    .summary = "Shows what the runs of the app on this machine are doing",
    .text =
        "READY is what a consumer could take now, or has; LAG what is not finished, both on the\n"
        "partitions of that run. DELAYED counts retries and defers. Exits 1 when nothing runs.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 0,
    .operands_max = 1,
    .run = run,
};
