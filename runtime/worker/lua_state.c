/* lua_state.c: see lua_state.h. Worker only.
 *
 * Altered for scripts: os.exit raises (it would end every handler of the process); luv cannot be
 * told to run, stop or walk the loop, which is the worker's; print is flushed line by line; modules
 * are looked for beside the script first (then beside the file it is a link to), except `shove` and
 * `shove.*`, which are always shove's own, whatever files lie beside the script. Shove's modules
 * have globals and libraries of their own: a script that clears _G or replaces table.concat has
 * broken its own handlers, not shove.
 */
#include "worker/lua_state.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <luv/luv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/bindings.h"
#include "worker/memory.h"

/* Lets garbage grow to twice what is in use before a cycle begins, and makes the cycle short. */
#define GC_PAUSE_PERCENT 200
#define GC_STEP_PERCENT 400

/* Run once, with: shove's folder, and the folders of scripts' modules, first to last. */
static const char prepare_source[] =
    "local lua_dir = ...\n"
    "local own = lua_dir .. '/?.lua;' .. lua_dir .. '/?/init.lua'\n"
    "package.path = own .. ';' .. package.path\n"
    "for i = select('#', ...), 2, -1 do\n"
    "    local dir = select(i, ...)\n"
    "    package.path = dir .. '/?.lua;' .. dir .. '/?/init.lua;' .. package.path\n"
    "    package.cpath = dir .. '/?.so;' .. package.cpath\n"
    "end\n"
    "local globals = {}\n"
    "for name, value in pairs(_G) do\n"
    "    globals[name] = value\n"
    "    if type(value) == 'table' and name ~= '_G' and name ~= 'package' then\n"
    "        globals[name] = {}\n"
    "        for field, inner in pairs(value) do globals[name][field] = inner end\n"
    "    end\n"
    "end\n"
    "table.insert(package.loaders, 2, function(name)\n"
    "    if name ~= 'shove' and not name:find '^shove%.' then return nil end\n"
    "    local path, tried = package.searchpath(name, own)\n"
    "    if not path then return tried end\n"
    "    local chunk, text = loadfile(path)\n"
    "    return chunk and setfenv(chunk, globals) or error(text, 0)\n"
    "end)\n"
    "function os.exit()\n"
    "    error('os.exit is not for scripts that shove runs: it would end every handler of the "
    "process; return an '\n"
    "        .. 'outcome, or raise an error', 2)\n"
    "end\n"
    "local open_luv = package.preload.luv\n"
    "package.preload.luv = function(...)\n"
    "    local uv = open_luv(...)\n"
    "    for _, name in ipairs { 'run', 'stop', 'walk', 'loop_close' } do\n"
    "        uv[name] = function()\n"
    "            error('uv.' .. name .. ' is not for scripts that shove runs: the loop is "
    "shove\\'s, and it runs', 2)\n"
    "        end\n"
    "    end\n"
    "    return uv\n"
    "end\n";

/* A luv callback of the script: an error in it is nobody's message, and ends nothing. */
static int call_back(lua_State *L, int nargs, int nresults, int flags) {
    (void)flags;
    int base = lua_gettop(L) - nargs;
    lua_getfield(L, LUA_REGISTRYINDEX, "shove.traceback");
    lua_insert(L, base);
    int status = lua_pcall(L, nargs, nresults, base);
    lua_remove(L, base);
    if (status == 0) {
        return nresults == LUA_MULTRET ? lua_gettop(L) - base + 1 : nresults;
    }
    const char *text = lua_tostring(L, -1);
    shove_log_fields(SHOVE_LOG_ERROR, "a luv callback failed", "error",
                     text != NULL ? text : "(no text)", NULL);
    lua_pop(L, 1);
    return -status;
}

static int add_traceback(lua_State *L) {
    const struct shove_host *host = lua_touserdata(L, lua_upvalueindex(1));
    shove_push_text(L, 1);
    shove_push_traceback(L, host, 1);
    return 1;
}

static int panic(lua_State *L) {
    const char *text = lua_tostring(L, -1);
    shove_log(SHOVE_LOG_ERROR, "Lua failed outside of any handler: %s", text != NULL ? text : "?");
    _exit(EXIT_FAILURE);
}

