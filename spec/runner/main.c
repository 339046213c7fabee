/*
 * spec_runner: busted inside a process that holds all of shove's C code.
 *
 *     build/dev/spec_runner [busted's options] spec/unit
 *
 * Run it from the root of the source tree. Everything under runtime/ except cli/ and main.c is
 * linked in whole and exported, so a spec declares a function with ffi.cdef and calls it through
 * ffi.C, under any preset, the sanitizers included. `require "luv"` is the luv the worker uses, on
 * a loop of its own; functional specs drive programs with it. Arguments go to busted as they are;
 * the exit code is busted's.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <luv/luv.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* The source tree's modules go before whatever shove the machine has installed. */
static const char start_busted[] =
    "package.path = './?.lua;./lua/?.lua;./lua/?/init.lua;' .. package.path\n"
    "require 'busted.runner' { standalone = false }\n";

static void set_arguments(lua_State *L, int argc, char **argv) {
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
}

static void preload_luv(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_luv);
    lua_setfield(L, -2, "luv");
    lua_pop(L, 2);
}

/* Runs as a message handler: the state is about to be lost, the traceback must not be. */
static int add_traceback(lua_State *L) {
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

int main(int argc, char **argv) {
    /* Writing to a program under test that has died is an error to look at, not the end. */
    signal(SIGPIPE, SIG_IGN);
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fprintf(stderr, "spec_runner: not enough memory for a Lua state\n");
        return EXIT_FAILURE;
    }
    luaL_openlibs(L);
    set_arguments(L, argc, argv);
    preload_luv(L);

    lua_pushcfunction(L, add_traceback);
    int status = luaL_loadbuffer(L, start_busted, sizeof start_busted - 1, "=spec_runner");
    if (status == 0) {
        status = lua_pcall(L, 0, 0, -2);
    }
    if (status != 0) {
        fprintf(stderr, "spec_runner: %s\n", lua_tostring(L, -1));
    }
    lua_close(L);
    return status == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
