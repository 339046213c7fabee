/* admin.c: see admin.h. Control only, loop's thread. */
#include "control/admin.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/metrics.h"
#include "control/reload.h"
#include "control/replacement.h"
#include "control/supervision.h"

#define CONNECTIONS_MAX 32u
#define IDLE_SECONDS 10u
/* While half of the connections are taken, a further one has less time, so that ones that say
 * nothing never hold up the others for longer than that. */
#define CROWDED_CONNECTIONS (CONNECTIONS_MAX / 2)
#define CROWDED_IDLE_SECONDS 1u
#define REQUEST_BYTES_MAX ((size_t)16384)
#define BACKLOG 32
#define TEXT_TYPE "text/plain; charset=utf-8"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct shove_admin {
    struct shove_control *control;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;     /* what libmicrohttpd wants to be called for when nothing happens */
    unsigned connections; /* after the last call */
    unsigned open_count;
};

/* ---- is it ready ---- */

static bool is_flow_ready(const struct shove_flow *flow, struct shove_buffer *out) {
    const char *group = flow->group->group_id;
    const char *label = shove_cluster_label(flow->cluster);
    const char *on = label != NULL ? " on " : "";
    const char *broker = label != NULL ? label : "";
    if (flow->state == SHOVE_FLOW_JOINED && flow->assigned_ms != 0)
        return true;
    if (flow->state == SHOVE_FLOW_JOINED)
        shove_buffer_printf(out, "group '%s'%s%s waits for its partitions\n", group, on, broker);
    else if (flow->state == SHOVE_FLOW_RESTING)
        shove_buffer_printf(out, "group '%s'%s%s failed and is started again in %" PRId64 " s\n",
                            group, on, broker, shove_supervision_left_s(flow));
    else
        shove_buffer_printf(out, "group '%s'%s%s stopped%s\n", group, on, broker,
                            flow->tally.is_failed ? " with an error" : "");
    return false;
}

static bool is_ready(struct shove_control *control, struct shove_buffer *out) {
    if (control->phase != SHOVE_PHASE_RUNNING) {
        shove_buffer_append_text(out, control->phase == SHOVE_PHASE_STARTING ? "starting\n"
                                                                             : "draining\n");
        return false;
    }
    bool all_are = !shove_reload_awaits_group(control);
    if (!all_are)
        shove_buffer_append_text(out, "a group of the reloaded app has not joined yet\n");
    if (!shove_replacement_is_staffed(control)) {
        shove_buffer_append_text(out, "no worker is ready to take messages\n");
        all_are = false;
    }
    for (uint32_t i = 0; i < control->cluster_count; i++) {
        if (control->clusters[i].is_away)
            shove_buffer_printf(out, "broker '%s' cannot be reached\n", control->clusters[i].url);
        all_are &= !control->clusters[i].is_away;
    }
    for (uint32_t i = 0; i < control->flow_count; i++)
        all_are &= control->flows[i].is_removed || is_flow_ready(&control->flows[i], out);
    if (all_are)
        shove_buffer_append_text(out, "ready\n");
    return all_are;
}

/* ---- answers ---- */

struct answer {
    unsigned status;
    const char *type;
    struct shove_buffer body;
};

static void compose(struct shove_control *control, const char *method, const char *path,
                    struct answer *answer) {
    struct shove_buffer *body = &answer->body;
    control->now_ms = (int64_t)uv_now(&control->loop);
    answer->status = MHD_HTTP_OK;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        answer->status = MHD_HTTP_METHOD_NOT_ALLOWED;
        shove_buffer_append_text(body, "only GET and HEAD\n");
    } else if (strcmp(path, "/metrics") == 0) {
        answer->type = METRICS_TYPE;
        shove_metrics_write(control, body);
    } else if (strcmp(path, "/healthz") == 0) {
        shove_buffer_append_text(body, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        if (!is_ready(control, body))
            answer->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    } else {
        answer->status = MHD_HTTP_NOT_FOUND;
        shove_buffer_append_text(body, "there are /metrics, /healthz and /readyz\n");
    }
}

/* takes the body. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer *answer) {
    struct MHD_Response *response =
        answer->body.is_failed ? NULL
                               : MHD_create_response_from_buffer(
                                     answer->body.size, answer->body.data, MHD_RESPMEM_MUST_COPY);
    shove_buffer_release(&answer->body);
    if (!response)
        return MHD_NO; /* hangs up */
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    const enum MHD_Result result = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return result;
}