static void preload(lua_State *L, const char *name, lua_CFunction open, struct shove_host *host) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushlightuserdata(L, host);
    lua_pushcclosure(L, open, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

static void push_folder_of(lua_State *L, const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        lua_pushliteral(L, ".");
    } else {
        lua_pushlstring(L, path, slash == path ? 1 : (size_t)(slash - path));
    }
}

/* Where a link to the script leads: what it requires lies beside it there. Pushes 1 or, where the
 * script is no link, 0 values. */
static int push_linked_folder_of(lua_State *L, const char *path) {
    struct stat status;
    char target[PATH_MAX];
    if (lstat(path, &status) != 0 || !S_ISLNK(status.st_mode) || realpath(path, target) == NULL)
        return 0;
    push_folder_of(L, target);
    return 1;
}

static void make_lanes(lua_State *L, struct shove_host *host) {
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    host->lanes_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Protected: a state without memory says so. */
static int prepare(lua_State *L) {
    struct shove_host *host = lua_touserdata(L, 1);
    luaL_openlibs(L);
    lua_pushlightuserdata(L, host);
    lua_pushcclosure(L, add_traceback, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "shove.traceback");
    shove_memory_prepare(L, host);
    make_lanes(L, host);
    luv_set_loop(L, &host->loop);
    luv_set_callback(L, call_back);
    preload(L, "luv", luaopen_luv, host);
    preload(L, "shove.host", shove_open_host, host);
    if (luaL_loadbuffer(L, prepare_source, sizeof prepare_source - 1, "=shove") != 0) {
        return lua_error(L);
    }
    lua_pushstring(L, host->options->lua_dir);
    push_folder_of(L, host->options->script);
    lua_call(L, 2 + push_linked_folder_of(L, host->options->script), 0);
    return 0;
}

int shove_lua_open(struct shove_host *host, struct shove_error *error) {
    host->L = luaL_newstate();
    if (host->L == NULL) {
        return shove_error_set(error, SHOVE_ENOMEM, "not enough memory for a Lua state");
    }
    lua_atpanic(host->L, panic);
    if (lua_cpcall(host->L, prepare, host) != 0) {
        return shove_error_set(error, SHOVE_ENOMEM, "cannot prepare Lua: %s",
                               lua_tostring(host->L, -1));
    }
    lua_gc(host->L, LUA_GCSETPAUSE, GC_PAUSE_PERCENT);
    lua_gc(host->L, LUA_GCSETSTEPMUL, GC_STEP_PERCENT);
    return 0;
}

/* What the interpreter would report less clearly. */
static int check_readable(lua_State *L, const char *path) {
    struct stat status;
    if (stat(path, &status) != 0) {
        lua_pushfstring(L, "%s: %s", path,
                        errno == ENOENT ? "there is no such file" : strerror(errno));
        return SHOVE_ECONFIG;
    }
    if (S_ISDIR(status.st_mode)) {
        lua_pushfstring(L, "%s is a folder; give the script in it", path);
        return SHOVE_ECONFIG;
    }
    if (access(path, R_OK) != 0) {
        lua_pushfstring(L, "%s cannot be read: %s", path, strerror(errno));
        return SHOVE_ECONFIG;
    }
    return 0;
}

/* Protected: require("shove.run").load(script). */
static int load(lua_State *L) {
    const struct shove_host *host = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "shove.run");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "load");
    lua_pushstring(L, host->options->script);
    lua_call(L, 1, 2);
    return 2;
}

int shove_lua_load(struct shove_host *host, const char **text, size_t *size) {
    lua_State *L = host->L;
    int result = check_readable(L, host->options->script);
    if (result == 0) {
        lua_pushcfunction(L, load);
        lua_pushlightuserdata(L, host);
        if (lua_pcall(L, 1, 2, 0) != 0 || lua_isnil(L, -2)) {
            result = SHOVE_ECONFIG;
        } else {
            lua_pop(L, 1);
            result = 1;
        }
    }
    *text = lua_tolstring(L, -1, size);
    if (*text == NULL) {
        *text = "the script failed without saying why";
        *size = strlen(*text);
    }
    return result;
}
