/* pool.c: see pool.h. Control only, loop's thread.
 *
 * Nothing a worker says is trusted: notes come copied and checked from the channel, slots and
 * generations are compared with control's own tables, and a worker that says what cannot be is
 * killed like one that hangs. When a worker dies, what it had finished is read first; then death.c
 * finds the culprit, and the rest goes to other workers with retry counts unchanged.
 */
#include "control/pool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/control_end.h"
#include "control/death.h"
#include "control/delivery.h"
#include "control/drain.h"
#include "control/feed.h"
#include "control/flow.h"
#include "control/groups.h"
#include "control/metrics.h"
#include "control/on_start.h"
#include "control/publish.h"
#include "control/reload.h"
#include "control/replacement.h"
#include "control/settle.h"
#include "control/strategy.h"
#include "control/watchdog.h"
#include "core/respawn.h"

#define NOTES_PER_ROUND 4096
#define OUTBOUND_BYTES (1u << 20)
#define LASTING_MS 1000

/* ---- starting ---- */

static struct shove_home *home_new(struct shove_control *control, struct shove_error *error) {
    struct shove_home *home = calloc(1, sizeof(*home));
    if (!home) {
        shove_error_set(error, SHOVE_ENOMEM, "out of memory");
        return NULL;
    }
    struct shove_channel_options options = {
        .arena_bytes = control->arena_bytes,
        .submit_entries = control->slot_count * 2,
        .outbound_bytes = OUTBOUND_BYTES,
        .control_wake_fd = control->bell.ring_fd,
    };
    home->arena = shove_arena_new(control->arena_bytes);
    if (!home->arena || shove_channel_new(&options, &home->channel, error) != 0) {
        if (!home->arena)
            shove_error_set(error, SHOVE_ENOMEM, "out of memory");
        shove_arena_free(home->arena);
        free(home);
        return NULL;
    }
    home->bytes = shove_channel_arena(home->channel);
    return home;
}

static void retire_home(struct shove_worker *worker) {
    struct shove_home *home = worker->home;
    worker->home = NULL;
    home->is_retired = true;
    shove_home_release_if_idle(home);
}

static void child_exited(struct shove_child *child, int64_t status, int signal);

static int start_worker(struct shove_worker *worker, struct shove_error *error) {
    struct shove_control *control = worker->control;
    worker->home = home_new(control, error);
    if (!worker->home)
        return error->code;
    worker->free_count = 0;
    for (uint32_t slot = control->slot_count; slot > 0; slot--)
        worker->free_slots[worker->free_count++] = slot - 1;
    struct shove_spawn_options options = {
        .script = control->options->script,
        .lua_dir = control->options->lua_dir,
        .broker = control->options->broker,
        .channel = worker->home->channel,
        .index = worker->index,
        .runs_check = shove_reload_owns(control, worker) && worker->index % control->set_size == 0,
        .memory_limit_bytes = control->options->worker_memory_bytes,
        .is_measuring = control->metrics != NULL,
    };
    worker->child = (struct shove_child){.user = worker};
    int rc = shove_spawn_worker(&control->loop, &options, &worker->child, child_exited, error);
    if (rc != 0) {
        retire_home(worker);
        return rc;
    }
    worker->has_child = true;
    worker->incarnation++;
    worker->state = SHOVE_WORKER_LOADING;
    worker->is_condemned = false;
    worker->death = SHOVE_DEATH_EXIT;
    worker->is_distrusted = false;
    worker->is_spent = false;
    worker->has_handled = false;
    worker->has_refused = false;
    worker->is_killed_for_timeout = false;
    worker->watched_since_ms = 0;
    worker->groups_block = SHOVE_ARENA_NONE;
    worker->started_ms = control->now_ms;
    worker->last_progress_ms = control->now_ms;
    worker->last_running_ms = control->now_ms;
    return 0;
}

int shove_pool_start(struct shove_control *control, struct shove_error *error) {
    control->workers = calloc(control->worker_count, sizeof(*control->workers));
    if (!control->workers)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        worker->control = control;
        worker->index = i;
        worker->slots = calloc(control->slot_count, sizeof(struct shove_delivery *));
        worker->generations = calloc(control->slot_count, sizeof(*worker->generations));
        worker->free_slots = calloc(control->slot_count, sizeof(*worker->free_slots));
        if (!worker->slots || !worker->generations || !worker->free_slots)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    return shove_pool_start_set(control, control->set, error);
}

