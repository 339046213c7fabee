/* respawn.h: when what failed is tried again: a dead group, doubling from 2 s; after five failures
 * in a row a breaker opens, and one probe is made every 300 s. Pure; control only.
 */
#ifndef SHOVE_CORE_RESPAWN_H
#define SHOVE_CORE_RESPAWN_H

#include <stdbool.h>
#include <stdint.h>

#define SHOVE_RESPAWN_FIRST_MS 2000
#define SHOVE_RESPAWN_BREAKER_FAILURES 5
#define SHOVE_RESPAWN_BREAKER_MS 300000

/* Milliseconds from the `failures`-th failure in a row, from 1, to the next try: 2, 4, 8, 16 s,
 * then 300 s each. */
int64_t shove_respawn_delay_ms(uint32_t failures);

/* The breaker is open: what is tried next is a probe. */
bool shove_respawn_is_open(uint32_t failures);

/* Whether trying again can help at all. Credentials, rights, topics that are not there and
 * configuration stay as they are until a person acts; so does an offset that is gone under "none".
 * `code` is a SHOVE_E*. */
bool shove_respawn_can_help(int code);

#endif
