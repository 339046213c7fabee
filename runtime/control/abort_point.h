/* abort_point.h: places where a crash spec can have control killed: the steps of a message's life
 * (runtime/README.md), by their numbers there; and one of a poisoned key.
 *
 * Compiled in only with SHOVE_ABORT_POINTS (presets dev, asan, tsan). The environment variable
 * SHOVE_ABORT_AT=STEP:COUNT makes control SIGKILL itself when it passes STEP for the COUNT-th time;
 * no unwinding, no flush, as if the machine's power had gone for this process. With
 * SHOVE_ABORT_AT=STEP:COUNT:OUTCOMES the count begins when so many outcomes have come back.
 */
#ifndef SHOVE_CONTROL_ABORT_POINT_H
#define SHOVE_CONTROL_ABORT_POINT_H

#include <stdint.h>

enum shove_step {
    SHOVE_STEP_TAKEN = 1,     /* a record came out of its partition's queue */
    SHOVE_STEP_OPENED,        /* its ledger slot is open */
    SHOVE_STEP_SUBMITTED,     /* it is in a worker's arena and in the submit ring */
    SHOVE_STEP_DECIDED,       /* the outcome came back and the next hop is decided */
    SHOVE_STEP_HELD,          /* produced to a hold topic, not yet acknowledged */
    SHOVE_STEP_DEAD_LETTERED, /* produced to the DLQ, not yet acknowledged */
    SHOVE_STEP_CLOSED,        /* the hop is acknowledged and the slot closed, nothing committed */
    SHOVE_STEP_COMMITTED,     /* the commit was sent */
    SHOVE_STEP_POISONED       /* a key's poison was produced, not yet acknowledged */
};

/* And one place where it can be held up, between reading the clocks of a round and the round's
 * work: SHOVE_STALL=EVERY:MS stops control for MS milliseconds in each EVERY-th round, as a busy
 * machine might.
 *
 * And one time that passes faster: SHOVE_HURRY=MS has `ms` milliseconds count as `limit_ms` when it
 * is MS or more. */
#ifdef SHOVE_ABORT_POINTS
void shove_abort_point(enum shove_step step);
void shove_stall_point(void);
int64_t shove_hurried_ms(int64_t ms, int64_t limit_ms);
#else
static inline int64_t shove_hurried_ms(int64_t ms, int64_t limit_ms) {
    (void)limit_ms;
    return ms;
}
static inline void shove_stall_point(void) {
}
static inline void shove_abort_point(enum shove_step step) {
    (void)step;
}
#endif

#endif
