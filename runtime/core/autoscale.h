/* autoscale.h: whether a group should have one consumer more, or one less. Pure; control only.
 *
 * The rule: more messages are ready than `up` times what the consumers can have in flight, or fewer
 * than `down` times that; for as long as `hysteresis`; and not within `cooldown` of the last
 * change. Two thresholds and a wait on each side keep a backlog that swings about one value from
 * moving consumers to and fro.
 *
 * Where the script has a strategy, that is asked first. What it says needs no hysteresis, as it
 * knows for itself what it has waited for; the cooldown and the group's bounds hold for it, too.
 */
#ifndef SHOVE_CORE_AUTOSCALE_H
#define SHOVE_CORE_AUTOSCALE_H

#include <stdbool.h>
#include <stdint.h>

#define SHOVE_AUTOSCALE_TIMES_MAX 1000000 /* the largest `up` and `down` */

struct shove_autoscale_rule { /* what app:autoscale says; defaults: lua/shove/autoscale.lua */
    int64_t poll_ms;
    double up;   /* of the capacity; above `down` */
    double down; /* of the capacity */
    int64_t hysteresis_ms;
    int64_t cooldown_ms;
    bool has_strategy; /* of the script: runs in a worker (control/strategy.h) */
};

enum shove_scale { SHOVE_SCALE_DOWN = -1, SHOVE_SCALE_NONE = 0, SHOVE_SCALE_UP = 1 };

struct shove_autoscale { /* of one group; zeroed at first */
    enum shove_scale leaning;
    int64_t leaning_since_ms;
    bool has_changed;
    int64_t changed_ms;
};

struct shove_autoscale_reading { /* of one group, now */
    uint64_t ready;              /* messages that a consumer could take, or has */
    uint64_t capacity;           /* messages its consumers can have in flight */
};

/* Call at every poll for which there is a reading, and at no other. `now_ms` never goes back. */
enum shove_scale shove_autoscale_decide(struct shove_autoscale *autoscale,
                                        const struct shove_autoscale_rule *rule,
                                        const struct shove_autoscale_reading *reading,
                                        int64_t now_ms);

/* The decision was carried out. A refused one (the group is at its bound, no consumer is idle) is
 * not told, so no cooldown begins and it is made again at the next poll. */
void shove_autoscale_changed(struct shove_autoscale *autoscale, int64_t now_ms);

enum shove_advice_kind {                    /* what a strategy said of a group */
                         SHOVE_ADVICE_NONE, /* nothing: the rule decides */
                         SHOVE_ADVICE_STAY,
                         SHOVE_ADVICE_UP,
                         SHOVE_ADVICE_DOWN,
                         SHOVE_ADVICE_COUNT, /* so many */
                         SHOVE_ADVICE_FAILED /* it raised, or made no sense: the rule decides */
};

struct shove_advice {
    enum shove_advice_kind kind;
    int64_t consumers; /* COUNT: any number */
};

/* False: the rule does. */
bool shove_advice_decides(const struct shove_advice *advice);

struct shove_consumers { /* of one group; min <= max */
    uint32_t now;
    uint32_t min;
    uint32_t max;
};

/* How many consumers there should be by an advice that decides: `consumers->now` when nothing is to
 * change, else within the bounds. */
uint32_t shove_autoscale_heed(const struct shove_autoscale *autoscale,
                              const struct shove_autoscale_rule *rule,
                              const struct shove_advice *advice,
                              const struct shove_consumers *consumers, int64_t now_ms);

#endif
