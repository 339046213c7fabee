/* order_owner.c: the other half of the stand-in for runtime/control (order_control.c): what is on
 * its way to another topic, what an owner of a partition does about it, and how it comes to its
 * end.
 *
 *   control_hop_start, round          hop.c: shove_hop_start, round; is_ordered, lay_aside,
 * take_up, stumble, set_aside, tries_smaller, attempt, go_on: the same control_hop hop.c: answered,
 * poisoned, end; poisoning.c: stored, orphaned hop_orphan                        hop.c:
 * shove_hop_orphan control_scan                      poisoning.c: shove_poisoning_scanned, watch
 *   control_commit                    commit.c: add, is_due
 *   control_commit_answered           commit.c: answered, refused, shrink_metadata
 *   release_recorded                  commit.c: the same
 *   control_assign                    partition.c: partition_new, restore
 *   control_revoke, step, lose        partition.c: stop_feeding, step, lost
 *   give_up, forget, shelve           partition.c: give_up, orphan_all, forget, shelve_list
 *   control_rewind                    feed.c: go_back; partition.c: shove_partition_rewind
 *   control_kill                      what is left of a process that is killed: nothing
 */
#include <stdlib.h>
#include <string.h>

#include "order_walk.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 1600
#define BACKOFF_DOUBLINGS 7
#define TRIMMED 2

/* --- Hops */

static bool is_ordered(const struct delivery *delivery) {
    return delivery->hop.reason == SHOVE_REASON_POISONED && delivery->size_refusals < TRIMMED;
}

/* What is not ordered is where it is: HOPPING, and neither offered nor laid aside. */
static void lay_aside(struct delivery *delivery) {
    if (!is_ordered(delivery))
        return;
    delivery->is_laid_aside = true;
    delivery->claim->laid_aside_count++;
    count(TALLY_LAID_ASIDE);
}

static void take_up(struct delivery *delivery) {
    if (!delivery->is_laid_aside)
        return;
    delivery->is_laid_aside = false;
    delivery->claim->laid_aside_count--;
}

static void stumble(const struct delivery *delivery) {
    if (!is_ordered(delivery))
        return;
    delivery->claim->has_stumbled = true;
    delivery->claim->stumbled_until_ms = delivery->due_ms;
}

static void set_aside(struct delivery *delivery) {
    const unsigned doublings =
        delivery->hop_failures < BACKOFF_DOUBLINGS ? delivery->hop_failures : BACKOFF_DOUBLINGS;
    const int64_t backoff_ms = (int64_t)BACKOFF_FIRST_MS << doublings;
    delivery->due_ms = walk.now_ms + (backoff_ms < BACKOFF_MAX_MS ? backoff_ms : BACKOFF_MAX_MS);
    stumble(delivery);
    lay_aside(delivery);
}

static void end_hop(struct delivery *delivery) {
    if (delivery->claim != NULL)
        delivery->claim->hopping_count--;
    control_fall_in(delivery);
}

static bool tries_smaller(struct delivery *delivery) {
    if (delivery->size_refusals == TRIMMED)
        return false;
    delivery->size_refusals++;
    delivery->due_ms = walk.now_ms;
    if (delivery->size_refusals == TRIMMED)
        reference_let_pass(delivery);
    stumble(delivery);
    lay_aside(delivery);
    return true;
}

static void failed(struct delivery *delivery, int code) {
    walk.tallies[TALLY_AHEAD_FAILED] += delivery->is_ahead;
    if (code == SHOVE_ETOOLARGE && tries_smaller(delivery))
        return;
    delivery->hop_failures += code != SHOVE_EAGAIN;
    set_aside(delivery);
}

static bool waits_for_its_turn(const struct delivery *delivery) {
    return delivery->size_refusals > 0 && delivery->process->lone_hop != NULL;
}

static void attempt(struct delivery *delivery) {
    struct process *process = delivery->process;
    take_up(delivery);
    if (happens(walk.temper.full_chance)) { /* of the producer's queue, or it is not connected */
        failed(delivery, happens(128) ? SHOVE_EAGAIN : SHOVE_ENOTOPIC);
        return;
    }
    delivery->is_offered = true;
    delivery->offered = ++process->offered;
    delivery->claim->ordered_in_flight += is_ordered(delivery);
    if (delivery->size_refusals > 0)
        process->lone_hop = delivery;
}

