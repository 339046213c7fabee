/* isolation.c: see isolation.h. Control only, loop's thread. Suspicions are not kept across a
 * restart: the crashes that follow from them are. */
#include "control/isolation.h"

#include "control/pool.h"

static bool can_hold(const struct shove_flow *flow, const struct shove_worker *worker) {
    return worker->state == SHOVE_WORKER_READY && !worker->is_condemned &&
           flow->capacity[worker->index] > 0;
}

/* Whether a process that ends is followed by another, as far as is known: a script that could not
 * be reloaded cannot be loaded either, and while one is reloaded it may be another one already. */
static bool can_renew(const struct shove_control *control) {
    const struct shove_reload *reload = &control->reload;
    if (reload->has_failed || reload->is_loading || reload->is_wanted)
        return false;
    for (uint32_t i = 0; i < control->set_size; i++) {
        if (shove_pool_worker(control, control->set, i)->has_failed_to_start)
            return false;
    }
    return true;
}

/* A process ends now, or loads: a fresh one is about to be there. */
static bool is_one_coming(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->set_size; i++) {
        const struct shove_worker *worker = shove_pool_worker(control, control->set, i);
        if (worker->is_condemned || (worker->state != SHOVE_WORKER_READY && worker->in_flight == 0))
            return true;
    }
    return false;
}

/* What was only near when one died may run in an emptied process first: there may be hundreds of
 * those, and a process for each takes its time. */
static bool needs_fresh(const struct shove_flow *flow) {
    const struct shove_delivery *first = flow->suspects.first;
    return first && (first->crashes >= SHOVE_ISOLATION_AFTER || first->needs_fresh);
}

/* Fresh, or as good as it gets: app:on_start would begin again elsewhere. */
static bool may_be_cell(const struct shove_flow *flow, const struct shove_worker *worker) {
    return !needs_fresh(flow) || !worker->has_handled || worker->runs_start ||
           !can_renew(worker->control);
}

/* One that could be made a cell; `is_fresh`: that is one. The same as long as the suspect waits, so
 * that it does become empty. From the end: app:on_start runs in one of the first. */
static struct shove_worker *find(const struct shove_flow *flow, bool is_fresh) {
    struct shove_control *control = flow->control;
    for (uint32_t w = control->worker_count; w > 0; w--) {
        struct shove_worker *worker = &control->workers[w - 1];
        if (can_hold(flow, worker) && !worker->has_suspect && !(is_fresh && worker->has_handled))
            return worker;
    }
    return NULL;
}

/* False: none can be. */
static bool reserve_for(const struct shove_flow *flow) {
    struct shove_worker *worker = find(flow, true);
    if (!worker && needs_fresh(flow) && is_one_coming(flow->control) && can_renew(flow->control))
        return true;
    if (!worker)
        worker = find(flow, false);
    if (!worker)
        return false;
    worker->is_reserved = true;
    if (worker->in_flight == 0 && !may_be_cell(flow, worker))
        shove_pool_renew(worker);
    return true;
}

/* Those that have a suspect stay reserved. Returns whether there are any. */
static bool keep_busy(struct shove_control *control) {
    bool is_busy = false;
    for (uint32_t w = 0; w < control->worker_count; w++) {
        struct shove_worker *worker = &control->workers[w];
        worker->is_reserved = worker->has_suspect;
        is_busy |= worker->has_suspect;
    }
    return is_busy;
}

/* The only worker serves everybody for as long as it was kept for the last suspect. */
static void rest(struct shove_control *control) {
    struct shove_isolation *isolation = &control->isolation;
    const int64_t kept_ms = control->now_ms - isolation->since_ms;
    if (isolation->since_ms != 0 && shove_pool_ready_count(control) <= 1)
        isolation->rest_until_ms = control->now_ms + kept_ms;
    isolation->since_ms = 0;
}

/* One flow after the other has its turn. */
static bool reserve_next(struct shove_control *control) {
    struct shove_isolation *isolation = &control->isolation;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const uint32_t index = (isolation->turn + i) % control->flow_count;
        const struct shove_flow *flow = &control->flows[index];
        if (flow->suspects.first && !flow->is_paused && !flow->is_removed && reserve_for(flow)) {
            isolation->turn = index;
            return true;
        }
    }
    return false;
}

void shove_isolation_reserve(struct shove_control *control) {
    struct shove_isolation *isolation = &control->isolation;
    if (keep_busy(control)) {
        isolation->is_used = true;
        return;
    }
    if (isolation->is_used) {
        isolation->is_used = false;
        isolation->turn++;
        rest(control);
    }
    if (control->phase != SHOVE_PHASE_RUNNING || control->now_ms < isolation->rest_until_ms)
        return;
    if (!reserve_next(control))
        isolation->since_ms = 0;
    else if (isolation->since_ms == 0)
        isolation->since_ms = control->now_ms;
}

struct shove_worker *shove_isolation_cell(const struct shove_flow *flow) {
    struct shove_control *control = flow->control;
    for (uint32_t w = 0; w < control->worker_count; w++) {
        struct shove_worker *worker = &control->workers[w];
        if (worker->is_reserved && worker->in_flight == 0 && can_hold(flow, worker) &&
            may_be_cell(flow, worker))
            return worker;
    }
    return NULL;
}

struct shove_delivery *shove_isolation_judge(struct shove_worker *worker) {
    uint32_t left = worker->in_flight;
    for (uint32_t slot = 0; slot < worker->control->slot_count && left > 0; slot++) {
        struct shove_delivery *delivery = worker->slots[slot];
        if (!delivery)
            continue;
        left--;
        if (worker->in_flight == 1 && shove_is_suspect(delivery)) {
            if (worker->was_fresh || delivery->needs_fresh)
                return delivery;
            delivery->needs_fresh = true; /* it may be what others left behind */
            return NULL;
        }
        if (delivery->suspicions < UINT8_MAX)
            delivery->suspicions++;
    }
    return NULL;
}
