/* groups_binding.c: host.groups_wait, groups_text: the lower half of lua/shove/groups.lua. Worker
 * only.
 */
#include "worker/bindings.h"
#include "worker/groups.h"
#include "worker/tasks.h"

/* groups_wait(): yields until control has answered. why_no_wait() has been asked. */
static int groups_wait(lua_State *L) {
    struct shove_task *task = shove_task_of_thread(shove_host_of(L), L);
    if (task == NULL) {
        return luaL_error(L, "groups: not a handler");
    }
    shove_groups_ask(task);
    return lua_yield(L, 0);
}

/* groups_text(): what control has answered, as JSON; at once after groups_wait(). */
static int groups_text(lua_State *L) {
    const struct shove_buffer *text = &shove_host_of(L)->groups_text;
    if (text->is_failed) {
        return luaL_error(L, "not enough memory");
    }
    lua_pushlstring(L, (const char *)text->data, text->size);
    return 1;
}

const luaL_Reg shove_groups_binding[] = {
    {"groups_wait", groups_wait}, {"groups_text", groups_text}, {NULL, NULL}};
