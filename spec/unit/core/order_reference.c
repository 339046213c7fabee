/* order_reference.c: the world of order_walk, and what is true of it: plain arrays by offset, and
 * by key. Here is everything that must hold (order_walk.c lists it).
 */
#include <inttypes.h>
#include <string.h>

#include "order_walk.h"

struct world worlds[PARTITIONS];

/* Some are empty, some hold zero bytes, some differ only in their length. */
size_t key_bytes(int key, char out[KEYS_MAX]) {
    memset(out, 'k', KEYS_MAX);
    if (key % 4 == 0)
        return (size_t)key;
    memset(out, 0, 4);
    out[0] = (char)key;
    return key % 4 == 1 ? 2 : 4;
}

static struct world *world_of(const struct delivery *delivery) {
    return &worlds[delivery->partition];
}

/* --- The world */

/* Whatever follows a record that is gone, under its key, may be handled again while the text that
 * named it counts: whose key it was is not known any more. */
static void allow_repeats(struct world *world, int64_t from) {
    for (int64_t offset = from; offset < world->log_end; offset++)
        world->may_repeat[offset] |= world->is_settled[offset];
}

void world_remove(int partition) {
    struct world *world = &worlds[partition];
    if (world->log_end == 0)
        return;
    const int64_t offset = (int64_t)below((uint64_t)world->log_end);
    if (!world->exists[offset])
        return;
    world->exists[offset] = false;
    world->is_removed[offset] = true;
    if (world->owner != NULL && shove_ledger_asks_for_keys(&world->owner->ledger))
        allow_repeats(world, offset + 1);
    count(TALLY_REMOVED);
}

static void forget_record(struct world *world, int64_t offset) {
    world->exists[offset] = world->is_removed[offset] = world->is_oversize[offset] = false;
    world->is_settled[offset] = world->may_repeat[offset] = world->must_poison[offset] = false;
    world->has_crashed_out[offset] = world->is_open[offset] = world->is_follower[offset] = false;
    world->is_acked[offset] = world->is_stored[offset] = false;
    world->passed_until[offset] = 0;
    world->now.is_finished[offset] = false;
    world->now.attempts[offset] = world->now.crashes[offset] = 0;
    world->now.due_ms[offset] = 0;
}

/* Its owner notices at once. */
void world_cut(int partition, int64_t offset) {
    struct world *world = &worlds[partition];
    for (unsigned key = 0; key < KEYS_MAX; key++) {
        while (world->key_last[key] >= offset)
            world->key_last[key] = world->before[world->key_last[key]];
        if (world->key_settled[key] >= offset)
            world->key_settled[key] = world->key_last[key] < 0 ? -1 : offset - 1;
        if (world->key_started[key] >= offset)
            world->key_started[key] = -1;
    }
    for (int64_t gone = offset; gone < world->log_end; gone++)
        forget_record(world, gone);
    world->log_end = offset;
    if (world->now.frontier > offset)
        world->now.frontier = offset;
    if (world->committed.offset > offset)
        world->committed.offset = offset;
    count(TALLY_REWINDS);
}

void world_store_poison(int partition, int key, int64_t offset) {
    struct world *world = &worlds[partition];
    require(world->poison_count < POISON_MAX, "%d records of poison", POISON_MAX);
    world->poison[world->poison_count].key = key;
    world->poison[world->poison_count].offset = offset;
    world->poison[world->poison_count].is_known = false;
    world->poison_count++;
}

void world_store_commit(int partition, const struct commit *commit) {
    struct world *world = &worlds[partition];
    require(commit->offset >= world->committed.offset,
            "the committed offset went back from %" PRId64 " to %" PRId64, world->committed.offset,
            commit->offset);
    world->committed = *commit;
}

int64_t world_next(int partition, int64_t offset) {
    const struct world *world = &worlds[partition];
    for (; offset < world->log_end; offset++) {
        if (world->exists[offset])
            return offset;
    }
    return -1;
}

/* --- An owner begins, and ends */

