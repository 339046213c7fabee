/* lua_dir.h: where shove's own Lua modules are. Cli; worker processes are told by --lua-dir. */
#ifndef SHOVE_CLI_LUA_DIR_H
#define SHOVE_CLI_LUA_DIR_H

#include <limits.h>

#include "base/error.h"

/* The folder that holds shove/init.lua: $SHOVE_LUA_DIR, else relative to the program
 * ../share/shove/lua (installed), ../lua (build/shove), ../../lua (build/dev/shove). 0, or
 * SHOVE_ECONFIG with where it looked. */
int shove_lua_dir_find(char out[PATH_MAX], struct shove_error *error);

#endif
