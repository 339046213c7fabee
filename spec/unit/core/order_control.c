/* order_control.c: a stand-in for runtime/control, as far as the order of a sequenced topic is its
 * affair, around the real core: a message on its way. Each part mirrors one of control's, which
 * says why it does what:
 *
 *   control_set_state             delivery.c: the lists that a state names, without their order
 *   sequencing_enter, leave,      sequencing.c: enter, leave,
 *   control_forget_turn, unblock  forget, unblock,
 *   go_ahead, control_fall_in     go_ahead, fall_in
 *   control_feed_again,           feed.c: shove_feed_again,
 *   feed_wait                     shove_feed_wait
 *   settle, apply                 settle.c; wait: hop.c, shove_hop_wait; record_crash: commit.c
 *   place_again, feed_record      feed.c: the same, with find_place, find_cell and open_slot
 *   may_go_ahead, send_ahead,     feed.c: the same
 *   settle_unhandled
 *   control_kill_worker           death.c: mourn, hand_over; reserve, judge: isolation.c
 */
#include <stdlib.h>
#include <string.h>

#include "order_walk.h"

#define ISOLATION_AFTER 2

/* --- Deliveries */

static void leave_set(struct delivery *delivery) {
    struct set *set = &delivery->process->sets[delivery->state];
    struct delivery *last = set->items[--set->count];
    set->items[delivery->place] = last;
    last->place = delivery->place;
}

static void join_set(struct delivery *delivery, enum state state) {
    struct set *set = &delivery->process->sets[state];
    if (set->count == set->capacity) {
        set->capacity = set->capacity > 0 ? 2 * set->capacity : 64;
        set->items = realloc(set->items, set->capacity * sizeof *set->items);
        if (set->items == NULL)
            abort();
    }
    delivery->state = state;
    delivery->place = set->count;
    set->items[set->count++] = delivery;
}

void control_set_state(struct delivery *delivery, enum state state) {
    leave_set(delivery);
    join_set(delivery, state);
}

static struct delivery *delivery_new(struct claim *claim, int key) {
    struct delivery *delivery = calloc(1, sizeof *delivery);
    if (delivery == NULL)
        abort();
    delivery->process = claim->process;
    delivery->claim = claim;
    delivery->partition = claim->partition;
    delivery->key = key;
    join_set(delivery, PENDING);
    return delivery;
}

static struct delivery *delivery_of(struct shove_sequence_entry *entry) {
    return (struct delivery *)(void *)((char *)entry - offsetof(struct delivery, turn));
}

static void go_ahead(struct delivery *delivery) {
    delivery->is_ahead = true;
    delivery->process->ahead_count++;
}

void control_fall_in(struct delivery *delivery) {
    if (!delivery->is_ahead)
        return;
    delivery->is_ahead = false;
    delivery->entry.is_implied = false;
    delivery->process->ahead_count--;
    delivery->claim->queued_count--;
}

static void unblock(const struct delivery *delivery) {
    for (unsigned i = 0; i < PARTITIONS; i++) {
        struct claim *claim = delivery->process->claims[i];
        if (claim != NULL && (delivery->claim == NULL || delivery->claim == claim))
            claim->is_blocked = false;
    }
}

static void sequencing_leave(struct delivery *delivery) {
    if (delivery->turn.key == NULL)
        return;
    reference_left(delivery);
    unblock(delivery);
    struct shove_sequence_entry *entry =
        shove_sequence_leave(&delivery->process->sequence, &delivery->turn);
    if (entry == NULL)
        return;
    struct delivery *next = delivery_of(entry);
    if (next->state != QUEUED) {
        require(next->state == HOPPING, "a turn came to one in state %d", (int)next->state);
        control_fall_in(next);
        return;
    }
    if (next->claim == NULL)
        abort();
    next->entry.is_implied = false;
    next->claim->queued_count--;
    control_feed_again(next);
}

void control_forget_turn(struct delivery *delivery) {
    if (delivery->turn.key == NULL)
        return;
    reference_left(delivery);
    if (delivery->state == QUEUED && delivery->claim != NULL)
        delivery->claim->queued_count--;
    shove_sequence_leave(&delivery->process->sequence, &delivery->turn);
}

void control_delivery_free(struct delivery *delivery) {
    sequencing_leave(delivery);
    leave_set(delivery);
    free(delivery);
}

void control_delivery_close(struct delivery *delivery) {
    reference_closed(delivery);
    shove_ledger_close(&delivery->claim->ledger, &delivery->entry);
    delivery->claim->is_dirty = true;
    control_delivery_free(delivery);
}

static bool shelve_if_revoking(struct delivery *delivery) {
    if (!delivery->claim->is_revoking)
        return false;
    control_set_state(delivery, SHELVED);
    return true;
}

