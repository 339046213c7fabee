/* remote_client.h: finds the runs of an app on this machine and speaks to them over their sockets
 * (control/remote.h). Cli.
 */
#ifndef SHOVE_CLI_REMOTE_CLIENT_H
#define SHOVE_CLI_REMOTE_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "control/run_dir.h"

/* The status of each run of `app` (NULL: of any) with that pid (0: any), in the order of their
 * pids: gives an array, which may be empty; NULL: SHOVE_E* in `error`. Sockets that nobody listens
 * at any more are removed. */
json_t *shove_remote_find(const char *app, int64_t pid, struct shove_error *error);

#define SHOVE_REMOTE_PATIENCE_S 5
#define SHOVE_REMOTE_NO_LIMIT 0

/* Asks the one run of `app` with that pid (0: the only one) `request`, which is used up, and gives
 * its status afterwards, waiting so many seconds for it; NULL: SHOVE_E* in `error`. SHOVE_ECLOSED:
 * it is not running, SHOVE_EUSAGE: there are several. */
json_t *shove_remote_command(const char *app, int64_t pid, int patience_s, json_t *request,
                             struct shove_error *error);

#endif