int shove_pool_start_set(struct shove_control *control, uint32_t set, struct shove_error *error) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < control->set_size; i++) {
        struct shove_worker *worker = shove_pool_worker(control, set, i);
        worker->failures = 0;
        worker->has_failed_to_start = false;
        rc = start_worker(worker, error);
    }
    return rc;
}

/* ---- what workers say ---- */

void shove_pool_condemn(struct shove_worker *worker, enum shove_death death, const char *why) {
    if (worker->is_condemned || !worker->has_child)
        return;
    char index[16];
    snprintf(index, sizeof(index), "%" PRIu32, worker->index);
    shove_log_fields(SHOVE_LOG_ERROR, "killing a worker process", "worker", index, "why", why,
                     NULL);
    worker->is_condemned = true;
    worker->death = death;
    if (worker->state == SHOVE_WORKER_LOADING && !shove_reload_owns(worker->control, worker))
        shove_replacement_note(worker->control, why, strlen(why));
    shove_child_kill(&worker->child);
}

/* What it says from here on is not even looked at. */
static void distrust(struct shove_worker *worker, const char *why) {
    worker->is_distrusted = true;
    shove_pool_condemn(worker, SHOVE_DEATH_MISBEHAVED, why);
}

struct shove_delivery *shove_pool_delivery(const struct shove_worker *worker, uint32_t slot,
                                           uint32_t generation) {
    if (slot >= worker->control->slot_count || worker->generations[slot] != generation)
        return NULL;
    return worker->slots[slot];
}

static bool is_a_workers_outcome(uint16_t outcome) {
    return outcome >= SHOVE_OUTCOME_ACK && outcome < SHOVE_OUTCOME_COUNT_ &&
           outcome != SHOVE_OUTCOME_OVERSIZE && outcome != SHOVE_OUTCOME_CRASHED &&
           outcome != SHOVE_OUTCOME_POISONED;
}

static void settled(struct shove_worker *worker, const struct shove_note *note,
                    const uint8_t *payload) {
    struct shove_delivery *delivery = shove_pool_delivery(worker, note->slot, note->generation);
    if (!delivery || !is_a_workers_outcome(note->outcome)) {
        distrust(worker, "it settled a message that it was not given");
        return;
    }
    const enum shove_outcome outcome = (enum shove_outcome)note->outcome;
    shove_metrics_handled(delivery, outcome, note->duration);
    shove_settle_leave_worker(delivery);
    shove_settle(worker->control, delivery, outcome, (const char *)payload, note->size);
}

static void audit_late(struct shove_worker *worker, const struct shove_note *note,
                       const uint8_t *payload) {
    const struct shove_delivery *delivery =
        shove_pool_delivery(worker, note->slot, note->generation);
    if (!delivery || !is_a_workers_outcome(note->outcome))
        distrust(worker, "it audited a message that it was not given");
    else
        shove_settle_report_audit(delivery, (enum shove_outcome)note->outcome,
                                  (const char *)payload, note->size);
}

static void described(struct shove_worker *worker, const struct shove_note *note,
                      const uint8_t *payload) {
    const struct shove_control *control = worker->control;
    if (shove_reload_owns(control, worker)) {
        shove_reload_described(worker, (const char *)payload, note->size);
        return;
    }
    if (note->size == control->description_size &&
        memcmp(payload, control->description, note->size) == 0)
        return;
    if (control->phase == SHOVE_PHASE_STARTING)
        shove_control_fail_start(
            worker->control, SHOVE_EXIT_CONFIG,
            "%s describes another app each time it is loaded (does it depend on time or chance?)",
            control->options->script);
    else
        shove_pool_condemn(
            worker, SHOVE_DEATH_CHANGED,
            "the script changed on disk since it was loaded: 'shove reload' runs the new one");
}

