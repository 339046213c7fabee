/* spawn.c: starting one worker process. Control and cli, on the loop's thread.
 *
 * Executed anew, never forked after librdkafka has threads. /proc/self/exe is what runs now, even
 * when an upgrade has replaced the file meanwhile. uv_spawn gives the child default signal handlers
 * and an empty mask, so it cannot be born ignoring Ctrl-C; a session of its own is what shields it
 * in the moments before it has handlers.
 */
#include "control/spawn.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define ARGUMENTS_MAX 24
#define NUMBER_SIZE 24

struct arguments {
    char *list[ARGUMENTS_MAX];
    size_t count;
    char index[NUMBER_SIZE];
    char memory[NUMBER_SIZE];
    char parent[NUMBER_SIZE];
};

/* uv_spawn wants char *, and does not write to them. */
static void put(struct arguments *arguments, const char *text) {
    arguments->list[arguments->count++] = (char *)text;
}

static void put_option(struct arguments *arguments, const char *name, const char *value) {
    put(arguments, name);
    put(arguments, value);
}

static void build_arguments(struct arguments *arguments,
                            const struct shove_spawn_options *options) {
    arguments->count = 0;
    snprintf(arguments->index, NUMBER_SIZE, "%u", options->index);
    snprintf(arguments->memory, NUMBER_SIZE, "%lld", (long long)options->memory_limit_bytes);
    snprintf(arguments->parent, NUMBER_SIZE, "%ld", (long)getpid());
    put(arguments, "shove");
    put(arguments, "worker");
    put_option(arguments, "--script", options->script);
    put_option(arguments, "--lua-dir", options->lua_dir);
    put_option(arguments, "--index", arguments->index);
    put_option(arguments, "--log", shove_log_format_name());
    put_option(arguments, "--log-level",
               shove_log_is_on(SHOVE_LOG_DEBUG)  ? "debug"
               : shove_log_is_on(SHOVE_LOG_INFO) ? "info"
               : shove_log_is_on(SHOVE_LOG_WARN) ? "warn"
                                                 : "error");
    put_option(arguments, "--memory", arguments->memory);
    put_option(arguments, "--parent", arguments->parent);
    if (options->broker != NULL)
        put_option(arguments, "--broker", options->broker);
    if (options->is_measuring)
        put(arguments, "--measure");
    if (options->is_describe_only)
        put(arguments, "--describe");
    if (options->runs_check)
        put(arguments, "--check");
    if (options->keys_topic != NULL)
        put_option(arguments, "--keys", options->keys_topic);
    arguments->list[arguments->count] = NULL;
}

static void on_closed(uv_handle_t *handle) {
    struct shove_child *child = handle->data;
    free(handle);
    if (child == NULL)
        return;
    child->process = NULL;
    child->exited(child, child->status, child->signal);
}

static void on_process_exit(uv_process_t *process, int64_t status, int signal) {
    struct shove_child *child = process->data;
    child->status = status;
    child->signal = signal;
    uv_close((uv_handle_t *)process, on_closed);
}

int shove_spawn_worker(uv_loop_t *loop, const struct shove_spawn_options *options,
                       struct shove_child *child, shove_child_exited *exited,
                       struct shove_error *error) {
    struct arguments arguments;
    build_arguments(&arguments, options);

    uv_stdio_container_t stdio[3 + SHOVE_CHANNEL_FD_COUNT] = {{.flags = UV_IGNORE}};
    int fds[SHOVE_CHANNEL_FD_COUNT];
    shove_channel_fds(options->channel, fds);
    for (int i = 1; i < 3 + SHOVE_CHANNEL_FD_COUNT; i++) {
        stdio[i].flags = UV_INHERIT_FD;
        stdio[i].data.fd = i < 3 ? i : fds[i - 3];
    }
    if (options->is_describe_only || options->keys_topic != NULL)
        stdio[STDOUT_FILENO].data.fd = STDERR_FILENO;

    uv_process_t *process = calloc(1, sizeof *process);
    if (process == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory starting a worker process");
    uv_process_options_t how = {
        .exit_cb = on_process_exit,
        .file = "/proc/self/exe",
        .args = arguments.list,
        .flags = UV_PROCESS_DETACHED,
        .stdio_count = 3 + SHOVE_CHANNEL_FD_COUNT,
        .stdio = stdio,
    };
    int code = uv_spawn(loop, process, &how);
    if (code != 0) {
        /* The loop knows the handle even so; it is freed in the loop's next round. */
        process->data = NULL;
        uv_close((uv_handle_t *)process, on_closed);
        return shove_error_set(error, code == UV_ENOMEM ? SHOVE_ENOMEM : SHOVE_EIO,
                               "cannot start a worker process: %s (is /proc mounted, and is the "
                               "limit on processes high enough?)",
                               uv_strerror(code));
    }
    process->data = child;
    child->process = process;
    child->pid = process->pid;
    child->exited = exited;
    child->status = 0;
    child->signal = 0;
    return 0;
}

void shove_child_kill(struct shove_child *child) {
    if (child->process == NULL || uv_is_closing((const uv_handle_t *)child->process))
        return;
    /* Not yet buried, so the number is still its own; its session is its process group. */
    if (kill(-child->pid, SIGKILL) != 0)
        uv_process_kill(child->process, SIGKILL);
}

void shove_child_describe_end(const struct shove_child *child, char *out, size_t size) {
    if (child->signal)
        snprintf(out, size, "signal %d (%s)", child->signal, strsignal(child->signal));
    else
        snprintf(out, size, "exit code %" PRId64, child->status);
}
