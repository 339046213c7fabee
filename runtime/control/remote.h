/* remote.h: the socket over which `shove status`, `scale`, `pause` and `resume` speak to a run.
 * Control only.
 *
 * One request a connection: a JSON object on one line, { "command": "status" | "scale" | "pause" |
 * "resume" | "reload", "group":, "consumers": }. A reload is answered when it is over. The answer
 * is one line, too: { "ok": true, "status": ... } or { "ok": false, "code": "EINVAL", "error":
 * "..." }; then the connection ends. Only the user who runs shove, and root, are answered
 * (run_dir.h).
 */
#ifndef SHOVE_CONTROL_REMOTE_H
#define SHOVE_CONTROL_REMOTE_H

#include "control/state.h"

/* Listens. Where that cannot be, the run goes on without, and a warning says why. */
void shove_remote_start(struct shove_control *control);

/* A reload is over: 0, or SHOVE_E* and why it failed. Answers all who asked for it. */
void shove_remote_reloaded(struct shove_control *control, int code, const char *text);

/* Ends connections that have said nothing for too long; called every second. */
void shove_remote_tick(struct shove_control *control);

/* Removes the socket; before the loop is closed. */
void shove_remote_stop(struct shove_control *control);

/* Frees what is left; after the loop is closed. */
void shove_remote_release(struct shove_control *control);

#endif
