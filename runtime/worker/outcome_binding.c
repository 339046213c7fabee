/* outcome_binding.c: what a handler's return value or error means. Worker only.
 *
 * host.finish is the last thing a message's coroutine calls, whoever resumed it last. It ignores
 * messages that are settled already: a handler that timed out and went on all the same.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/bindings.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"

#define SHOWN_BYTES_MAX 60

void shove_push_shown(lua_State *L, int index) {
    int type = lua_type(L, index);
    if (type == LUA_TSTRING) {
        size_t size;
        const char *text = lua_tolstring(L, index, &size);
        if (size > SHOWN_BYTES_MAX) {
            lua_pushlstring(L, text, SHOWN_BYTES_MAX);
            lua_pushfstring(L, "a string (\"%s...\")", lua_tostring(L, -1));
        } else {
            lua_pushfstring(L, "a string (\"%s\")", text);
        }
    } else if (type == LUA_TNUMBER || type == LUA_TBOOLEAN) {
        shove_push_text(L, index);
        lua_pushfstring(L, "a %s (%s)", lua_typename(L, type), lua_tostring(L, -1));
    } else {
        lua_pushfstring(L, "a %s", lua_typename(L, type));
    }
}

/* Control writes the line, as for every error: it knows where the message goes now, and how many
 * such lines there were this second. */
static void settle_nonsense(lua_State *L, struct shove_task *task, int index) {
    shove_push_shown(L, index);
    const char *text =
        lua_pushfstring(L,
                        "the handler returned %s: return shove.ack, shove.retry, shove.reject, "
                        "shove.defer or nothing",
                        lua_tostring(L, -1));
    shove_scheduler_settle(task, SHOVE_OUTCOME_ERROR, text, strlen(text));
}

/* An outcome that was called with a reason. False when the table is no outcome. */
static bool settle_outcome(lua_State *L, struct shove_task *task, int index) {
    if (!lua_getmetatable(L, index)) {
        return false;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->host->outcome_metatable_ref);
    if (!lua_rawequal(L, -1, -2)) {
        return false;
    }
    lua_pushliteral(L, "code");
    lua_rawget(L, index);
    lua_pushliteral(L, "reason");
    lua_rawget(L, index);
    lua_Number code = lua_tonumber(L, -2);
    if (!(code >= SHOVE_OUTCOME_ACK && code <= SHOVE_OUTCOME_DEFER)) {
        return false;
    }
    size_t size = 0;
    const char *reason = NULL;
    if (!lua_isnil(L, -1)) {
        shove_push_text(L, -1);
        reason = lua_tolstring(L, -1, &size);
    }
    shove_scheduler_settle(task, (enum shove_outcome)code, reason, size);
    return true;
}

static void settle_result(lua_State *L, struct shove_task *task, int index) {
    if (lua_isnoneornil(L, index)) {
        shove_scheduler_settle(task, SHOVE_OUTCOME_ACK, NULL, 0);
        return;
    }
    if (lua_istable(L, index)) {
        const void *table = lua_topointer(L, index);
        for (int code = SHOVE_OUTCOME_ACK; code <= SHOVE_OUTCOME_DEFER; code++) {
            if (table == task->host->outcomes[code]) {
                shove_scheduler_settle(task, (enum shove_outcome)code, NULL, 0);
                return;
            }
        }
        if (settle_outcome(L, task, index)) {
            return;
        }
    }
    settle_nonsense(L, task, index);
}

static void settle_error(lua_State *L, struct shove_task *task, int index) {
    size_t size;
    if (lua_type(L, index) != LUA_TSTRING) {
        shove_push_text(L, index);
        index = lua_gettop(L);
    }
    const char *text = lua_tolstring(L, index, &size);
    shove_scheduler_settle(task, SHOVE_OUTCOME_ERROR, text, size);
    task->host->is_out_of_memory |= strstr(text, "not enough memory") != NULL;
}

/* finish(id, is_ok, result): what the protected call of the handler gave. */
static int finish(lua_State *L) {
    struct shove_task *task = shove_task_find(shove_host_of(L), lua_tonumber(L, 1));
    if (task == NULL) {
        return 0;
    }
    if (task->undecodable != NULL) {
        shove_scheduler_settle(task, SHOVE_OUTCOME_UNDECODABLE, task->undecodable,
                               strlen(task->undecodable));
    } else if (!lua_toboolean(L, 2)) {
        settle_error(L, task, 3);
    } else if (task->kind != SHOVE_TASK_MESSAGE) {
        shove_scheduler_settle(task, SHOVE_OUTCOME_ACK, NULL, 0);
    } else {
        settle_result(L, task, 3);
    }
    if (task->state == SHOVE_TASK_WAITING) {
        /* Resumed by foreign C code, which leaves no trace here: nobody else will free the task. */
        shove_scheduler_end(task, SHOVE_OUTCOME_ERROR, NULL, 0, true);
    }
    return 0;
}

/* describe_error(error): the message handler of the protected call: text and traceback of any error
 * value. */
static int describe_error(lua_State *L) {
    const struct shove_host *host = shove_host_of(L);
    const struct shove_task *task = host->current;
    shove_push_text(L, 1);
    if (task == NULL || task->undecodable == NULL) {
        shove_push_traceback(L, host, 1);
    }
    return 1;
}

const luaL_Reg shove_outcome_binding[] = {
    {"finish", finish}, {"describe_error", describe_error}, {NULL, NULL}};
