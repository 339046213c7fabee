/* audit_binding.c: what lua/shove/auditing.lua makes a record of. Worker only. */
#include "base/clock.h"
#include "base/encoding.h"
#include "base/utf8.h"
#include "worker/bindings.h"
#include "worker/tasks.h"

/* verdict(id): outcome, reason or nil, seconds that the handler took, milliseconds since 1970,
 * index of the group from 1. Raises when nothing is kept for the id. */
static int push_verdict(lua_State *L) {
    const struct shove_task *task = shove_task_find(shove_host_of(L), lua_tonumber(L, 1));
    if (task == NULL || task->verdict == 0) {
        return luaL_error(L, "the message is settled already");
    }
    lua_pushstring(L, shove_outcome_name((enum shove_outcome)task->verdict));
    if (task->verdict_text.size != 0) {
        lua_pushlstring(L, (const char *)task->verdict_text.data, task->verdict_text.size);
    } else {
        lua_pushnil(L);
    }
    const uint64_t handler_us = task->handler_ns / 1000;
    lua_pushnumber(L, (lua_Number)handler_us / 1e6);
    lua_pushnumber(L, (lua_Number)shove_clock_wall_ms());
    lua_pushnumber(L, (lua_Number)task->group + 1);
    return 5;
}

/* base64_unless_utf8(bytes): nil when they are UTF-8. */
static int base64_unless_utf8(lua_State *L) {
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    size_t at = 0;
    size_t step = 1;
    while (at < size && step != 0) {
        step = (unsigned char)bytes[at] < 0x80 ? 1 : shove_utf8_character(bytes + at, size - at);
        at += step;
    }
    if (step != 0) {
        return 0;
    }
    char *text = lua_newuserdata(L, shove_base64_encoded_size(size) + 1);
    shove_base64_encode((const uint8_t *)bytes, size, text);
    lua_pushlstring(L, text, shove_base64_encoded_size(size));
    return 1;
}

const luaL_Reg shove_audit_binding[] = {
    {"verdict", push_verdict}, {"base64_unless_utf8", base64_unless_utf8}, {NULL, NULL}};
