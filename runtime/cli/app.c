/* app.c: the app a command was given. Cli. */
#include "cli/app.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "cli/lua_dir.h"
#include "cli/report.h"
#include "control/load.h"
#include "control/loader.h"

#define MAX_MESSAGE_SIZE_DEFAULT (INT64_C(10) << 20)
#define LIST_MAX 8

static int load(struct shove_app *app, const char *script,
                const struct shove_common_options *common, bool runs_check) {
    memset(app, 0, sizeof *app);
    app->script = script;
    struct shove_error error;
    if (shove_lua_dir_find(app->lua_dir, &error) != 0)
        return shove_report_error(&error);
    struct shove_load_options options = {
        .script = script,
        .lua_dir = app->lua_dir,
        .broker = common->broker,
        .runs_check = runs_check,
        .timeout_ms = common->load_timeout_ms,
        .memory_limit_bytes = SHOVE_LOADER_MEMORY_BYTES,
    };
    if (shove_load_topology(&options, &app->topology, &error) != 0)
        return shove_report_error(&error);
    return 0;
}

int shove_app_load(struct shove_app *app, const char *script,
                   const struct shove_common_options *common) {
    return load(app, script, common, false);
}

int shove_app_check(struct shove_app *app, const char *script,
                    const struct shove_common_options *common) {
    return load(app, script, common, true);
}

void shove_app_release(struct shove_app *app) {
    shove_topology_release(&app->topology);
}

static const struct shove_topic *find_hold(const struct shove_topology *topology,
                                           const char *name) {
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        for (uint32_t j = 0; j < topology->topics[i].hold_count; j++) {
            if (strcmp(topology->topics[i].holds[j], name) == 0)
                return &topology->topics[i];
        }
    }
    return NULL;
}

static const struct shove_topic *find_poisoned(const struct shove_topology *topology,
                                               const char *name) {
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const char *poison = topology->topics[i].poison;
        if (poison != NULL && strcmp(poison, name) == 0)
            return &topology->topics[i];
    }
    return NULL;
}

static void list_queues(const struct shove_topology *topology, char *out, size_t size) {
    out[0] = '\0';
    for (uint32_t i = 0; i < topology->topic_count && i < LIST_MAX; i++)
        snprintf(out + strlen(out), size - strlen(out), "%s%s", i > 0 ? ", " : "",
                 topology->topics[i].name);
    if (topology->topic_count > LIST_MAX)
        snprintf(out + strlen(out), size - strlen(out), ", ...");
}

static int complain(const struct shove_app *app, const char *name, struct shove_error *error) {
    const struct shove_topology *topology = &app->topology;
    const struct shove_topic *holder = find_hold(topology, name);
    if (holder != NULL)
        return shove_error_set(error, SHOVE_EUSAGE,
                               "'%s' holds retries of '%s', and only shove writes to it: name the "
                               "queue '%s'",
                               name, holder->name, holder->name);
    const struct shove_topic *poisoned = find_poisoned(topology, name);
    if (poisoned != NULL)
        return shove_error_set(error, SHOVE_EUSAGE,
                               "'%s' keeps the poisoned keys of '%s', and only shove writes to "
                               "it: name the queue '%s'",
                               name, poisoned->name, poisoned->name);
    if (topology->topic_count == 0)
        return shove_error_set(
            error, SHOVE_EUSAGE,
            "%s declares no topic '%s', nor any other: declare it with app:topic", app->script,
            name);
    const char **names = calloc(2 * (size_t)topology->topic_count, sizeof *names);
    if (names == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        names[2 * i] = topology->topics[i].name;
        names[2 * i + 1] = topology->topics[i].dlq;
    }
    const char *meant = shove_suggest(name, names, 2 * (size_t)topology->topic_count);
    char list[512];
    list_queues(topology, list, sizeof list);
    int code =
        meant != NULL
            ? shove_error_set(error, SHOVE_EUSAGE,
                              "%s declares no topic '%s': did you mean '%s'? its topics are %s",
                              app->script, name, meant, list)
            : shove_error_set(error, SHOVE_EUSAGE, "%s declares no topic '%s': its topics are %s",
                              app->script, name, list);
    free(names);
    return code;
}

/* Nothing else has the DLQ's name, on another broker. */
static int check_unambiguous(const struct shove_topology *topology, const struct shove_topic *owner,
                             struct shove_error *error) {
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *other = &topology->topics[i];
        if (other->broker != owner->broker && other->dlq != NULL &&
            strcmp(other->dlq, owner->dlq) == 0)
            return shove_error_set(error, SHOVE_EUSAGE,
                                   "'%s' is a DLQ on several brokers: name its queue, '%s' or '%s'",
                                   owner->dlq, owner->name, other->name);
    }
    return 0;
}

int shove_app_find_topic(const struct shove_app *app, const char *name,
                         enum shove_app_topic_kind *kind, const struct shove_topic **topic,
                         struct shove_error *error) {
    const struct shove_topology *topology = &app->topology;
    const struct shove_topic *owner = NULL;
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        const struct shove_topic *candidate = &topology->topics[i];
        if (strcmp(candidate->name, name) == 0) {
            *kind = SHOVE_APP_QUEUE;
            *topic = candidate;
            return 0;
        }
        if (owner == NULL && candidate->dlq != NULL && strcmp(candidate->dlq, name) == 0)
            owner = candidate;
    }
    if (owner == NULL)
        return complain(app, name, error);
    *kind = SHOVE_APP_DLQ;
    *topic = owner;
    return check_unambiguous(topology, owner, error);
}

bool shove_app_has_key(const struct shove_app *app, const char *queue) {
    const struct shove_topology *topology = &app->topology;
    bool has_key = false;
    for (uint32_t i = 0; i < topology->topic_count; i++) /* one for each of its groups */
        has_key |= topology->topics[i].has_key && strcmp(topology->topics[i].name, queue) == 0;
    return has_key;
}

int64_t shove_app_max_message_size(const struct shove_app *app, const char *queue) {
    const struct shove_topology *topology = &app->topology;
    int64_t least = 0;
    for (uint32_t i = 0; i < topology->group_count; i++) {
        const struct shove_group *group = &topology->groups[i];
        if (strcmp(shove_topology_source(topology, group), queue) == 0 &&
            (least == 0 || group->max_message_size_bytes < least))
            least = group->max_message_size_bytes;
    }
    return least > 0 ? least : MAX_MESSAGE_SIZE_DEFAULT;
}
