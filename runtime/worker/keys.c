/* keys.c: the keys of messages that are about to be sent. Worker only.
 *
 * One note for each body, written as soon as its key is known and published at a tick of the coarse
 * clock at the latest: of a function that is slow every key arrives in time, and of one that kills
 * the process, control still finds the keys before.
 */
#include "worker/keys.h"

#include <stdio.h>
#include <string.h>

#include "worker/scheduler.h"

static void tell(struct shove_host *host, enum shove_key_outcome outcome, const char *text,
                 size_t size) {
    const struct shove_note note = {.type = SHOVE_NOTE_KEY, .outcome = (uint8_t)outcome};
    if (size > SHOVE_CHANNEL_NOTE_MAX_BYTES)
        size = SHOVE_CHANNEL_NOTE_MAX_BYTES; /* of a reason */
    const struct shove_part part = {.data = text, .size = size};
    shove_channel_note(host->channel, &note, &part, size != 0);
}

/* More than that no note is sure to carry (worker/publishing.c). */
static enum shove_key_outcome tell_key(struct shove_host *host, const char *text, size_t size) {
    char why[96];
    if (size <= SHOVE_CHANNEL_NOTE_MAX_BYTES) {
        tell(host, SHOVE_KEY_GIVEN, text, size);
        return SHOVE_KEY_GIVEN;
    }
    const int length = snprintf(why, sizeof why, "the key has %zu bytes; %zu are the most", size,
                                SHOVE_CHANNEL_NOTE_MAX_BYTES);
    tell(host, SHOVE_KEY_FAILED, why, (size_t)length);
    return SHOVE_KEY_FAILED;
}

/* What the reader (lua/shove/key.lua) returned, on the top of the stack: text; or nil, what is
 * wrong, whether it is the body. */
static enum shove_key_outcome tell_result(struct shove_host *host, lua_State *L) {
    size_t size = 0;
    const char *text = lua_tolstring(L, -3, &size);
    if (text != NULL)
        return tell_key(host, text, size);
    text = lua_tolstring(L, -2, &size);
    const enum shove_key_outcome outcome = text == NULL           ? SHOVE_KEY_NONE
                                           : lua_toboolean(L, -1) ? SHOVE_KEY_UNDECODABLE
                                                                  : SHOVE_KEY_FAILED;
    tell(host, outcome, text, size);
    return outcome;
}

/* Protected: answer(host, entry). Returns nothing, or why there is no key for the next body. */
static int answer(lua_State *L) {
    struct shove_host *host = lua_touserdata(L, 1);
    const struct shove_submit *entry = lua_touserdata(L, 2);
    const uint8_t *at = shove_channel_bytes(host->channel, entry->arena_offset);
    enum shove_key_outcome outcome = SHOVE_KEY_NONE;
    for (uint32_t i = 0; i < entry->generation && outcome <= SHOVE_KEY_NONE; i++) {
        uint32_t size;
        memcpy(&size, at, sizeof size);
        host->now_mono_ms = shove_host_coarse_ms();
        if (host->now_mono_ms != host->published_mono_ms) {
            shove_scheduler_flush(host);
        }
        lua_rawgeti(L, LUA_REGISTRYINDEX, host->key_reader_ref);
        lua_pushlstring(L, (const char *)at + sizeof size, size);
        if (lua_pcall(L, 1, 3, 0) != 0) {
            return 1;
        }
        outcome = tell_result(host, L);
        lua_settop(L, 2);
        at += sizeof size + size;
    }
    return 0;
}

void shove_keys_answer(struct shove_host *host, const struct shove_submit *entry) {
    static const char changed[] = "the script has changed: the topic has no key function any more";
    lua_State *L = host->L;
    if (host->key_reader_ref == LUA_NOREF) {
        tell(host, SHOVE_KEY_FAILED, changed, sizeof changed - 1);
        return;
    }
    lua_pushcfunction(L, answer);
    lua_pushlightuserdata(L, host);
    lua_pushlightuserdata(L, (void *)entry);
    if (lua_pcall(L, 2, LUA_MULTRET, 0) != 0 || lua_gettop(L) > 0) {
        size_t size = 0;
        const char *why = lua_tolstring(L, -1, &size);
        tell(host, SHOVE_KEY_FAILED, why, size);
    }
    lua_settop(L, 0);
}
