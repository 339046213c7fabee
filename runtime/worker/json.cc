// json.cc: see json.h. Worker only.
//
// simdjson's parser and a walk over what it found. The only C++ there is, because the library is.
// lua-cjson takes a microsecond for a message of 44 bytes, which is more than all the rest of its
// way through shove; this takes half of that: tables are made in their final size and the payload
// never becomes a Lua string.
//
// No object with a destructor lives across a call of Lua's: errors of Lua jump over these frames.
#include "worker/json.h"

#include <simdjson.h>

#include <lua.hpp>
#include <new>
#include <string_view>

// A parser keeps its memory, about ten times the longest text it has seen.
#define KEEP_BYTES ((size_t)256 * 1024)
// cjson's bound is 1,000: what is nested deeper than this is left to it.
#define DEPTH_MAX 500
// A table, a key and a value for each level.
#define STACK_SLOTS 4

namespace {

namespace dom = simdjson::dom;

struct walk {
    lua_State *L;
    std::string_view text;
    bool has_looked_for_negative_zero;
    bool has_negative_zero;
};

bool push_value(walk &walk, const dom::element &element);

bool push_object(walk &walk, const dom::object &object) {
    lua_State *L = walk.L;
    lua_createtable(L, 0, (int)object.size());
    for (const dom::key_value_pair field : object) {
        lua_pushlstring(L, field.key.data(), field.key.size());
        if (!push_value(walk, field.value))
            return false;
        lua_rawset(L, -3);
    }
    return true;
}

bool push_array(walk &walk, const dom::array &array) {
    lua_State *L = walk.L;
    lua_createtable(L, (int)array.size(), 0);
    int index = 0;
    for (const dom::element element : array) {
        if (!push_value(walk, element))
            return false;
        lua_rawseti(L, -2, ++index);
    }
    return true;
}

// An integer has lost the sign of -0. The text is searched once, and only if there is a 0.
bool may_be_negative_zero(walk &walk, int64_t value) {
    if (value == 0 && !walk.has_looked_for_negative_zero) {
        walk.has_looked_for_negative_zero = true;
        walk.has_negative_zero = walk.text.find("-0") != std::string_view::npos;
    }
    return value == 0 && walk.has_negative_zero;
}

bool push_value(walk &walk, const dom::element &element) {
    lua_State *L = walk.L;
    if (!lua_checkstack(L, STACK_SLOTS))
        return false;
    switch (element.type()) {
    case dom::element_type::OBJECT:
        return push_object(walk, element.get_object().value_unsafe());
    case dom::element_type::ARRAY:
        return push_array(walk, element.get_array().value_unsafe());
    case dom::element_type::STRING: {
        const std::string_view string = element.get_string().value_unsafe();
        lua_pushlstring(L, string.data(), string.size());
        return true;
    }
    case dom::element_type::INT64: {
        const int64_t value = element.get_int64().value_unsafe();
        lua_pushnumber(L, (lua_Number)value);
        return !may_be_negative_zero(walk, value);
    }
    case dom::element_type::UINT64:
        lua_pushnumber(L, (lua_Number)element.get_uint64().value_unsafe());
        return true;
    case dom::element_type::DOUBLE:
        lua_pushnumber(L, element.get_double().value_unsafe());
        return true;
    case dom::element_type::BOOL:
        lua_pushboolean(L, element.get_bool().value_unsafe());
        return true;
    case dom::element_type::NULL_VALUE:
        lua_pushlightuserdata(L, nullptr);
        return true;
    }
    return false;
}

} // namespace

struct shove_json {
    dom::parser parser;
};

struct shove_json *shove_json_new(void) {
    shove_json *json = new (std::nothrow) shove_json;
    if (json != nullptr && json->parser.allocate(KEEP_BYTES, DEPTH_MAX) != simdjson::SUCCESS) {
        delete json;
        return nullptr;
    }
    return json;
}

void shove_json_free(struct shove_json *json) {
    delete json;
}

bool shove_json_push(struct shove_json *json, lua_State *L, const char *text, size_t size) {
    if (size > KEEP_BYTES)
        return false;
    dom::element root;
    // It copies the text first, because it reads beyond the end.
    if (json->parser.parse(text, size, true).get(root) != simdjson::SUCCESS)
        return false;
    const int top = lua_gettop(L);
    walk walk = {L, {text, size}, false, false};
    if (push_value(walk, root))
        return true;
    lua_settop(L, top);
    return false;
}