static bool is_suspect(const struct delivery *delivery) {
    return delivery->suspicions >= ISOLATION_AFTER || delivery->crashes >= ISOLATION_AFTER;
}

/* --- Settling */

void control_feed_again(struct delivery *delivery) {
    if (!shelve_if_revoking(delivery))
        control_set_state(delivery, delivery->entry.due_ms > walk.now_ms ? WAITING : AGAIN);
}

static void feed_wait(struct delivery *delivery, int64_t delay_ms) {
    delivery->entry.due_ms = walk.now_ms + 1 + delay_ms;
    if (!shelve_if_revoking(delivery))
        control_set_state(delivery, WAITING);
}

static void wait(struct delivery *delivery, const struct shove_hop *hop) {
    delivery->entry.attempts +=
        hop->retry_count > delivery->retry_count && delivery->entry.attempts < UINT8_MAX;
    delivery->retry_count = hop->retry_count;
    delivery->claim->is_dirty = true;
    feed_wait(delivery, hop->delay_ms);
}

static void record_crash(struct delivery *delivery) {
    struct claim *claim = delivery->claim;
    claim->is_dirty = true;
    if (!shelve_if_revoking(delivery)) {
        control_set_state(delivery, RECORDING);
        delivery->commit_sequence = claim->commit_sequence + 1;
    }
    control_commit(claim);
}

static void apply(struct delivery *delivery, const struct shove_hop *hop) {
    struct claim *claim = delivery->claim;
    switch (hop->kind) {
    case SHOVE_HOP_DONE:
        control_delivery_close(delivery);
        break;
    case SHOVE_HOP_HOLD:
        require(false, "a message of a sequenced topic went to a hold");
        break;
    case SHOVE_HOP_WAIT:
        wait(delivery, hop);
        if (happens(192)) /* else with the next round: commit.c, shove_commit_retry */
            control_commit(claim);
        break;
    case SHOVE_HOP_AGAIN:
        record_crash(delivery);
        break;
    case SHOVE_HOP_DISCARD:
        if (!hop->poisons) {
            control_delivery_close(delivery);
            break;
        }
        control_hop_start(delivery, hop);
        break;
    case SHOVE_HOP_DEAD:
        control_hop_start(delivery, hop);
        break;
    }
}

static void settle(struct delivery *delivery, enum shove_outcome outcome) {
    if (delivery->claim == NULL) {
        count(TALLY_ORPHANS_ENDED);
        control_delivery_free(delivery);
        return;
    }
    if (outcome == SHOVE_OUTCOME_CRASHED) {
        delivery->crashes++;
        delivery->entry.crashes += delivery->entry.crashes < UINT8_MAX;
    }
    const struct shove_attempt attempt = {outcome, delivery->retry_count, delivery->crashes};
    struct shove_hop hop = shove_outcome_decide(&walk.temper.policy, &attempt);
    hop.poisons = hop.poisons && delivery->key != NO_KEY;
    reference_decided(delivery, outcome, &hop);
    apply(delivery, &hop);
}

/* --- Workers */

static void submit(struct delivery *delivery, unsigned worker) {
    struct process *process = delivery->process;
    reference_started(delivery);
    control_set_state(delivery, RUNNING);
    delivery->worker = worker;
    delivery->entry.due_ms = 0;
    process->has_suspect[worker] |= is_suspect(delivery);
    process->in_flight[worker]++;
    delivery->claim->running_count++;
}

static void leave_worker(struct delivery *delivery) {
    struct process *process = delivery->process;
    reference_ended(delivery);
    process->in_flight[delivery->worker]--;
    process->has_suspect[delivery->worker] &= process->in_flight[delivery->worker] > 0;
    if (delivery->claim != NULL)
        delivery->claim->running_count--;
}

static void reserve(struct process *process) {
    memcpy(process->is_reserved, process->has_suspect, sizeof process->is_reserved);
    bool has_suspects = false;
    for (size_t i = 0; i < process->sets[AGAIN].count && !has_suspects; i++)
        has_suspects = is_suspect(process->sets[AGAIN].items[i]);
    for (unsigned worker = 0; worker < WORKERS && has_suspects; worker++) {
        if (!process->has_suspect[worker]) {
            process->is_reserved[worker] = true;
            return;
        }
    }
}

/* -1: none has room. */
static int find_place(const struct process *process, bool is_suspected) {
    const unsigned first = (unsigned)below(WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        const unsigned worker = (first + i) % WORKERS;
        const unsigned in_flight = process->in_flight[worker];
        if (is_suspected ? process->is_reserved[worker] && in_flight == 0
                         : !process->is_reserved[worker] && in_flight < walk.temper.worker_slots)
            return (int)worker;
    }
    return -1;
}

