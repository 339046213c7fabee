/* memory.h: the limit on a worker's memory, and life after a handler has reached it. Worker only.
 */
#ifndef SHOVE_WORKER_MEMORY_H
#define SHOVE_WORKER_MEMORY_H

#include "worker/host.h"

/* Bounds what the process may allocate; 0: no limit. Once, before anything else. */
void shove_memory_limit(int64_t limit_bytes);

/* Once, while the state is made (protected). */
void shove_memory_prepare(lua_State *L, struct shove_host *host);

/* Collects all garbage, with a reserve beyond the limit. Sets host->is_spent when that leaves too
 * little. */
void shove_memory_recover(struct shove_host *host);

#endif
