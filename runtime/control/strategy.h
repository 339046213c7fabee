/* strategy.h: the autoscaler's `strategy`, a function of the script, asked at each poll. Control
 * only, loop's thread.
 *
 * One ready worker is asked about all groups at once; it calls the strategy for each of them and
 * gives an advice for each. A group without an advice, be it that the strategy said nothing,
 * raised, made no sense, took longer than SHOVE_STRATEGY_LIMIT_MS or that its worker died, is
 * decided by the rule. Control waits for none of it: until the end of a consultation polls pass.
 *
 * It runs as app:on_start does, as a coroutine beside the messages. One that waits too long is
 * cancelled; one that never yields is killed with its process, which is never laid to a message,
 * and is then not asked for SHOVE_STRATEGY_REST_MS.
 */
#ifndef SHOVE_CONTROL_STRATEGY_H
#define SHOVE_CONTROL_STRATEGY_H

#include "control/state.h"

#define SHOVE_STRATEGY_LIMIT_MS 1000
#define SHOVE_STRATEGY_REST_MS 60000

/* Whether there is one, and it does not rest. */
bool shove_strategy_is_due(const struct shove_control *control);

/* Asks about the groups that are marked with `awaits_advice`. Where no worker can be asked now, the
 * rule decides for them at once. */
void shove_strategy_ask(struct shove_control *control);

static inline bool shove_strategy_is_asked(const struct shove_control *control) {
    return control->strategy.worker != NULL;
}

/* A NOTE_ADVICE. 0, also when nobody waits for it any more; SHOVE_ECORRUPT when it is malformed. */
int shove_strategy_advice(struct shove_worker *worker, const struct shove_note *note,
                          const uint8_t *payload);

/* A NOTE_ADVISED: the strategy has ended there; without a text, or with what went wrong. */
void shove_strategy_ended(struct shove_worker *worker, const struct shove_note *note,
                          const uint8_t *payload);

/* Ends a consultation that takes too long. Called a few times a second. */
void shove_strategy_watch(struct shove_control *control);

/* Whether the strategy is on the CPU there: the worker's word, held against what it was given. */
bool shove_strategy_runs_in(const struct shove_worker *worker);

/* The worker is dead; `was_running`: by the strategy's doing, as far as is known. */
void shove_strategy_lost(struct shove_worker *worker, bool was_running);

#endif
