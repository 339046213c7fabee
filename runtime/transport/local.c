/* local.c: opening, closing and the pump of the transports that live on this machine; see local.h
 * for the whole.
 *
 * Control, the loop's thread. Invariants: the subscriber is called only by the pump; the pump is
 * not entered twice; whatever an operation leaves to be told has poked `wake`. Close frees all at
 * once but the libuv handles, which go when the loop runs next.
 */
#include "transport/local.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define NOTICE_INTERVAL_MS 30000

int shove_local_grow(void *items, size_t *capacity, size_t count, size_t size) {
    if (count < *capacity)
        return 0;
    size_t wanted = *capacity < 8 ? 8 : *capacity * 2;
    void *old;
    memcpy(&old, items, sizeof(old));
    void *grown = realloc(old, wanted * size);
    if (!grown)
        return SHOVE_ENOMEM;
    memcpy(items, &grown, sizeof(grown));
    *capacity = wanted;
    return 0;
}

void shove_local_wake(struct shove_local *local) {
    uv_async_send(&local->handles->wake);
}

void shove_local_suspect(struct shove_local *local) {
    local->is_stale = true;
    shove_local_wake(local);
}

/* Small writes may pass where large ones fail, so trouble may come and go with every write: each
 * kind is told at most once per interval, and its end only when its beginning was. */
void shove_local_notice(struct shove_local *local, int code, const char *text) {
    int64_t now_ms = shove_clock_mono_ms();
    bool is_told;
    if (code == 0) {
        is_told = local->trouble != 0 && local->is_trouble_told;
        local->is_trouble_told = false;
    } else {
        is_told = code != local->told_code || now_ms - local->told_ms >= NOTICE_INTERVAL_MS;
    }
    local->trouble = code;
    if (is_told && code != 0) {
        local->told_code = code;
        local->told_ms = now_ms;
        local->is_trouble_told = true;
    }
    if (is_told && local->events->notice)
        local->events->notice(local->ctx, code, text);
}

/* ---- topics ---- */