void reference_assigned(struct claim *claim) {
    struct world *world = &worlds[claim->partition];
    struct facts *now = &world->now;
    world->owner = claim;
    *now = world->committed.facts;
    require(claim->ledger.speaks_to == now->speaks_to,
            "the text speaks to %" PRId64 ", it was written to speak to %" PRId64,
            claim->ledger.speaks_to, now->speaks_to);
    memset(world->is_open, 0, sizeof world->is_open);
    memset(world->is_follower, 0, sizeof world->is_follower);
    for (int64_t offset = now->speaks_to; offset < OFFSETS_MAX; offset++) {
        now->is_finished[offset] = false;
        now->attempts[offset] = now->crashes[offset] = 0;
        now->due_ms[offset] = 0;
    }
    bool has_gone = false;
    /* A keyed text cannot say that a dead letter was stored before one that failed (ledger.h). */
    bool is_behind_open[KEYS_MAX] = {false};
    for (int64_t offset = 0; offset < OFFSETS_MAX; offset++) {
        if (offset < now->frontier)
            now->is_finished[offset] = true;
        const int key = world->key[offset];
        now->is_doubtful[offset] |= key != NO_KEY && is_behind_open[key];
        now->is_doubtful[offset] &= offset >= now->frontier && offset < now->speaks_to;
        const bool is_vague = offset >= now->frontier && offset < now->speaks_to &&
                              (has_gone || walk.temper.has_weak_hash || now->is_doubtful[offset]);
        if (key != NO_KEY && world->committed.is_keyed && !now->is_finished[offset])
            is_behind_open[key] = true;
        world->may_repeat[offset] =
            world->is_settled[offset] && (!now->is_finished[offset] || is_vague);
        has_gone |= offset >= now->frontier && world->is_removed[offset];
    }
    for (unsigned key = 0; key < KEYS_MAX; key++)
        world->key_started[key] = -1;
    for (size_t at = 0; at < world->poison_count; at++)
        world->poison[at].is_known = false;
}

/* Once it is due it does not matter any more since when. */
static bool is_as_due(int64_t now_due_ms, int64_t saved_due_ms) {
    return now_due_ms == saved_due_ms || (now_due_ms == 0 && saved_due_ms <= walk.now_ms);
}

void reference_given_up(struct claim *claim, bool is_orderly) {
    const struct world *world = &worlds[claim->partition];
    const struct facts *now = &world->now;
    const struct facts *saved = &world->committed.facts;
    for (int64_t offset = 0; is_orderly && offset < saved->speaks_to; offset++) {
        if (now->is_finished[offset] || !world->is_open[offset])
            continue;
        require(!saved->is_finished[offset] && saved->attempts[offset] == now->attempts[offset] &&
                    saved->crashes[offset] == now->crashes[offset] &&
                    is_as_due(now->due_ms[offset], saved->due_ms[offset]),
                "%" PRId64 " was given up in order with %u attempts, %u crashes, due at %" PRId64
                "; committed are %u, %u, %" PRId64,
                offset, now->attempts[offset], now->crashes[offset], now->due_ms[offset],
                saved->attempts[offset], saved->crashes[offset], saved->due_ms[offset]);
    }
    for (int64_t offset = 0; is_orderly && offset < claim->position; offset++) {
        require(
            !now->is_finished[offset] || offset < saved->frontier ||
                (offset >= saved->speaks_to ? world->committed.is_cut : saved->is_finished[offset]),
            "%" PRId64 " was finished before all was given up in order, and not committed", offset);
    }
    for (unsigned key = 0; key < KEYS_MAX; key++)
        require(!is_orderly || world->key_running[key] == 0, "a handler of key %u was left behind",
                key);
}

/* --- Records */

static int64_t whole_seconds(int64_t ms) {
    return (ms + 999) / 1000 * 1000;
}

