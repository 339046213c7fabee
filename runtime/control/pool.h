/* pool.h: the worker processes: started, listened to, watched, replaced. Control only. */
#ifndef SHOVE_CONTROL_POOL_H
#define SHOVE_CONTROL_POOL_H

#include "control/state.h"

/* Places are in sets of set_size. */
static inline struct shove_worker *shove_pool_worker(const struct shove_control *control,
                                                     uint32_t set, uint32_t i) {
    return &control->workers[set * control->set_size + i];
}

static inline uint32_t shove_pool_set_of(const struct shove_worker *worker) {
    return worker->index / worker->control->set_size;
}

/* Tables of all places, and the processes of the current set; they report when they are ready. */
int shove_pool_start(struct shove_control *control, struct shove_error *error);

/* Handles the notes that are there, a bounded portion of each worker's. */
void shove_pool_round(struct shove_control *control);

/* Kills workers that are stuck and starts those whose time has come. Called by a timer, about twice
 * a second. */
void shove_pool_watch(struct shove_control *control);

/* Before the loop blocks: true when a note is there already. */
bool shove_pool_sleeps(struct shove_control *control);
void shove_pool_wakes(struct shove_control *control);

/* Starts the workers of an empty set; tells of them go to reload.h. On failure some may run. */
int shove_pool_start_set(struct shove_control *control, uint32_t set, struct shove_error *error);
/* They are given nothing more, and exit when they have finished what they have. */
void shove_pool_retire_set(struct shove_control *control, uint32_t set);
void shove_pool_kill_set(struct shove_control *control, uint32_t set);

/* It is given nothing more and told to stop when it has nothing, as one of the code before a
 * reload; another process takes its place. */
void shove_pool_renew(struct shove_worker *worker);
/* Kills one, and says why. */
void shove_pool_condemn(struct shove_worker *worker, enum shove_death death, const char *why);
/* What a worker means by a slot and its generation; NULL: nothing that it has. */
struct shove_delivery *shove_pool_delivery(const struct shove_worker *worker, uint32_t slot,
                                           uint32_t generation);

bool shove_pool_is_ready(const struct shove_control *control); /* all of them */
/* How many take messages, of whatever code. */
uint32_t shove_pool_ready_count(const struct shove_control *control);
bool shove_pool_is_gone(const struct shove_control *control); /* no process is left */

/* Tells all to exit when idle; `kill` ends them at once. */
void shove_pool_stop(struct shove_control *control);
void shove_pool_kill(struct shove_control *control);

/* Memory, when all processes are gone. */
void shove_pool_release(struct shove_control *control);

#endif
