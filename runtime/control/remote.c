/* remote.c: see remote.h. Control only, loop's thread. */
#include "control/remote.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "control/cluster.h"
#include "control/flow.h"
#include "control/reload.h"
#include "control/run_dir.h"
#include "control/scaling.h"
#include "control/status.h"

#define REQUEST_BYTES_MAX 4096
#define CLIENTS_MAX 16
#define PATIENCE_MS 5000
#define BACKLOG 16

struct shove_remote_client {
    uv_pipe_t pipe; /* first */
    struct shove_control *control;
    int64_t since_ms; /* connected, or answered */
    uint32_t reload;  /* the number of the one it waits for; 0: none */
    size_t size;
    char request[REQUEST_BYTES_MAX];
    char *answer; /* owned; set once */
    uv_write_t write;
    struct shove_remote_client *next;
};

/* ---- what is asked for ---- */

/* What the script says of the group: of one that is removed, what it says of that which joins in its
 * place, and takes over what is said of this one meanwhile. NULL: it is gone for good. */
static const struct shove_group *group_of(const struct shove_flow *flow) {
    const struct shove_topology *topology = &flow->control->topology;
    if (!flow->is_removed)
        return flow->group;
    for (uint32_t i = 0; !flow->is_succeeded && i < topology->group_count; i++) {
        const struct shove_group *group = &topology->groups[i];
        if (shove_flow_is_of(flow, shove_cluster_of(flow->control, group), group->group_id,
                             shove_topology_source(topology, group)))
            return group;
    }
    return NULL;
}

/* NULL: `error` says why. */
static struct shove_flow *find_flow(struct shove_control *control, const json_t *request,
                                    struct shove_error *error) {
    const char *name = json_string_value(json_object_get(request, "group"));
    const char *names[64];
    size_t count = 0;
    struct shove_flow *found = NULL;
    for (uint32_t i = 0; name != NULL && i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        const char *id = flow->group->group_id;
        const bool is_there = group_of(flow) != NULL;
        if (is_there && strcmp(id, name) == 0) {
            if (found != NULL) {
                shove_error_set(error, SHOVE_EINVAL,
                                "there is a group '%s' on '%s' and another on '%s': give one of "
                                "them a group_id of its own",
                                name, found->cluster->url, flow->cluster->url);
                return NULL;
            }
            found = flow;
        }
        if (is_there && count < sizeof names / sizeof *names)
            names[count++] = id;
    }
    if (found != NULL && (found->state == SHOVE_FLOW_JOINED || found->is_removed))
        return found;
    if (found != NULL) {
        shove_error_set(error, SHOVE_ECLOSED, "group '%s' is not consuming", name);
        return NULL;
    }
    const char *meant = name != NULL ? shove_suggest(name, names, count) : NULL;
    if (name == NULL)
        shove_error_set(error, SHOVE_EINVAL, "\"group\" is missing");
    else
        shove_error_set(error, SHOVE_EINVAL,
                        "there is no group '%s': %s%s%s'shove status' lists them", name,
                        meant ? "did you mean '" : "", meant ? meant : "", meant ? "'? " : "");
    return NULL;
}

static int scale(struct shove_control *control, const json_t *request, struct shove_error *error) {
    struct shove_flow *flow = find_flow(control, request, error);
    if (flow == NULL)
        return error->code;
    const json_t *consumers = json_object_get(request, "consumers");
    if (!json_is_integer(consumers))
        return shove_error_set(error, SHOVE_EINVAL, "\"consumers\" is not a whole number");
    return shove_scaling_set(flow, group_of(flow), json_integer_value(consumers), error);
}

static int set_paused(struct shove_control *control, const json_t *request, bool is_paused,
                      struct shove_error *error) {
    struct shove_flow *flow = find_flow(control, request, error);
    if (flow == NULL)
        return error->code;
    if (flow->is_paused != is_paused)
        shove_log_fields(SHOVE_LOG_INFO,
                         is_paused ? "the group is paused: it is given nothing new"
                                   : "the group goes on",
                         "group", flow->group->group_id, SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
    flow->is_paused = is_paused;
    return 0;
}

/* SHOVE_EAGAIN: the answer comes when the reload is over. */
static int obey(struct shove_control *control, const json_t *request, struct shove_error *error) {
    int rc;
    const char *command = json_string_value(json_object_get(request, "command"));
    if (command == NULL)
        return shove_error_set(error, SHOVE_EINVAL,
                               "the request is not an object with a \"command\"");
    if (strcmp(command, "status") == 0)
        return 0;
    if (control->phase != SHOVE_PHASE_RUNNING)
        return shove_error_set(error, SHOVE_ECLOSED, "it is draining");
    if (strcmp(command, "scale") == 0)
        return scale(control, request, error);
    if (strcmp(command, "pause") == 0 || strcmp(command, "resume") == 0)
        return set_paused(control, request, command[0] == 'p', error);
    if (strcmp(command, "reload") == 0) {
        rc = shove_reload_ask(control, "by command", error);
        return rc == 0 ? SHOVE_EAGAIN : rc;
    }
    return shove_error_set(error, SHOVE_EINVAL, "there is no command '%s'", command);
}

/* gives a line; NULL when out of memory. */
static char *answer_line(const struct shove_control *control, int code, const char *text) {
    char safe[4 * SHOVE_ERROR_TEXT_SIZE] = ""; /* a script, and its path, may have other bytes */
    if (code != 0)
        shove_utf8_escape(text, safe, sizeof safe);
    json_t *answer = code == 0 ? json_pack("{s:b, s:o}", "ok", 1, "status", shove_status(control))
                               : json_pack("{s:b, s:s, s:s}", "ok", 0, "code",
                                           shove_error_name(code), "error", safe);
    char *line = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    return line;
}

/* ---- connections ---- */

static void on_closed(uv_handle_t *handle) {
    struct shove_remote_client *client = (struct shove_remote_client *)(void *)handle;
    struct shove_remote_client **link = &client->control->remote_clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    free(client->answer);
    free(client);
}

static void hang_up(struct shove_remote_client *client) {
    uv_handle_t *handle = (uv_handle_t *)&client->pipe;
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

static void on_written(uv_write_t *write, int status) {
    (void)status;
    hang_up(write->data);
}

static void answer(struct shove_remote_client *client, int code, const char *text) {
    client->answer = answer_line(client->control, code, text);
    if (client->answer == NULL) {
        hang_up(client);
        return;
    }
    client->since_ms = (int64_t)uv_now(&client->control->loop);
    const size_t size = strlen(client->answer);
    client->answer[size] = '\n'; /* in place of the NUL, which nobody needs any more */
    const uv_buf_t buffer = uv_buf_init(client->answer, (unsigned)size + 1);
    client->write.data = client;
    if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &buffer, 1, on_written) != 0)
        hang_up(client);
}