void control_end_handler(struct delivery *delivery, enum shove_outcome outcome) {
    leave_worker(delivery);
    settle(delivery, outcome);
}

static struct delivery *judge(struct process *process, unsigned worker) {
    const struct set *running = &process->sets[RUNNING];
    for (size_t i = 0; i < running->count; i++) {
        struct delivery *delivery = running->items[i];
        if (delivery->worker != worker)
            continue;
        if (process->in_flight[worker] == 1 && is_suspect(delivery))
            return delivery;
        if (delivery->suspicions < UINT8_MAX)
            delivery->suspicions++;
    }
    return NULL;
}

/* The `skipped`-th of those in the worker; NULL: there are not so many. */
static struct delivery *running_in(const struct process *process, unsigned worker, size_t skipped) {
    const struct set *running = &process->sets[RUNNING];
    for (size_t i = 0; i < running->count; i++) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what is freed has left its set
        if (running->items[i]->worker == worker && skipped-- == 0)
            return running->items[i];
    }
    return NULL;
}

/* `outcome` 0: no handler was on the CPU. */
void control_kill_worker(struct process *process, unsigned worker, enum shove_outcome outcome) {
    const unsigned in_flight = process->in_flight[worker];
    if (in_flight == 0)
        return;
    struct delivery *delivery =
        outcome != 0 ? running_in(process, worker, below(in_flight)) : judge(process, worker);
    if (delivery != NULL)
        control_end_handler(delivery, outcome != 0 ? outcome : SHOVE_OUTCOME_CRASHED);
    while ((delivery = running_in(process, worker, 0)) != NULL) {
        leave_worker(delivery);
        if (delivery->claim != NULL)
            control_feed_again(delivery);
        else
            control_delivery_free(delivery);
    }
}

/* --- Feeding */

static enum shove_outcome outcome_unhandled(const struct delivery *delivery) {
    char key[KEYS_MAX];
    if (delivery->key != NO_KEY && delivery->claim->poison.count > 0 &&
        shove_poison_covers(&delivery->claim->poison, key, key_bytes(delivery->key, key),
                            delivery->entry.offset))
        return SHOVE_OUTCOME_POISONED;
    return worlds[delivery->partition].is_oversize[delivery->entry.offset] ? SHOVE_OUTCOME_OVERSIZE
                                                                           : 0;
}

static struct delivery *delivery_or_null(struct shove_sequence_entry *entry) {
    return entry != NULL ? delivery_of(entry) : NULL;
}

static bool may_go_ahead(const struct delivery *delivery) {
    const struct delivery *before = delivery_or_null(delivery->turn.previous);
    return delivery->state == QUEUED && before != NULL && before->claim == delivery->claim &&
           before->state == HOPPING && before->hop.reason == SHOVE_REASON_POISONED &&
           outcome_unhandled(delivery) == SHOVE_OUTCOME_POISONED;
}

static void send_ahead(struct delivery *delivery) {
    while (delivery != NULL && may_go_ahead(delivery)) {
        reference_went_ahead(delivery);
        go_ahead(delivery);
        settle(delivery, SHOVE_OUTCOME_POISONED);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): there is a DLQ, so it is on its way
        delivery = delivery_or_null(delivery->turn.next);
    }
}

/* It has its turn. What is settled at once is gone then, and the next one has the turn. */
static void settle_unhandled(struct delivery *delivery, enum shove_outcome outcome) {
    struct delivery *next = delivery_or_null(delivery->turn.next);
    settle(delivery, outcome);
    if (next != NULL && next->turn.previous != NULL)
        send_ahead(next);
}

/* False: no room. */
static bool place_again(struct delivery *delivery) {
    const enum shove_outcome outcome = outcome_unhandled(delivery);
    reference_unhandled(delivery, outcome);
    if (outcome != 0) {
        settle_unhandled(delivery, outcome);
        return true;
    }
    const int worker = find_place(delivery->process, is_suspect(delivery));
    if (worker < 0)
        return false;
    submit(delivery, (unsigned)worker);
    return true;
}

/* True: nothing but suspects is left that has to be handled again. */
static bool feed_all_again(struct process *process) {
    struct set *waiting = &process->sets[WAITING];
    for (size_t i = waiting->count; i-- > 0;) {
        if (waiting->items[i]->entry.due_ms <= walk.now_ms)
            control_set_state(waiting->items[i], AGAIN);
    }
    /* What is placed or settled may bring others here. */
    struct set *again = &process->sets[AGAIN];
    bool is_full = false, has_full_cell = false;
    for (size_t i = 0; i < again->count;) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the same
        bool *is_out = is_suspect(again->items[i]) ? &has_full_cell : &is_full;
        if (!*is_out && place_again(again->items[i])) {
            i = 0;
            continue;
        }
        *is_out = true;
        i++;
    }
    return !is_full;
}

