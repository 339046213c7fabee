/* load.c: what app.lua says, as data. Control and cli.
 *
 * A worker process in describe mode loads the script and sends one note: the description, or why it
 * could not be loaded. A loop of its own waits for that note, for the end of the process (the
 * script called os.exit, or crashed it), or for the timeout (an endless loop at load), whichever is
 * first; the process is gone when this returns.
 */
#include "control/load.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "control/revocation.h"
#include "control/spawn.h"
#include "control/topology_json.h"
#include "ipc/bell.h"
#include "ipc/channel.h"
#include "transport/transport.h"

#define EXIT_GRACE_MS 1000

struct loading {
    const struct shove_load_options *options;
    struct shove_channel *channel;
    struct shove_child child;
    uv_loop_t loop;
    uv_poll_t wake;
    uv_timer_t timer;
    struct shove_bell bell;
    char *description; /* owned */
    size_t description_size;
    bool is_told; /* a note said how it went */
    bool is_late;
    int code;
    struct shove_error *error;
};

static void on_timeout(uv_timer_t *timer) {
    struct loading *loading = timer->data;
    loading->is_late = true;
    shove_child_kill(&loading->child);
}

static int fail(struct loading *loading, int code, const char *text) {
    loading->code = code;
    return shove_error_set(loading->error, code, "%s", text);
}

static void keep_description(struct loading *loading, const uint8_t *text, size_t size) {
    loading->description = malloc(size + 1);
    if (loading->description == NULL) {
        fail(loading, SHOVE_ENOMEM, "out of memory reading what the script describes");
        return;
    }
    memcpy(loading->description, text, size);
    loading->description[size] = '\0';
    loading->description_size = size;
}

static void on_note(struct loading *loading, const struct shove_note *note,
                    const uint8_t *payload) {
    if (loading->is_told)
        return;
    if (note->type == SHOVE_NOTE_DESCRIPTION) {
        loading->is_told = true;
        keep_description(loading, payload, note->size);
    } else if (note->type == SHOVE_NOTE_LOAD_ERROR) {
        loading->is_told = true;
        loading->code = shove_error_set(loading->error, SHOVE_ECONFIG, "%.*s", (int)note->size,
                                        (const char *)payload);
    }
    /* What the script printed is still in its buffers: it may go by itself, if it goes soon. */
    if (loading->is_told)
        uv_timer_start(&loading->timer, on_timeout, EXIT_GRACE_MS, 0);
}

/* Reads what is there, a ring at most; after it the worker will wake us for the next note. What has
 * come meanwhile waits for the loop, which also looks at the time. */
static void read_notes(struct loading *loading) {
    struct shove_note note;
    const uint8_t *payload;
    int found;
    while ((found = shove_channel_next_note(loading->channel, &note, &payload)) == 1)
        on_note(loading, &note, payload);
    shove_channel_release_notes(loading->channel);
    if (found < 0) {
        if (!loading->is_told)
            fail(loading, SHOVE_ECONFIG, "the process that loads the script broke its channel");
        loading->is_told = true;
        shove_child_kill(&loading->child);
    } else if (shove_channel_control_sleeps(loading->channel)) {
        shove_bell_ring(loading->bell.ring_fd);
    }
}

static void on_wake(uv_poll_t *poll, int status, int events) {
    struct loading *loading = poll->data;
    (void)status;
    (void)events;
    shove_bell_silence(loading->bell.listen_fd);
    shove_channel_control_wakes(loading->channel);
    read_notes(loading);
}

static void stop_waiting(struct loading *loading) {
    uv_close((uv_handle_t *)&loading->wake, NULL);
    uv_close((uv_handle_t *)&loading->timer, NULL);
}

static void on_exited(struct shove_child *child, int64_t status, int signal) {
    struct loading *loading = child->user;
    (void)status;
    (void)signal;
    read_notes(loading);
    stop_waiting(loading);
}