void control_hop_start(struct delivery *delivery, const struct shove_hop *hop) {
    const struct claim *claim = delivery->claim;
    control_set_state(delivery, HOPPING);
    delivery->hop = *hop;
    delivery->hop_failures = delivery->size_refusals = 0;
    delivery->claim->hopping_count++;
    if (is_ordered(delivery) && (claim->has_stumbled || claim->laid_aside_count > 0))
        lay_aside(delivery);
    else
        attempt(delivery);
}

static void abandon(struct delivery *delivery) {
    end_hop(delivery);
    count(TALLY_ORPHANS_ENDED);
    control_delivery_free(delivery);
}

static void hop_orphan(struct delivery *delivery) {
    struct claim *claim = delivery->claim;
    const bool is_in_no_list = delivery->is_laid_aside;
    control_fall_in(delivery);
    take_up(delivery);
    claim->ordered_in_flight -= !is_in_no_list && is_ordered(delivery);
    claim->hopping_count--;
    delivery->claim = NULL;
    if (!is_in_no_list)
        return;
    control_forget_turn(delivery);
    abandon(delivery);
}

static void end(struct delivery *delivery) {
    end_hop(delivery);
    if (is_ordered(delivery))
        delivery->claim->has_stumbled = false;
    control_delivery_close(delivery);
}

/* `at`: of the record that says so. */
static void poisoned(struct delivery *delivery, size_t at, bool is_blind) {
    struct claim *claim = delivery->claim;
    char key[KEYS_MAX];
    reference_poisoned(delivery, at);
    if (is_blind)
        claim->poison_next = -1;
    if (is_blind || (int64_t)at >= claim->poison_next)
        require(shove_poison_add(&claim->poison, key, key_bytes(delivery->key, key),
                                 delivery->entry.offset, is_blind ? -1 : (int64_t)at) == 0,
                "out of memory");
    delivery->hop.poisons = false;
    delivery->hop_failures = delivery->size_refusals = 0;
    if (delivery->hop.kind == SHOVE_HOP_DISCARD)
        end(delivery);
    else
        attempt(delivery);
}

/* What was with the producer has come to its end: stored or not; `code`: the producer is told 0, or
 * why not, and then it is offered again; `is_blind`: it is not told where. */
void control_hop(struct delivery *delivery, bool is_stored, int code, bool is_blind) {
    struct process *process = delivery->process;
    struct claim *claim = delivery->claim;
    const bool is_poison = delivery->hop.poisons;
    const size_t at = worlds[delivery->partition].poison_count;
    if (is_stored && is_poison)
        world_store_poison(delivery->partition, delivery->key, delivery->entry.offset);
    else if (is_stored)
        reference_stored(delivery);
    else
        reference_failed(delivery);
    delivery->is_offered = false;
    if (process->lone_hop == delivery)
        process->lone_hop = NULL;
    if (claim == NULL) {
        claim = process->claims[delivery->partition];
        if (code == 0 && is_poison && claim != NULL)
            claim->late_looks = LATE_LOOKS;
        abandon(delivery);
        return;
    }
    claim->ordered_in_flight -= is_ordered(delivery);
    if (code != 0)
        failed(delivery, code);
    else if (is_poison)
        poisoned(delivery, at, is_blind);
    else
        end(delivery);
}

static void go_on(struct claim *claim) {
    const bool is_alone = claim->has_stumbled;
    struct shove_ledger_entry *entry = claim->ledger.first;
    for (; entry != NULL && claim->laid_aside_count > 0; entry = entry->next) {
        struct delivery *delivery = (struct delivery *)entry;
        if (!delivery->is_laid_aside)
            continue;
        if (!waits_for_its_turn(delivery))
            attempt(delivery);
        else if (claim->ordered_in_flight == 0)
            claim->stumbled_until_ms = walk.now_ms + BACKOFF_FIRST_MS;
        if (is_alone || delivery->is_laid_aside)
            return;
    }
}

