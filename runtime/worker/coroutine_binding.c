/* coroutine_binding.c: what lua/shove/run.lua needs to put itself between a script and
 * coroutine.resume. Worker only.
 *
 * A script's luv callback may resume a handler that has yielded. It then runs under the message's
 * name in the running word, exactly as when the runtime resumes it. Refused are: a coroutine whose
 * handler timed out, and one that waits in shove.sleep and the like.
 */
#include <string.h>

#include "worker/bindings.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"

/* lanes(): the table coroutine -> index of its task, false when it was dropped. */
static int push_lanes(lua_State *L) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, shove_host_of(L)->lanes_ref);
    return 1;
}

/* enter(index or false): before a resume. Returns what leave() wants, or nil and why not. */
static int enter(lua_State *L) {
    struct shove_host *host = shove_host_of(L);
    struct shove_task *task = NULL;
    const char *why = NULL;
    if (!lua_isnumber(L, 1)) {
        why = "cannot resume a handler that timed out or was cancelled";
    } else {
        task = host->tasks[(uint32_t)lua_tonumber(L, 1)];
        if (task->state == SHOVE_TASK_FREE) {
            why = "cannot resume a handler that has finished";
        } else if (task->state == SHOVE_TASK_ON_CPU) {
            why = "cannot resume a handler that is running";
        } else if (task->wait != SHOVE_WAIT_FOREIGN) {
            why = "cannot resume a handler that waits in shove.sleep or another call of shove";
        }
    }
    if (why != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    struct shove_cpu_mark mark;
    shove_scheduler_enter(task, &mark);
    lua_pushnumber(L, shove_task_id(task));
    lua_pushnumber(L, mark.previous != NULL ? (lua_Number)mark.previous->index : -1);
    return 2;
}

/* leave(id, previous, has_ended, error): after the resume, with what enter() returned. */
static int leave(lua_State *L) {
    struct shove_host *host = shove_host_of(L);
    struct shove_task *task = shove_task_find(host, lua_tonumber(L, 1));
    lua_Number previous = lua_tonumber(L, 2);
    struct shove_cpu_mark mark = {.previous =
                                      previous < 0 ? NULL : host->tasks[(uint32_t)previous]};
    shove_scheduler_leave(host, &mark);
    if (task == NULL) {
        return 0;
    }
    if (!lua_toboolean(L, 3)) {
        shove_scheduler_yielded(task);
        return 0;
    }
    size_t size = 0;
    const char *text = lua_tolstring(L, 4, &size);
    shove_scheduler_end(task, SHOVE_OUTCOME_ERROR, text, size, true);
    return 0;
}

const luaL_Reg shove_coroutine_binding[] = {
    {"lanes", push_lanes}, {"enter", enter}, {"leave", leave}, {NULL, NULL}};