static void became_ready(struct shove_worker *worker) {
    if (worker->is_condemned)
        return; /* it loaded another script, or was too late */
    if (shove_reload_owns(worker->control, worker)) {
        shove_reload_worker_ready(worker);
        return;
    }
    worker->state = SHOVE_WORKER_READY;
    worker->has_failed_to_start = false;
    worker->started_ms = worker->control->now_ms;
    shove_flows_spread(worker->control);
}

static void failed_to_load(struct shove_worker *worker, const struct shove_note *note,
                           const uint8_t *payload) {
    struct shove_control *control = worker->control;
    if (control->phase == SHOVE_PHASE_STARTING)
        shove_control_fail_start(control, SHOVE_EXIT_CONFIG, "%.*s", (int)note->size,
                                 (const char *)payload);
    else if (shove_reload_owns(control, worker))
        shove_reload_worker_failed(worker, (const char *)payload, note->size);
    else
        shove_replacement_refused(worker, (const char *)payload, note->size);
}

static void handle_note_of_loading(struct shove_worker *worker, const struct shove_note *note,
                                   const uint8_t *payload) {
    if (note->type == SHOVE_NOTE_DESCRIPTION)
        described(worker, note, payload);
    else if (note->type == SHOVE_NOTE_LOAD_ERROR)
        failed_to_load(worker, note, payload);
    else
        became_ready(worker);
}

static void publish_asked(struct shove_worker *worker, const struct shove_note *note,
                          const uint8_t *payload) {
    int rc = shove_publish_asked(worker, note, payload);
    if (rc == SHOVE_EBACKLOG)
        distrust(worker, "it publishes without end and does not look at the answers");
    else if (rc != 0)
        distrust(worker, "it asked to publish something malformed");
}

void shove_pool_renew(struct shove_worker *worker) {
    if (worker->state != SHOVE_WORKER_READY)
        return; /* a reload has told it to go, with what it has */
    worker->state = SHOVE_WORKER_RETIRING;
    worker->control->has_progress = true;
    shove_on_start_move(worker);
    shove_flows_spread(worker->control);
}

static void became_spent(struct shove_worker *worker) {
    worker->is_spent = true;
    shove_pool_renew(worker);
}

static void returned(struct shove_worker *worker, const struct shove_note *note) {
    struct shove_delivery *delivery = shove_pool_delivery(worker, note->slot, note->generation);
    if (delivery && worker->is_spent)
        shove_death_give_away(delivery);
    else
        distrust(worker, "it gave back a message that it has not, or could handle");
}

static void handle_note(struct shove_worker *worker, const struct shove_note *note,
                        const uint8_t *payload) {
    switch (note->type) {
    case SHOVE_NOTE_SETTLED:
        settled(worker, note, payload);
        break;
    case SHOVE_NOTE_AUDIT_LATE:
        audit_late(worker, note, payload);
        break;
    case SHOVE_NOTE_PUBLISH:
        publish_asked(worker, note, payload);
        break;
    case SHOVE_NOTE_DESCRIPTION:
    case SHOVE_NOTE_LOAD_ERROR:
    case SHOVE_NOTE_READY:
        if (worker->state == SHOVE_WORKER_LOADING)
            handle_note_of_loading(worker, note, payload);
        else if (worker->state == SHOVE_WORKER_READY)
            distrust(worker, "it said twice that it has loaded the script");
        break;
    case SHOVE_NOTE_STARTED:
        shove_on_start_returned(worker, note, payload);
        break;
    case SHOVE_NOTE_GROUPS:
        worker->wants_groups = true;
        break;
    case SHOVE_NOTE_ADVICE:
        if (shove_strategy_advice(worker, note, payload) != 0)
            distrust(worker, "its word of the strategy is malformed");
        break;
    case SHOVE_NOTE_ADVISED:
        shove_strategy_ended(worker, note, payload);
        break;
    case SHOVE_NOTE_SPENT:
        became_spent(worker);
        break;
    case SHOVE_NOTE_RETURNED:
        returned(worker, note);
        break;
    case SHOVE_NOTE_STOPPING:
        if (!worker->is_condemned)
            worker->death = SHOVE_DEATH_MEMORY;
        break;
    default:
        distrust(worker, "it sent something unknown");
        break;
    }
}