void reference_delivered(const struct delivery *delivery, enum shove_ledger_verdict verdict) {
    struct world *world = world_of(delivery);
    struct facts *now = &world->now;
    const int64_t offset = delivery->entry.offset;
    require(verdict != SHOVE_LEDGER_REWOUND, "%" PRId64 " was taken for an older one", offset);
    if (verdict == SHOVE_LEDGER_FINISHED) {
        require(world->is_settled[offset], "%" PRId64 " was skipped and never handled", offset);
        require(now->is_finished[offset], "%" PRId64 " was open, and is skipped", offset);
        return;
    }
    require(!now->is_finished[offset] || world->may_repeat[offset],
            "%" PRId64 " was finished, and is open again", offset);
    require(delivery->entry.attempts == now->attempts[offset] &&
                delivery->entry.crashes == now->crashes[offset],
            "%" PRId64 " has %u attempts and %u crashes, not %u and %u", offset,
            delivery->entry.attempts, delivery->entry.crashes, now->attempts[offset],
            now->crashes[offset]);
    require(delivery->entry.due_ms == whole_seconds(now->due_ms[offset]),
            "%" PRId64 " is due at %" PRId64 ", not at %" PRId64, offset, delivery->entry.due_ms,
            now->due_ms[offset]);
    now->is_finished[offset] = now->is_doubtful[offset] = false;
    world->is_open[offset] = true;
}

void reference_entered(const struct delivery *delivery, enum shove_sequence_verdict verdict) {
    unsigned *entered = &world_of(delivery)->key_entered[delivery->process->index][delivery->key];
    const bool is_full = *entered > walk.temper.max_pending;
    require(verdict == (is_full        ? SHOVE_SEQUENCE_FULL
                        : *entered > 0 ? SHOVE_SEQUENCE_WAITS
                                       : SHOVE_SEQUENCE_TURN),
            "with %u of its key before it, %" PRId64 " was told %d", *entered,
            delivery->entry.offset, (int)verdict);
    *entered += !is_full;
}

void reference_left(const struct delivery *delivery) {
    world_of(delivery)->key_entered[delivery->process->index][delivery->key]--;
}

/* --- Handling */

/* Whether a record that its owner has read, or stored, says so. */
static bool is_poisoned(const struct world *world, int key, int64_t offset) {
    for (size_t at = world->poison_count; key != NO_KEY && at-- > 0;) {
        if (world->poison[at].key == key && world->poison[at].is_known)
            return world->poison[at].offset >= 0 && world->poison[at].offset < offset;
    }
    return false;
}

/* It is the oldest of its key that is not settled, for this owner and for all before. */
static void check_turn(struct world *world, int key, int64_t offset) {
    require(offset >= world->key_started[key],
            "%" PRId64 " has its turn, and %" PRId64 " had it before", offset,
            world->key_started[key]);
    for (int64_t at = world->before[offset]; at >= 0 && at >= world->key_started[key];
         at = world->before[at])
        require(world->now.is_finished[at] || (!world->exists[at] && !world->is_open[at]),
                "%" PRId64 " has its turn, and %" PRId64 " before it is open", offset, at);
    for (int64_t at = world->before[offset]; at > world->key_settled[key]; at = world->before[at])
        require(world->is_settled[at] || !world->exists[at],
                "%" PRId64 " has its turn, and %" PRId64 " before it was never settled", offset,
                at);
    if (world->before[offset] > world->key_settled[key])
        world->key_settled[key] = world->before[offset];
    world->key_started[key] = offset;
}

static void check_unhandled(const struct delivery *delivery) {
    const struct world *world = world_of(delivery);
    const int64_t offset = delivery->entry.offset;
    require(world->owner == delivery->claim && world->is_open[offset] &&
                !world->now.is_finished[offset],
            "%" PRId64 " is not open, and is handled", offset);
    require(!delivery->claim->is_learning, "%" PRId64 " is handled before poison is read", offset);
    require(!delivery->claim->is_revoking, "%" PRId64 " is handled while it is given up", offset);
}

