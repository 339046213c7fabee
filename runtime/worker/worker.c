/* worker.c: the worker process: starts, turns its loop, stops. Worker only, one thread.
 *
 * A turn: handle a portion of what control submitted; when there was nothing, mark the worker
 * asleep, and block in libuv until control rings, a timer is due or one of the script's handles is
 * ready. While there is work, libuv gets a look in every few portions or at every tick of the
 * coarse clock, whichever is first, without blocking.
 *
 * The process owns nothing that matters: control still holds every message that is not settled. It
 * is killed with control (PR_SET_PDEATHSIG) and ignores the signals of a terminal, whose Ctrl-C
 * goes to the whole process group: control decides who ends, and when. Handlers rather than
 * SIG_IGN, because what is ignored stays ignored in the programs that a script starts.
 */
#include "worker/worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/tally.h"
#include "ipc/bell.h"
#include "worker/host.h"
#include "worker/lua_state.h"
#include "worker/memory.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"
#include "worker/timeouts.h"

#define PORTIONS_PER_TURN 4
#define STACK_USED_BYTES ((rlim_t)1024 * 1024)  /* at most, above main: arguments, environment */
#define STACK_BYTES ((rlim_t)112 * 1024 * 1024) /* the kernel leaves a gap of at least 128 MiB */

static void ignore_signal(int number) {
    (void)number;
}

static void keep_signals_away(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    struct sigaction action = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], &action, NULL);
    }
}