/* Called when the header of a request is there, and again when all of it is; a body, which none of
 * ours has, is let pass. */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state) {
    static char begun;
    struct shove_admin *admin = ctx;
    (void)version;
    (void)upload;
    const bool is_first = *state == NULL;
    *state = &begun;
    if (is_first)
        return MHD_YES;
    if (*upload_size > 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    struct answer answer = {.type = TEXT_TYPE};
    shove_buffer_init(&answer.body);
    compose(admin->control, method, path, &answer);
    return send_answer(connection, &answer);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code) {
    struct shove_admin *admin = ctx;
    (void)socket_context;
    if (code != MHD_CONNECTION_NOTIFY_STARTED) {
        admin->open_count--;
        return;
    }
    if (admin->open_count++ >= CROWDED_CONNECTIONS)
        MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, CROWDED_IDLE_SECONDS);
}

/* ---- on control's loop ---- */

static void on_timer(uv_timer_t *timer);

/* It looks at its listening socket again, when the limit of connections had been reached, only at
 * the beginning of a call that follows the end of one. */
static bool has_lost_connections(struct shove_admin *admin) {
    const unsigned before = admin->connections;
    admin->connections =
        MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
    return admin->connections < before;
}

static void serve(struct shove_admin *admin) {
    MHD_UNSIGNED_LONG_LONG wait_ms;
    MHD_run(admin->daemon);
    if (has_lost_connections(admin))
        uv_timer_start(&admin->timer, on_timer, 0, 0);
    else if (MHD_get_timeout(admin->daemon, &wait_ms) == MHD_YES)
        uv_timer_start(&admin->timer, on_timer, (uint64_t)wait_ms, 0);
    else
        uv_timer_stop(&admin->timer);
}

static void on_timer(uv_timer_t *timer) {
    serve(timer->data);
}

static void on_event(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    serve(poll->data);
}

/* ---- the socket ---- */

/* A bound and listening socket, or -1 with errno. */
static int listen_at(const struct addrinfo *address) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    const int failure = errno;
    close(fd);
    errno = failure;
    return -1;
}

static int open_socket(const struct shove_listen_address *where, int *out,
                       struct shove_error *error) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    int rc = getaddrinfo(where->host, where->port, &hints, &found);
    if (rc != 0)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "--listen: '%s' is no address of this machine: "
                               "%s",
                               where->host, gai_strerror(rc));
    *out = listen_at(found);
    const int failure = errno;
    freeaddrinfo(found);
    if (*out < 0)
        return shove_error_set(error, SHOVE_ECONFIG, "--listen: cannot listen at %s port %s: %s%s",
                               where->host, where->port, strerror(failure),
                               failure == EADDRINUSE
                                   ? " (another program, or another shove, has it; port 0 takes "
                                     "one that is free)"
                                   : "");
    return 0;
}

/* "http://127.0.0.1:8080/metrics": with the port that was taken. */
static void report(int fd, const struct shove_listen_address *where) {
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    char port[SHOVE_PORT_SIZE];
    char url[SHOVE_HOST_SIZE + 64];
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, NULL, 0, port, sizeof(port), NI_NUMERICSERV) !=
            0)
        return;
    const bool is_v6 = strchr(where->host, ':') != NULL;
    snprintf(url, sizeof(url), "http://%s%s%s:%s/metrics", is_v6 ? "[" : "", where->host,
             is_v6 ? "]" : "", port);
    shove_log_fields(SHOVE_LOG_INFO, "metrics and health are served", "at", url, NULL);
}

/* takes `fd`. */
static int start_daemon(struct shove_admin *admin, int fd, struct shove_error *error) {
    admin->daemon = MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, on_request, admin, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_BYTES_MAX, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, admin, MHD_OPTION_END);
    if (!admin->daemon) {
        close(fd);
        return shove_error_set(error, SHOVE_EIO, "--listen: the HTTP server cannot be started");
    }
    return 0;
}

int shove_admin_start(struct shove_control *control, struct shove_error *error) {
    struct shove_admin *admin = calloc(1, sizeof(*admin));
    if (!admin)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    int fd = -1;
    int rc = open_socket(control->options->listen, &fd, error);
    if (rc == 0)
        rc = start_daemon(admin, fd, error);
    if (rc != 0) {
        free(admin);
        return rc;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    admin->control = control;
    control->admin = admin;
    uv_poll_init(&control->loop, &admin->poll, info->epoll_fd);
    uv_timer_init(&control->loop, &admin->timer);
    admin->poll.data = admin->timer.data = admin;
    uv_poll_start(&admin->poll, UV_READABLE, on_event);
    report(fd, control->options->listen);
    return 0;
}

void shove_admin_stop(struct shove_control *control) {
    struct shove_admin *admin = control->admin;
    if (!admin)
        return;
    uv_close((uv_handle_t *)&admin->poll, NULL);
    uv_close((uv_handle_t *)&admin->timer, NULL);
    MHD_stop_daemon(admin->daemon);
    admin->daemon = NULL;
}

void shove_admin_release(struct shove_control *control) {
    free(control->admin);
    control->admin = NULL;
}