static size_t topic_position(const struct shove_local *local, const char *name, bool *is_there) {
    size_t low = 0, high = local->topic_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(local->topics[middle]->info.name, name);
        if (order == 0) {
            *is_there = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *is_there = false;
    return low;
}

static int slots_fit(struct shove_local_topic *topic, int32_t partitions) {
    struct shove_local_slot *slots =
        realloc(topic->slots, (size_t)partitions * sizeof(*topic->slots));
    if (!slots)
        return SHOVE_ENOMEM;
    if (partitions > topic->info.partitions)
        memset(slots + topic->info.partitions, 0,
               (size_t)(partitions - topic->info.partitions) * sizeof(*slots));
    topic->slots = slots;
    return 0;
}

static int topic_remember(struct shove_local *local, size_t position,
                          const struct shove_store_topic *info, struct shove_local_topic **out) {
    if (shove_local_grow(&local->topics, &local->topic_capacity, local->topic_count,
                         sizeof(*local->topics)) < 0)
        return SHOVE_ENOMEM;
    struct shove_local_topic *topic = calloc(1, sizeof(*topic));
    if (!topic || slots_fit(topic, info->partitions) < 0) {
        free(topic);
        return SHOVE_ENOMEM;
    }
    topic->info = *info;
    memmove(local->topics + position + 1, local->topics + position,
            (local->topic_count - position) * sizeof(*local->topics));
    local->topics[position] = topic;
    local->topic_count++;
    *out = topic;
    return 0;
}

int shove_local_topic_find(struct shove_local *local, const char *name,
                           struct shove_local_topic **out, struct shove_error *error) {
    if (local->last_topic && strcmp(local->last_topic->info.name, name) == 0) {
        *out = local->last_topic;
        return 0;
    }
    bool is_there;
    size_t position = topic_position(local, name, &is_there);
    if (is_there) {
        *out = local->topics[position];
    } else {
        struct shove_store_topic info;
        int rc = local->ops->topic_get(local->store, name, &info, error);
        if (rc < 0)
            return rc;
        if (topic_remember(local, position, &info, out) < 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    local->last_topic = *out;
    return 0;
}

/* Partitions may have been added, here or by another process. */
static void topics_refresh(struct shove_local *local) {
    uint64_t version = local->ops->topology_version(local->store);
    if (version == local->topology_version)
        return;
    for (size_t i = 0; i < local->topic_count; i++) {
        struct shove_local_topic *topic = local->topics[i];
        struct shove_store_topic info;
        if (local->ops->topic_get(local->store, topic->info.name, &info, NULL) < 0)
            continue;
        if (info.partitions > topic->info.partitions && slots_fit(topic, info.partitions) < 0)
            return; /* out of memory: the version stays, so the next time tries again */
        topic->info = info;
    }
    local->topology_version = version;
}

/* ---- pump ---- */

static void look_again(struct shove_local *local) {
    local->is_stale = false;
    if (local->ops->read_begin(local->store, NULL) < 0)
        return;
    topics_refresh(local);
    shove_local_subscriptions_refresh(local);
    local->ops->read_end(local->store);
}

static void pump(struct shove_local *local) {
    if (local->is_pumping)
        return;
    local->is_pumping = true;
    shove_local_write_start(local);
    shove_local_write_deliver(local);
    if (local->is_stale)
        look_again(local);
    shove_local_subscriptions_advance(local);
    shove_local_scans_deliver(local);
    shove_local_write_start(local);
    if (local->is_readable) {
        local->is_readable = false;
        if (local->events->readable)
            local->events->readable(local->ctx);
    }
    local->is_pumping = false;
    if (local->finished)
        shove_local_wake(local);
}

static void on_wake(uv_async_t *wake) {
    struct shove_local_handles *handles = wake->data;
    if (handles->local)
        pump(handles->local);
}

void shove_local_check(struct shove_local *local) {
    struct shove_error error;
    if (local->gone_code != 0 || local->ops->check(local->store, &error) == 0)
        return;
    local->gone_code = error.code;
    shove_local_notice(local, error.code, error.text);
    for (struct shove_local_subscription *s = local->subscriptions; s; s = s->next)
        shove_local_subscription_fail(s, error.code, error.text);
}

/* Not how records are noticed (that is at once), but what makes up for a notification the kernel
 * dropped, and what keeps the storage bounded. */
static void on_tick(uv_timer_t *tick) {
    struct shove_local_handles *handles = tick->data;
    struct shove_local *local = handles->local;
    if (!local)
        return;
    local->is_retention_due = true;
    shove_local_suspect(local);
    shove_local_check(local);
}

/* ---- open and close ---- */

static void on_handle_closed(uv_handle_t *handle) {
    struct shove_local_handles *handles = handle->data;
    if (--handles->open_count == 0)
        free(handles);
}

static int handles_open(struct shove_local *local, struct shove_error *error) {
    struct shove_local_handles *handles = calloc(1, sizeof(*handles));
    if (!handles)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    int rc = uv_async_init(local->loop, &handles->wake, on_wake);
    if (rc < 0) {
        free(handles);
        return shove_error_set(error, SHOVE_EIO, "no descriptor for a wake-up: %s",
                               uv_strerror(rc));
    }
    uv_timer_init(local->loop, &handles->tick);
    handles->wake.data = handles;
    handles->tick.data = handles;
    handles->open_count = 2;
    handles->local = local;
    local->handles = handles;
    uint64_t tick_ms = (uint64_t)local->ops->tick_ms;
    uv_timer_start(&handles->tick, on_tick, tick_ms, tick_ms);
    return 0;
}

int shove_local_open(const struct shove_transport_config *config,
                     const struct shove_transport_ops *transport_ops,
                     const struct shove_store_ops *ops, struct shove_store *store,
                     struct shove_local **out, struct shove_error *error) {
    struct shove_local *local = calloc(1, sizeof(*local));
    if (!local) {
        ops->free(store);
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    local->head.ops = transport_ops;
    local->loop = config->loop;
    local->events = config->events;
    local->ctx = config->ctx;
    local->ops = ops;
    local->store = store;
    local->scans_end = &local->scans;
    int64_t limit = config->max_message_size_bytes;
    if (limit < SHOVE_LOCAL_RECORD_BYTES)
        limit = SHOVE_LOCAL_RECORD_BYTES;
    local->record_limit_bytes = (size_t)limit + SHOVE_LOCAL_HEADROOM_BYTES;
    local->topology_version = ops->topology_version(store);
    int rc = handles_open(local, error);
    if (rc < 0) {
        ops->free(store);
        free(local);
        return rc;
    }
    if (ops->watch_start)
        rc = ops->watch_start(store, local, error);
    if (rc < 0) {
        shove_local_close(&local->head, 0);
        return rc;
    }
    *out = local;
    return 0;
}

void shove_local_close(struct shove_transport *transport, int64_t timeout_ms) {
    struct shove_local *local = (struct shove_local *)transport;
    local->handles->local = NULL;
    uv_close((uv_handle_t *)&local->handles->wake, on_handle_closed);
    uv_close((uv_handle_t *)&local->handles->tick, on_handle_closed);
    if (local->ops->watch_stop)
        local->ops->watch_stop(local->store);
    bool is_free = shove_local_write_close(local, timeout_ms);
    shove_local_subscriptions_free(local);
    shove_local_scans_free(local);
    shove_local_batches_free(local);
    if (is_free)
        local->ops->free(local->store);
    for (size_t i = 0; i < local->topic_count; i++) {
        free(local->topics[i]->slots);
        free(local->topics[i]);
    }
    free(local->topics);
    free(local);
}
