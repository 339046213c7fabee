/* death.h: what becomes of the messages of a worker that goes. Control only. */
#ifndef SHOVE_CONTROL_DEATH_H
#define SHOVE_CONTROL_DEATH_H

#include "control/state.h"

/* It died, and its last notes were read: finds the message that is to blame, if any, reports and
 * counts the death, and hands the rest over. */
void shove_death_mourn(struct shove_worker *worker);

/* All it has goes to other workers, as redelivered and with its counts unchanged. */
void shove_death_hand_over(struct shove_worker *worker);

/* One message, as it is: its handler was not called. */
void shove_death_give_away(struct shove_delivery *delivery);

#endif
