/* message_binding.c: a message's fields, made on first touch. Worker only.
 *
 * A message is a Lua table that holds the id of its task at [1] and nothing else; the metatable's
 * __index is here. A field that is touched is read from the arena, kept in the table, and from then
 * on it is the script's. A field that is touched for the first time when the message is settled
 * raises: its bytes belong to control again and may be another message's.
 *
 * The body goes through the topic's codec on first touch. When the codec refuses the payload the
 * task is marked, so that the message is settled as undecodable whatever the handler makes of the
 * error that unwinds it. For a handler of dead letters an undecodable body is nil instead: it may
 * be what the letter died of.
 *
 * A handler that reads a message's body mostly reads that of the next. So after a touch the bodies
 * of the group's next messages, where they are JSON, are read before their handlers are called,
 * which then find them in the table: a touch costs an interpreted call through the metatable, and
 * LuaJIT compiles no handler with one in it. The message after these waits for its touch again, so
 * that a handler that has stopped reading bodies is noticed.
 */
#include <stdlib.h>
#include <string.h>

#include "base/record.h"
#include "base/utf8.h"
#include "core/hop_headers.h"
#include "worker/bindings.h"
#include "worker/json.h"
#include "worker/scheduler.h"
#include "worker/tasks.h"

#define MESSAGE_INDEX 1
#define KEY_INDEX 2

#define BODIES_AHEAD 127

struct parts {
    const char *key;
    const char *payload;
    const uint8_t *headers;
    const char *id;
    const char *death;
};

static struct parts parts_of(const struct shove_envelope *envelope) {
    struct parts parts;
    parts.key = (const char *)(envelope + 1);
    parts.payload = parts.key + envelope->key_size;
    parts.headers = (const uint8_t *)parts.payload + envelope->payload_size;
    parts.id = (const char *)parts.headers + envelope->headers_size;
    parts.death = parts.id + envelope->id_size;
    return parts;
}

/* Each leaves the field's value. */
typedef void push_field(lua_State *L, struct shove_task *task);

static void push_payload(lua_State *L, struct shove_task *task) {
    const struct shove_envelope *envelope = task->envelope;
    if ((envelope->flags & SHOVE_ENVELOPE_NULL_PAYLOAD) != 0) {
        lua_pushnil(L);
    } else {
        lua_pushlstring(L, parts_of(envelope).payload, envelope->payload_size);
    }
}

static void mark_undecodable(lua_State *L, struct shove_task *task) {
    shove_push_text(L, -1);
    size_t size;
    const char *text = lua_tolstring(L, -1, &size);
    size = shove_utf8_cut(text, size, SHOVE_OUTCOME_TEXT_MAX);
    task->undecodable = malloc(size + 1);
    if (task->undecodable != NULL) {
        memcpy(task->undecodable, text, size);
        task->undecodable[size] = '\0';
    }
}

/* False, and nothing is pushed: it is left to the codec. */
static bool push_json(lua_State *L, const struct shove_task *task) {
    const struct shove_host *host = task->host;
    return host->groups[task->group].is_json && host->json != NULL &&
           shove_json_push(host->json, L, parts_of(task->envelope).payload,
                           task->envelope->payload_size);
}

static void push_body(lua_State *L, struct shove_task *task) {
    if ((task->envelope->flags & SHOVE_ENVELOPE_NULL_PAYLOAD) != 0) {
        lua_pushnil(L);
        return;
    }
    struct shove_handler_group *group = &task->host->groups[task->group];
    if (push_json(L, task)) {
        group->bodies_ahead = BODIES_AHEAD;
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, group->decode_ref);
    push_payload(L, task);
    int status = lua_pcall(L, 1, 1, 0);
    if (status == 0) {
        return;
    }
    if (status == LUA_ERRMEM) {
        lua_error(L);
    }
    if (group->is_dead_letters) {
        lua_pushnil(L);
        return;
    }
    mark_undecodable(L, task);
    lua_pushfstring(L, "the payload cannot be decoded: %s", lua_tostring(L, -1));
    lua_error(L);
}

static void push_key(lua_State *L, struct shove_task *task) {
    const struct shove_envelope *envelope = task->envelope;
    if ((envelope->flags & SHOVE_ENVELOPE_NULL_KEY) != 0) {
        lua_pushnil(L);
    } else {
        lua_pushlstring(L, parts_of(envelope).key, envelope->key_size);
    }
}

static void push_header_value(lua_State *L, const struct shove_header *header) {
    if (header->value == NULL) {
        lua_pushlightuserdata(L, NULL); /* shove.null */
    } else {
        lua_pushlstring(L, header->value, header->value_size);
    }
}

/* { { name, value }, ... } in order, and by name the last value. */
static void push_headers(lua_State *L, struct shove_task *task) {
    const uint8_t *at = parts_of(task->envelope).headers;
    const uint8_t *end = at + task->envelope->headers_size;
    struct shove_header header;
    lua_newtable(L);
    for (int i = 1; shove_headers_next(&at, end, &header) == 1; i++) {
        lua_createtable(L, 2, 0);
        lua_pushlstring(L, header.name, header.name_size);
        push_header_value(L, &header);
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, -6);
        lua_rawseti(L, -3, 2);
        lua_rawseti(L, -2, 1);
        lua_rawseti(L, -2, i);
    }
}

static void push_id(lua_State *L, struct shove_task *task) {
    const struct shove_envelope *envelope = task->envelope;
    if (envelope->id_size != 0) {
        lua_pushlstring(L, parts_of(envelope).id, envelope->id_size);
        return;
    }
    char id[SHOVE_MESSAGE_ID_MAX];
    size_t size = shove_message_id_derive(task->host->groups[task->group].topic,
                                          envelope->partition, envelope->offset, id);
    lua_pushlstring(L, id, size);
}

