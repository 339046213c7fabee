/* client.c: a broker and a loop for a command that runs once. Cli; one thread.
 *
 * Standard input is waited for with poll(2) beside the loop's own descriptor instead of a uv
 * handle: a handle would make the descriptor non-blocking, which it shares with the user's shell,
 * and epoll refuses plain files.
 */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/tally.h"

#define CLOSE_TIMEOUT_MS 2000
#define INPUT_POLL_MAX_MS 1000

/* --- Events of the transport */

static void on_readable(void *ctx) {
    struct shove_client *client = ctx;
    client->is_readable = true;
}

static void on_produced(void *ctx, const struct shove_produced *results, size_t count) {
    struct shove_client *client = ctx;
    client->in_flight -= count;
    client->progress_mono_ms = shove_clock_mono_ms();
    client->is_readable = true;
    for (size_t i = 0; i < count && client->produced != NULL; i++)
        client->produced(client->ctx, &results[i]);
}

static void on_notice(void *ctx, int code, const char *text) {
    (void)ctx;
    shove_log(code == 0 ? SHOVE_LOG_INFO : SHOVE_LOG_WARN, "%s", text);
}

static const struct shove_transport_events events = {
    .readable = on_readable,
    .produced = on_produced,
    .notice = on_notice,
};

/* --- Opening and closing */

static int open_transport(struct shove_client *client, const struct shove_app *app,
                          const struct shove_client_options *options, struct shove_error *error) {
    const char *address;
    const struct shove_broker *broker = &app->topology.brokers[options->broker];
    int code = shove_transport_find(broker->url, &client->ops, &address, error);
    if (code != 0)
        return code;
    if ((client->ops->capabilities & SHOVE_CAN_PUBLISH_OUTSIDE) == 0)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "cannot %s: the messages of '%s' are visible only inside the one "
                               "process that runs the app; use embedded: or kafka://",
                               options->purpose, broker->url);
    struct shove_transport_config config = {
        .address = address,
        .properties = broker->properties,
        .property_count = broker->property_count,
        .loop = &client->loop,
        .events = &events,
        .ctx = client,
        .timeout_ms = options->timeout_ms,
        .max_message_size_bytes = options->max_message_size_bytes,
        .instance = "shove-cli",
        .must_exist = options->must_exist,
    };
    return client->ops->open(&config, &client->transport, error);
}

int shove_client_open(struct shove_client *client, const struct shove_app *app,
                      const struct shove_client_options *options, shove_client_produced *produced,
                      void *ctx, struct shove_error *error) {
    memset(client, 0, sizeof *client);
    client->produced = produced;
    client->ctx = ctx;
    client->timeout_ms = options->timeout_ms;
    int code = uv_loop_init(&client->loop);
    client->has_loop = code == 0;
    if (code == 0)
        code = uv_timer_init(&client->loop, &client->timer);
    if (code == 0)
        code = uv_signal_init(&client->loop, &client->sigint);
    if (code == 0)
        code = uv_signal_init(&client->loop, &client->sigterm);
    if (code != 0)
        return shove_error_set(error, SHOVE_EIO, "cannot start an event loop: %s",
                               uv_strerror(code));
    client->timer.data = client->sigint.data = client->sigterm.data = client;
    return open_transport(client, app, options, error);
}

static void close_handle(uv_handle_t *handle) {
    if (handle->type != UV_UNKNOWN_HANDLE && !uv_is_closing(handle))
        uv_close(handle, NULL);
}

void shove_client_close(struct shove_client *client) {
    if (!client->has_loop)
        return;
    client->produced = NULL; /* whoever it spoke to may be gone */
    if (client->transport != NULL)
        client->ops->close(client->transport, CLOSE_TIMEOUT_MS);
    client->transport = NULL;
    close_handle((uv_handle_t *)&client->timer);
    close_handle((uv_handle_t *)&client->sigint);
    close_handle((uv_handle_t *)&client->sigterm);
    uv_run(&client->loop, UV_RUN_DEFAULT);
    uv_loop_close(&client->loop);
}

/* --- Looking into a topic */

int shove_client_count_partitions(const struct shove_client *client, const char *topic,
                                  int32_t *out, struct shove_error *error) {
    long count = client->ops->partition_count(client->transport, topic, client->timeout_ms, error);
    if (count < 0 && count != SHOVE_ENOTOPIC)
        return (int)count;
    *out = count > 0 ? (int32_t)count : 0;
    return 0;
}

