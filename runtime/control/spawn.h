/* spawn.h: starting one worker process. Control and cli, on the loop's thread.
 *
 * The worker is this program again (`shove worker ...`), in a session of its own: Ctrl-C and a
 * signal to the foreground group are for control, which decides what becomes of workers. It dies
 * with the process that started it (`--parent`). Its channel is at descriptors 3 to 6.
 */
#ifndef SHOVE_CONTROL_SPAWN_H
#define SHOVE_CONTROL_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "ipc/channel.h"

struct shove_child;

/* The process has ended: `status` is its exit code, `signal` what killed it (0: it exited). The
 * child holds no handle any more and may be freed here. */
typedef void shove_child_exited(struct shove_child *child, int64_t status, int signal);

struct shove_child {       /* the caller's memory, until `exited` was called */
    uv_process_t *process; /* NULL once it has ended */
    int pid;
    int64_t status;
    int signal;
    shove_child_exited *exited;
    void *user; /* the caller's; not touched here */
};

struct shove_spawn_options { /* borrowed for the call */
    const char *script;
    const char *lua_dir;
    const char *broker; /* --broker; NULL: what the script says */
    struct shove_channel *channel;
    uint32_t index;
    int64_t memory_limit_bytes; /* 0: none */
    bool runs_check;            /* app:on_check, once it is loaded */
    bool is_measuring;          /* tell how long each handler took */
    bool is_describe_only;      /* load, describe, exit */
    const char *keys_topic; /* SHOVE_SUBMIT_KEYS will ask for keys of this one; NULL: it will not.
                               As with is_describe_only, what the script prints goes to standard
                               error */
};

/* Starts it. 0, or SHOVE_EIO / SHOVE_ENOMEM and `exited` is not called. */
int shove_spawn_worker(uv_loop_t *loop, const struct shove_spawn_options *options,
                       struct shove_child *child, shove_child_exited *exited,
                       struct shove_error *error);

/* SIGKILL to it and to what its script has started (a program that os.execute waits for); nothing
 * when it has ended already. `exited` follows. */
void shove_child_kill(struct shove_child *child);

/* How it ended, in words: "exit code 1", "signal 9 (Killed)". */
void shove_child_describe_end(const struct shove_child *child, char *out, size_t size);

#endif
