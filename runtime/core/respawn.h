/* respawn.h: when what failed is tried again: a dead group, doubling from 2 s; after five failures
 * in a row a breaker opens, and one probe is made every 300 s. A worker, doubling from 100 ms to
 * 5 s; without any worker for long the app gives up. Pure; control only.
 */
#ifndef SHOVE_CORE_RESPAWN_H
#define SHOVE_CORE_RESPAWN_H

#include <stdbool.h>
#include <stdint.h>

#define SHOVE_RESPAWN_FIRST_MS 2000
#define SHOVE_RESPAWN_BREAKER_FAILURES 5
#define SHOVE_RESPAWN_BREAKER_MS 300000
#define SHOVE_RESPAWN_BACK_MS 60000
/* A mistake in the script that is mended within a minute, and the try that follows. */
#define SHOVE_RESPAWN_WORKERS_MS 90000

/* Milliseconds from the `failures`-th failure in a row, from 1, to the next try: 2, 4, 8, 16 s,
 * then 300 s each. */
int64_t shove_respawn_delay_ms(uint32_t failures);

/* Which failure in a row that of a group is that had `failures` before and has had partitions, or
 * stood by, since assigned_ms (0: not since it was joined). After a minute of that it had come
 * back, the breaker is closed, and this one is the first. */
uint32_t shove_respawn_count(uint32_t failures, int64_t assigned_ms, int64_t now_ms);

/* The breaker is open: what is tried next is a probe. */
bool shove_respawn_is_open(uint32_t failures);

/* Whether trying again can help at all. Credentials, rights, topics that are not there and
 * configuration stay as they are until a person acts; so does an offset that is gone under "none".
 * `code` is a SHOVE_E*. */
bool shove_respawn_can_help(int code);

/* Milliseconds from a worker's `failures`-th death in a row without a second of work to the next
 * try: 0, 100, 200, ... 5000. */
int64_t shove_respawn_worker_delay_ms(uint32_t failures);

/* No worker has been ready for that long, and so many that were to be have ended before. */
bool shove_respawn_is_hopeless(uint32_t failures, int64_t without_ms);

#endif
