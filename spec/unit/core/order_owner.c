/* order_owner.c: the other half of the stand-in for runtime/control (order_control.c): what an
 * owner of a partition does about it, and how it comes to its end.
 *
 *   control_scan                      poisoning.c: shove_poisoning_scanned, watch
 *   control_commit                    commit.c: add, is_due
 *   control_commit_answered           commit.c: answered, refused, shrink_metadata,
 * release_recorded control_assign                    partition.c: partition_new, restore
 *   control_revoke, step, lose        partition.c: stop_feeding, step, lost
 *   give_up, forget, shelve           partition.c: give_up, orphan_all, forget, shelve_list
 *   control_rewind                    feed.c: go_back; partition.c: shove_partition_rewind
 *   control_kill                      what is left of a process that is killed: nothing
 */
#include <stdlib.h>
#include <string.h>

#include "order_walk.h"

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
    if (delivery->state == RUNNING || delivery->state == HOPPING) {
        if (delivery->state == RUNNING) {
            claim->running_count--;
            reference_orphaned(delivery);
        } else {
            claim->hopping_count--;
        }
        delivery->claim = NULL;
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
