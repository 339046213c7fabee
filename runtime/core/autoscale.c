/* autoscale.c: see autoscale.h. Pure. */
#include "core/autoscale.h"

static enum shove_scale leaning_of(const struct shove_autoscale_rule *rule,
                                   const struct shove_autoscale_reading *reading) {
    const double ready = (double)reading->ready;
    const double capacity = (double)reading->capacity;
    if (ready > capacity * rule->up)
        return SHOVE_SCALE_UP;
    return ready < capacity * rule->down ? SHOVE_SCALE_DOWN : SHOVE_SCALE_NONE;
}

enum shove_scale shove_autoscale_decide(struct shove_autoscale *autoscale,
                                        const struct shove_autoscale_rule *rule,
                                        const struct shove_autoscale_reading *reading,
                                        int64_t now_ms) {
    const enum shove_scale leaning = leaning_of(rule, reading);
    if (leaning != autoscale->leaning) {
        autoscale->leaning = leaning;
        autoscale->leaning_since_ms = now_ms;
    }
    if (now_ms - autoscale->leaning_since_ms < rule->hysteresis_ms)
        return SHOVE_SCALE_NONE;
    if (autoscale->has_changed && now_ms - autoscale->changed_ms < rule->cooldown_ms)
        return SHOVE_SCALE_NONE;
    return leaning;
}

void shove_autoscale_changed(struct shove_autoscale *autoscale, int64_t now_ms) {
    autoscale->has_changed = true;
    autoscale->changed_ms = now_ms;
    autoscale->leaning = SHOVE_SCALE_NONE;
}
