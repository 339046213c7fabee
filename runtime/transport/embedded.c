/* embedded.c: the broker "embedded:PATH", a file on this machine that several processes may use at
 * once.
 *
 * Control and cli, the loop's thread. Ties LMDB's side (embedded_store.h) to what it shares with
 * the memory transport (local.h), and watches PATH-groups through the kernel's file notifications:
 * every commit of another process touches it, so a consumer wakes at once. Only where the kernel
 * has no notification left does it look every 200 ms instead.
 */
#include <stdlib.h>

#include "base/log.h"
#include "transport/embedded_store.h"
#include "transport/local.h"

#define TICK_MS 10000
#define FALLBACK_MS 200

struct shove_embedded_watch { /* lives until libuv has closed its handles */
    uv_fs_event_t event;
    uv_timer_t fallback;
    int open_count;
    struct shove_local *local; /* NULL: stopped */
};

static void on_touched(uv_fs_event_t *event, const char *name, int events, int status) {
    (void)name;
    (void)events; /* removal begins as a change of attributes, so every event may be one */
    (void)status;
    struct shove_embedded_watch *watch = event->data;
    if (!watch->local)
        return;
    shove_local_suspect(watch->local);
    shove_local_check(watch->local);
}

static void on_fallback(uv_timer_t *timer) {
    struct shove_embedded_watch *watch = timer->data;
    if (watch->local)
        shove_local_suspect(watch->local);
}

static void on_closed(uv_handle_t *handle) {
    struct shove_embedded_watch *watch = handle->data;
    if (--watch->open_count == 0)
        free(watch);
}

static int watch_start(struct shove_store *store, struct shove_local *local,
                       struct shove_error *error) {
    struct shove_embedded_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    store->watch = watch;
    uv_fs_event_init(local->loop, &watch->event);
    uv_timer_init(local->loop, &watch->fallback);
    watch->event.data = watch;
    watch->fallback.data = watch;
    watch->open_count = 2;
    watch->local = local;
    const char *path = shove_embedded_locks_path(store->locks);
    int rc = uv_fs_event_start(&watch->event, on_touched, path, 0);
    if (rc < 0) {
        shove_log(SHOVE_LOG_WARN,
                  "cannot watch %s (%s): messages of other processes are noticed every %d ms, not "
                  "at once; "
                  "fs.inotify.max_user_instances may be too low",
                  path, uv_strerror(rc), FALLBACK_MS);
        uv_timer_start(&watch->fallback, on_fallback, FALLBACK_MS, FALLBACK_MS);
    }
    return 0;
}

static void watch_stop(struct shove_store *store) {
    if (!store->watch)
        return;
    store->watch->local = NULL;
    uv_close((uv_handle_t *)&store->watch->event, on_closed);
    uv_close((uv_handle_t *)&store->watch->fallback, on_closed);
    store->watch = NULL;
}

static int group_lock(struct shove_store *store, uint32_t group_id, const char *name,
                      struct shove_error *error) {
    return shove_embedded_locks_group(store->locks, group_id, name, error);
}

static void group_unlock(struct shove_store *store, uint32_t group_id) {
    shove_embedded_locks_ungroup(store->locks, group_id);
}

static const struct shove_store_ops store_ops = {
    .is_blocking = true,
    .has_crc = true,
    .tick_ms = TICK_MS,
    .topic_get = shove_embedded_topic_get,
    .topic_names = shove_embedded_topic_names,
    .declare = shove_embedded_declare,
    .topology_version = shove_embedded_topology_version,
    .read_begin = shove_embedded_read_begin,
    .read_end = shove_embedded_read_end,
    .bounds = shove_embedded_bounds,
    .read = shove_embedded_read,
    .commit_get = shove_embedded_commit_get,
    .group_get = shove_embedded_group_get,
    .group_lock = group_lock,
    .group_unlock = group_unlock,
    .write = shove_embedded_write,
    .delete_before = shove_embedded_delete_before,
    .check = shove_embedded_check,
    .watch_start = watch_start,
    .watch_stop = watch_stop,
    .free = shove_embedded_free,
};

static int embedded_open(const struct shove_transport_config *config, struct shove_transport **out,
                         struct shove_error *error) {
    struct shove_store *store;
    struct shove_local *local;
    int rc = shove_embedded_open_file(config->address, !config->must_exist, config->timeout_ms,
                                      &store, error);
    if (rc == 0)
        rc = shove_local_open(config, &shove_embedded_ops, &store_ops, store, &local, error);
    if (rc == 0)
        *out = &local->head;
    return rc;
}

const struct shove_transport_ops shove_embedded_ops = {
    .scheme = "embedded",
    .capabilities = SHOVE_CAN_PERSIST | SHOVE_CAN_PUBLISH_OUTSIDE | SHOVE_CAN_EXPAND,
    .open = embedded_open,
    SHOVE_LOCAL_OPS,
};