/* What is before it is settled, or such a dead letter on its way, all of it. */
void reference_went_ahead(const struct delivery *delivery) {
    struct world *world = world_of(delivery);
    const int key = delivery->key;
    const int64_t offset = delivery->entry.offset;
    check_unhandled(delivery);
    require(key != NO_KEY && is_poisoned(world, key, offset),
            "%" PRId64 " goes ahead, and its key is not poisoned", offset);
    bool is_behind_any = false;
    for (int64_t at = world->before[offset]; at >= 0 && at >= world->key_started[key];
         at = world->before[at]) {
        const bool is_on_its_way = world->is_open[at] && world->is_follower[at];
        is_behind_any |= is_on_its_way;
        require(is_on_its_way || world->now.is_finished[at] ||
                    (!world->exists[at] && !world->is_open[at]),
                "%" PRId64 " goes ahead, and %" PRId64 " before it is open", offset, at);
    }
    require(is_behind_any, "%" PRId64 " goes ahead of nothing", offset);
    count(TALLY_AHEAD);
}

void reference_unhandled(const struct delivery *delivery, enum shove_outcome outcome) {
    struct world *world = world_of(delivery);
    const int64_t offset = delivery->entry.offset;
    check_unhandled(delivery);
    if (delivery->key != NO_KEY)
        check_turn(world, delivery->key, offset);
    const bool follows = is_poisoned(world, delivery->key, offset);
    require(outcome == (follows                      ? SHOVE_OUTCOME_POISONED
                        : world->is_oversize[offset] ? SHOVE_OUTCOME_OVERSIZE
                                                     : (enum shove_outcome)0),
            "%" PRId64 " has its turn with %s", offset,
            outcome != 0 ? shove_outcome_name(outcome) : "a handler");
    walk.tallies[TALLY_CLEARED] +=
        !follows && world->before[offset] >= 0 && world->is_follower[world->before[offset]];
}

static void check_runs(const struct delivery *delivery) {
    struct world *world = world_of(delivery);
    if (delivery->key == NO_KEY)
        return;
    require(world->key_running_in[delivery->process->index][delivery->key]++ == 0,
            "two of key %d run at once", delivery->key);
    require(world->key_running[delivery->key]++ == 0, "two of key %d run at once, in two owners",
            delivery->key);
}

/* A crash is on the broker before the message runs again, as far as the broker has room. */
static bool is_recorded(const struct world *world, int64_t offset) {
    const struct facts *saved = &world->committed.facts;
    return saved->crashes[offset] >= world->now.crashes[offset] || offset >= saved->speaks_to;
}

void reference_started(const struct delivery *delivery) {
    struct world *world = world_of(delivery);
    struct facts *now = &world->now;
    const int64_t offset = delivery->entry.offset;
    check_runs(delivery);
    require(!delivery->claim->is_revoking, "%" PRId64 " was handled while it is given up", offset);
    require(walk.now_ms >= now->due_ms[offset],
            "%" PRId64 " was handled at %" PRId64 ", it is due at %" PRId64, offset, walk.now_ms,
            now->due_ms[offset]);
    require(delivery->retry_count == now->attempts[offset] &&
                now->attempts[offset] <= walk.temper.policy.max_retries,
            "attempt %u of %" PRId64 " is its %u.", delivery->retry_count, offset,
            now->attempts[offset]);
    require(delivery->crashes == now->crashes[offset] &&
                (now->crashes[offset] < walk.temper.policy.max_crashes ||
                 world->has_crashed_out[offset]) &&
                is_recorded(world, offset),
            "%" PRId64 " runs after %u crashes, %u of them recorded", offset, now->crashes[offset],
            world->committed.facts.crashes[offset]);
    require(!world->is_settled[offset] || world->may_repeat[offset],
            "%" PRId64 " was settled for good, and runs again", offset);
    count(TALLY_STARTS);
    walk.tallies[TALLY_REPEATS] += world->is_settled[offset];
    now->due_ms[offset] = 0;
}

void reference_ended(const struct delivery *delivery) {
    struct world *world = world_of(delivery);
    if (delivery->key == NO_KEY)
        return;
    world->key_running_in[delivery->process->index][delivery->key]--;
    world->key_running[delivery->key] -= delivery->claim != NULL;
}