long shove_client_read(const struct shove_client *client, const char *topic, int32_t partition,
                       int64_t *next, int64_t high, size_t max, struct shove_batch *batch,
                       struct shove_error *error) {
    if (*next >= high)
        return 0;
    int64_t started_ms = shove_clock_mono_ms();
    long count = client->ops->read(client->transport, topic, partition, *next, max,
                                   client->timeout_ms, batch, error);
    if (count < 0)
        return count;
    /* Nothing, at once: markers or holes up to the end. Nothing, after all that time: who knows. */
    if (count == 0 && shove_clock_mono_ms() - started_ms >= client->timeout_ms)
        return shove_error_set(
            error, SHOVE_ETIMEOUT,
            "%s/%d: nothing from offset %lld on came within %g s, and the end is at %lld", topic,
            partition, (long long)*next, (double)client->timeout_ms / 1000.0, (long long)high);
    size_t used = 0;
    while (used < (size_t)count && batch->records[used].offset < high)
        used++;
    if (count > 0 && used == 0)
        client->ops->batch_release(client->transport, batch);
    *next = used > 0 ? batch->records[used - 1].offset + 1 : high;
    return (long)used;
}

int shove_client_keep_first(struct shove_error *first, const struct shove_error *error) {
    if (first->code == 0)
        *first = *error;
    return error->code == SHOVE_ECORRUPT ? 0 : error->code;
}

/* --- Signals */

static void on_signal(uv_signal_t *handle, int number) {
    struct shove_client *client = handle->data;
    if (client->is_interrupted) {
        signal(number, SIG_DFL);
        raise(number);
    }
    client->is_interrupted = true;
}

void shove_client_catch_signals(struct shove_client *client) {
    uv_signal_start(&client->sigint, on_signal, SIGINT);
    uv_signal_start(&client->sigterm, on_signal, SIGTERM);
    uv_unref((uv_handle_t *)&client->sigint);
    uv_unref((uv_handle_t *)&client->sigterm);
}

/* --- Producing and waiting */

const char *shove_client_refusal(const struct shove_produced *result) {
    bool has_words = result->detail != NULL && result->detail[0] != '\0';
    return has_words ? result->detail : shove_error_sentence(result->code);
}

static void on_timer(uv_timer_t *timer) {
    (void)timer; /* it only ends the wait */
}

static int64_t time_left(const struct shove_client *client) {
    return client->progress_mono_ms + client->timeout_ms - shove_clock_mono_ms();
}

static void start_waiting(struct shove_client *client) {
    client->progress_mono_ms = shove_clock_mono_ms();
}

/* One round of the loop that waits for an event, at most until the broker has been silent for too
 * long. */
static int wait_event(struct shove_client *client, struct shove_error *error) {
    int64_t left_ms = time_left(client);
    if (left_ms <= 0)
        return shove_error_set(error, SHOVE_ETIMEOUT,
                               "the broker has acknowledged nothing for %g s; what was sent may "
                               "still arrive",
                               (double)client->timeout_ms / 1000.0);
    uv_update_time(&client->loop);
    uv_timer_start(&client->timer, on_timer, (uint64_t)left_ms, 0);
    uv_run(&client->loop, UV_RUN_ONCE);
    uv_timer_stop(&client->timer);
    return 0;
}

void shove_client_turn(struct shove_client *client) {
    uv_run(&client->loop, UV_RUN_NOWAIT);
}

int shove_client_produce(struct shove_client *client, const struct shove_produce *what,
                         struct shove_error *error) {
    bool is_waiting = false;
    for (;;) {
        client->is_readable = false;
        int code = client->ops->produce(client->transport, what);
        if (code == 0) {
            client->in_flight++;
            return 0;
        }
        if (code != SHOVE_EAGAIN)
            return shove_error_set(error, code, "%s", shove_error_sentence(code));
        if (!is_waiting)
            start_waiting(client);
        is_waiting = true;
        while (!client->is_readable) {
            if (client->is_interrupted)
                return shove_error_set(error, SHOVE_ECLOSED, "interrupted");
            code = wait_event(client, error);
            if (code != 0)
                return code;
        }
    }
}

int shove_client_settle(struct shove_client *client, uint64_t most, struct shove_error *error) {
    start_waiting(client);
    while (client->in_flight > most) {
        int code = wait_event(client, error);
        if (code != 0)
            return code;
    }
    return 0;
}

int shove_client_wait_input(struct shove_client *client, int fd, struct shove_error *error) {
    for (;;) {
        uv_run(&client->loop, UV_RUN_NOWAIT);
        if (client->is_interrupted)
            return shove_error_set(error, SHOVE_ECLOSED, "interrupted");
        int timeout_ms = uv_backend_timeout(&client->loop);
        if (timeout_ms < 0 || timeout_ms > INPUT_POLL_MAX_MS)
            timeout_ms = INPUT_POLL_MAX_MS;
        struct pollfd fds[2] = {
            {.fd = fd, .events = POLLIN},
            {.fd = uv_backend_fd(&client->loop), .events = POLLIN},
        };
        int ready = poll(fds, 2, timeout_ms);
        if (ready < 0 && errno != EINTR)
            return shove_error_set(error, SHOVE_EIO, "cannot wait for standard input: %s",
                                   strerror(errno));
        if (ready > 0 && fds[0].revents != 0)
            return 0;
    }
}
