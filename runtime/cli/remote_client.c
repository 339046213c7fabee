/* remote_client.c: see remote_client.h. Cli. */
#include "cli/remote_client.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/utf8.h"

#define ANSWER_BYTES_MAX ((size_t)16 << 20)

/* ---- one question ---- */

/* gives a descriptor; SHOVE_ECLOSED when nobody listens. */
static int connect_to(const char *path, int patience_s, struct shove_error *error) {
    const struct timeval patience = {.tv_sec = patience_s};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return shove_error_set(error, SHOVE_EIO, "cannot make a socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address) == 0)
        return fd;
    const int code = errno == ECONNREFUSED || errno == ENOENT ? SHOVE_ECLOSED : SHOVE_EIO;
    shove_error_set(error, code, "cannot reach %s: %s", path, strerror(errno));
    close(fd);
    return code;
}

static int send_line(int fd, const json_t *request, struct shove_error *error) {
    char *line = json_dumps(request, JSON_COMPACT);
    if (line == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    const size_t size = strlen(line);
    line[size] = '\n';
    const ssize_t sent = send(fd, line, size + 1, MSG_NOSIGNAL);
    free(line);
    return sent == (ssize_t)size + 1
               ? 0
               : shove_error_set(error, SHOVE_EIO, "it does not take the request");
}

/* gives the answer's object. */
static json_t *read_answer(int fd, int patience_s, struct shove_error *error) {
    struct shove_buffer text;
    shove_buffer_init(&text);
    char piece[16384];
    ssize_t count;
    while ((count = recv(fd, piece, sizeof piece, 0)) > 0 && text.size < ANSWER_BYTES_MAX)
        shove_buffer_append(&text, piece, (size_t)count);
    json_t *answer =
        count == 0 ? json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL)
                   : NULL;
    if (answer == NULL && count < 0)
        shove_error_set(error, SHOVE_ETIMEOUT, "it did not answer within %d s", patience_s);
    else if (answer == NULL)
        shove_error_set(error, SHOVE_EIO, "it ended before it answered");
    shove_buffer_release(&text);
    return answer;
}

/* gives the status that comes with the answer. */
static json_t *ask(const char *path, int patience_s, const json_t *request,
                   struct shove_error *error) {
    const int fd = connect_to(path, patience_s, error);
    if (fd < 0)
        return NULL;
    json_t *answer = send_line(fd, request, error) == 0 ? read_answer(fd, patience_s, error) : NULL;
    close(fd);
    if (answer == NULL)
        return NULL;
    json_t *status = json_incref(json_object_get(answer, "status"));
    if (status == NULL) {
        const char *words = json_string_value(json_object_get(answer, "error"));
        shove_error_set(error, SHOVE_EINVAL, "%s", words != NULL ? words : "no status came back");
    }
    json_decref(answer);
    return status;
}

/* ---- the runs there are ---- */

/* The pid of "PID.sock"; 0: another file. */
static long pid_of(const char *name) {
    char *end;
    const long pid = strtol(name, &end, 10);
    return pid > 0 && strcmp(end, ".sock") == 0 ? pid : 0;
}

static int by_pid(const void *a, const void *b) {
    const long left = *(const long *)a;
    const long right = *(const long *)b;
    return (left > right) - (left < right);
}

/* gives the pids, `*count` of them; NULL when there are none. */
static long *list_pids(const char *folder, size_t *count) {
    long *pids = NULL;
    *count = 0;
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        const long pid = pid_of(entry->d_name);
        long *grown = pid != 0 ? realloc(pids, (*count + 1) * sizeof *pids) : NULL;
        if (grown == NULL)
            continue;
        pids = grown;
        pids[(*count)++] = pid;
    }
    if (directory != NULL)
        closedir(directory);
    if (pids != NULL)
        qsort(pids, *count, sizeof *pids, by_pid);
    return pids;
}

static bool is_of(const json_t *status, const char *app) {
    const char *path = json_string_value(json_object_get(status, "app"));
    return app == NULL || (path != NULL && strcmp(path, app) == 0);
}

/* A run that does not answer is not silently left out: its status says so. */
static json_t *look_at(const char *path, long pid) {
    struct shove_error error;
    json_t *request = json_pack("{s:s}", "command", "status");
    json_t *status = ask(path, SHOVE_REMOTE_PATIENCE_S, request, &error);
    json_decref(request);
    if (status == NULL && error.code == SHOVE_ECLOSED)
        unlink(path); /* left behind by a run that was killed */
    else if (status == NULL)
        fprintf(stderr, "shove: run %ld is left out: %s\n", pid, error.text);
    return status;
}

json_t *shove_remote_find(const char *app, int64_t pid, struct shove_error *error) {
    char folder[SHOVE_SOCKET_PATH_SIZE];
    char real[PATH_MAX];
    char name[SHOVE_UTF8_PATH_SIZE] = ""; /* as status says it */
    if (app != NULL && realpath(app, real) == NULL) {
        shove_error_set(error, SHOVE_ECONFIG, "cannot open %s: %s", app, strerror(errno));
        return NULL;
    }
    if (app != NULL)
        shove_utf8_escape(real, name, sizeof name);
    const int rc = shove_run_dir(false, folder, error);
    if (rc == SHOVE_EDENIED)
        return NULL;
    json_t *found = json_array();
    size_t count = 0;
    long *pids = rc == 0 ? list_pids(folder, &count) : NULL;
    for (size_t i = 0; i < count; i++) {
        char path[SHOVE_SOCKET_PATH_SIZE];
        if ((pid != 0 && pids[i] != pid) ||
            shove_run_socket_path(folder, pids[i], path, error) != 0)
            continue;
        json_t *status = look_at(path, pids[i]);
        if (status != NULL && is_of(status, app != NULL ? name : NULL))
            json_array_append(found, status);
        json_decref(status);
    }
    free(pids);
    return found;
}

/* ---- a command to one of them ---- */

static int choose(const json_t *found, const char *app, long *pid, struct shove_error *error) {
    char list[256] = "";
    for (size_t i = 0; i < json_array_size(found); i++) {
        *pid = (long)json_integer_value(json_object_get(json_array_get(found, i), "pid"));
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%ld", i > 0 ? ", " : "", *pid);
    }
    if (json_array_size(found) == 0)
        return shove_error_set(error, SHOVE_ECLOSED,
                               "%s is not running here: nobody listens for it", app);
    if (json_array_size(found) > 1)
        return shove_error_set(error, SHOVE_EUSAGE,
                               "%s runs more than once here: choose with --pid, one of %s", app,
                               list);
    return 0;
}

json_t *shove_remote_command(const char *app, int64_t pid, int patience_s, json_t *request,
                             struct shove_error *error) {
    char folder[SHOVE_SOCKET_PATH_SIZE];
    char path[SHOVE_SOCKET_PATH_SIZE];
    long chosen = 0;
    json_t *status = NULL;
    json_t *found = shove_remote_find(app, pid, error);
    if (found != NULL && choose(found, app, &chosen, error) == 0 &&
        shove_run_dir(false, folder, error) == 0 &&
        shove_run_socket_path(folder, chosen, path, error) == 0)
        status = ask(path, patience_s, request, error);
    json_decref(found);
    json_decref(request);
    return status;
}
