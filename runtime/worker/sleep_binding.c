/* sleep_binding.c: host.sleep. Worker only.
 *
 * Each task has a timer of its own in its struct, so sleeping allocates nothing.
 */
#include "worker/bindings.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"

static void on_awake(uv_timer_t *timer) {
    struct shove_task *task = timer->data;
    if (task->state == SHOVE_TASK_WAITING && task->wait == SHOVE_WAIT_SLEEP) {
        task->wait = SHOVE_WAIT_FOREIGN;
        shove_scheduler_resume(task, 0);
    }
}

/* sleep(ms): yields; returns nothing. why_no_wait() has been asked. */
static int sleep_ms(lua_State *L) {
    struct shove_task *task = shove_task_of_thread(shove_host_of(L), L);
    if (task == NULL) {
        return luaL_error(L, "sleep: not a handler");
    }
    lua_Number ms = luaL_checknumber(L, 1);
    task->wait = SHOVE_WAIT_SLEEP;
    uv_update_time(&task->host->loop);
    uv_timer_start(&task->sleep, on_awake, (uint64_t)ms, 0);
    return lua_yield(L, 0);
}

/* why_no_wait(what): nil when the caller can wait, else a sentence. */
static int why_no_wait(lua_State *L) {
    if (shove_check_can_wait(L, luaL_checkstring(L, 1))) {
        lua_pushnil(L);
    }
    return 1;
}

const luaL_Reg shove_sleep_binding[] = {
    {"sleep", sleep_ms}, {"why_no_wait", why_no_wait}, {NULL, NULL}};