/* The process ended and said nothing. */
static void explain_silence(struct loading *loading) {
    const char *script = loading->options->script;
    if (loading->is_late)
        loading->code =
            shove_error_set(loading->error, SHOVE_ECONFIG,
                            "%s did not finish loading within %g s: does it loop, or wait for "
                            "something, outside of a handler?",
                            script, (double)loading->options->timeout_ms / 1000.0);
    else if (loading->child.signal != 0)
        loading->code =
            shove_error_set(loading->error, SHOVE_ECONFIG,
                            "%s: the process that loaded it was killed by signal %d "
                            "(%s)",
                            script, loading->child.signal, strsignal(loading->child.signal));
    else
        loading->code = shove_error_set(loading->error, SHOVE_ECONFIG,
                                        "%s: the process that loaded it exited with status %lld "
                                        "before the script returned: does it call os.exit?",
                                        script, (long long)loading->child.status);
}

static int describe(struct loading *loading) {
    const struct shove_load_options *options = loading->options;
    struct shove_spawn_options spawn = {
        .script = options->script,
        .lua_dir = options->lua_dir,
        .broker = options->broker,
        .channel = loading->channel,
        .memory_limit_bytes = options->memory_limit_bytes,
        .runs_check = options->runs_check,
        .is_describe_only = true,
    };
    uv_poll_init(&loading->loop, &loading->wake, loading->bell.listen_fd);
    uv_timer_init(&loading->loop, &loading->timer);
    loading->wake.data = loading->timer.data = loading->child.user = loading;
    loading->code =
        shove_spawn_worker(&loading->loop, &spawn, &loading->child, on_exited, loading->error);
    if (loading->code != 0) {
        stop_waiting(loading);
    } else {
        uv_poll_start(&loading->wake, UV_READABLE, on_wake);
        uv_timer_start(&loading->timer, on_timeout, (uint64_t)options->timeout_ms, 0);
        read_notes(loading);
    }
    uv_run(&loading->loop, UV_RUN_DEFAULT);
    if (loading->code == 0 && !loading->is_told)
        explain_silence(loading);
    return loading->code;
}

/* What only the broker's library can judge of the script; no broker is asked. */
static int check_broker(const struct shove_broker *broker, const char *whose,
                        struct shove_error *error) {
    const struct shove_transport_ops *ops;
    const char *address;
    int code = shove_transport_find(broker->url, &ops, &address, error);
    if (code != 0 || ops->check_properties == NULL)
        return code;
    code = ops->check_properties(broker->properties, broker->property_count, error);
    if (code != 0 && broker->at != NULL)
        shove_error_prefix(error, "%s: %s", broker->at, whose);
    return code;
}

static int check_brokers(const struct shove_topology *topology, struct shove_error *error) {
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < topology->broker_count; i++)
        code = check_broker(&topology->brokers[i], i == 0 ? "registry" : "broker", error);
    return code;
}

static int finish(struct loading *loading, struct shove_topology *out) {
    const struct shove_load_options *options = loading->options;
    int code =
        shove_topology_parse(loading->description, loading->description_size, out, loading->error);
    if (code != 0)
        return code;
    code = check_brokers(out, loading->error);
    if (code == 0 && shove_revocation_check(out) != 0)
        code = shove_error_set(loading->error, SHOVE_ENOMEM, "out of memory");
    if (code != 0) {
        shove_topology_release(out);
        return code;
    }
    if (options->description_size != NULL)
        *options->description_size = loading->description_size;
    if (options->description != NULL) {
        *options->description = loading->description;
        loading->description = NULL;
    }
    return 0;
}

int shove_load_topology(const struct shove_load_options *options, struct shove_topology *out,
                        struct shove_error *error) {
    struct shove_error unwanted;
    struct loading loading = {.options = options, .error = error != NULL ? error : &unwanted};
    int code = shove_bell_init(&loading.bell, error);
    if (code != 0)
        return code;
    code = uv_loop_init(&loading.loop);
    if (code != 0) {
        shove_bell_release(&loading.bell);
        return shove_error_set(error, SHOVE_EIO, "cannot start an event loop: %s",
                               uv_strerror(code));
    }
    struct shove_channel_options channel = {
        .arena_bytes = 1u << 16,
        .submit_entries = 16,
        .outbound_bytes = 1u << 18,
        .control_wake_fd = loading.bell.ring_fd,
    };
    code = shove_channel_new(&channel, &loading.channel, error);
    if (code == 0)
        code = describe(&loading);
    if (code == 0)
        code = finish(&loading, out);
    free(loading.description);
    if (loading.channel != NULL)
        shove_channel_free(loading.channel);
    uv_loop_close(&loading.loop);
    shove_bell_release(&loading.bell);
    return code;
}
