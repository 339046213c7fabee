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

#include "control/loader.h"
#include "control/revocation.h"
#include "control/topology_json.h"
#include "transport/transport.h"

struct loading {
    const struct shove_load_options *options;
    struct shove_loader loader;
    char *description; /* owned */
    size_t description_size;
    struct shove_error *error;
};

static int keep_description(struct loading *loading, const uint8_t *text, size_t size) {
    loading->description = malloc(size + 1);
    if (loading->description == NULL)
        return shove_error_set(loading->error, SHOVE_ENOMEM,
                               "out of memory reading what the script describes");
    memcpy(loading->description, text, size);
    loading->description[size] = '\0';
    loading->description_size = size;
    return 0;
}

/* 1: the process said how it went; 0: nothing yet; or an error. */
static int read_notes(struct loading *loading) {
    struct shove_note note;
    const uint8_t *payload;
    int found;
    while ((found = shove_loader_next(&loading->loader, &note, &payload)) == 1) {
        if (note.type == SHOVE_NOTE_DESCRIPTION) {
            int code = keep_description(loading, payload, note.size);
            return code != 0 ? code : 1;
        }
        if (note.type == SHOVE_NOTE_LOAD_ERROR)
            return shove_error_set(loading->error, SHOVE_ECONFIG, "%.*s", (int)note.size,
                                   (const char *)payload);
    }
    if (found < 0)
        return shove_error_set(loading->error, SHOVE_ECONFIG,
                               "the process that loads the script broke its channel");
    return 0;
}

static int wait_for_description(struct loading *loading) {
    const struct shove_load_options *options = loading->options;
    struct shove_loader *loader = &loading->loader;
    shove_loader_limit(loader, options->timeout_ms);
    for (;;) {
        bool was_running = loader->is_running;
        int told = read_notes(loading);
        if (told != 0)
            return told < 0 ? told : 0;
        if (!was_running)
            return shove_loader_explain(loader, options->script, options->timeout_ms,
                                        loading->error);
        shove_loader_turn(loader);
    }
}

static int describe(struct loading *loading, uv_loop_t *loop) {
    const struct shove_load_options *options = loading->options;
    const struct shove_spawn_options spawn = {
        .script = options->script,
        .lua_dir = options->lua_dir,
        .broker = options->broker,
        .memory_limit_bytes = options->memory_limit_bytes,
        .runs_check = options->runs_check,
        .is_describe_only = true,
    };
    const struct shove_channel_options shape = {
        .arena_bytes = 1u << 16,
        .submit_entries = 16,
        .outbound_bytes = 1u << 18,
    };
    int code = shove_loader_start(&loading->loader, loop, &spawn, &shape, loading->error);
    if (code == 0)
        code = wait_for_description(loading);
    shove_loader_end(&loading->loader);
    return code;
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
    uv_loop_t loop;
    int code = uv_loop_init(&loop);
    if (code != 0)
        return shove_error_set(error, SHOVE_EIO, "cannot start an event loop: %s",
                               uv_strerror(code));
    code = describe(&loading, &loop);
    if (code == 0)
        code = finish(&loading, out);
    free(loading.description);
    uv_run(&loop, UV_RUN_DEFAULT); /* a process that could not be started leaves a handle */
    uv_loop_close(&loop);
    return code;
}