void control_hop_round(struct process *process) {
    for (unsigned i = 0; i < PARTITIONS; i++) {
        struct claim *claim = process->claims[i];
        if (claim != NULL && claim->laid_aside_count > 0 && claim->ordered_in_flight == 0 &&
            claim->stumbled_until_ms <= walk.now_ms)
            go_on(claim);
    }
    const struct set *hopping = &process->sets[HOPPING];
    for (size_t i = hopping->count; i-- > 0;) {
        struct delivery *delivery = hopping->items[i];
        if (delivery->is_offered || delivery->is_laid_aside)
            continue;
        if (delivery->claim == NULL)
            abandon(delivery);
        else if (delivery->due_ms <= walk.now_ms && !waits_for_its_turn(delivery))
            attempt(delivery);
    }
}

/* --- Poison */

void control_scan(struct claim *claim, size_t most) {
    const struct world *world = &worlds[claim->partition];
    if (claim->is_revoking ||
        !(claim->is_learning || claim->poison.count > 0 || claim->late_looks > 0))
        return;
    char key[KEYS_MAX];
    size_t at = claim->poison_next < 0 ? 0 : (size_t)claim->poison_next;
    for (; at < world->poison_count && most > 0; at++, most--) {
        const size_t size = key_bytes(world->poison[at].key, key);
        if (world->poison[at].offset < 0)
            shove_poison_clear(&claim->poison, key, size, (int64_t)at);
        else
            require(shove_poison_add(&claim->poison, key, size, world->poison[at].offset,
                                     (int64_t)at) == 0,
                    "out of memory");
    }
    claim->poison_next = (int64_t)at;
    reference_learned(claim);
    if (at < world->poison_count)
        return;
    shove_poison_read_all(&claim->poison);
    claim->late_looks -= !claim->is_learning && claim->late_looks > 0;
    claim->is_learning = false;
}

/* --- Commits */

void control_commit(struct claim *claim) {
    if (!claim->is_dirty || claim->is_committing)
        return;
    struct commit *commit = &claim->commit;
    struct shove_ledger_coverage coverage;
    const size_t room = shove_ledger_metadata_room(&claim->ledger, claim->process->metadata_max);
    require(room < sizeof commit->text, "room for %zu characters", room);
    shove_ledger_metadata(&claim->ledger, commit->text, room, &coverage);
    commit->offset = shove_ledger_frontier(&claim->ledger);
    require(coverage.may_repeat == 0 || room == claim->process->metadata_max,
            "it was cut for want of %zu characters that it had", claim->process->metadata_max);
    claim->is_dirty = false;
    claim->is_committing = true;
    claim->commit_sequence++;
    reference_built(claim, &coverage);
}

static void release_recorded(struct process *process) {
    const struct set *recording = &process->sets[RECORDING];
    for (size_t i = recording->count; i-- > 0;) {
        struct delivery *delivery = recording->items[i];
        if (delivery->commit_sequence <= delivery->claim->commit_acknowledged)
            control_feed_again(delivery);
    }
    for (size_t i = 0; i < recording->count; i++)
        control_commit(recording->items[i]->claim);
}

void control_commit_answered(struct claim *claim, int code) {
    claim->is_committing = false;
    claim->has_refused_last = code != 0;
    if (code == 0) {
        claim->commit_acknowledged = claim->commit_sequence;
    } else {
        claim->is_dirty = true;
        count(TALLY_COMMITS_REFUSED);
    }
    const size_t half = strlen(claim->commit.text) / 2;
    if (code == SHOVE_ETOOLARGE && claim->process->metadata_max > half)
        claim->process->metadata_max = half;
    if (code == SHOVE_ETOOLARGE)
        control_commit(claim);
    release_recorded(claim->process);
}

/* --- Partitions */

void control_assign(struct process *process, int partition) {
    const struct commit *committed = &worlds[partition].committed;
    struct claim *claim = calloc(1, sizeof *claim);
    if (claim == NULL)
        abort();
    *claim = (struct claim){.process = process,
                            .partition = partition,
                            .position = committed->offset,
                            .is_learning = walk.temper.policy.poisons,
                            .late_looks = LATE_LOOKS,
                            .poison_next = -1};
    process->claims[partition] = claim;
    struct shove_error error = {0, ""};
    shove_ledger_init(&claim->ledger, committed->offset);
    require(
        shove_ledger_restore(&claim->ledger, committed->text, strlen(committed->text), &error) == 0,
        "what was committed is refused: %s", error.text);
    reference_assigned(claim);
}

