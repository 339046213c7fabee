/* worker.h: entry of the worker process. Worker only; called by cli/worker_command.c. */
#ifndef SHOVE_WORKER_WORKER_H
#define SHOVE_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

struct shove_worker_options {
    const char *script;         /* path as the user gave it */
    const char *lua_dir;        /* folder that holds shove/init.lua */
    int channel_fds[4];         /* see ipc/channel.h */
    uint32_t index;             /* 0.. */
    bool is_describe_only;      /* load, send the description, exit */
    bool runs_check;            /* app:on_check, once it is loaded */
    const char *keys_topic;     /* of this one SHOVE_SUBMIT_KEYS asks; NULL: it does not */
    const char *broker;         /* --broker, overrides the script's; NULL: none */
    int64_t memory_limit_bytes; /* RLIMIT_DATA; 0: none */
    int parent_pid;             /* exit when it is gone */
    bool is_measuring;          /* tell how long each handler took */
};

/* Runs until STOP or the end of control. Returns the process's exit code. */
int shove_worker_main(const struct shove_worker_options *options);

#endif
