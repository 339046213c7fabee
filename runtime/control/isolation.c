/* isolation.c: see isolation.h. Control only, loop's thread. Suspicions are not kept across a
 * restart: the crashes that follow from them are. */
#include "control/isolation.h"

static bool can_hold(const struct shove_flow *flow, const struct shove_worker *worker) {
    return worker->state == SHOVE_WORKER_READY && !worker->is_condemned &&
           flow->capacity[worker->index] > 0;
}

/* The same worker as long as the suspect waits, so that it does become empty. */
static void reserve_for(struct shove_flow *flow) {
    struct shove_control *control = flow->control;
    for (uint32_t w = 0; w < control->worker_count; w++) {
        struct shove_worker *worker = &control->workers[w];
        if (can_hold(flow, worker) && !worker->has_suspect) {
            worker->is_reserved = true;
            return;
        }
    }
}

void shove_isolation_reserve(struct shove_control *control) {
    for (uint32_t w = 0; w < control->worker_count; w++)
        control->workers[w].is_reserved = control->workers[w].has_suspect;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (flow->suspects.first && !flow->is_paused && !flow->is_removed)
            reserve_for(flow);
    }
}

struct shove_worker *shove_isolation_cell(const struct shove_flow *flow) {
    struct shove_control *control = flow->control;
    for (uint32_t w = 0; w < control->worker_count; w++) {
        struct shove_worker *worker = &control->workers[w];
        if (worker->is_reserved && worker->in_flight == 0 && can_hold(flow, worker))
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
        if (worker->in_flight == 1 && shove_is_suspect(delivery))
            return delivery;
        if (delivery->suspicions < UINT8_MAX)
            delivery->suspicions++;
    }
    return NULL;
}
