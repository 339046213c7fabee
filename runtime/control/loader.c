/* loader.c: a process that loads the script: its start, what it says, its end. Control and cli. */
#include "control/loader.h"

#include <string.h>

#define EXIT_GRACE_MS 1000

/* --- Events: each only ends a round of the loop */

static void on_wake(uv_poll_t *poll, int status, int events) {
    struct shove_loader *loader = poll->data;
    (void)status;
    (void)events;
    shove_bell_silence(loader->bell.listen_fd);
}

static void on_timeout(uv_timer_t *timer) {
    struct shove_loader *loader = timer->data;
    loader->is_late = true;
    shove_child_kill(&loader->child);
}

static void on_exited(struct shove_child *child, int64_t status, int signal) {
    struct shove_loader *loader = child->user;
    (void)status;
    (void)signal;
    loader->is_running = false;
    shove_channel_reveal(loader->channel);
}

static void on_closed(uv_handle_t *handle) {
    struct shove_loader *loader = handle->data;
    loader->open_handles--;
}

/* --- Start and end */

static int watch(struct shove_loader *loader, struct shove_error *error) {
    loader->wake.data = loader->timer.data = loader;
    int code = uv_timer_init(loader->loop, &loader->timer);
    loader->open_handles += code == 0;
    if (code == 0)
        code = uv_poll_init(loader->loop, &loader->wake, loader->bell.listen_fd);
    loader->open_handles += code == 0;
    if (code == 0)
        code = uv_poll_start(&loader->wake, UV_READABLE, on_wake);
    if (code != 0)
        return shove_error_set(error, SHOVE_EIO, "cannot watch a worker process: %s",
                               uv_strerror(code));
    return 0;
}

int shove_loader_start(struct shove_loader *loader, uv_loop_t *loop,
                       const struct shove_spawn_options *spawn,
                       const struct shove_channel_options *shape, struct shove_error *error) {
    *loader = (struct shove_loader){.loop = loop, .child.user = loader};
    int code = shove_bell_init(&loader->bell, error);
    if (code != 0)
        return code;
    struct shove_channel_options channel = *shape;
    channel.control_wake_fd = loader->bell.ring_fd;
    code = shove_channel_new(&channel, &loader->channel, error);
    if (code == 0)
        code = watch(loader, error);
    if (code != 0)
        return code;
    struct shove_spawn_options how = *spawn;
    how.channel = loader->channel;
    code = shove_spawn_worker(loop, &how, &loader->child, on_exited, error);
    loader->is_running = code == 0;
    return code;
}

static void stop(struct shove_loader *loader) {
    const struct shove_submit entry = {.type = SHOVE_SUBMIT_STOP};
    struct shove_note note;
    const uint8_t *payload;
    shove_channel_submit(loader->channel, &entry);
    shove_channel_flush(loader->channel);
    shove_loader_limit(loader, EXIT_GRACE_MS);
    while (loader->is_running) {
        int found = shove_loader_next(loader, &note, &payload);
        if (found < 0)
            shove_child_kill(&loader->child);
        if (found <= 0)
            shove_loader_turn(loader);
    }
}

static void close_handle(uv_handle_t *handle) {
    if (handle->type != UV_UNKNOWN_HANDLE)
        uv_close(handle, on_closed);
}

void shove_loader_end(struct shove_loader *loader) {
    if (loader->loop == NULL)
        return;
    if (loader->is_running)
        stop(loader);
    close_handle((uv_handle_t *)&loader->wake);
    close_handle((uv_handle_t *)&loader->timer);
    while (loader->open_handles > 0)
        uv_run(loader->loop, UV_RUN_ONCE);
    if (loader->channel != NULL)
        shove_channel_free(loader->channel);
    shove_bell_release(&loader->bell);
    loader->loop = NULL;
}

/* --- In between */

int shove_loader_next(struct shove_loader *loader, struct shove_note *note,
                      const uint8_t **payload) {
    int found = shove_channel_next_note(loader->channel, note, payload);
    if (found == 0)
        shove_channel_release_notes(loader->channel);
    return found;
}

void shove_loader_turn(struct shove_loader *loader) {
    bool has_note = shove_channel_control_sleeps(loader->channel);
    uv_run(loader->loop, has_note ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    shove_channel_control_wakes(loader->channel);
}

void shove_loader_limit(struct shove_loader *loader, int64_t timeout_ms) {
    if (timeout_ms == 0) {
        uv_timer_stop(&loader->timer);
        return;
    }
    uv_update_time(loader->loop);
    uv_timer_start(&loader->timer, on_timeout, (uint64_t)timeout_ms, 0);
}

int shove_loader_explain(const struct shove_loader *loader, const char *script, int64_t timeout_ms,
                         struct shove_error *error) {
    if (loader->is_late)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "%s did not finish loading within %g s: does it loop, or wait for "
                               "something, outside of a handler?",
                               script, (double)timeout_ms / 1000.0);
    if (loader->child.signal != 0)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "%s: the process that loaded it was killed by signal %d (%s)",
                               script, loader->child.signal, strsignal(loader->child.signal));
    return shove_error_set(error, SHOVE_ECONFIG,
                           "%s: the process that loaded it exited with status %lld before the "
                           "script returned: does it call os.exit?",
                           script, (long long)loader->child.status);
}
