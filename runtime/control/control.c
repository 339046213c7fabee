/* control.c: see control.h: start-up, the round that everything happens in, and the end. Control
 * only.
 *
 * One thread, one libuv loop. Wake-ups (workers' bell, the transport's events, timers) only make
 * the loop turn; the work is done in one place, the round: notes of workers, what must be offered
 * again, feeding, revocations. A round that made progress is followed by another without blocking,
 * after the loop has polled what is ready; before the loop blocks, every channel is marked asleep
 * and looked at once more (ipc/channel.h).
 */
#include "control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/abort_point.h"
#include "control/admin.h"
#include "control/age.h"
#include "control/backlog.h"
#include "control/cluster.h"
#include "control/commit.h"
#include "control/control_end.h"
#include "control/delivery.h"
#include "control/drain.h"
#include "control/exit_code.h"
#include "control/feed.h"
#include "control/file_watch.h"
#include "control/flow.h"
#include "control/former_holds.h"
#include "control/groups.h"
#include "control/hop.h"
#include "control/load.h"
#include "control/metrics.h"
#include "control/on_start.h"
#include "control/partition.h"
#include "control/poisoning.h"
#include "control/pool.h"
#include "control/publish.h"
#include "control/reload.h"
#include "control/remote.h"
#include "control/replacement.h"
#include "control/revocation.h"
#include "control/scaling.h"
#include "control/sequencing.h"
#include "control/state.h"
#include "control/strategy.h"
#include "control/supervision.h"
#include "control/watchdog.h"

#define REPORT_INTERVAL_MS 1000
#define START_WAIT_MS 10000
#define MIN_SLOTS 1024u
#define MAX_SLOTS (1u << 20)
#define MIN_ARENA_BYTES ((size_t)64 << 20)

