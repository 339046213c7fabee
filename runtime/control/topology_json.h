/* topology_json.h: the description of an app, which a worker process sends, as a topology. Control
 * and cli. */
#ifndef SHOVE_CONTROL_TOPOLOGY_JSON_H
#define SHOVE_CONTROL_TOPOLOGY_JSON_H

#include <stddef.h>

#include "base/error.h"
#include "core/topology.h"

/* Reads the document of lua/shove/describe.lua, derives the names, and checks the whole with
 * shove_topology_check. Fills `out` (given: shove_topology_release); on failure it is empty. 0,
 * SHOVE_ECONFIG (the app is wrong, with the user's line; or the document is malformed, with the
 * path inside it), SHOVE_ENOMEM. Safe on any bytes. */
int shove_topology_parse(const char *json, size_t size, struct shove_topology *out,
                         struct shove_error *error);

#endif
