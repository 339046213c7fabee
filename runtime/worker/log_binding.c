/* log_binding.c: host.log, and where the current message came from. Worker only. */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "worker/bindings.h"

#define FIELDS_MAX 32
#define PLACE_FIELDS 3

/* log(level, message, names, values): level 0 to 3; two lists of strings of equal length. Inside a
 * handler the message's topic, partition and offset come first. */
static int write_log(lua_State *L) {
    const struct shove_host *host = shove_host_of(L);
    const char *names[FIELDS_MAX + PLACE_FIELDS];
    const char *values[FIELDS_MAX + PLACE_FIELDS];
    char partition[16];
    char offset[24];
    unsigned count = 0;
    const struct shove_task *task = host->current;
    if (task != NULL && task->envelope != NULL) {
        snprintf(partition, sizeof partition, "%" PRId32, task->envelope->partition);
        snprintf(offset, sizeof offset, "%" PRId64, task->envelope->offset);
        names[0] = "topic";
        values[0] = host->groups[task->group].topic;
        names[1] = "partition";
        values[1] = partition;
        names[2] = "offset";
        values[2] = offset;
        count = PLACE_FIELDS;
    }
    size_t given = lua_objlen(L, 3);
    luaL_checkstack(L, 2 * FIELDS_MAX, NULL);
    for (size_t i = 1; i <= given && i <= FIELDS_MAX; i++) {
        lua_rawgeti(L, 3, (int)i);
        lua_rawgeti(L, 4, (int)i);
        names[count] = lua_tostring(L, -2);
        values[count] = lua_tostring(L, -1);
        count++;
    }
    shove_log_pairs((enum shove_log_level)lua_tointeger(L, 1), lua_tostring(L, 2), names, values,
                    count);
    return 0;
}

/* is_logging(level) */
static int is_logging(lua_State *L) {
    lua_pushboolean(L, shove_log_is_on((enum shove_log_level)lua_tointeger(L, 1)));
    return 1;
}

const luaL_Reg shove_log_binding[] = {{"log", write_log}, {"is_logging", is_logging}, {NULL, NULL}};
