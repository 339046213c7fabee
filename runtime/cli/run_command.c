/* run_command.c: `shove run`: options, then control takes over. Cli. */
#include <string.h>

#include "cli/app.h"
#include "cli/command.h"
#include "cli/lua_dir.h"
#include "cli/report.h"
#include "control/control.h"
#include "core/tally.h"

/* An idle worker has 34 MiB of data, 4,000 coroutines 5 more, the threads of libuv's pool 32. */
#define WORKER_MEMORY_DEFAULT_BYTES (INT64_C(512) << 20)
#define WORKER_MEMORY_LEAST_BYTES (INT64_C(128) << 20)

struct run_options {
    struct shove_common_options common; /* first */
    int64_t workers;
    int64_t drain_ms;
    int64_t worker_memory_bytes;
    bool watches;
    bool logs_keys;
    const char *listen;
    const char *metrics_prefix;
};

static const struct shove_option options[] = {
    SHOVE_BROKER_OPTION,
    {.name = "workers",
     .kind = SHOVE_OPTION_NUMBER,
     .argument = "N",
     .help = "worker processes that run handlers, 1 to 256 (one per core)",
     .at = offsetof(struct run_options, workers),
     .least = 1,
     .most = 256},
    {.name = "worker-memory",
     .kind = SHOVE_OPTION_SIZE,
     .argument = "SIZE",
     .help = "what one worker process may use (512MiB)",
     .at = offsetof(struct run_options, worker_memory_bytes),
     .least = WORKER_MEMORY_LEAST_BYTES},
    {.name = "drain",
     .kind = SHOVE_OPTION_DURATION,
     .argument = "TIME",
     .help = "how long the first Ctrl-C or SIGTERM waits for messages in flight (30s)",
     .at = offsetof(struct run_options, drain_ms),
     .most = INT32_MAX},
    {.name = "watch",
     .kind = SHOVE_OPTION_FLAG,
     .help = "reload when a file that the app has loaded changes",
     .at = offsetof(struct run_options, watches)},
    {.name = "log-keys",
     .kind = SHOVE_OPTION_FLAG,
     .help = "name keys in the log as they are, not by a checksum",
     .at = offsetof(struct run_options, logs_keys)},
    {.name = "listen",
     .kind = SHOVE_OPTION_TEXT,
     .argument = "ADDR",
     .help = "serve /metrics, /healthz and /readyz at PORT or HOST:PORT",
     .at = offsetof(struct run_options, listen)},
    {.name = "metrics-prefix",
     .kind = SHOVE_OPTION_TEXT,
     .argument = "TEXT",
     .help = "what names in /metrics begin with (shove_)",
     .at = offsetof(struct run_options, metrics_prefix)},
    SHOVE_CONNECT_OPTION,
    SHOVE_LOAD_OPTION,
    SHOVE_LOG_OPTIONS,
};

/* What Prometheus takes at the beginning of a name, which may also be nothing. */
static int check_prefix(const char *prefix, struct shove_error *error) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    const size_t size = strspn(prefix, allowed);
    const bool is_digit_first = prefix[0] >= '0' && prefix[0] <= '9';
    if (prefix[size] != '\0' || is_digit_first || size > SHOVE_METRICS_PREFIX_MAX)
        return shove_error_set(error, SHOVE_EUSAGE,
                               "--metrics-prefix '%s': letters, digits and underscores, no digit "
                               "first, at most %d",
                               prefix, SHOVE_METRICS_PREFIX_MAX);
    return 0;
}

static int run_app(const struct run_options *given, const char *script) {
    char lua_dir[PATH_MAX];
    struct shove_listen_address listen;
    struct shove_error error;
    if ((given->listen && shove_listen_address_parse(given->listen, &listen, &error) != 0) ||
        check_prefix(given->metrics_prefix, &error) != 0 ||
        shove_lua_dir_find(lua_dir, &error) != 0)
        return shove_report_error(&error);
    struct shove_run_options how = {
        .script = script,
        .broker = given->common.broker,
        .lua_dir = lua_dir,
        .watches = given->watches,
        .logs_keys = given->logs_keys,
        .workers = (uint32_t)given->workers,
        .drain_ms = given->drain_ms,
        .connect_timeout_ms = given->common.connect_timeout_ms,
        .load_timeout_ms = given->common.load_timeout_ms,
        .worker_memory_bytes = given->worker_memory_bytes,
        .listen = given->listen ? &listen : NULL,
        .metrics_prefix = given->metrics_prefix,
    };
    return shove_control_run(&how);
}

static int run(const struct shove_command *command, int argc, char **argv) {
    struct run_options given = {
        .common = SHOVE_COMMON_DEFAULTS,
        .drain_ms = 30000,
        .worker_memory_bytes = WORKER_MEMORY_DEFAULT_BYTES,
        .metrics_prefix = SHOVE_METRICS_PREFIX,
    };
    int operands;
    int exit_code = shove_options_parse(command, argc, argv, &given, &operands);
    if (exit_code != SHOVE_OPTIONS_OK)
        return exit_code;
    exit_code = shove_common_setup_log(&given.common, "control");
    return exit_code != 0 ? exit_code : run_app(&given, argv[operands]);
}

const struct shove_command shove_run_command = {
    .name = "run",
    .operands = "APP",
    .summary = "Runs the app: consumes its topics until Ctrl-C or SIGTERM",
    .text = "The first signal drains: nothing new is taken, what is in flight is finished. The\n"
            "second stops at once; what was in flight is delivered again by the next run.\n"
            "Exits 0 after a clean drain, 1 when a consumer failed, its last commit was refused\n"
            "or no worker can be started, 2 when a worker process died, 3 when the drain timed\n"
            "out or a second signal ended it (3 before 2 before 1).",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands_min = 1,
    .operands_max = 1,
    .run = run,
};
