/* former_holds.h: holds of earlier runs, which exist and are not declared any more. Control only,
 * loop's thread.
 *
 * Whoever changes a queue's holds leaves topics behind in which retries may wait: they are the
 * group's still. So before a group joins, its broker is asked for topics with the name of a hold of
 * the group that the app does not declare as anything, and those become topics of the flow, read
 * like holds and never written to. One that may not be read is left out, which a line says.
 */
#ifndef SHOVE_CONTROL_FORMER_HOLDS_H
#define SHOVE_CONTROL_FORMER_HOLDS_H

#include "control/state.h"

/* Of the groups of a broker that have not joined, waiting for the broker; one that is away, or does
 * not answer, is not asked, which a line says. 0 or SHOVE_ENOMEM. */
int shove_former_holds_add(const struct shove_cluster *cluster);

/* The same of all brokers. */
int shove_former_holds_add_all(const struct shove_control *control, struct shove_error *error);

#endif
