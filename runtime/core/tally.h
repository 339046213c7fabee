/* tally.h: what happened so far, and the exit code that follows from it. Pure; control only. */
#ifndef SHOVE_CORE_TALLY_H
#define SHOVE_CORE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/outcome.h"

struct shove_tally {                         /* per group */
    uint64_t consumed[SHOVE_OUTCOME_COUNT_]; /* settled messages by outcome */
    uint64_t failed[SHOVE_REASON_COUNT_];    /* discards, and acknowledged dead letters */
    uint64_t done;                           /* acked, and timeouts that count as acked */
    uint64_t delayed;                        /* waits in a hold, acknowledged, or in place */
    uint64_t dead;                           /* acknowledged dead letters */
    uint64_t discarded;                      /* gone: no DLQ has a copy */
    bool is_failed;                          /* the consumer stopped with an error */
};

/* X(code, text): why worker processes died, as in the metric label. */
#define SHOVE_DEATH_TABLE(X)                                                                       \
    X(SHOVE_DEATH_EXIT, "exit")                                                                    \
    X(SHOVE_DEATH_SIGNAL, "signal")                                                                \
    X(SHOVE_DEATH_MEMORY, "memory")             /* replaced: the script leaves too little */       \
    X(SHOVE_DEATH_TIMEOUT, "timeout")           /* killed: a handler did not yield */              \
    X(SHOVE_DEATH_UNRESPONSIVE, "unresponsive") /* killed: it did not answer, or not load */       \
    X(SHOVE_DEATH_MISBEHAVED, "misbehaved")     /* killed: it said what cannot be */               \
    X(SHOVE_DEATH_CHANGED, "script_changed")    /* killed: it loaded another script */
#define SHOVE_DEATH_ENUM(code, text) code,
enum shove_death { SHOVE_DEATH_TABLE(SHOVE_DEATH_ENUM) SHOVE_DEATH_COUNT_ };
#undef SHOVE_DEATH_ENUM
const char *shove_death_name(enum shove_death death);

struct shove_verdict { /* of a whole run */
    bool has_drain_timeout;
    uint32_t worker_deaths;
    uint32_t failed_groups;
    bool has_no_workers;    /* none could be started when it ended */
    bool has_failed_commit; /* the last commit did not succeed: counts as a consumer error */
};

/* 3 drain timeout > 2 worker death > 1 consumer error > 0. */
int shove_verdict_exit_code(const struct shove_verdict *verdict);

/* Process exit codes outside a run's verdict (sysexits(3)). */
#define SHOVE_EXIT_USAGE 64
#define SHOVE_EXIT_UNAVAILABLE 69
#define SHOVE_EXIT_CONFIG 78

#endif