static uint64_t hash_of(int key) {
    char bytes[KEYS_MAX];
    const uint64_t hash = shove_ledger_hash(bytes, key_bytes(key, bytes));
    return walk.temper.has_weak_hash ? 1 + hash % 7 : hash;
}

enum opened { OPENED, ALREADY_FINISHED, NOTHING };

static enum opened open_slot(struct claim *claim) {
    const struct world *world = &worlds[claim->partition];
    const int64_t offset = world_next(claim->partition, claim->position);
    if (offset < 0)
        return NOTHING;
    if (!claim->is_clipped)
        shove_ledger_clip(&claim->ledger, world->log_end);
    claim->is_clipped = true;
    struct delivery *delivery = delivery_new(claim, world->key[offset]);
    const uint64_t hash = shove_ledger_asks_for_keys(&claim->ledger) && delivery->key != NO_KEY
                              ? hash_of(delivery->key)
                              : 0;
    delivery->entry.offset = offset;
    const enum shove_ledger_verdict verdict =
        shove_ledger_deliver(&claim->ledger, &delivery->entry, offset, hash);
    claim->is_dirty = true;
    claim->position = offset + 1;
    delivery->entry.offset = offset;
    reference_delivered(delivery, verdict);
    if (verdict != SHOVE_LEDGER_OPENED) {
        control_delivery_free(delivery);
        return ALREADY_FINISHED;
    }
    delivery->retry_count = delivery->entry.attempts;
    delivery->crashes = delivery->entry.crashes;
    claim->pending = delivery;
    return OPENED;
}

enum turn { TURN_NOW, TURN_LATER, TURN_BLOCKED };

static enum turn sequencing_enter(struct delivery *delivery) {
    struct claim *claim = delivery->claim;
    char key[KEYS_MAX];
    if (claim->queued_count >= walk.temper.queued_max) {
        claim->is_blocked = true;
        return TURN_BLOCKED;
    }
    const enum shove_sequence_verdict verdict =
        shove_sequence_enter(&delivery->process->sequence, &delivery->turn, claim->partition, key,
                             key_bytes(delivery->key, key), walk.temper.max_pending);
    reference_entered(delivery, verdict);
    if (verdict == SHOVE_SEQUENCE_TURN)
        return TURN_NOW;
    if (verdict != SHOVE_SEQUENCE_WAITS) {
        claim->is_blocked = true;
        count(TALLY_BLOCKED);
        return TURN_BLOCKED;
    }
    control_set_state(delivery, QUEUED);
    delivery->entry.is_implied = delivery_of(delivery->turn.previous)->claim == claim;
    claim->queued_count++;
    return TURN_LATER;
}

/* False: the partition has to wait. */
static bool feed_record(struct claim *claim) {
    if (claim->pending == NULL) {
        const enum opened opened = open_slot(claim);
        if (opened != OPENED)
            return opened == ALREADY_FINISHED;
    }
    struct delivery *delivery = claim->pending;
    claim->pending = NULL;
    if (delivery->key != NO_KEY && delivery->turn.key == NULL) {
        const enum turn turn = sequencing_enter(delivery);
        if (turn == TURN_BLOCKED)
            claim->pending = delivery;
        if (turn == TURN_LATER)
            send_ahead(delivery);
        if (turn != TURN_NOW)
            return turn == TURN_LATER;
    }
    const enum shove_outcome outcome = outcome_unhandled(delivery);
    reference_unhandled(delivery, outcome);
    if (outcome != 0) {
        settle_unhandled(delivery, outcome);
        return true;
    }
    if (delivery->entry.due_ms > walk.now_ms || is_suspect(delivery)) {
        control_feed_again(delivery);
        return true;
    }
    const int worker = find_place(claim->process, false);
    if (worker < 0) {
        claim->pending = delivery;
        return false;
    }
    submit(delivery, (unsigned)worker);
    return true;
}

static bool is_backed_up(const struct process *process) {
    return process->sets[WAITING].count >= walk.temper.aside_max ||
           process->sets[HOPPING].count - process->ahead_count >= walk.temper.aside_max ||
           process->sets[AGAIN].count >= walk.temper.aside_max; /* suspects all of them */
}

void control_feed(struct process *process) {
    reserve(process);
    if (!feed_all_again(process) || is_backed_up(process))
        return;
    const int first = (int)below(PARTITIONS);
    for (int i = 0; i < PARTITIONS; i++) {
        struct claim *claim = process->claims[(first + i) % PARTITIONS];
        for (uint64_t left = 1 + below(STREAK); claim != NULL && left > 0; left--) {
            if (claim->is_revoking || claim->is_blocked || claim->is_learning ||
                !feed_record(claim))
                break;
        }
    }
}
