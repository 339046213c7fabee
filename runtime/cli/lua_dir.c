/* lua_dir.c: where shove's own Lua modules are. Cli.
 *
 * $SHOVE_LUA_DIR is taken at its word: when it is set and wrong, that is the error, not a silent
 * fall-back to other modules.
 */
#include "cli/lua_dir.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

static const char *const candidates[] = {"../share/shove/lua", "../lua", "../../lua"};

static bool holds_modules(const char *folder) {
    char file[3 * PATH_MAX];
    snprintf(file, sizeof file, "%s/shove/init.lua", folder);
    return access(file, R_OK) == 0;
}

/* The folder the program is in. */
static int program_folder(char out[PATH_MAX]) {
    size_t size = PATH_MAX;
    if (uv_exepath(out, &size) != 0)
        return SHOVE_ECONFIG;
    char *slash = strrchr(out, '/');
    if (slash == NULL)
        return SHOVE_ECONFIG;
    *slash = '\0';
    return 0;
}

int shove_lua_dir_find(char out[PATH_MAX], struct shove_error *error) {
    const char *given = getenv("SHOVE_LUA_DIR");
    if (given != NULL && given[0] != '\0') {
        if (!holds_modules(given) || realpath(given, out) == NULL)
            return shove_error_set(error, SHOVE_ECONFIG,
                                   "SHOVE_LUA_DIR is '%s', which holds no shove/init.lua: set it "
                                   "to the folder of shove's Lua modules, or unset it",
                                   given);
        return 0;
    }
    char program[PATH_MAX] = "";
    if (program_folder(program) != 0)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "cannot tell where the program is (is /proc mounted?): set "
                               "SHOVE_LUA_DIR to the folder of shove's Lua modules");
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        char folder[2 * PATH_MAX];
        snprintf(folder, sizeof folder, "%s/%s", program, candidates[i]);
        if (holds_modules(folder) && realpath(folder, out) != NULL)
            return 0;
    }
    /* A package manager may have moved the program away from its prefix: LuaRocks does. */
    if (holds_modules(SHOVE_INSTALLED_LUA_DIR) && realpath(SHOVE_INSTALLED_LUA_DIR, out) != NULL)
        return 0;
    return shove_error_set(
        error, SHOVE_ECONFIG,
        "shove's Lua modules were not found in %s, %s or %s of %s: install them, "
        "or set SHOVE_LUA_DIR to the folder that holds shove/init.lua",
        candidates[0], candidates[1], candidates[2], program);
}