void reference_orphaned(const struct delivery *delivery) {
    if (delivery->key != NO_KEY)
        world_of(delivery)->key_running[delivery->key]--;
}

/* --- Outcomes */

static enum shove_hop_kind expected_kind(const struct facts *now, enum shove_outcome outcome,
                                         int64_t offset) {
    const struct shove_policy *policy = &walk.temper.policy;
    const enum shove_hop_kind dead = policy->has_dlq ? SHOVE_HOP_DEAD : SHOVE_HOP_DISCARD;
    if (outcome == SHOVE_OUTCOME_TIMEOUT)
        outcome = policy->timeout_outcome;
    switch (outcome) {
    case SHOVE_OUTCOME_ACK:
        return SHOVE_HOP_DONE;
    case SHOVE_OUTCOME_REJECT:
    case SHOVE_OUTCOME_OVERSIZE:
    case SHOVE_OUTCOME_UNDECODABLE:
    case SHOVE_OUTCOME_POISONED:
        return dead;
    case SHOVE_OUTCOME_CRASHED:
        return now->crashes[offset] + 1u < policy->max_crashes ? SHOVE_HOP_AGAIN : dead;
    default:
        return now->attempts[offset] < policy->max_retries ? SHOVE_HOP_WAIT : dead;
    }
}

static bool is_dead(enum shove_hop_kind kind) {
    return kind == SHOVE_HOP_DEAD || kind == SHOVE_HOP_DISCARD;
}

void reference_decided(const struct delivery *delivery, enum shove_outcome outcome,
                       const struct shove_hop *hop) {
    struct world *world = world_of(delivery);
    struct facts *now = &world->now;
    const struct shove_policy *policy = &walk.temper.policy;
    const int64_t offset = delivery->entry.offset;
    const enum shove_hop_kind expected = expected_kind(now, outcome, offset);
    const bool poisons = is_dead(expected) && policy->poisons &&
                         outcome != SHOVE_OUTCOME_POISONED && delivery->key != NO_KEY;
    require(hop->kind == expected && hop->poisons == poisons,
            "%s of %" PRId64 " leads to %d, not to %d", shove_outcome_name(outcome), offset,
            (int)hop->kind, (int)expected);
    world->decided[offset] = expected;
    world->must_poison[offset] = poisons;
    world->dead_letters[offset] = 0;
    world->is_follower[offset] = expected == SHOVE_HOP_DEAD && outcome == SHOVE_OUTCOME_POISONED;
    if (expected == SHOVE_HOP_WAIT) {
        const uint32_t tier = now->attempts[offset] < policy->hold_count ? now->attempts[offset]
                                                                         : policy->hold_count - 1;
        now->due_ms[offset] = walk.now_ms + 1 + policy->holds_ms[tier];
        now->attempts[offset]++;
    }
    now->crashes[offset] += outcome == SHOVE_OUTCOME_CRASHED;
    world->has_crashed_out[offset] |= outcome == SHOVE_OUTCOME_CRASHED && is_dead(expected);
    walk.tallies[TALLY_CRASHES] += outcome == SHOVE_OUTCOME_CRASHED;
    walk.tallies[TALLY_POISONED] += outcome == SHOVE_OUTCOME_POISONED;
}

/* With others of its key on their way beside it, which may be stored now. */
void reference_failed(const struct delivery *delivery) {
    struct world *world = world_of(delivery);
    const struct set *hopping = &delivery->process->sets[HOPPING];
    int64_t *until = &world->passed_until[delivery->entry.offset];
    for (size_t i = 0; i < hopping->count; i++) {
        const struct delivery *beside = hopping->items[i];
        if (beside->is_offered && beside->partition == delivery->partition &&
            beside->key == delivery->key && beside->entry.offset > *until)
            *until = beside->entry.offset;
    }
}

void reference_let_pass(const struct delivery *delivery) {
    world_of(delivery)->passed_until[delivery->entry.offset] = INT64_MAX;
}

