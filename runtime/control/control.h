/* control.h: entry of the control process, `shove run`. Called by cli/run_command.c. */
#ifndef SHOVE_CONTROL_CONTROL_H
#define SHOVE_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/listen_address.h"

/* Unless another is given, of at most so many characters. */
#define SHOVE_METRICS_PREFIX "shove_"
#define SHOVE_METRICS_PREFIX_MAX 64

struct shove_run_options {       /* borrowed until shove_control_run returns */
    const char *script;          /* as the user gave it */
    const char *broker;          /* --broker; NULL: what the script says */
    const char *lua_dir;         /* folder that holds shove/init.lua */
    bool watches;                /* reload when one of the app's files changes */
    bool logs_keys;              /* as they are, not by a checksum */
    uint32_t workers;            /* 0: one per core */
    int64_t drain_ms;            /* how long the first signal waits for what is in flight */
    int64_t connect_timeout_ms;  /* bound on reaching the broker at start-up */
    int64_t load_timeout_ms;     /* bound on loading the script */
    int64_t worker_memory_bytes; /* 0: no limit */
    const struct shove_listen_address *listen; /* of /metrics and its like; NULL: nowhere */
    const char *metrics_prefix;
};

/* Blocks until everything has ended; returns the process's exit code: 0, 1, 2, 3 (core/tally.h),
 * 69, 78. */
int shove_control_run(const struct shove_run_options *options);

#endif