void shove_control_fail_start(struct shove_control *control, int exit_code, const char *format,
                              ...) {
    if (control->exit_code != 0)
        return;
    char text[SHOVE_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    shove_log(SHOVE_LOG_ERROR, "%s", text);
    control->exit_code = exit_code;
    uv_stop(&control->loop);
}

/* ---- the round ---- */

static void send_start_when_assigned(struct shove_control *control) {
    if (control->is_start_sent || !control->topology.has_on_start ||
        control->phase != SHOVE_PHASE_RUNNING)
        return;
    const bool has_waited = control->now_ms - control->joined_ms > START_WAIT_MS;
    for (uint32_t i = 0; i < control->flow_count && !has_waited; i++) {
        if (!control->flows[i].was_assigned && control->flows[i].state == SHOVE_FLOW_JOINED)
            return;
    }
    shove_on_start_send(control);
}

static void round_of_work(struct shove_control *control) {
    control->now_ms = (int64_t)uv_now(&control->loop);
    control->wall_ms = shove_clock_wall_ms();
    shove_metrics_tick(control);
    shove_stall_point();
    control->has_progress = false;
    shove_pool_round(control);
    if (control->hops.first || control->laid_aside_count > 0)
        shove_hop_round(control);
    shove_publish_round(control);
    if (control->phase >= SHOVE_PHASE_RUNNING)
        shove_feed_round(control);
    shove_partitions_step(control);
    send_start_when_assigned(control);
    if (control->phase > SHOVE_PHASE_RUNNING)
        shove_drain_check(control);
}

static void on_due(uv_timer_t *timer) {
    (void)timer; /* the round that follows looks at what is due */
}

static void arm_due_timer(struct shove_control *control) {
    int64_t due_ms = shove_feed_next_due_ms(control);
    int64_t hop_ms = shove_hop_next_due_ms(control);
    if (hop_ms < due_ms)
        due_ms = hop_ms;
    if (due_ms == INT64_MAX || control->phase >= SHOVE_PHASE_STOPPING) {
        uv_timer_stop(&control->due_timer);
        return;
    }
    int64_t wait_ms = due_ms > control->now_ms ? due_ms - control->now_ms : 0;
    uv_timer_start(&control->due_timer, on_due, (uint64_t)wait_ms, 0);
}

static void on_idle(uv_idle_t *idle) {
    (void)idle; /* its being active keeps the loop from blocking */
}

static void on_prepare(uv_prepare_t *prepare) {
    struct shove_control *control = prepare->data;
    if (control->phase == SHOVE_PHASE_DONE)
        return;
    round_of_work(control);
    if (control->has_progress || shove_pool_sleeps(control)) {
        uv_idle_start(&control->idle, on_idle);
        return;
    }
    uv_idle_stop(&control->idle);
    arm_due_timer(control);
}

static void on_check(uv_check_t *check) {
    shove_pool_wakes(check->data);
}

static void on_wake(uv_poll_t *poll, int status, int events) {
    struct shove_control *control = poll->data;
    (void)status;
    (void)events;
    shove_bell_silence(control->bell.listen_fd);
}

static void on_commit_timer(uv_timer_t *timer) {
    struct shove_control *control = timer->data;
    if (control->phase < SHOVE_PHASE_STOPPING)
        shove_commit_round(control);
}

static void on_watch_timer(uv_timer_t *timer) {
    struct shove_control *control = timer->data;
    control->now_ms = (int64_t)uv_now(&control->loop);
    shove_watchdog_begin(control);
    shove_strategy_watch(control);
    shove_pool_watch(control);
    if (control->phase == SHOVE_PHASE_RUNNING) {
        shove_age_watch(control);
        shove_backlog_watch(control);
    }
    shove_replacement_watch(control);
    shove_supervision_watch(control);
    shove_poisoning_watch(control);
    shove_reload_watch(control);
}

static void on_report_timer(uv_timer_t *timer) {
    struct shove_control *control = timer->data;
    control->now_ms = (int64_t)uv_now(&control->loop);
    for (uint32_t i = 0; i < control->flow_count; i++) {
        shove_flow_log_left_out(&control->flows[i]);
        shove_sequencing_log_unsaid(&control->flows[i]);
    }
    shove_hop_watch(control);
    shove_remote_tick(control);
    if (control->phase == SHOVE_PHASE_DRAINING || control->phase == SHOVE_PHASE_LEAVING)
        shove_drain_report(control);
    else if (control->phase == SHOVE_PHASE_RUNNING)
        shove_revocation_report(control);
}

/* Called in a signal handler, too. */
static bool has_terminal(void) {
    const int fd = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* As nohup leaves it. */
static bool is_hangup_ignored(void) {
    struct sigaction action;
    return sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* What a SIGHUP means; not of the run, because it may come while no loop listens. */
static struct {
    volatile bool has_terminal; /* at the start, and it was not closed since */
    bool outlives_terminal;
    volatile sig_atomic_t wants_reload;
} hangup;

/* While the script is loaded and the broker is waited for, no loop listens; and there is nothing to
 * finish, as nothing was consumed. */
static void leave_at_once(int number) {
    (void)number;
    _exit(0);
}

/* What is being loaded may be what was there before: the reload follows. */
static void hang_up_early(int number) {
    const int saved = errno;
    if (!hangup.has_terminal || has_terminal())
        hangup.wants_reload = 1;
    else if (!hangup.outlives_terminal)
        leave_at_once(number);
    else
        hangup.has_terminal = false;
    errno = saved;
}

static void catch_early_signals(void) {
    const struct sigaction action = {.sa_handler = leave_at_once};
    const struct sigaction early_hangup = {.sa_handler = hang_up_early, .sa_flags = SA_RESTART};
    /* Who asks over the socket, or reads the log, may go away at any time. */
    const struct sigaction ignored = {.sa_handler = SIG_IGN};
    hangup.has_terminal = has_terminal();
    hangup.outlives_terminal = is_hangup_ignored();
    sigaction(SIGHUP, &early_hangup, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGPIPE, &ignored, NULL);
}

static void stop_early(struct shove_control *control) {
    if (!control->is_stopped_early)
        shove_log(SHOVE_LOG_INFO, "stopped by a signal before anything was consumed");
    control->is_stopped_early = true;
}

static void on_signal(uv_signal_t *signal, int number) {
    struct shove_control *control = signal->data;
    control->now_ms = (int64_t)uv_now(&control->loop);
    if (control->phase == SHOVE_PHASE_STARTING)
        stop_early(control);
    else if (control->phase == SHOVE_PHASE_RUNNING)
        shove_drain_begin(control, number == SIGINT    ? "SIGINT"
                                   : number == SIGTERM ? "SIGTERM"
                                                       : "the terminal was closed");
    else
        shove_drain_abort(control);
}

static void terminal_closed(uv_signal_t *signal, int number) {
    hangup.has_terminal = false;
    if (hangup.outlives_terminal)
        shove_log(SHOVE_LOG_INFO, "the terminal was closed: the app goes on");
    else
        on_signal(signal, number);
}

/* The terminal says the same when it is closed as an operator who wants a reload. */
static void on_hangup(uv_signal_t *signal, int number) {
    struct shove_control *control = signal->data;
    struct shove_error error;
    if (hangup.has_terminal && !has_terminal())
        terminal_closed(signal, number);
    else if (control->phase == SHOVE_PHASE_STARTING)
        hangup.wants_reload = 1;
    else if (shove_reload_ask(control, "SIGHUP", &error) != 0)
        shove_log(SHOVE_LOG_WARN, "SIGHUP reloads nothing: %s", error.text);
}

/* ---- start-up ---- */

static int init_loop(struct shove_control *control, struct shove_error *error) {
    if (uv_loop_init(&control->loop) != 0)
        return shove_error_set(error, SHOVE_EIO, "the event loop cannot be set up");
    int rc = shove_bell_init(&control->bell, error);
    if (rc != 0)
        return rc;
    uv_poll_init(&control->loop, &control->wake_poll, control->bell.listen_fd);
    uv_prepare_init(&control->loop, &control->prepare);
    uv_check_init(&control->loop, &control->check);
    uv_idle_init(&control->loop, &control->idle);
    uv_timer_init(&control->loop, &control->due_timer);
    uv_timer_init(&control->loop, &control->commit_timer);
    uv_timer_init(&control->loop, &control->watch_timer);
    uv_timer_init(&control->loop, &control->report_timer);
    uv_timer_init(&control->loop, &control->scale_timer);
    uv_timer_init(&control->loop, &control->file_timer);
    uv_signal_init(&control->loop, &control->sigint);
    uv_signal_init(&control->loop, &control->sigterm);
    uv_signal_init(&control->loop, &control->sighup);
    control->sighup.data = control;
    control->wake_poll.data = control->prepare.data = control->check.data = control->idle.data =
        control;
    control->due_timer.data = control->commit_timer.data = control->watch_timer.data = control;
    control->file_timer.data = control->scale_timer.data = control;
    control->report_timer.data = control->sigint.data = control->sigterm.data = control;
    return 0;
}

static void start_handles(struct shove_control *control) {
    uv_update_time(&control->loop); /* it has stood still while the broker was waited for */
    control->now_ms = control->started_ms = control->watched_ms = (int64_t)uv_now(&control->loop);
    uv_poll_start(&control->wake_poll, UV_READABLE, on_wake);
    uv_prepare_start(&control->prepare, on_prepare);
    uv_check_start(&control->check, on_check);
    uv_timer_start(&control->commit_timer, on_commit_timer, SHOVE_COMMIT_INTERVAL_MS,
                   SHOVE_COMMIT_INTERVAL_MS);
    uv_timer_start(&control->watch_timer, on_watch_timer, SHOVE_WATCH_INTERVAL_MS,
                   SHOVE_WATCH_INTERVAL_MS);
    uv_timer_start(&control->report_timer, on_report_timer, REPORT_INTERVAL_MS, REPORT_INTERVAL_MS);
    uv_signal_start(&control->sigint, on_signal, SIGINT);
    uv_signal_start(&control->sigterm, on_signal, SIGTERM);
    uv_signal_start(&control->sighup, on_hangup, SIGHUP);
}

static void close_handle(uv_handle_t *handle, void *ctx) {
    (void)ctx;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void release_loop(struct shove_control *control) {
    shove_remote_stop(control);
    shove_admin_stop(control);
    uv_walk(&control->loop, close_handle, NULL);
    uv_run(&control->loop, UV_RUN_DEFAULT);
    uv_loop_close(&control->loop);
    shove_remote_release(control);
    shove_file_watch_release(control);
    shove_admin_release(control);
    shove_metrics_release(control);
    shove_bell_release(&control->bell);
}

static void size_workers(struct shove_control *control) {
    const struct shove_run_options *options = control->options;
    control->set_size = options->workers ? options->workers : uv_available_parallelism();
    control->worker_count = SHOVE_WORKER_SETS * control->set_size;
    control->generation = 1;
    uint64_t peak = shove_topology_peak(&control->topology);
    control->slot_count = MIN_SLOTS;
    while (control->slot_count < peak && control->slot_count < MAX_SLOTS)
        control->slot_count *= 2;
    control->largest_message_bytes = shove_topology_largest_message(&control->topology);
    size_t wanted = (size_t)control->largest_message_bytes * 4;
    control->arena_bytes = wanted > MIN_ARENA_BYTES ? wanted : MIN_ARENA_BYTES;
}

static int load(struct shove_control *control, struct shove_error *error) {
    const struct shove_run_options *options = control->options;
    struct shove_load_options what = {
        .script = options->script,
        .lua_dir = options->lua_dir,
        .broker = options->broker,
        .runs_check = true,
        .timeout_ms = options->load_timeout_ms,
        .memory_limit_bytes = options->worker_memory_bytes,
        .description = &control->description,
        .description_size = &control->description_size,
    };
    int rc = shove_load_topology(&what, &control->topology, error);
    for (uint32_t i = 0; rc == 0 && i < control->topology.warning_count; i++)
        shove_log(SHOVE_LOG_WARN, "%s", control->topology.warnings[i]);
    return rc;
}

static int run_until_ready(struct shove_control *control, struct shove_error *error) {
    int rc = shove_pool_start(control, error);
    while (rc == 0 && control->exit_code == 0 && !control->is_stopped_early &&
           !shove_pool_is_ready(control))
        uv_run(&control->loop, UV_RUN_ONCE);
    return rc;
}

static int listen_if_asked(struct shove_control *control, struct shove_error *error) {
    if (!control->options->listen)
        return 0;
    int rc = shove_metrics_start(control, error);
    return rc != 0 ? rc : shove_admin_start(control, error);
}

static int start(struct shove_control *control, struct shove_error *error) {
    int rc = load(control, error);
    if (rc != 0)
        return rc;
    size_workers(control);
    if ((rc = shove_clusters_init(control, error)) != 0 ||
        (rc = shove_flows_init(control, error)) != 0 ||
        (rc = listen_if_asked(control, error)) != 0 ||
        (rc = shove_clusters_open(control, error)) != 0 ||
        (rc = shove_former_holds_add_all(control, error)) != 0)
        return rc;
    start_handles(control);
    if ((rc = run_until_ready(control, error)) != 0 || control->exit_code != 0 ||
        control->is_stopped_early)
        return rc;
    if ((rc = shove_flows_join(control, error)) != 0)
        return rc;
    control->joined_ms = control->now_ms;
    control->app_path = realpath(control->options->script, NULL);
    shove_scaling_start(control);
    shove_remote_start(control);
    if (control->options->watches)
        shove_file_watch_start(control);
    control->phase = SHOVE_PHASE_RUNNING;
    char workers[16];
    char groups[16];
    char brokers[SHOVE_ERROR_TEXT_SIZE];
    snprintf(workers, sizeof(workers), "%" PRIu32, control->set_size);
    snprintf(groups, sizeof(groups), "%" PRIu32, control->flow_count);
    shove_log_fields(SHOVE_LOG_INFO, "running", "app", control->options->script,
                     control->cluster_count > 1 ? "brokers" : "broker",
                     shove_clusters_list(control, brokers, sizeof(brokers)), "groups", groups,
                     "workers", workers, NULL);
    return hangup.wants_reload ? shove_reload_ask(control, "SIGHUP", error) : 0;
}

static void end(struct shove_control *control) {
    shove_pool_kill(control);
    while (!shove_pool_is_gone(control) && uv_run(&control->loop, UV_RUN_ONCE))
        continue;
    shove_partitions_release_all(control);
    shove_clusters_close(control);
    shove_delivery_pool_release(control);
    shove_pool_release(control);
    shove_flows_release(control);
    release_loop(control);
    shove_clusters_release(control);
    shove_buffer_release(&control->scratch);
    shove_groups_release(control);
    shove_topology_release(&control->topology);
    shove_reload_release(control);
    shove_replacement_release(control);
    free(control->description);
    free(control->app_path);
}

int shove_control_run(const struct shove_run_options *options) {
    struct shove_control *control = calloc(1, sizeof(*control));
    if (!control)
        return 1;
    control->options = options;
    catch_early_signals();
    control->bell.listen_fd = -1;
    shove_buffer_init(&control->scratch);
    struct shove_error error;
    int rc = init_loop(control, &error);
    if (rc == 0)
        rc = start(control, &error);
    int exit_code;
    if (rc != 0) {
        shove_log(SHOVE_LOG_ERROR, "%s", error.text);
        exit_code = shove_exit_code_for(rc);
    } else if (control->exit_code != 0 || control->is_stopped_early) {
        exit_code = control->exit_code;
    } else {
        uv_run(&control->loop, UV_RUN_DEFAULT);
        shove_drain_summary(control);
        exit_code = shove_verdict_exit_code(&control->verdict);
    }
    control->phase = SHOVE_PHASE_DONE;
    end(control);
    free(control);
    return exit_code;
}