static void forget(void *ctx, struct shove_ledger_entry *entry) {
    struct claim *claim = ctx;
    struct delivery *delivery = (struct delivery *)entry;
    if (delivery->state == RUNNING) {
        claim->running_count--;
        reference_orphaned(delivery);
        delivery->claim = NULL;
    } else if (delivery->state == HOPPING) {
        hop_orphan(delivery);
    } else {
        control_forget_turn(delivery);
        control_delivery_free(delivery);
    }
}

static void give_up(struct claim *claim) {
    shove_ledger_abandon(&claim->ledger, forget, claim);
    require(claim->running_count == 0 && claim->hopping_count == 0 && claim->queued_count == 0,
            "a partition was given up with %u running, %u hopping and %zu queued",
            claim->running_count, claim->hopping_count, claim->queued_count);
    require(claim->ordered_in_flight == 0 && claim->laid_aside_count == 0,
            "a partition was given up with %u dead letters in order, and %u laid aside",
            claim->ordered_in_flight, claim->laid_aside_count);
    shove_poison_release(&claim->poison);
    shove_ledger_release(&claim->ledger);
    claim->process->claims[claim->partition] = NULL;
    worlds[claim->partition].owner = NULL;
    free(claim);
}

static void shelve(const struct claim *claim, int64_t from_offset) {
    static const enum state states[] = {WAITING, AGAIN, RECORDING};
    for (size_t s = 0; s < sizeof states / sizeof states[0]; s++) {
        const struct set *set = &claim->process->sets[states[s]];
        for (size_t i = set->count; i-- > 0;) {
            if (set->items[i]->claim == claim && set->items[i]->entry.offset >= from_offset)
                control_set_state(set->items[i], SHELVED);
        }
    }
}

void control_revoke(struct claim *claim) {
    claim->is_revoking = true;
    shelve(claim, INT64_MIN);
}

/* The log was cut at `offset`, which was delivered, and is written anew from there. */
void control_rewind(struct claim *claim, int64_t offset) {
    shelve(claim, offset);
    shove_ledger_rewind(&claim->ledger, offset, forget, claim);
    claim->position = offset;
    claim->is_dirty = true;
}

/* `is_impatient`: the time for what it waits for is over. */
void control_step(struct claim *claim, bool is_impatient) {
    const bool is_busy = claim->running_count + claim->hopping_count > 0;
    if (is_busy && !is_impatient && !claim->is_final_sent)
        return;
    claim->has_refused_last = claim->has_refused_last && claim->is_final_sent;
    claim->is_final_sent = true;
    const bool is_committed = !claim->is_dirty && !claim->is_committing && !claim->has_refused_last;
    if (!is_committed && !is_impatient) {
        control_commit(claim);
        return;
    }
    count(TALLY_GIVEN_UP);
    reference_given_up(claim, is_committed && !is_busy);
    give_up(claim);
}

void control_lose(struct claim *claim) {
    count(TALLY_LOST);
    reference_given_up(claim, false);
    give_up(claim);
}

/* --- Processes */

void control_start(struct process *process, unsigned index) {
    *process = (struct process){.index = index, .metadata_max = walk.temper.metadata_max};
}

/* Its memory is gone. */
void control_kill(struct process *process) {
    for (size_t i = 0; i < process->sets[RUNNING].count; i++)
        reference_ended(process->sets[RUNNING].items[i]);
    for (int partition = 0; partition < PARTITIONS; partition++) {
        struct claim *claim = process->claims[partition];
        if (claim == NULL)
            continue;
        count(TALLY_KILLS_IN_WINDOW);
        walk.tallies[TALLY_KILLS_IN_WINDOW] -= !shove_ledger_asks_for_keys(&claim->ledger);
        shove_poison_release(&claim->poison);
        shove_ledger_release(&claim->ledger);
        worlds[partition].owner = NULL;
        free(claim);
    }
    shove_sequence_release(&process->sequence);
    for (unsigned state = 0; state < STATES; state++) {
        for (size_t i = 0; i < process->sets[state].count; i++) {
            if (process->sets[state].items[i]->turn.key != NULL)
                reference_left(process->sets[state].items[i]);
            free(process->sets[state].items[i]);
        }
        free(process->sets[state].items);
    }
    control_start(process, process->index);
}
