/* process_binding.c: what lua/shove/run.lua hands over once the script is loaded. Worker only. */
#include <stdlib.h>
#include <string.h>

#include "worker/bindings.h"
#include "worker/json.h"

static int take_ref(lua_State *L, int table, const char *name) {
    lua_getfield(L, table, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return LUA_NOREF;
    }
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

static void read_group(lua_State *L, int table, struct shove_handler_group *group) {
    group->handler_ref = take_ref(L, table, "handler");
    group->decode_ref = take_ref(L, table, "decode");
    lua_getfield(L, table, "is_json");
    group->is_json = lua_toboolean(L, -1) != 0;
    lua_getfield(L, table, "timeout_ms");
    group->deadlines.timeout_ms = (int64_t)luaL_checknumber(L, -1);
    lua_getfield(L, table, "is_audited");
    group->is_audited = lua_toboolean(L, -1) != 0;
    lua_getfield(L, table, "dead_letters");
    group->is_dead_letters = lua_toboolean(L, -1) != 0;
    lua_getfield(L, table, "topic");
    group->topic = strdup(luaL_checkstring(L, -1));
    if (group->topic == NULL) {
        luaL_error(L, "not enough memory");
    }
    lua_pop(L, 5);
}

static void read_groups(lua_State *L, struct shove_host *host) {
    lua_getfield(L, 1, "groups");
    int groups = lua_gettop(L);
    uint32_t count = (uint32_t)lua_objlen(L, groups);
    host->groups = calloc(count != 0 ? count : 1, sizeof(*host->groups));
    if (host->groups == NULL) {
        luaL_error(L, "not enough memory");
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        lua_rawgeti(L, groups, (int)i + 1);
        read_group(L, lua_gettop(L), &host->groups[i]);
        lua_pop(L, 1);
        host->group_count = i + 1;
    }
}

/* configure { run, run_ahead, run_audited, conclude, audit, audit_timeout_ms, beside, on_start,
 * strategy, json_decode, key_reader, outcomes = { [code] = constant }, groups = { { handler,
 * decode, is_json, topic, timeout_ms, is_audited, dead_letters }, ... } } */
static int configure(lua_State *L) {
    struct shove_host *host = shove_host_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    host->run_ref = take_ref(L, 1, "run");
    host->run_ahead_ref = take_ref(L, 1, "run_ahead");
    host->run_audited_ref = take_ref(L, 1, "run_audited");
    host->conclude_ref = take_ref(L, 1, "conclude");
    host->audit_ref = take_ref(L, 1, "audit");
    lua_getfield(L, 1, "audit_timeout_ms");
    host->audits.timeout_ms = (int64_t)luaL_checknumber(L, -1);
    lua_pop(L, 1);
    host->beside_ref = take_ref(L, 1, "beside");
    host->start_handler_ref = take_ref(L, 1, "on_start");
    host->strategy_ref = take_ref(L, 1, "strategy");
    host->json_decode_ref = take_ref(L, 1, "json_decode");
    host->key_reader_ref = take_ref(L, 1, "key_reader");
    lua_getfield(L, 1, "outcomes");
    for (int code = SHOVE_OUTCOME_ACK; code <= SHOVE_OUTCOME_DEFER; code++) {
        lua_rawgeti(L, -1, code);
        host->outcomes[code] = lua_topointer(L, -1);
        if (code == SHOVE_OUTCOME_ACK && lua_getmetatable(L, -1)) {
            host->outcome_metatable_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    read_groups(L, host);
    host->json = shove_json_new();
    return 0;
}

const luaL_Reg shove_process_binding[] = {{"configure", configure}, {NULL, NULL}};
