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

static bool cools_down(const struct shove_autoscale *autoscale,
                       const struct shove_autoscale_rule *rule, int64_t now_ms) {
    return autoscale->has_changed && now_ms - autoscale->changed_ms < rule->cooldown_ms;
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
    return cools_down(autoscale, rule, now_ms) ? SHOVE_SCALE_NONE : leaning;
}

bool shove_advice_decides(const struct shove_advice *advice) {
    return advice->kind >= SHOVE_ADVICE_STAY && advice->kind <= SHOVE_ADVICE_COUNT;
}

uint32_t shove_autoscale_heed(const struct shove_autoscale *autoscale,
                              const struct shove_autoscale_rule *rule,
                              const struct shove_advice *advice,
                              const struct shove_consumers *consumers, int64_t now_ms) {
    int64_t wanted = consumers->now;
    if (advice->kind == SHOVE_ADVICE_STAY || cools_down(autoscale, rule, now_ms))
        return consumers->now;
    if (advice->kind == SHOVE_ADVICE_COUNT)
        wanted = advice->consumers;
    else
        wanted += advice->kind == SHOVE_ADVICE_UP ? 1 : -1;
    if (wanted < consumers->min)
        return consumers->min;
    return wanted > consumers->max ? consumers->max : (uint32_t)wanted;
}

void shove_autoscale_changed(struct shove_autoscale *autoscale, int64_t now_ms) {
    autoscale->has_changed = true;
    autoscale->changed_ms = now_ms;
    autoscale->leaning = SHOVE_SCALE_NONE;
}