/* False when control is gone already. */
static bool tie_to_parent(int parent_pid) {
    if (parent_pid <= 0) {
        return true;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return getppid() == parent_pid;
}

/* Library functions that call back (string.gsub, table.sort) recurse on the C stack, with kilobytes
 * for each level. LuaJIT bounds its own stack only, and reaches that bound first when the C stack
 * is this large; pages that are not touched cost nothing. The stack is made to grow at once and the
 * limit put back, because libuv takes it for the size of its threads' stacks, which count as data:
 * four of this size would be most of a worker's memory. */
static void widen_stack(void) {
    struct rlimit normal;
    if (getrlimit(RLIMIT_STACK, &normal) != 0 || normal.rlim_cur >= STACK_BYTES)
        return;
    struct rlimit wide = normal;
    wide.rlim_cur = normal.rlim_max < STACK_BYTES ? normal.rlim_max : STACK_BYTES;
    if (setrlimit(RLIMIT_STACK, &wide) != 0)
        return;
    volatile char *end = (char *)__builtin_frame_address(0) - (wide.rlim_cur - STACK_USED_BYTES);
    *end = 0;
    setrlimit(RLIMIT_STACK, &normal);
}

static void on_wake(uv_poll_t *wake, int status, int events) {
    struct shove_host *host = wake->data;
    (void)status;
    (void)events;
    shove_bell_silence(shove_channel_worker_wake_fd(host->channel));
}

/* libuv may run timers before it blocks: what they settled must not wait for what ends the block.
 */
static void on_about_to_block(uv_prepare_t *prepare) {
    shove_scheduler_flush(prepare->data);
}

static void send_text(struct shove_host *host, enum shove_note_type type, int outcome,
                      const char *text, size_t size) {
    struct shove_note note = {.type = (uint8_t)type, .outcome = (uint8_t)outcome};
    struct shove_part part = {.data = text, .size = size};
    shove_channel_note(host->channel, &note, &part, size != 0);
    shove_channel_publish_notes(host->channel);
}

static int open_host(struct shove_host *host, struct shove_error *error) {
    int status = shove_channel_attach(host->options->channel_fds, &host->channel, error);
    if (status != 0) {
        return status;
    }
    status = uv_loop_init(&host->loop);
    if (status != 0) {
        return shove_error_set(error, SHOVE_EIO, "cannot make an event loop: %s",
                               uv_strerror(status));
    }
    status = uv_poll_init(&host->loop, &host->wake, shove_channel_worker_wake_fd(host->channel));
    if (status != 0) {
        return shove_error_set(error, SHOVE_EIO, "cannot watch control's bell: %s",
                               uv_strerror(status));
    }
    host->wake.data = host;
    uv_poll_start(&host->wake, UV_READABLE, on_wake);
    uv_prepare_init(&host->loop, &host->about_to_block);
    host->about_to_block.data = host;
    uv_prepare_start(&host->about_to_block, on_about_to_block);
    shove_timeouts_init(host);
    shove_fast_clock_init(&host->clock);
    shove_buffer_init(&host->scratch);
    host->free_request = UINT32_MAX;
    shove_buffer_init(&host->groups_text);
    host->start_handler_ref = host->strategy_ref = host->key_reader_ref = LUA_NOREF;
    status = shove_uuid_init(&host->ids);
    if (status != 0) {
        return shove_error_set(error, status, "the system has no random numbers to give");
    }
    return shove_lua_open(host, error);
}

/* What runs beside messages counts only while it is on its way: what it waits for does not hold the
 * process up. */
static bool is_idle(const struct shove_host *host) {
    return host->busy_count == host->beside_count;
}

/* Until control has it stop: one that is spent only finishes what it has. */
static bool goes_on(const struct shove_host *host) {
    return !host->is_exhausted && (!host->is_stopping || !is_idle(host));
}

static void block(struct shove_host *host) {
    uv_run_mode mode = shove_channel_worker_sleeps(host->channel) ? UV_RUN_NOWAIT : UV_RUN_ONCE;
    uv_run(&host->loop, mode);
    shove_channel_worker_wakes(host->channel);
}

static void turn(struct shove_host *host) {
    int64_t begun_ms = shove_host_coarse_ms();
    host->now_mono_ms = begun_ms;
    bool had_work = shove_scheduler_portion(host);
    for (int i = 1; had_work && i < PORTIONS_PER_TURN && host->now_mono_ms == begun_ms; i++) {
        had_work = shove_scheduler_portion(host);
    }
    if (had_work) {
        uv_run(&host->loop, UV_RUN_NOWAIT);
    } else if (goes_on(host)) {
        block(host);
    }
    shove_memory_watch(host);
    shove_scheduler_tell_spent(host);
    shove_scheduler_flush(host);
}

static void run_until_stopped(struct shove_host *host) {
    while (goes_on(host)) {
        turn(host);
    }
    send_text(host, SHOVE_NOTE_STOPPING, 0, NULL, 0);
}

static int load_script(struct shove_host *host) {
    const char *text;
    size_t size;
    if (shove_lua_load(host, &text, &size) < 0) {
        send_text(host, SHOVE_NOTE_LOAD_ERROR, SHOVE_EXIT_CONFIG, text, size);
        return SHOVE_EXIT_CONFIG;
    }
    if (!host->options->is_describe_only && host->options->keys_topic == NULL &&
        !shove_memory_is_enough(host)) {
        struct shove_error error;
        shove_error_set(&error, SHOVE_ECONFIG,
                        "%s: once it is loaded, less than a quarter of a worker's memory is left "
                        "for messages: raise --worker-memory (it is %lld MiB), or load less",
                        host->options->script,
                        (long long)(host->options->memory_limit_bytes >> 20));
        send_text(host, SHOVE_NOTE_LOAD_ERROR, SHOVE_EXIT_CONFIG, error.text, strlen(error.text));
        return SHOVE_EXIT_CONFIG;
    }
    host->has_hook = lua_gethook(host->L) != NULL;
    send_text(host, SHOVE_NOTE_DESCRIPTION, 0, text, size);
    lua_settop(host->L, 0);
    return 0;
}

int shove_worker_main(const struct shove_worker_options *options) {
    struct shove_host host = {.options = options};
    struct shove_error error;
    if (!tie_to_parent(options->parent_pid)) {
        return EXIT_FAILURE;
    }
    keep_signals_away();
    widen_stack();
    shove_memory_limit(options->memory_limit_bytes);
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (open_host(&host, &error) != 0) {
        shove_log(SHOVE_LOG_ERROR, "the worker cannot start: %s", error.text);
        return EXIT_FAILURE;
    }
    int exit_code = load_script(&host);
    if (exit_code == 0 && !options->is_describe_only) {
        send_text(&host, SHOVE_NOTE_READY, 0, NULL, 0);
        run_until_stopped(&host);
    }
    fflush(stdout);
    /* The script's handles, coroutines and threads end with the process: closing them one by one
     * would run its code again. */
    _exit(exit_code);
}
