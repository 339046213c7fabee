/* json.h: a JSON text as a Lua value, fast. Worker only.
 *
 * For what every message does: msg.body with the codec "json". It is not the judge of what JSON is:
 * a text that it will not decide is for lua-cjson (lua/shove/codec.lua), which takes it or says why
 * not. What it does push is what cjson would have.
 */
#ifndef SHOVE_WORKER_JSON_H
#define SHOVE_WORKER_JSON_H

#include <stdbool.h>
#include <stddef.h>

typedef struct lua_State lua_State;
struct shove_json;

/* Gives a parser, to be freed with shove_json_free; NULL without memory. Not for two threads. */
struct shove_json *shove_json_new(void);
void shove_json_free(struct shove_json *json);

/* Borrows `size` bytes of text. True: the value is on the stack of L; objects and arrays are
 * tables, null is a light userdata of NULL (shove.null), every number a double. False: the stack is
 * as before and nothing is said about the text. Raises only "not enough memory". */
bool shove_json_push(struct shove_json *json, lua_State *L, const char *text, size_t size);

#endif
