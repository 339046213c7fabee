/* revocation.h: how long partitions that are taken away are waited for. Control only.
 *
 * Of an ordinary group a few seconds: what takes longer may be handled twice. Of a sequenced one as
 * long as a handler may take until it is ended, so that whoever comes next begins no message of a
 * key beside one that is still being handled here; but not for so long that the group goes on
 * without this member.
 */
#ifndef SHOVE_CONTROL_REVOCATION_H
#define SHOVE_CONTROL_REVOCATION_H

#include "control/state.h"

int64_t shove_revocation_wait_ms(const struct shove_flow *flow);

/* Adds a warning for each sequenced group whose handlers may take longer than that. 0 or
 * SHOVE_ENOMEM. */
int shove_revocation_check(struct shove_topology *topology);

/* Says of each group what its partitions wait for that are being given up. Each second. */
void shove_revocation_report(const struct shove_control *control);

#endif
