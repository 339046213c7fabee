/* admin.h: the HTTP server of --listen: /metrics, /healthz, /readyz. Control only.
 *
 * It has no thread: libmicrohttpd's epoll descriptor is polled by control's loop, so whatever
 * answers reads control's own state without a lock, and an answer says that the loop turns. What a
 * client may cost is bounded: connections, bytes of a request, and how long it may say nothing.
 */
#ifndef SHOVE_CONTROL_ADMIN_H
#define SHOVE_CONTROL_ADMIN_H

#include "control/state.h"

/* Listens where options->listen says. SHOVE_ECONFIG when that cannot be. */
int shove_admin_start(struct shove_control *control, struct shove_error *error);

/* Hangs up; before the loop is closed. */
void shove_admin_stop(struct shove_control *control);

/* Frees what is left; after the loop is closed. */
void shove_admin_release(struct shove_control *control);

#endif