/* As a dead letter, by its owner or one that was. */
void reference_stored(const struct delivery *delivery) {
    struct world *world = world_of(delivery);
    const int64_t offset = delivery->entry.offset;
    const bool is_first = !world->is_stored[offset];
    world->is_stored[offset] = true;
    world->dead_letters[offset] += delivery->claim != NULL;
    if (!is_first || delivery->hop.reason != SHOVE_REASON_POISONED)
        return;
    bool has_passed = false;
    for (int64_t at = world->before[offset]; at >= 0; at = world->before[at]) {
        if (world->is_stored[at] || world->is_settled[at] ||
            (!world->exists[at] && !world->is_open[at]))
            continue;
        require(world->passed_until[at] >= offset,
                "the dead letter of %" PRId64 " is stored, and %" PRId64 " before it is not",
                offset, at);
        has_passed = true;
    }
    walk.tallies[TALLY_PASSED] += has_passed;
}

static bool has_poison(const struct world *world, int key, int64_t offset) {
    for (size_t at = world->poison_count; at-- > 0;) {
        if (world->poison[at].key == key && world->poison[at].offset == offset &&
            world->poison[at].is_known)
            return true;
    }
    return false;
}

void reference_closed(const struct delivery *delivery) {
    struct world *world = world_of(delivery);
    struct facts *now = &world->now;
    const int64_t offset = delivery->entry.offset;
    require(world->owner == delivery->claim && world->is_open[offset],
            "%" PRId64 " was closed by one that is not its owner", offset);
    require(world->decided[offset] == SHOVE_HOP_DONE ||
                world->decided[offset] == SHOVE_HOP_DISCARD || world->dead_letters[offset] > 0,
            "%" PRId64 " was closed before its dead letter was stored", offset);
    require(!world->must_poison[offset] || has_poison(world, delivery->key, offset),
            "%" PRId64 " was closed before its key was poisoned", offset);
    world->is_acked[offset] |= world->decided[offset] == SHOVE_HOP_DONE;
    walk.tallies[TALLY_DEAD] += world->decided[offset] != SHOVE_HOP_DONE;
    now->is_finished[offset] = true;
    now->attempts[offset] = now->crashes[offset] = 0;
    now->due_ms[offset] = 0;
    world->is_open[offset] = false;
    world->is_settled[offset] = true;
    world->may_repeat[offset] = false;
}

void reference_learned(const struct claim *claim) {
    struct world *world = &worlds[claim->partition];
    for (size_t at = 0; (int64_t)at < claim->poison_next; at++)
        world->poison[at].is_known = true;
}

void reference_poisoned(const struct delivery *delivery, size_t at) {
    world_of(delivery)->poison[at].is_known = true;
}

/* --- Commits */

static void check_coverage(const struct claim *claim,
                           const struct shove_ledger_coverage *coverage) {
    const struct world *world = &worlds[claim->partition];
    const int64_t known_end = shove_ledger_known_end(&claim->ledger);
    const int64_t finished_beyond = shove_ledger_finished_beyond(&claim->ledger);
    size_t open = 0, unlisted = 0;
    int64_t may_repeat = 0;
    for (int64_t offset = 0; offset < known_end; offset++) {
        open += world->is_open[offset];
        unlisted += world->is_open[offset] && offset >= coverage->speaks_to;
        may_repeat += !world->is_open[offset] && offset >= coverage->speaks_to;
    }
    require(claim->ledger.open_count == open, "%zu are open, not %zu", claim->ledger.open_count,
            open);
    require(finished_beyond >= 0, "%" PRId64 " are finished beyond the frontier", finished_beyond);
    if (claim->position < known_end || shove_ledger_asks_for_keys(&claim->ledger))
        return;
    require(finished_beyond == known_end - claim->commit.offset - (int64_t)open,
            "finished beyond the frontier: %" PRId64, finished_beyond);
    require(coverage->unlisted == unlisted && coverage->may_repeat == may_repeat &&
                coverage->listed == open - unlisted,
            "coverage says %zu listed, %zu unlisted, %" PRId64 " may repeat", coverage->listed,
            coverage->unlisted, coverage->may_repeat);
}

