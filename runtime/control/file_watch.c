/* file_watch.c: see file_watch.h. Control only, loop's thread. */
#include "control/file_watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "control/reload.h"

#define SETTLE_MS 200
#define LINKS_MAX 40 /* as many as Linux follows */

struct watched_name {
    struct watched_name *next;
    char text[];
};

struct shove_folder_watch {
    uv_fs_event_t event; /* first */
    struct shove_control *control;
    struct shove_folder_watch *next;
    struct watched_name *names; /* of files there, and of links on the way to one; owned */
    bool is_old;                /* of what was loaded, or where links led, before */
    dev_t device;               /* of the folder, as it is watched */
    ino_t inode;
    char folder[PATH_MAX];
};

static bool has_name(const struct shove_folder_watch *watch, const char *text) {
    for (const struct watched_name *name = watch->names; name; name = name->next) {
        if (strcmp(name->text, text) == 0)
            return true;
    }
    return false;
}

static void add_name(struct shove_folder_watch *watch, const char *text) {
    const size_t size = strlen(text) + 1;
    struct watched_name *name = malloc(sizeof *name + size);
    if (name == NULL)
        return;
    memcpy(name->text, text, size);
    name->next = watch->names;
    watch->names = name;
}

static bool is_lua(const char *name) {
    const size_t size = strlen(name);
    return size > 4 && strcmp(name + size - 4, ".lua") == 0;
}

/* First, because a link may lead elsewhere by now, and what is there may be a mistake that is
 * mended there. */
static void on_settled(uv_timer_t *timer) {
    struct shove_error error;
    shove_file_watch_start(timer->data);
    shove_reload_ask(timer->data, "a file has changed", &error);
}

/* The folder itself was moved or deleted, of which libuv speaks by the folder's own name, as of what
 * is called the same in it. */
static bool is_folder_gone(const struct shove_folder_watch *watch, const char *name, int events) {
    struct stat info;
    const char *slash = strrchr(watch->folder, '/');
    if ((events & UV_RENAME) == 0 || strcmp(slash ? slash + 1 : watch->folder, name) != 0)
        return false;
    return stat(watch->folder, &info) < 0 || info.st_dev != watch->device ||
           info.st_ino != watch->inode;
}

static void on_changed(uv_fs_event_t *event, const char *name, int events, int status) {
    struct shove_folder_watch *watch = (struct shove_folder_watch *)(void *)event;
    struct shove_control *control = watch->control;
    if (status < 0 || name == NULL || control->phase != SHOVE_PHASE_RUNNING)
        return;
    if (has_name(watch, name) || is_folder_gone(watch, name, events) ||
        (control->reload.has_failed && is_lua(name)))
        uv_timer_start(&control->file_timer, on_settled, SETTLE_MS, 0);
}

static void free_watch(struct shove_folder_watch *watch) {
    while (watch->names != NULL) {
        struct watched_name *name = watch->names;
        watch->names = name->next;
        free(name);
    }
    free(watch);
}

static void on_closed(uv_handle_t *handle) {
    struct shove_folder_watch *watch = (struct shove_folder_watch *)(void *)handle;
    struct shove_folder_watch **link = &watch->control->folder_watches;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    free_watch(watch);
}

static void stop_old(struct shove_control *control) {
    for (struct shove_folder_watch *w = control->folder_watches; w; w = w->next) {
        if (w->is_old && !uv_is_closing((uv_handle_t *)&w->event))
            uv_close((uv_handle_t *)&w->event, on_closed);
    }
}

static struct shove_folder_watch *watch_of(const struct shove_control *control,
                                           const char *folder) {
    for (struct shove_folder_watch *w = control->folder_watches; w; w = w->next) {
        if (!w->is_old && strcmp(w->folder, folder) == 0)
            return w;
    }
    return NULL;
}

/* NULL: no memory. */
static struct shove_folder_watch *watch_folder(struct shove_control *control, const char *folder) {
    struct shove_folder_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return NULL;
    watch->control = control;
    snprintf(watch->folder, sizeof watch->folder, "%s", folder);
    uv_fs_event_init(&control->loop, &watch->event);
    watch->next = control->folder_watches;
    control->folder_watches = watch;
    const int status = uv_fs_event_start(&watch->event, on_changed, folder, 0);
    struct stat info;
    if (stat(folder, &info) == 0) {
        watch->device = info.st_dev;
        watch->inode = info.st_ino;
    }
    if (status < 0)
        shove_log(SHOVE_LOG_WARN,
                  "cannot watch %s (%s): changes of files there are not noticed, 'shove reload' "
                  "takes them over",
                  folder, uv_strerror(status));
    return watch;
}

static void watch_name(struct shove_control *control, const char *folder, const char *name) {
    struct shove_folder_watch *watch = watch_of(control, folder);
    if (watch == NULL)
        watch = watch_folder(control, folder);
    if (watch != NULL && !has_name(watch, name))
        add_name(watch, name);
}

/* "a/b" of "a" and "b"; false: it is too long. */
static bool join(char out[PATH_MAX], const char *folder, const char *rest) {
    const size_t size = strlen(folder);
    const char *slash = size == 0 || folder[size - 1] == '/' ? "" : "/";
    return snprintf(out, PATH_MAX, "%s%s%s", folder, slash, rest) < PATH_MAX;
}

/* Takes the first name from a path, and the slashes behind it. "/" counts as one. */
static void take_name(char *path, char name[PATH_MAX]) {
    const size_t size = path[0] == '/' ? 1 : strcspn(path, "/");
    snprintf(name, PATH_MAX, "%.*s", (int)size, path);
    const char *rest = path + size;
    rest += strspn(rest, "/");
    memmove(path, rest, strlen(rest) + 1);
}

/* 1: where the link leads; 0: it is none; -1: nothing is there. */
static int read_link(const char *path, char out[PATH_MAX]) {
    const ssize_t size = readlink(path, out, PATH_MAX - 1);
    if (size < 0)
        return errno == EINVAL ? 0 : -1;
    out[size] = '\0';
    return 1;
}

/* The file, and each link on the way to it, of folders too: an editor writes the file, who deploys
 * has a link lead elsewhere. */
static void watch_way(struct shove_control *control, const char *path) {
    char folder[PATH_MAX] = ""; /* of the name that is looked at; without links */
    char rest[PATH_MAX];
    char name[PATH_MAX];
    char here[PATH_MAX];
    char target[PATH_MAX];
    bool fits = join(rest, "", path);
    int kind = 0;
    for (int links = 0; fits && kind >= 0 && rest[0] != '\0' && links <= LINKS_MAX; links += kind) {
        take_name(rest, name);
        if (name[0] == '/')
            folder[0] = '\0';
        fits = join(here, folder, name);
        kind = fits ? read_link(here, target) : -1;
        if (kind != 0 || rest[0] == '\0')
            watch_name(control, folder[0] != '\0' ? folder : ".", name);
        if (kind == 1)
            fits = join(here, target, rest);
        memcpy(kind == 1 ? rest : folder, here, PATH_MAX);
    }
}

void shove_file_watch_start(struct shove_control *control) {
    for (struct shove_folder_watch *w = control->folder_watches; w; w = w->next)
        w->is_old = true;
    for (uint32_t i = 0; i < control->topology.file_count; i++)
        watch_way(control, control->topology.files[i]);
    stop_old(control); /* last, so that no change falls between */
}

void shove_file_watch_release(struct shove_control *control) {
    while (control->folder_watches != NULL) {
        struct shove_folder_watch *watch = control->folder_watches;
        control->folder_watches = watch->next;
        free_watch(watch);
    }
}
