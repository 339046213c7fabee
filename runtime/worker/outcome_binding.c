/* outcome_binding.c: what a handler's return value or error means. Worker only.
 *
 * host.finish is the last thing a message's coroutine calls, whoever resumed it last; that of an
 * audited message calls it for its handler and then for the audit. It ignores messages that are
 * settled already: a handler that timed out and went on all the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "worker/audit.h"
#include "worker/bindings.h"
#include "worker/memory.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"

#define SHOWN_BYTES_MAX 60

void shove_push_shown(lua_State *L, int index) {
    int type = lua_type(L, index);
    if (type == LUA_TSTRING) {
        size_t size;
        const char *text = lua_tolstring(L, index, &size);
        if (size > SHOWN_BYTES_MAX) {
            lua_pushlstring(L, text, shove_utf8_cut(text, size, SHOWN_BYTES_MAX));
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

/* To control; where the group is audited, to the audit. A handler that something in C has resumed
 * is not on the CPU by its state, so its audit runs elsewhere. */
static void tell(struct shove_task *task, enum shove_outcome outcome, const char *text,
                 size_t size) {
    if (!shove_audit_is_due(task)) {
        shove_scheduler_settle(task, outcome, text, size);
    } else if (task->state == SHOVE_TASK_WAITING) {
        shove_scheduler_end(task, outcome, text, size, true);
    } else {
        shove_audit_keep(task, outcome, text, size);
    }
}

/* Control writes the line, as for every error: it knows where the message goes now, and how many
 * such lines there were this second. */
static void settle_nonsense(lua_State *L, struct shove_task *task, int index, const char *before) {
    shove_push_shown(L, index);
    const char *text =
        lua_pushfstring(L,
                        "the handler returned %s%s: return shove.ack, shove.retry, shove.reject, "
                        "shove.defer or nothing",
                        before, lua_tostring(L, -1));
    tell(task, SHOVE_OUTCOME_ERROR, text, strlen(text));
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
    tell(task, (enum shove_outcome)code, reason, size);
    return true;
}

/* nil alone is nothing; nil and a text is how functions in Lua say that they have failed. */
static void settle_nil(lua_State *L, struct shove_task *task, int index) {
    int top = lua_gettop(L);
    while (index <= top && lua_isnil(L, index))
        index++;
    if (index > top) {
        tell(task, SHOVE_OUTCOME_ACK, NULL, 0);
    } else if (lua_type(L, index) == LUA_TSTRING) {
        lua_pushliteral(L, "the handler returned nil and: ");
        lua_pushvalue(L, index);
        lua_concat(L, 2);
        size_t size;
        const char *text = lua_tolstring(L, -1, &size);
        tell(task, SHOVE_OUTCOME_ERROR, text, size);
    } else {
        settle_nonsense(L, task, index, "nil and ");
    }
}

static void settle_result(lua_State *L, struct shove_task *task, int index) {
    if (lua_isnoneornil(L, index)) {
        settle_nil(L, task, index);
        return;
    }
    if (lua_istable(L, index)) {
        const void *table = lua_topointer(L, index);
        for (int code = SHOVE_OUTCOME_ACK; code <= SHOVE_OUTCOME_DEFER; code++) {
            if (table == task->host->outcomes[code]) {
                tell(task, (enum shove_outcome)code, NULL, 0);
                return;
            }
        }
        if (settle_outcome(L, task, index)) {
            return;
        }
    }
    settle_nonsense(L, task, index, "");
}

static void settle_error(lua_State *L, struct shove_task *task, int index) {
    size_t size;
    if (lua_type(L, index) != LUA_TSTRING) {
        shove_push_text(L, index);
        index = lua_gettop(L);
    }
    const char *text = lua_tolstring(L, index, &size);
    tell(task, SHOVE_OUTCOME_ERROR, text, size);
    shove_memory_note_error(task->host, text);
}

static void settle_handler(lua_State *L, struct shove_task *task) {
    if (task->undecodable != NULL) {
        tell(task, SHOVE_OUTCOME_UNDECODABLE, task->undecodable, strlen(task->undecodable));
    } else if (!lua_toboolean(L, 2)) {
        settle_error(L, task, 3);
    } else if (task->kind != SHOVE_TASK_MESSAGE) {
        tell(task, SHOVE_OUTCOME_ACK, NULL, 0);
    } else {
        settle_result(L, task, 3);
    }
}

/* The audit fails by what it raises and by what it returns. */
static void settle_audit(lua_State *L, struct shove_task *task) {
    if (lua_toboolean(L, 2) && lua_isnoneornil(L, 3)) {
        shove_audit_pass(task);
        return;
    }
    size_t size;
    shove_push_text(L, 3);
    const char *text = lua_tolstring(L, -1, &size);
    shove_memory_note_error(task->host, text);
    shove_audit_fail(task, text, size);
}

/* finish(id, is_ok, result...): what the protected call of the handler gave, or, where its outcome
 * is kept, that of the audit. Returns true when it is kept now, and the audit's turn; else nothing.
 */
static int finish(lua_State *L) {
    struct shove_task *task = shove_task_find(shove_host_of(L), lua_tonumber(L, 1));
    if (task == NULL) {
        return 0;
    }
    if (task->verdict != 0) {
        settle_audit(L, task);
    } else {
        settle_handler(L, task);
    }
    if (task->state == SHOVE_TASK_WAITING) {
        /* Resumed by foreign C code, which leaves no trace here: nobody else will free the task. */
        shove_scheduler_end(task, SHOVE_OUTCOME_ERROR, NULL, 0, true);
    }
    if (task->is_settled || task->state != SHOVE_TASK_ON_CPU) {
        return 0;
    }
    lua_pushboolean(L, 1);
    return 1;
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