/* Nothing but the oldest of each key, and of what there is more to say. */
static void check_text(const struct claim *claim) {
    const struct world *world = &worlds[claim->partition];
    bool has_listed[KEYS_MAX] = {false};
    size_t listed = 1; /* the record that found no room behind its key */
    for (int64_t offset = 0; offset < claim->position; offset++) {
        const int key = world->key[offset];
        if (!world->is_open[offset])
            continue;
        listed += key == NO_KEY || !has_listed[key] || world->now.attempts[offset] > 0 ||
                  world->now.crashes[offset] > 0 || world->now.due_ms[offset] > 0;
        if (key != NO_KEY)
            has_listed[key] = true;
    }
    require(claim->position < shove_ledger_known_end(&claim->ledger) ||
                shove_ledger_asks_for_keys(&claim->ledger) ||
                strlen(claim->commit.text) <= 48 + 16 * listed,
            "%zu characters for %zu messages", strlen(claim->commit.text), listed);
}

/* Only what is handled, set aside or blocked costs memory. */
static void check_memory(const struct claim *claim) {
    const struct temper *temper = &walk.temper;
    const size_t most = temper->queued_max + 3 * temper->aside_max +
                        2 * WORKERS * temper->worker_slots + (2 * STREAK + 1) * PARTITIONS +
                        claim->process->sets[RECORDING].count;
    require(claim->is_revoking || claim->ledger.open_count <= most, "%zu are open",
            claim->ledger.open_count);
}

/* A handler has said so, or it is a dead letter. */
static bool is_answered_for(const struct world *world, int64_t offset) {
    return world->is_acked[offset] || world->is_stored[offset] || !walk.temper.policy.has_dlq;
}

void reference_built(struct claim *claim, const struct shove_ledger_coverage *coverage) {
    struct world *world = &worlds[claim->partition];
    struct facts *now = &world->now;
    const int64_t frontier = claim->commit.offset;
    require(frontier >= now->frontier, "the frontier went back from %" PRId64 " to %" PRId64,
            now->frontier, frontier);
    for (int64_t offset = now->frontier; offset < frontier; offset++)
        require((now->is_finished[offset] && world->is_settled[offset] &&
                 is_answered_for(world, offset)) ||
                    (!world->exists[offset] && !world->is_open[offset]),
                "the frontier %" PRId64 " is past %" PRId64 ", which is open", frontier, offset);
    require(coverage->speaks_to >= frontier &&
                coverage->speaks_to <= shove_ledger_known_end(&claim->ledger),
            "the text speaks to %" PRId64, coverage->speaks_to);
    require(claim->commit.text[0] != '\0' || coverage->speaks_to == frontier,
            "nothing is said, and speaks to %" PRId64, coverage->speaks_to);
    check_coverage(claim, coverage);
    check_memory(claim);
    check_text(claim);
    now->frontier = frontier;
    claim->commit.is_cut = coverage->may_repeat > 0;
    claim->commit.is_keyed = claim->queued_count > 0 || shove_ledger_asks_for_keys(&claim->ledger);
    claim->commit.facts = *now;
    claim->commit.facts.speaks_to = coverage->speaks_to;
    count(TALLY_COMMITS);
    walk.tallies[TALLY_COMMITS_KEYED] += claim->commit.is_keyed;
    walk.tallies[TALLY_COMMITS_CUT] += coverage->may_repeat > 0;
}

void reference_settled_all(int partition) {
    const struct world *world = &worlds[partition];
    for (int64_t offset = 0; offset < world->log_end; offset++)
        require(!world->exists[offset] ||
                    (world->is_settled[offset] && is_answered_for(world, offset)),
                "%" PRId64 " was lost", offset);
    require(world->committed.text[0] == '\0' && world->committed.offset == world->log_end,
            "all is settled, and %" PRId64 " of %" PRId64 " is committed, with '%s'",
            world->committed.offset, world->log_end, world->committed.text);
}
