/* publish_binding.c: host.publish_begin, publish_ask, publish_wait, publish_failure: the lower half
 * of lua/shove/publish.lua, which checks and encodes. Worker only.
 */
#include "worker/bindings.h"
#include "worker/publishing.h"
#include "worker/tasks.h"

static struct shove_task *check_task(lua_State *L) {
    struct shove_task *task = shove_task_of_thread(shove_host_of(L), L);
    if (task == NULL) {
        luaL_error(L, "publish: not a handler");
    }
    return task;
}

static int publish_begin(lua_State *L) {
    shove_publishing_begin(check_task(L));
    return 0;
}

/* names and values alternate; false stands for a null value. */
static void read_headers(lua_State *L, int index, struct shove_buffer *block) {
    shove_buffer_clear(block);
    if (!lua_istable(L, index)) {
        return;
    }
    int count = (int)lua_objlen(L, index);
    for (int i = 1; i + 1 <= count; i += 2) {
        size_t name_size;
        size_t value_size = 0;
        lua_rawgeti(L, index, i);
        lua_rawgeti(L, index, i + 1);
        const char *name = lua_tolstring(L, -2, &name_size);
        const char *value = lua_isstring(L, -1) ? lua_tolstring(L, -1, &value_size) : NULL;
        shove_headers_append(block, name, name_size, value, value_size);
        lua_pop(L, 2);
    }
}

/* publish_ask(topic, payload or nil, key or nil, headers or nil, partition, timestamp_ms, broker)
 */
static int publish_ask(lua_State *L) {
    struct shove_task *task = check_task(L);
    struct shove_record record = {.offset = -1};
    size_t topic_size;
    const char *topic = luaL_checklstring(L, 1, &topic_size);
    record.payload = lua_isnil(L, 2) ? NULL : luaL_checklstring(L, 2, &record.payload_size);
    record.key = lua_isnil(L, 3) ? NULL : luaL_checklstring(L, 3, &record.key_size);
    read_headers(L, 4, &task->host->scratch);
    record.timestamp_ms = (int64_t)luaL_checknumber(L, 6);
    shove_publishing_ask(task, topic, topic_size, &record, (int32_t)luaL_checknumber(L, 5),
                         (uint16_t)luaL_checknumber(L, 7));
    return 0;
}

/* publish_wait(): yields until control has answered to everything that was asked. */
static int publish_wait(lua_State *L) {
    struct shove_task *task = check_task(L);
    if (task->publishing == 0) {
        return 0;
    }
    task->wait = SHOVE_WAIT_PUBLISH;
    return lua_yield(L, 0);
}

/* publish_failure(n): ordinal, sentence, code of the n-th message that was refused; nothing when
 * there is none. */
static int publish_failure(lua_State *L) {
    const struct shove_task *task = check_task(L);
    const struct shove_publish_failure *failures = (const void *)task->failed.data;
    lua_Integer n = luaL_checkinteger(L, 1);
    if (n < 1 || (size_t)n > task->failed.size / sizeof(*failures)) {
        return 0;
    }
    const struct shove_publish_failure *failure = &failures[n - 1];
    lua_pushinteger(L, (lua_Integer)failure->ordinal);
    lua_pushstring(L, shove_error_sentence(failure->code));
    lua_pushstring(L, shove_error_name(failure->code));
    return 3;
}

const luaL_Reg shove_publish_binding[] = {{"publish_begin", publish_begin},
                                          {"publish_ask", publish_ask},
                                          {"publish_wait", publish_wait},
                                          {"publish_failure", publish_failure},
                                          {NULL, NULL}};
