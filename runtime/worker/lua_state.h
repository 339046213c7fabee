/* lua_state.h: the worker's Lua state and the script in it. Worker only. */
#ifndef SHOVE_WORKER_LUA_STATE_H
#define SHOVE_WORKER_LUA_STATE_H

#include "worker/host.h"

/* Makes host->L: standard libraries, luv on the worker's loop, shove.host, module paths. 0 or a
 * negative SHOVE_E*. */
int shove_lua_open(struct shove_host *host, struct shove_error *error);

/* Loads the script. 1: *text is the app's description, which stays on the stack. SHOVE_ECONFIG:
 * *text says why not. */
int shove_lua_load(struct shove_host *host, const char **text, size_t *size);

#endif
