/* strategy_binding.c: host.advise: what the strategy of app:autoscale returned for a group, or that
 * it failed. Worker only. It is told to control at once: a later group may take too long.
 */
#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "core/autoscale.h"
#include "worker/bindings.h"
#include "worker/memory.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"

#define WHOLE_MAX 9007199254740992.0 /* 2^53 */

static bool is_whole(lua_Number value) {
    return value >= -WHOLE_MAX && value <= WHOLE_MAX && value == floor(value);
}

static enum shove_advice_kind read_word(const char *word) {
    static const struct {
        const char *word;
        enum shove_advice_kind kind;
    } words[] = {{"up", SHOVE_ADVICE_UP}, {"down", SHOVE_ADVICE_DOWN}, {"stay", SHOVE_ADVICE_STAY}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i].word) == 0) {
            return words[i].kind;
        }
    }
    return SHOVE_ADVICE_FAILED;
}

/* The result at `index`. */
static struct shove_advice_note read_result(lua_State *L, int index) {
    struct shove_advice_note advice = {.kind = SHOVE_ADVICE_FAILED};
    const int type = lua_type(L, index);
    if (type == LUA_TNIL || type == LUA_TNONE) {
        advice.kind = SHOVE_ADVICE_NONE;
    } else if (type == LUA_TSTRING) {
        advice.kind = read_word(lua_tostring(L, index));
    } else if (type == LUA_TNUMBER && is_whole(lua_tonumber(L, index))) {
        advice.kind = SHOVE_ADVICE_COUNT;
        advice.consumers = (int64_t)lua_tonumber(L, index);
    }
    return advice;
}

/* advise(group, broker, is_ok, result): what the protected call of the strategy gave. */
static int advise(lua_State *L) {
    struct shove_host *host = shove_host_of(L);
    const struct shove_task *task = shove_task_of_thread(host, L);
    struct shove_advice_note advice = {.kind = SHOVE_ADVICE_FAILED};
    size_t group_size;
    size_t broker_size;
    size_t size = 0;
    const char *group = luaL_checklstring(L, 1, &group_size);
    const char *broker = luaL_checklstring(L, 2, &broker_size);
    const char *text = NULL;
    if (task == NULL || task->kind != SHOVE_TASK_STRATEGY) {
        return luaL_error(L, "advise: not the strategy");
    }
    if (!lua_toboolean(L, 3)) {
        text = lua_tolstring(L, 4, &size);
        shove_memory_note_error(host, text);
    } else {
        advice = read_result(L, 4);
        if (advice.kind == SHOVE_ADVICE_FAILED) {
            shove_push_shown(L, 4);
            text = lua_pushfstring(
                L,
                "it returned %s: return \"up\", \"down\", \"stay\", a whole number of "
                "consumers, or nothing",
                lua_tostring(L, -1));
            size = strlen(text);
        }
    }
    advice.group_size = (uint32_t)group_size;
    advice.broker_size = (uint32_t)broker_size;
    size = shove_utf8_cut(text, size, SHOVE_OUTCOME_TEXT_MAX);
    struct shove_note note = {.type = SHOVE_NOTE_ADVICE, .generation = task->generation};
    struct shove_part parts[] = {
        {&advice, sizeof advice}, {group, group_size}, {broker, broker_size}, {text, size}};
    shove_channel_note(host->channel, &note, parts, size != 0 ? 4 : 3);
    shove_channel_publish_notes(host->channel);
    return 0;
}

const luaL_Reg shove_strategy_binding[] = {{"advise", advise}, {NULL, NULL}};
