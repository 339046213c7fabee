/* strategy.c: see strategy.h. Control only, loop's thread. */
#include "control/strategy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/flow.h"
#include "control/pool.h"
#include "control/scaling.h"

/* ---- who is asked ---- */

static bool can_be_asked(const struct shove_worker *worker) {
    return worker->state == SHOVE_WORKER_READY && !worker->is_condemned && !worker->is_reserved &&
           worker->consultation == 0;
}

/* Of the current code, the one with the least to do; NULL: none. */
static struct shove_worker *choose(const struct shove_control *control) {
    struct shove_worker *chosen = NULL;
    for (uint32_t i = 0; i < control->set_size; i++) {
        struct shove_worker *worker = shove_pool_worker(control, control->set, i);
        if (can_be_asked(worker) && (!chosen || worker->in_flight < chosen->in_flight))
            chosen = worker;
    }
    return chosen;
}

bool shove_strategy_is_due(const struct shove_control *control) {
    return control->topology.autoscale.has_strategy &&
           control->now_ms >= control->strategy.rests_until_ms;
}

/* ---- what went wrong ---- */

static void tell_failure(struct shove_flow *flow, const char *text, size_t size) {
    char what[4096];
    if (!shove_flow_may_log(flow))
        return;
    snprintf(what, sizeof(what), "%.*s", (int)size, text);
    shove_log_fields(
        SHOVE_LOG_WARN, "the strategy of app:autoscale failed: up, down and hysteresis decide",
        "group", flow->group->group_id, "error", what, SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

/* Decides for the groups that wait for an advice still. `text` NULL: nobody is to blame; else it is
 * told once, of the first group. */
static void give_up(struct shove_control *control, const char *text, size_t size) {
    const struct shove_advice none = {.kind = SHOVE_ADVICE_NONE};
    bool is_told = text == NULL;
    control->strategy.worker = NULL;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (!flow->awaits_advice)
            continue;
        flow->awaits_advice = false;
        flow->strategy_failures += text != NULL;
        if (!is_told)
            tell_failure(flow, text, size);
        is_told = true;
        shove_scaling_decide(flow, &none);
    }
}

/* ---- asking ---- */

void shove_strategy_ask(struct shove_control *control) {
    static const char nobody[] = "no worker is there that could be asked";
    struct shove_strategy *strategy = &control->strategy;
    struct shove_worker *worker = choose(control);
    const uint32_t number = strategy->number == UINT32_MAX ? 1 : strategy->number + 1;
    const struct shove_submit entry = {.type = SHOVE_SUBMIT_ADVISE, .generation = number};
    if (!worker || !shove_channel_submit(worker->home->channel, &entry)) {
        give_up(control, nobody, sizeof(nobody) - 1);
        return;
    }
    shove_channel_flush(worker->home->channel);
    worker->consultation = number;
    strategy->worker = worker;
    strategy->number = number;
    strategy->asked_ms = control->now_ms;
}

/* ---- what it says ---- */

static bool is_text(const char *text, const uint8_t *bytes, size_t size) {
    return strlen(text) == size && memcmp(text, bytes, size) == 0;
}

/* The group that waits for an advice, by the worker's words for it and its broker; NULL: none. */
static struct shove_flow *find_flow(struct shove_control *control,
                                    const struct shove_advice_note *head, const uint8_t *names) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (flow->awaits_advice && is_text(flow->group->group_id, names, head->group_size) &&
            is_text(flow->cluster->url, names + head->group_size, head->broker_size))
            return flow;
    }
    return NULL;
}

static bool is_of_now(const struct shove_worker *worker, const struct shove_note *note) {
    const struct shove_strategy *strategy = &worker->control->strategy;
    return strategy->worker == worker && strategy->number == note->generation;
}

int shove_strategy_advice(struct shove_worker *worker, const struct shove_note *note,
                          const uint8_t *payload) {
    struct shove_control *control = worker->control;
    struct shove_advice_note head;
    if (note->size < sizeof(head))
        return SHOVE_ECORRUPT;
    memcpy(&head, payload, sizeof(head));
    const size_t parts_size = note->size - sizeof(head);
    const uint64_t names_size = (uint64_t)head.group_size + head.broker_size;
    if (names_size > parts_size || head.kind > SHOVE_ADVICE_FAILED)
        return SHOVE_ECORRUPT;
    const uint8_t *names = payload + sizeof(head);
    struct shove_flow *flow = is_of_now(worker, note) ? find_flow(control, &head, names) : NULL;
    if (!flow)
        return 0;
    const struct shove_advice advice = {.kind = (enum shove_advice_kind)head.kind,
                                        .consumers = head.consumers};
    flow->awaits_advice = false;
    if (advice.kind == SHOVE_ADVICE_FAILED) {
        flow->strategy_failures++;
        tell_failure(flow, (const char *)names + names_size, parts_size - names_size);
    }
    shove_scaling_decide(flow, &advice);
    return 0;
}

void shove_strategy_ended(struct shove_worker *worker, const struct shove_note *note,
                          const uint8_t *payload) {
    if (worker->consultation == note->generation)
        worker->consultation = 0;
    if (is_of_now(worker, note))
        give_up(worker->control, note->size > 0 ? (const char *)payload : NULL, note->size);
}

/* ---- watching ---- */

void shove_strategy_watch(struct shove_control *control) {
    static const char late[] = "it did not answer within a second";
    struct shove_strategy *strategy = &control->strategy;
    struct shove_worker *worker = strategy->worker;
    if (!worker || control->now_ms - strategy->asked_ms <= SHOVE_STRATEGY_LIMIT_MS)
        return;
    shove_channel_submit(worker->home->channel,
                         &(struct shove_submit){.type = SHOVE_SUBMIT_CANCEL,
                                                .slot = SHOVE_STRATEGY_SLOT,
                                                .generation = strategy->number});
    shove_channel_flush(worker->home->channel);
    give_up(control, late, sizeof(late) - 1);
}

bool shove_strategy_runs_in(const struct shove_worker *worker) {
    uint32_t slot;
    uint32_t generation;
    int64_t since_ms;
    return worker->consultation != 0 &&
           shove_channel_running(worker->home->channel, &slot, &generation, &since_ms) &&
           slot == SHOVE_STRATEGY_SLOT && generation == worker->consultation;
}

void shove_strategy_lost(struct shove_worker *worker, bool was_running) {
    struct shove_control *control = worker->control;
    worker->consultation = 0;
    if (was_running) {
        control->strategy.rests_until_ms = control->now_ms + SHOVE_STRATEGY_REST_MS;
        shove_log(SHOVE_LOG_ERROR,
                  "the strategy of app:autoscale cost a worker process its life: it is not asked "
                  "for %d s, up, down and hysteresis decide",
                  SHOVE_STRATEGY_REST_MS / 1000);
    }
    if (control->strategy.worker == worker) {
        static const char died[] = "its worker process died";
        give_up(control, was_running ? died : NULL, sizeof(died) - 1);
    }
}
