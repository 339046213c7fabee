/* memory.h: the limit on a worker's memory, and life after a handler has reached it. Worker only.
 */
#ifndef SHOVE_WORKER_MEMORY_H
#define SHOVE_WORKER_MEMORY_H

#include "worker/host.h"

/* Bounds what the process may allocate; 0: no limit. Once, before anything else. */
void shove_memory_limit(int64_t limit_bytes);

/* Once, while the state is made (protected). */
void shove_memory_prepare(lua_State *L, struct shove_host *host);

/* `text` (NULL: none) is what a call into Lua failed with: asks for shove_memory_recover before the
 * next message where that was for want of memory. */
void shove_memory_note_error(struct shove_host *host, const char *text);

/* After an allocation failed: collects all garbage, with a reserve beyond the limit. Sets
 * host->is_spent and host->is_exhausted when that leaves too little, and tells of it. */
void shove_memory_recover(struct shove_host *host);

/* Once the script is loaded: whether what it keeps leaves enough for messages. */
bool shove_memory_is_enough(struct shove_host *host);

/* The same as after a failed allocation, before one fails; once a turn, and cheap. */
void shove_memory_watch(struct shove_host *host);

#endif
