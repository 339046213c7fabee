/* memory.c: see memory.h. Worker only.
 *
 * RLIMIT_DATA makes an allocation fail, and LuaJIT raises "not enough memory" in the handler that
 * asked; the message is settled as an error. But LuaJIT's collector needs memory itself when it
 * shrinks the table of strings, at the end of a cycle, before the next one may free anything: out
 * of memory, it can never get out again. So the soft limit is the limit, the hard one is higher,
 * and a collection is run under the hard one. It calls a function made beforehand, because making
 * one allocates too.
 *
 * What the script keeps is not garbage. When that leaves too little, every message would fail from
 * then on that needs more than a little memory, whatever its handler: the process is spent, and a
 * new one begins with nothing kept.
 */
#include "worker/memory.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"

#define RESERVE_BYTES ((rlim_t)64 * 1024 * 1024)
#define LEFT_AT_LEAST 4 /* a quarter of the limit */
#define PARTS 32

/* A sanitizer's shadow is terabytes of memory that counts. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool can_limit = false;
#else
static const bool can_limit = true;
#endif

void shove_memory_limit(int64_t limit_bytes) {
    if (limit_bytes <= 0 || !can_limit) {
        return;
    }
    struct rlimit limit = {.rlim_cur = (rlim_t)limit_bytes,
                           .rlim_max = (rlim_t)limit_bytes + RESERVE_BYTES};
    if (setrlimit(RLIMIT_DATA, &limit) != 0) {
        shove_log(SHOVE_LOG_WARN, "the limit on a worker's memory cannot be set: %s",
                  strerror(errno));
    }
}

static int collect(lua_State *L) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
}

void shove_memory_prepare(lua_State *L, struct shove_host *host) {
    lua_pushcfunction(L, collect);
    host->collect_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void collect_protected(struct shove_host *host) {
    lua_rawgeti(host->L, LUA_REGISTRYINDEX, host->collect_ref);
    if (lua_pcall(host->L, 0, 0, 0) != 0) {
        lua_pop(host->L, 1);
    }
}

/* Asks Lua's own allocator, which has freed space of its own beside what the system would give; in
 * parts, because that space is not in one piece. */
static bool can_have(lua_State *L, size_t size_bytes) {
    void *parts[PARTS];
    void *ctx;
    lua_Alloc allocate = lua_getallocf(L, &ctx);
    int count = 0;
    while (count < PARTS && (parts[count] = allocate(ctx, NULL, 0, size_bytes / PARTS)) != NULL) {
        count++;
    }
    for (int i = 0; i < count; i++) {
        allocate(ctx, parts[i], size_bytes / PARTS, 0);
    }
    return count == PARTS;
}

void shove_memory_recover(struct shove_host *host) {
    struct rlimit normal;
    host->is_out_of_memory = false;
    if (getrlimit(RLIMIT_DATA, &normal) != 0 || normal.rlim_cur == normal.rlim_max) {
        collect_protected(host);
        return;
    }
    struct rlimit raised = {.rlim_cur = normal.rlim_max, .rlim_max = normal.rlim_max};
    setrlimit(RLIMIT_DATA, &raised);
    collect_protected(host);
    setrlimit(RLIMIT_DATA, &normal);
    host->is_spent = !can_have(host->L, (size_t)normal.rlim_cur / LEFT_AT_LEAST);
}
