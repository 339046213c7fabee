/* file_watch.c: see file_watch.h. Control only, loop's thread. */
#include "control/file_watch.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/reload.h"

#define SETTLE_MS 200

struct shove_folder_watch {
    uv_fs_event_t event; /* first */
    struct shove_control *control;
    struct shove_folder_watch *next;
    bool is_old; /* of the topology before */
    char folder[PATH_MAX];
};

/* Splits a path into its folder, "." for none, and its name. */
static const char *split(const char *path, char folder[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        snprintf(folder, PATH_MAX, ".");
    else
        snprintf(folder, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return slash != NULL ? slash + 1 : path;
}

static bool is_loaded(const struct shove_folder_watch *watch, const char *name) {
    const struct shove_topology *topology = &watch->control->topology;
    for (uint32_t i = 0; i < topology->file_count; i++) {
        char folder[PATH_MAX];
        if (strcmp(split(topology->files[i], folder), name) == 0 &&
            strcmp(folder, watch->folder) == 0)
            return true;
    }
    return false;
}

static bool is_lua(const char *name) {
    const size_t size = strlen(name);
    return size > 4 && strcmp(name + size - 4, ".lua") == 0;
}

static void on_settled(uv_timer_t *timer) {
    struct shove_error error;
    shove_reload_ask(timer->data, "a file has changed", &error);
}

static void on_changed(uv_fs_event_t *event, const char *name, int events, int status) {
    struct shove_folder_watch *watch = (struct shove_folder_watch *)(void *)event;
    struct shove_control *control = watch->control;
    (void)events;
    if (status < 0 || name == NULL || control->phase != SHOVE_PHASE_RUNNING)
        return;
    if (is_loaded(watch, name) || (control->reload.has_failed && is_lua(name)))
        uv_timer_start(&control->settle_timer, on_settled, SETTLE_MS, 0);
}

static void on_closed(uv_handle_t *handle) {
    struct shove_folder_watch *watch = (struct shove_folder_watch *)(void *)handle;
    struct shove_folder_watch **link = &watch->control->folder_watches;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    free(watch);
}

static void stop_old(struct shove_control *control) {
    for (struct shove_folder_watch *w = control->folder_watches; w; w = w->next) {
        if (w->is_old && !uv_is_closing((uv_handle_t *)&w->event))
            uv_close((uv_handle_t *)&w->event, on_closed);
    }
}

static bool is_watched(const struct shove_control *control, const char *folder) {
    for (const struct shove_folder_watch *w = control->folder_watches; w; w = w->next) {
        if (!w->is_old && strcmp(w->folder, folder) == 0)
            return true;
    }
    return false;
}

static void watch_folder(struct shove_control *control, const char *folder) {
    struct shove_folder_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return;
    watch->control = control;
    snprintf(watch->folder, sizeof watch->folder, "%s", folder);
    uv_fs_event_init(&control->loop, &watch->event);
    watch->next = control->folder_watches;
    control->folder_watches = watch;
    const int status = uv_fs_event_start(&watch->event, on_changed, folder, 0);
    if (status < 0)
        shove_log(SHOVE_LOG_WARN,
                  "cannot watch %s (%s): changes of files there are not noticed, 'shove reload' "
                  "takes them over",
                  folder, uv_strerror(status));
}

void shove_file_watch_start(struct shove_control *control) {
    for (struct shove_folder_watch *w = control->folder_watches; w; w = w->next)
        w->is_old = true;
    for (uint32_t i = 0; i < control->topology.file_count; i++) {
        char folder[PATH_MAX];
        split(control->topology.files[i], folder);
        if (!is_watched(control, folder))
            watch_folder(control, folder);
    }
    stop_old(control); /* last, so that no change falls between */
}

void shove_file_watch_release(struct shove_control *control) {
    while (control->folder_watches != NULL) {
        struct shove_folder_watch *watch = control->folder_watches;
        control->folder_watches = watch->next;
        free(watch);
    }
}