static void push_topic(lua_State *L, struct shove_task *task) {
    lua_pushstring(L, task->host->groups[task->group].topic);
}

static void push_partition(lua_State *L, struct shove_task *task) {
    lua_pushnumber(L, task->envelope->partition);
}

static void push_offset(lua_State *L, struct shove_task *task) {
    lua_pushnumber(L, (lua_Number)task->envelope->offset);
}

static void push_timestamp(lua_State *L, struct shove_task *task) {
    lua_pushnumber(L, (lua_Number)task->envelope->timestamp_ms);
}

static void push_retry_count(lua_State *L, struct shove_task *task) {
    lua_pushnumber(L, task->envelope->retry_count);
}

static void push_redelivered(lua_State *L, struct shove_task *task) {
    lua_pushboolean(L, (task->envelope->flags & SHOVE_ENVELOPE_REDELIVERED) != 0);
}

/* What a dead letter says of its death: a field of the JSON object that control put behind the id.
 */
static void push_death_field(lua_State *L, struct shove_task *task) {
    const struct shove_envelope *envelope = task->envelope;
    if (envelope->death_size == 0) {
        lua_pushnil(L);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->host->json_decode_ref);
    lua_pushlstring(L, parts_of(envelope).death, envelope->death_size);
    lua_call(L, 1, 1);
    lua_pushvalue(L, KEY_INDEX);
    lua_rawget(L, -2);
}

struct field {
    const char *name;
    push_field *push;
    bool is_of_dead_letters;
};

/* Those that handlers touch most come first. */
static const struct field fields[] = {
    {"body", push_body, false},
    {"payload", push_payload, false},
    {"key", push_key, false},
    {"headers", push_headers, false},
    {"id", push_id, false},
    {"topic", push_topic, false},
    {"partition", push_partition, false},
    {"offset", push_offset, false},
    {"timestamp", push_timestamp, false},
    {"retry_count", push_retry_count, false},
    {"redelivered", push_redelivered, false},
    {"reason", push_death_field, true},
    {"original_queue", push_death_field, true},
    {"death_count", push_death_field, true},
    {"original_partition", push_death_field, true},
    {"original_offset", push_death_field, true},
    {"group", push_death_field, true},
    {"error", push_death_field, true},
    {"died_at", push_death_field, true},
};
#define FIELD_COUNT (sizeof fields / sizeof *fields)

/* refuse(key, names): raises "a message has no field ..." at the script's line
 * (lua/shove/message.lua). */
static int refuse_field(lua_State *L, const struct shove_task *task) {
    bool is_dead_letter = task != NULL && task->host->groups[task->group].is_dead_letters;
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, KEY_INDEX);
    lua_newtable(L);
    int count = 0;
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (is_dead_letter || !fields[i].is_of_dead_letters) {
            lua_pushstring(L, fields[i].name);
            lua_rawseti(L, -2, ++count);
        }
    }
    lua_pushboolean(L, is_dead_letter);
    lua_call(L, 3, 0);
    return luaL_error(L, "a message has no such field");
}

static const struct field *find_field(const char *const *interned, const char *name) {
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (interned[i] == name) {
            return &fields[i];
        }
    }
    return NULL;
}

/* __index(message, key). Upvalues: host, refuse, the interned names as an array in a userdata,
 * their table. */
static int message_index(lua_State *L) {
    struct shove_host *host = shove_host_of(L);
    lua_rawgeti(L, MESSAGE_INDEX, 1);
    struct shove_task *task = shove_task_find(host, lua_tonumber(L, -1));
    lua_pop(L, 1);
    const struct field *field = NULL;
    if (lua_type(L, KEY_INDEX) == LUA_TSTRING) {
        const char *const *interned = lua_touserdata(L, lua_upvalueindex(3));
        field = find_field(interned, lua_tostring(L, KEY_INDEX));
    }
    if (field == NULL ||
        (field->is_of_dead_letters && task != NULL && !host->groups[task->group].is_dead_letters)) {
        return refuse_field(L, task);
    }
    if (task == NULL || task->envelope == NULL) {
        luaL_where(L, 1);
        lua_pushfstring(L,
                        "%smsg.%s is read for the first time after its message was settled; read "
                        "what you need before the handler returns",
                        lua_tostring(L, -1), field->name);
        return lua_error(L);
    }
    field->push(L, task);
    if (!lua_isnil(L, -1)) {
        lua_pushvalue(L, KEY_INDEX);
        lua_pushvalue(L, -2);
        lua_rawset(L, MESSAGE_INDEX);
    }
    return 1;
}

/* message_index(refuse): the __index of messages. */
static int make_message_index(lua_State *L) {
    lua_settop(L, 1);
    lua_pushlightuserdata(L, shove_host_of(L));
    lua_pushvalue(L, 1);
    const char **interned = lua_newuserdata(L, sizeof(*interned) * FIELD_COUNT);
    lua_createtable(L, FIELD_COUNT, 0);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        lua_pushstring(L, fields[i].name);
        interned[i] = lua_tostring(L, -1);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_pushcclosure(L, message_index, 4);
    return 1;
}

/* body_ahead(id): the body before anybody touches it; nil where that is to be waited for. */
static int body_ahead(lua_State *L) {
    const struct shove_task *task = shove_task_find(shove_host_of(L), lua_tonumber(L, 1));
    if (task == NULL || task->envelope == NULL ||
        (task->envelope->flags & SHOVE_ENVELOPE_NULL_PAYLOAD) != 0 || !push_json(L, task)) {
        lua_pushnil(L);
    }
    return 1;
}

const luaL_Reg shove_message_binding[] = {
    {"message_index", make_message_index}, {"body_ahead", body_ahead}, {NULL, NULL}};
