/* status.h: what a running shove says of itself, as JSON. Control only.
 *
 * { "pid":, "app": real path,
 *   "broker": the registry's, "brokers": [{ "broker":, "reached": }],
 *   "phase": "starting" | "running" | "draining" | "leaving",
 *   "error": why no message is handled at all, null while there is a worker,
 *   "generation":, "uptime_ms":,
 *   "workers": [{ "worker":, "pid": null while there is none, "state":, "in_flight": }],
 *   "groups": [{ "group":, "topic":,
 *       "state": "joined" | "resting" | "leaving" | "failed" | "left",
 *       "error": what it failed with, null while it has not,
 *       "paused":, "consumers":, "min":, "max":, "capacity":, "in_flight":, "partitions":,
 *       "ready": null while not known, "lag": the same,
 *       "waiting": retries that wait in place,
 *       "storing": retries and dead letters on their way to the broker,
 *       "acked":, "delayed":, "dead_letters":, "discarded": }] }
 */
#ifndef SHOVE_CONTROL_STATUS_H
#define SHOVE_CONTROL_STATUS_H

#include <jansson.h>

#include "control/state.h"

/* Its "groups" alone, which app:groups() shows too. gives; NULL when out of memory. */
json_t *shove_status_groups(const struct shove_control *control);

/* gives; NULL when out of memory. */
json_t *shove_status(const struct shove_control *control);

#endif
