/* bindings.c: the one list of what makes up `shove.host`, and what the bindings share. Worker only.
 */
#include "worker/bindings.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "worker/tasks.h"

static const luaL_Reg *const bindings[] = {
    shove_audit_binding,   shove_coroutine_binding, shove_groups_binding,  shove_log_binding,
    shove_message_binding, shove_outcome_binding,   shove_process_binding, shove_publish_binding,
    shove_sleep_binding,   shove_strategy_binding,
};

int shove_open_host(lua_State *L) {
    struct shove_host *host = shove_host_of(L);
    lua_createtable(L, 0, 32);
    for (size_t i = 0; i < sizeof bindings / sizeof *bindings; i++) {
        for (const luaL_Reg *function = bindings[i]; function->name != NULL; function++) {
            lua_pushlightuserdata(L, host);
            lua_pushcclosure(L, function->func, 1);
            lua_setfield(L, -2, function->name);
        }
    }
    lua_pushstring(L, host->options->broker); /* nil without --broker */
    lua_setfield(L, -2, "broker");
    lua_pushstring(L, host->options->keys_topic); /* nil without --keys */
    lua_setfield(L, -2, "keys_topic");
    lua_pushboolean(L, host->options->runs_check);
    lua_setfield(L, -2, "runs_check");
    return 1;
}

void shove_push_text(lua_State *L, int index) {
    int type = lua_type(L, index);
    if (type == LUA_TSTRING || type == LUA_TNUMBER) {
        lua_pushvalue(L, index);
        lua_tostring(L, -1);
        return;
    }
    lua_pushvalue(L, index);
    if (luaL_getmetafield(L, -1, "__tostring")) {
        lua_insert(L, -2);
        if (lua_pcall(L, 1, 1, 0) == 0 && lua_type(L, -1) == LUA_TSTRING) {
            return;
        }
    }
    lua_pop(L, 1);
    if (type == LUA_TNIL || type == LUA_TBOOLEAN) {
        lua_pushstring(L, type == LUA_TNIL ? "nil" : lua_toboolean(L, index) ? "true" : "false");
    } else {
        lua_pushfstring(L, "a %s", lua_typename(L, type));
    }
}

/* Whether this line of a traceback ("path:12: in ...") is in one of shove's own modules. Of a long
 * path LuaJIT shows "..." and the end. */
static bool is_own_frame(const struct shove_host *host, const char *line, size_t size) {
    char own[PATH_MAX + 64];
    const char *end = NULL;
    for (const char *at = line; at + 5 <= line + size && end == NULL; at++) {
        end = memcmp(at, ".lua:", 5) == 0 ? at + 4 : NULL;
    }
    if (end == NULL || host->options->lua_dir == NULL) {
        return false;
    }
    const char *file = end;
    while (file > line && file[-1] != '/') {
        file--;
    }
    int own_size =
        snprintf(own, sizeof own, "%s/shove/%.*s", host->options->lua_dir, (int)(end - file), file);
    bool is_cut = end - line > 3 && memcmp(line, "...", 3) == 0;
    const char *shown = is_cut ? line + 3 : line;
    size_t shown_size = (size_t)(end - shown);
    return own_size > 0 && (size_t)own_size < sizeof own &&
           (is_cut ? shown_size < (size_t)own_size : shown_size == (size_t)own_size) &&
           memcmp(own + own_size - shown_size, shown, shown_size) == 0;
}

static bool begins_with(const char *line, size_t size, const char *text) {
    return size >= strlen(text) && memcmp(line, text, strlen(text)) == 0;
}

/* Replaces the traceback on the top of the stack by its frames of the script, an empty text when
 * there are none: what shove does between the script's line and `error` tells nobody anything. */
static void keep_script_frames(lua_State *L, const struct shove_host *host) {
    static const char head[] = "\nstack traceback:";
    luaL_Buffer kept;
    const char *at = strchr(lua_tostring(L, -1), '\n');
    bool is_above_script = true;
    luaL_buffinit(L, &kept);
    for (bool has_own = false; at != NULL;) {
        const char *line = at + 2; /* behind "\n\t" */
        at = strchr(line, '\n');
        size_t size = at != NULL ? (size_t)(at - line) : strlen(line);
        bool is_own = is_own_frame(host, line, size);
        has_own |= is_own;
        if (is_own || (is_above_script &&
                       begins_with(line, size, has_own ? "[C]: " : "[C]: in function 'error'"))) {
            continue;
        }
        if (is_above_script) {
            luaL_addlstring(&kept, head, sizeof head - 1);
        }
        is_above_script = false;
        luaL_addlstring(&kept, line - 2, size + 2);
    }
    luaL_pushresult(&kept);
    lua_replace(L, -2);
}

void shove_push_traceback(lua_State *L, const struct shove_host *host, int level) {
    static const char body[] = "\n\t[C]: in function 'xpcall'";
    luaL_traceback(L, L, NULL, level);
    const char *text = lua_tostring(L, -1);
    const char *end = NULL;
    for (const char *at = strstr(text, body); at != NULL; at = strstr(at + 1, body)) {
        end = at;
    }
    if (end != NULL) {
        lua_pushlstring(L, text, (size_t)(end - text));
        lua_replace(L, -2);
    }
    keep_script_frames(L, host);
    lua_concat(L, 2);
}

bool shove_check_can_wait(lua_State *L, const char *what) {
    struct shove_host *host = shove_host_of(L);
    if (shove_task_of_thread(host, L) == NULL) {
        lua_pushfstring(L,
                        host->current != NULL
                            ? "%s waits, so it must be called from the handler itself, not from a "
                              "coroutine of your own"
                            : "%s waits, so it can only be called from a handler, not while the "
                              "script is loaded and not from a luv callback",
                        what);
        return false;
    }
    if (!lua_isyieldable(L)) {
        lua_pushfstring(
            L,
            "%s waits, which is not possible inside a metamethod, an iterator, a codec, "
            "or a function called by table.sort, string.gsub and the like",
            what);
        return false;
    }
    return true;
}
