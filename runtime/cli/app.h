/* app.h: the app a command was given: its script loaded as data, and topics found in it by name.
 * Cli. */
#ifndef SHOVE_CLI_APP_H
#define SHOVE_CLI_APP_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"
#include "cli/options.h"
#include "core/topology.h"

struct shove_app {
    const char *script; /* borrowed from argv */
    char lua_dir[PATH_MAX];
    struct shove_topology topology;
};

/* Loads `script`. 0, or the exit code after saying what is wrong. shove_app_release in any case. */
int shove_app_load(struct shove_app *app, const char *script,
                   const struct shove_common_options *common);
/* The same, and app:on_check is run. */
int shove_app_check(struct shove_app *app, const char *script,
                    const struct shove_common_options *common);
void shove_app_release(struct shove_app *app);

/* What a name given on the command line is. */
enum shove_app_topic_kind { SHOVE_APP_QUEUE, SHOVE_APP_DLQ };

/* Finds a queue or a DLQ (a queue first: a DLQ may be a queue of its own). Fills *kind and *topic
 * (the first that has it; borrows). 0, or SHOVE_EUSAGE with what was probably meant. */
int shove_app_find_topic(const struct shove_app *app, const char *name,
                         enum shove_app_topic_kind *kind, const struct shove_topic **topic,
                         struct shove_error *error);

/* Whether the script says how the key of a message to the queue is computed. */
bool shove_app_has_key(const struct shove_app *app, const char *queue);

/* Largest message every consumer of the queue takes; the library's default when nobody consumes it.
 */
int64_t shove_app_max_message_size(const struct shove_app *app, const char *queue);

#endif