/* Up to `max`; UINT32_MAX: all of a dead worker, whatever waits. */
static void read_notes(struct shove_worker *worker, uint32_t max) {
    struct shove_control *control = worker->control;
    struct shove_channel *channel = worker->home->channel;
    struct shove_note note;
    const uint8_t *payload;
    int rc = 1;
    for (uint32_t i = 0; i < max && rc == 1 && !worker->is_distrusted; i++) {
        rc = shove_channel_next_note(channel, &note, &payload);
        if (rc == 1)
            handle_note(worker, &note, payload);
        if (rc == 1 && note.type == SHOVE_NOTE_PUBLISH && max != UINT32_MAX &&
            shove_publish_waits(control))
            break;
    }
    if (rc < 0)
        distrust(worker, "it broke the ring it shares with control");
    if (!shove_channel_release_notes(channel))
        return;
    worker->last_progress_ms = control->now_ms;
    control->has_progress = true;
}

/* It exits when nothing runs in it any more. */
static void tell_to_stop(struct shove_worker *worker) {
    worker->state = SHOVE_WORKER_STOPPING;
    worker->stopping_since_ms = worker->control->now_ms;
    shove_channel_submit(worker->home->channel, &(struct shove_submit){.type = SHOVE_SUBMIT_STOP});
    shove_channel_flush(worker->home->channel);
}

void shove_pool_round(struct shove_control *control) {
    for (uint32_t i = 0; i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        if (!worker->home)
            continue;
        if (!shove_publish_waits(control))
            read_notes(worker, NOTES_PER_ROUND);
        shove_publish_answer_waiting(worker);
        shove_groups_answer(worker);
        if (worker->state == SHOVE_WORKER_RETIRING && worker->in_flight == 0)
            tell_to_stop(worker);
    }
}

/* ---- death ---- */

static void plan_respawn(struct shove_worker *worker) {
    struct shove_control *control = worker->control;
    const bool has_lasted =
        worker->state != SHOVE_WORKER_LOADING && control->now_ms - worker->started_ms >= LASTING_MS;
    worker->has_failed_to_start =
        worker->state == SHOVE_WORKER_LOADING || worker->state == SHOVE_WORKER_ABSENT;
    const bool was_told_to = worker->state == SHOVE_WORKER_STOPPING;
    worker->failures = has_lasted || was_told_to ? 0 : worker->failures + 1;
    worker->start_at_ms = control->now_ms + shove_respawn_worker_delay_ms(worker->failures);
    shove_replacement_ended(worker);
    worker->state = SHOVE_WORKER_ABSENT;
}

/* The app goes on with what it has: nobody's death but the reload's. */
static void lose_of_reload(struct shove_worker *worker) {
    char text[128];
    char how[64];
    shove_child_describe_end(&worker->child, how, sizeof(how));
    const int size =
        snprintf(text, sizeof(text), "a worker process ended while it loaded the script: %s", how);
    worker->state = SHOVE_WORKER_STOPPING;
    shove_reload_worker_failed(worker, text, (size_t)size);
}

/* In its place, when its time has come and the place is one that is used. */
static void respawn_if_due(struct shove_worker *worker) {
    const struct shove_control *control = worker->control;
    struct shove_error error;
    if (shove_pool_set_of(worker) != control->set || control->phase == SHOVE_PHASE_STARTING ||
        control->phase > SHOVE_PHASE_DRAINING || control->now_ms < worker->start_at_ms)
        return;
    if (start_worker(worker, &error) == 0)
        return;
    shove_log(SHOVE_LOG_ERROR, "worker %" PRIu32 " cannot be started and is tried again: %s",
              worker->index, error.text);
    worker->failures++;
    plan_respawn(worker);
}

