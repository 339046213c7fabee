/* memory.c: see memory.h. Worker only.
 *
 * RLIMIT_DATA makes an allocation fail, and LuaJIT raises "not enough memory" in the handler that
 * asked; the message is settled as an error. But LuaJIT's collector needs memory itself when it
 * shrinks the table of strings, at the end of a cycle, before the next one may free anything: out
 * of memory, it can never get out again. So the soft limit is the limit, the hard one is higher,
 * and a collection is run under the hard one. It calls a function made beforehand, because making
 * one allocates too.
 *
 * What the script keeps is not garbage. When that leaves too little, messages would fail from then
 * on, whatever their handlers: the process is spent. It takes nothing new, finishes what it has,
 * and a fresh one takes its place; so a script that leaks runs on, and no message notices. Whether
 * it is spent is asked when an allocation has failed, and before that, when much of the limit is in
 * use. Where there is not even enough to finish, the process is exhausted and ends at once.
 */
#include "worker/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define RESERVE_BYTES ((rlim_t)64 * 1024 * 1024)
#define PARTS 32

/* Parts of the limit that must be there to be had: for other messages, and for those that run. */
#define SPENT_BELOW 4
#define EXHAUSTED_BELOW 16

/* A look costs microseconds. It is due by time, because Lua does not know of memory that libraries
 * take, and when Lua's has grown by a part of the limit. One that collects may cost a second: all
 * of them together take a tenth of the time. */
#define LOOK_MS 100
#define LOOK_GROWTH 64
#define COLLECTING_PART 10

/* A sanitizer's shadow is terabytes of memory that counts. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool can_limit = false;
#else
static const bool can_limit = true;
#endif

static bool has_limit(const struct shove_host *host) {
    return can_limit && host->options->memory_limit_bytes > 0;
}

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

/* What counts against the limit; 0: the system does not say. Opened each time: a script may close
 * any descriptor. statm has the stack in it. */
static int64_t data_bytes(void) {
    static const char name[] = "\nVmData:";
    char text[4096];
    const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    const ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoll(at + sizeof name - 1, NULL, 10) << 10; /* it says kB */
}

static void mib(char out[static 24], int64_t size_bytes) {
    snprintf(out, 24, "%" PRId64 " MiB", size_bytes >> 20);
}

/* To the hard limit. False: it is there. */
static bool raise_limit(struct rlimit *normal) {
    if (getrlimit(RLIMIT_DATA, normal) != 0 || normal->rlim_cur == normal->rlim_max) {
        return false;
    }
    struct rlimit raised = {.rlim_cur = normal->rlim_max, .rlim_max = normal->rlim_max};
    return setrlimit(RLIMIT_DATA, &raised) == 0;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* In place of libc's, for LuaJIT: it makes its machine code writable to add to it, and where it may
 * not, it ends the process. What is writable counts against the limit. */
// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are reserved
int mprotect(void *address, size_t size, int protection) {
    struct rlimit normal;
    if (syscall(SYS_mprotect, address, size, protection) == 0) {
        return 0;
    }
    if (errno != ENOMEM || !raise_limit(&normal)) {
        return -1;
    }
    const int rc = (int)syscall(SYS_mprotect, address, size, protection);
    const int code = errno;
    setrlimit(RLIMIT_DATA, &normal);
    errno = code;
    return rc;
}
#endif

static void judge(struct shove_host *host) {
    struct rlimit normal;
    if (!raise_limit(&normal)) {
        collect_protected(host);
        return;
    }
    collect_protected(host);
    setrlimit(RLIMIT_DATA, &normal);
    host->is_spent = host->is_spent || !can_have(host->L, (size_t)normal.rlim_cur / SPENT_BELOW);
    host->is_exhausted =
        host->is_exhausted || !can_have(host->L, (size_t)normal.rlim_cur / EXHAUSTED_BELOW);
}

static void tell(const struct shove_host *host) {
    char in_use[24];
    char of_lua[24];
    char limit[24];
    mib(in_use, data_bytes());
    mib(of_lua, (int64_t)lua_gc(host->L, LUA_GCCOUNT, 0) << 10);
    mib(limit, host->options->memory_limit_bytes);
    shove_log_fields(host->is_exhausted ? SHOVE_LOG_ERROR : SHOVE_LOG_WARN,
                     host->is_exhausted
                         ? "a worker's memory is used up: this process ends at once, and its "
                           "messages go to another"
                         : "what the script keeps leaves less than a quarter of a worker's memory: "
                           "this process finishes what it has and makes way for a new one (does a "
                           "table only grow? or raise --worker-memory)",
                     "in use", in_use, "in Lua", of_lua, "limit", limit, NULL);
}

static void judge_and_tell(struct shove_host *host) {
    const bool was_spent = host->is_spent;
    const bool was_exhausted = host->is_exhausted;
    judge(host);
    if (host->is_spent != was_spent || host->is_exhausted != was_exhausted)
        tell(host);
}

void shove_memory_note_error(struct shove_host *host, const char *text) {
    host->is_out_of_memory |= text != NULL && strstr(text, "not enough memory") != NULL;
}

void shove_memory_recover(struct shove_host *host) {
    host->is_out_of_memory = false;
    judge_and_tell(host);
}

static bool uses_much(const struct shove_host *host) {
    const int64_t limit_bytes = host->options->memory_limit_bytes;
    return data_bytes() >= limit_bytes - limit_bytes / SPENT_BELOW;
}

bool shove_memory_is_enough(struct shove_host *host) {
    if (has_limit(host) && uses_much(host))
        judge(host);
    return !host->is_spent;
}

static bool is_due(struct shove_host *host) {
    const int in_lua_kib = lua_gc(host->L, LUA_GCCOUNT, 0);
    if (host->now_mono_ms < host->look_ms && in_lua_kib < host->look_kib)
        return false;
    host->look_ms = host->now_mono_ms + LOOK_MS;
    host->look_kib = in_lua_kib + (int)(host->options->memory_limit_bytes / LOOK_GROWTH >> 10);
    return host->now_mono_ms >= host->collect_ms;
}

void shove_memory_watch(struct shove_host *host) {
    if (!has_limit(host) || host->is_spent || !is_due(host) || !uses_much(host))
        return;
    const int64_t begun_ms = shove_clock_mono_ms();
    judge_and_tell(host);
    const int64_t ended_ms = shove_clock_mono_ms();
    host->collect_ms = ended_ms + (ended_ms - begun_ms) * COLLECTING_PART;
}
