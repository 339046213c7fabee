/* tasks.c: see tasks.h. Worker only.
 *
 * Making a coroutine may run out of memory, so it happens in protected mode; a task whose coroutine
 * was lost gets a new one when it is taken next. The table `lanes` (weak keys) maps each coroutine
 * to the id of its task; it is how coroutine_binding.c knows a handler's coroutine when a script
 * resumes one. A dropped coroutine is mapped to false.
 */
#include "worker/tasks.h"

#include "worker/memory.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define TASKS_MAX (1u << 20)
#define INDEX_BITS 1048576.0 /* an id is serial * 2^20 + index: at most 52 bits */

double shove_task_id(const struct shove_task *task) {
    return (double)task->serial * INDEX_BITS + (double)task->index;
}

struct shove_task *shove_task_find(struct shove_host *host, double id) {
    if (!(id >= 0 && id < 4503599627370496.0)) {
        return NULL;
    }
    uint64_t whole = (uint64_t)id;
    uint32_t index = (uint32_t)(whole % TASKS_MAX);
    if (index >= host->task_count) {
        return NULL;
    }
    struct shove_task *task = host->tasks[index];
    if (task->state == SHOVE_TASK_FREE || task->serial != (uint32_t)(whole / TASKS_MAX)) {
        return NULL;
    }
    return task;
}

struct shove_task *shove_task_of_thread(struct shove_host *host, lua_State *L) {
    struct shove_task *task = host->current;
    return task != NULL && task->thread == L ? task : NULL;
}

/* Protected: the task is in the light userdata. */
static int make_thread(lua_State *L) {
    struct shove_task *task = lua_touserdata(L, 1);
    struct shove_host *host = task->host;
    lua_rawgeti(L, LUA_REGISTRYINDEX, host->lanes_ref);
    lua_State *thread = lua_newthread(L);
    lua_pushvalue(L, -1);
    lua_pushnumber(L, (lua_Number)task->index);
    lua_rawset(L, -4);
    task->thread_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    task->thread = thread;
    return 0;
}

/* Protected. Marks the coroutine as one that must not be resumed. */
static int disown_thread(lua_State *L) {
    struct shove_task *task = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->host->lanes_ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->thread_ref);
    lua_pushboolean(L, 0);
    lua_rawset(L, -3);
    return 0;
}

static bool call(lua_State *L, lua_CFunction function, struct shove_task *task) {
    if (lua_cpcall(L, function, task) == 0) {
        return true;
    }
    lua_pop(L, 1);
    return false;
}

static bool give_thread(struct shove_task *task) {
    lua_State *L = task->host->L;
    if (call(L, make_thread, task)) {
        return true;
    }
    shove_memory_recover(task->host);
    return call(L, make_thread, task);
}

static void drop_thread(struct shove_task *task) {
    lua_State *L = task->host->L;
    if (task->thread == NULL) {
        return;
    }
    call(L, disown_thread, task);
    luaL_unref(L, LUA_REGISTRYINDEX, task->thread_ref);
    task->thread = NULL;
}

static bool grow(struct shove_host *host) {
    if (host->task_count == host->task_capacity) {
        uint32_t capacity = host->task_capacity == 0 ? 64 : host->task_capacity * 2;
        struct shove_task **tasks =
            capacity > TASKS_MAX ? NULL : realloc(host->tasks, capacity * sizeof(*tasks));
        if (tasks == NULL) {
            return false;
        }
        host->tasks = tasks;
        host->task_capacity = capacity;
    }
    struct shove_task *task = calloc(1, sizeof *task);
    if (task == NULL) {
        return false;
    }
    task->host = host;
    task->index = host->task_count;
    task->thread_ref = LUA_NOREF;
    shove_buffer_init(&task->failed);
    shove_buffer_init(&task->verdict_text);
    uv_timer_init(&host->loop, &task->sleep);
    task->sleep.data = task;
    host->tasks[host->task_count++] = task;
    task->next = host->free_tasks;
    host->free_tasks = task;
    return true;
}

struct shove_task *shove_task_take(struct shove_host *host) {
    if (host->free_tasks == NULL && !grow(host)) {
        return NULL;
    }
    struct shove_task *task = host->free_tasks;
    if (task->thread == NULL && !give_thread(task)) {
        return NULL;
    }
    host->free_tasks = task->next;
    task->next = NULL;
    task->serial++;
    task->state = SHOVE_TASK_ON_CPU;
    task->wait = SHOVE_WAIT_FOREIGN;
    task->kind = SHOVE_TASK_MESSAGE;
    task->is_settled = false;
    task->undecodable = NULL;
    task->has_foreign_yield = false;
    task->verdict = 0;
    task->begun_mono_ms = 0;
    host->busy_count++;
    return task;
}

void shove_task_give(struct shove_task *task, bool is_coroutine_spent) {
    struct shove_host *host = task->host;
    if (is_coroutine_spent || task->has_foreign_yield) {
        drop_thread(task);
    }
    free(task->undecodable);
    task->undecodable = NULL;
    task->state = SHOVE_TASK_FREE;
    task->envelope = NULL;
    task->next = host->free_tasks;
    host->free_tasks = task;
    host->busy_count--;
}