static void child_exited(struct shove_child *child, int64_t status, int signal) {
    struct shove_worker *worker = child->user;
    struct shove_control *control = worker->control;
    (void)status;
    (void)signal;
    worker->has_child = false;
    control->has_progress = true;
    if (!worker->is_distrusted) {
        shove_channel_reveal(worker->home->channel); /* what it settled is not handled again */
        read_notes(worker, UINT32_MAX);
    }
    if (shove_reload_owns(control, worker))
        lose_of_reload(worker);
    const bool is_expected = worker->state == SHOVE_WORKER_STOPPING || worker->has_refused ||
                             (worker->state == SHOVE_WORKER_LOADING && worker->is_condemned) ||
                             control->phase == SHOVE_PHASE_STARTING;
    if (!is_expected) {
        shove_death_mourn(worker);
    } else {
        control->deaths[SHOVE_DEATH_MEMORY] += worker->is_spent;
        shove_death_hand_over(worker);
    }
    shove_on_start_lost(worker);
    shove_strategy_lost(worker, !is_expected && shove_strategy_runs_in(worker));
    shove_publish_forget_worker(worker);
    shove_groups_forget_worker(worker);
    retire_home(worker);
    if (control->phase == SHOVE_PHASE_STARTING)
        shove_control_fail_start(control, SHOVE_EXIT_CONFIG,
                                 "a worker process ended while it loaded %s",
                                 control->options->script);
    plan_respawn(worker);
    respawn_if_due(worker);
    shove_flows_spread(control);
    shove_drain_check(control);
}

/* ---- watching ---- */

void shove_pool_watch(struct shove_control *control) {
    for (uint32_t i = 0; i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        if (worker->has_child)
            shove_watchdog_look(worker);
        else
            respawn_if_due(worker);
    }
}

/* ---- the whole pool ---- */

bool shove_pool_sleeps(struct shove_control *control) {
    bool has_note = false;
    for (uint32_t i = 0; i < control->worker_count; i++) {
        if (control->workers[i].home)
            has_note |= shove_channel_control_sleeps(control->workers[i].home->channel);
    }
    return has_note && !shove_publish_waits(control);
}

void shove_pool_wakes(struct shove_control *control) {
    for (uint32_t i = 0; i < control->worker_count; i++) {
        if (control->workers[i].home)
            shove_channel_control_wakes(control->workers[i].home->channel);
    }
}

bool shove_pool_is_ready(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->set_size; i++) {
        if (shove_pool_worker(control, control->set, i)->state != SHOVE_WORKER_READY)
            return false;
    }
    return true;
}

uint32_t shove_pool_ready_count(const struct shove_control *control) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < control->worker_count; i++)
        count += control->workers[i].state == SHOVE_WORKER_READY;
    return count;
}

bool shove_pool_is_gone(const struct shove_control *control) {
    for (uint32_t i = 0; control->workers && i < control->worker_count; i++) {
        if (control->workers[i].has_child)
            return false;
    }
    return true;
}

void shove_pool_stop(struct shove_control *control) {
    for (uint32_t i = 0; i < control->worker_count; i++) {
        if (control->workers[i].has_child)
            tell_to_stop(&control->workers[i]);
    }
}

static void kill_stopping(struct shove_worker *worker) {
    worker->state = SHOVE_WORKER_STOPPING;
    worker->is_condemned = true;
    shove_child_kill(&worker->child);
}

void shove_pool_kill_set(struct shove_control *control, uint32_t set) {
    for (uint32_t i = 0; i < control->set_size; i++) {
        struct shove_worker *worker = shove_pool_worker(control, set, i);
        if (worker->has_child)
            kill_stopping(worker);
    }
}

void shove_pool_retire_set(struct shove_control *control, uint32_t set) {
    for (uint32_t i = 0; i < control->set_size; i++) {
        struct shove_worker *worker = shove_pool_worker(control, set, i);
        if (worker->state == SHOVE_WORKER_READY)
            worker->state = SHOVE_WORKER_RETIRING;
        else if (worker->has_child && worker->state != SHOVE_WORKER_RETIRING)
            kill_stopping(worker); /* it still loads, and has nothing */
    }
}

void shove_pool_kill(struct shove_control *control) {
    for (uint32_t i = 0; control->workers && i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        if (worker->has_child)
            kill_stopping(worker);
    }
}

void shove_pool_release(struct shove_control *control) {
    for (uint32_t i = 0; control->workers && i < control->worker_count; i++) {
        struct shove_worker *worker = &control->workers[i];
        if (worker->home) {
            shove_groups_forget_worker(worker);
            retire_home(worker);
        }
        free(worker->slots);
        free(worker->generations);
        free(worker->free_slots);
    }
    free(control->workers);
    control->workers = NULL;
}
