/* load.h: what app.lua says, as data. Control and cli; blocks, bounded by its timeout.
 *
 * No user code runs in the calling process: a worker process loads the script and describes it.
 */
#ifndef SHOVE_CONTROL_LOAD_H
#define SHOVE_CONTROL_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/topology.h"

struct shove_load_options { /* borrowed for the call */
    const char *script;
    const char *lua_dir;
    const char *broker; /* --broker; NULL: what the script says */
    bool runs_check;    /* app:on_check, too */
    int64_t timeout_ms;
    int64_t memory_limit_bytes; /* of the process that loads it; 0: none */
    char **description;         /* gives the JSON text it came from, free() it; NULL: not wanted */
    size_t *description_size;   /* NULL: not wanted */
};

/* Fills `out` (release it). 0; SHOVE_ECONFIG with the script's file and line, what it did instead
 * of loading, or what is wrong with the topology; SHOVE_EIO, SHOVE_ENOMEM when no process could be
 * started. */
int shove_load_topology(const struct shove_load_options *options, struct shove_topology *out,
                        struct shove_error *error);

#endif
