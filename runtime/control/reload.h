/* reload.h: new code for a running app, without losing a message. Control only.
 *
 * A second set of workers loads the script as it is now. When all of them have, and say the same of
 * an app that may take the place of the one that runs (core/topology_change.h), new messages go to
 * them; the old ones finish what they have and exit. Until then nothing changes, so a script that
 * does not load leaves everything as it was. The broker hears nothing of it, but where there are
 * new topics: those are declared before the switch, and the app goes on as it was meanwhile,
 * however long a broker takes.
 *
 * app:on_start is run again where it still ran: a schedule goes on in the new code, what had come
 * to its end does not happen twice.
 */
#ifndef SHOVE_CONTROL_RELOAD_H
#define SHOVE_CONTROL_RELOAD_H

#include "control/state.h"

/* Begins one; `why` is for the log. While one is under way, or handlers from before the last few
 * still run, it is remembered and follows. SHOVE_ECLOSED when the app does not run (any more). */
int shove_reload_ask(struct shove_control *control, const char *why, struct shove_error *error);

/* Goes on with what was asked for; called a few times a second. */
void shove_reload_watch(struct shove_control *control);

/* A group of the app waits for one of the same name to leave, and joins then. */
bool shove_reload_awaits_group(struct shove_control *control);

/* ---- what becomes of its workers, told by the pool ---- */

/* Of the set that is being loaded? */
bool shove_reload_owns(const struct shove_control *control, const struct shove_worker *worker);
void shove_reload_described(struct shove_worker *worker, const char *description, size_t size);
void shove_reload_worker_ready(struct shove_worker *worker);
/* It cannot load the script, or is gone. */
void shove_reload_worker_failed(struct shove_worker *worker, const char *text, size_t size);

/* ---- what becomes of its topics, told by the clusters ---- */

/* A broker has declared those of reload `number`: 0, or SHOVE_E* and why not. */
void shove_reload_declared(struct shove_control *control, uint32_t number, int code,
                           const char *text);

void shove_reload_release(struct shove_control *control);

#endif
