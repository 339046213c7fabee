/* bindings.h: what of the runtime Lua can reach: the module `shove.host`, one file per concern.
 * Worker only.
 *
 * The functions are for lua/shove/ alone and trust the types it passes; a script has no reason to
 * require "shove.host". Each has the host as its first upvalue. None of them yields except those
 * that say so.
 */
#ifndef SHOVE_WORKER_BINDINGS_H
#define SHOVE_WORKER_BINDINGS_H

#include <lauxlib.h>

#include "worker/host.h"

/* The host behind a bound function. */
static inline struct shove_host *shove_host_of(lua_State *L) {
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* The module: package.preload["shove.host"]. */
int shove_open_host(lua_State *L);

/* NULL-terminated lists of functions, each in its file. */
extern const luaL_Reg shove_audit_binding[];
extern const luaL_Reg shove_coroutine_binding[];
extern const luaL_Reg shove_groups_binding[];
extern const luaL_Reg shove_log_binding[];
extern const luaL_Reg shove_message_binding[];
extern const luaL_Reg shove_outcome_binding[];
extern const luaL_Reg shove_process_binding[];
extern const luaL_Reg shove_publish_binding[];
extern const luaL_Reg shove_sleep_binding[];
extern const luaL_Reg shove_strategy_binding[];

/* "text\nstack traceback..." of the calling coroutine, from `level` on and without the frames of
 * shove's own modules; leaves it on the stack. The text is on the top of the stack. */
void shove_push_traceback(lua_State *L, const struct shove_host *host, int level);

/* Leaves a text for any value on the stack: strings as they are, tables by their __tostring,
 * anything by its type, and never raises for what the value does (memory may still run out). */
void shove_push_text(lua_State *L, int index);

/* Leaves 'a string ("ok")', 'a number (5)', 'a table'. */
void shove_push_shown(lua_State *L, int index);

/* Why the calling coroutine cannot wait in `what` ("shove.sleep"): leaves a text and returns false.
 * True: it can. */
bool shove_check_can_wait(lua_State *L, const char *what);

#endif