static void take_request(struct shove_remote_client *client) {
    struct shove_control *control = client->control;
    struct shove_error error = {.code = 0};
    uv_read_stop((uv_stream_t *)&client->pipe);
    json_t *request = json_loadb(client->request, client->size, JSON_REJECT_DUPLICATES, NULL);
    control->now_ms = (int64_t)uv_now(&control->loop);
    /* What loads already may be older than what it is to see. A new one may be over before obey
     * returns. */
    client->reload = control->reload.begun + 1;
    const int rc = obey(control, request, &error);
    json_decref(request);
    if (rc == SHOVE_EAGAIN)
        return;
    client->reload = 0;
    answer(client, rc, error.text);
}

void shove_remote_reloaded(struct shove_control *control, int code, const char *text) {
    for (struct shove_remote_client *c = control->remote_clients; c; c = c->next) {
        if (c->reload == 0 || (c->reload > control->reload.begun && control->reload.is_wanted))
            continue;
        c->reload = 0;
        answer(c, code, text);
    }
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    struct shove_remote_client *client = (struct shove_remote_client *)(void *)handle;
    *buffer = uv_buf_init(client->request + client->size,
                          (unsigned)(sizeof client->request - client->size));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    struct shove_remote_client *client = (struct shove_remote_client *)(void *)stream;
    if (count < 0) {
        hang_up(client);
        return;
    }
    const bool is_whole = memchr(buffer->base, '\n', (size_t)count) != NULL;
    client->size += (size_t)count;
    if (is_whole || client->size == sizeof client->request)
        take_request(client);
}

static bool is_ours(uv_pipe_t *pipe) {
    uv_os_fd_t fd;
    struct ucred peer;
    socklen_t size = sizeof peer;
    return uv_fileno((uv_handle_t *)pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static size_t client_count(const struct shove_control *control) {
    size_t count = 0;
    for (const struct shove_remote_client *c = control->remote_clients; c; c = c->next)
        count++;
    return count;
}

static void on_connection(uv_stream_t *server, int status) {
    struct shove_control *control = server->data;
    struct shove_remote_client *client = status == 0 ? calloc(1, sizeof *client) : NULL;
    if (client == NULL)
        return;
    client->control = control;
    client->since_ms = (int64_t)uv_now(&control->loop);
    client->next = control->remote_clients;
    control->remote_clients = client;
    uv_pipe_init(&control->loop, &client->pipe, 0);
    if (uv_accept(server, (uv_stream_t *)&client->pipe) != 0 || !is_ours(&client->pipe) ||
        client_count(control) > CLIENTS_MAX)
        hang_up(client);
    else
        uv_read_start((uv_stream_t *)&client->pipe, on_room, on_read);
}

void shove_remote_tick(struct shove_control *control) {
    const int64_t now_ms = (int64_t)uv_now(&control->loop);
    for (struct shove_remote_client *c = control->remote_clients; c; c = c->next) {
        if (c->reload == 0 && now_ms - c->since_ms > PATIENCE_MS)
            hang_up(c);
    }
}

/* ---- the socket ---- */

static int listen_at(struct shove_control *control, struct shove_error *error) {
    char folder[SHOVE_SOCKET_PATH_SIZE];
    int rc = shove_run_dir(true, folder, error);
    if (rc == 0)
        rc = shove_run_socket_path(folder, (long)getpid(), control->remote_path, error);
    if (rc != 0) {
        control->remote_path[0] = '\0';
        return rc;
    }
    unlink(control->remote_path); /* of a process that had this pid before */
    const mode_t mask = umask(S_IRWXG | S_IRWXO);
    int status = uv_pipe_bind(&control->remote, control->remote_path);
    umask(mask);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&control->remote, BACKLOG, on_connection);
    if (status != 0)
        return shove_error_set(error, SHOVE_EIO, "cannot listen at %s: %s", control->remote_path,
                               uv_strerror(status));
    return 0;
}

void shove_remote_start(struct shove_control *control) {
    struct shove_error error;
    uv_pipe_init(&control->loop, &control->remote, 0);
    control->remote.data = control;
    if (listen_at(control, &error) != 0)
        shove_log(SHOVE_LOG_WARN, "'shove status' and its like cannot reach this run: %s",
                  error.text);
}

void shove_remote_stop(struct shove_control *control) {
    if (control->remote_path[0] != '\0')
        unlink(control->remote_path);
}

void shove_remote_release(struct shove_control *control) {
    while (control->remote_clients != NULL) {
        struct shove_remote_client *client = control->remote_clients;
        control->remote_clients = client->next;
        free(client->answer);
        free(client);
    }
}
