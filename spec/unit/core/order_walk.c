/* order_walk.c: a random walk of all that keeps the order of a sequenced topic, beside a reference
 * that is too simple to be wrong.
 *
 *     order_walk [SEED [STEPS]]         prints the seed first; exits 1 at the first difference
 *
 * What is tried is the core itself: the ledger with the texts it commits, the sequence, the poison
 * and the decision on an outcome, put together by order_control.c as runtime/control does it, and
 * held against order_reference.c. There is no broker, no clock and no handler: all three are here.
 *
 * A round is one topic of one or two partitions, from its first record until all is settled. Two
 * processes share it. Records have few hot and many cold keys, or none; some are too large to be
 * handled. Random actions: records are written and read, removed by compaction or retention, or cut
 * off and written anew; handlers end in any order with any outcome, or take their worker with them;
 * retries come due; poison and dead letters are stored, or not, or are said not to be; commits are
 * built, stored, answered, refused, or lost with their process, with room for everything or for
 * next to nothing; poison is cleared and looked for; partitions are given up in order or lost, so
 * that handlers end late; and processes are killed, often again before what was restored was read.
 *
 * What must hold, whatever happens:
 *   - per key and owner, messages have their turn in order, each when all before it are settled,
 *     and no turn comes before what is before it was settled at least once by somebody;
 *   - no two handlers of a key run at once in one process, nor in two unless one is an orphan;
 *   - a message behind one that poisoned its key is not handled once its owner can know it, nor is
 *     any other dead of that; poison is stored before the turn goes on;
 *   - dead letters of a poisoned key go ahead of their turn behind nothing but others of them; each
 *     is first stored when all before it of its key are, or are settled, but for one that failed
 *     while it was on its way; what follows a clearance waits for all of them;
 *   - what is finished was acknowledged by a handler or is stored as a dead letter, if there is a
 *     DLQ, before it is committed;
 *   - what is skipped was settled, and the frontier never passes anything that was not;
 *   - what was settled runs again only if the commit that its owner began with did not know of it;
 *   - attempts, crashes and due times come back as they were committed, nothing runs before it is
 *     due, more often than max_retries allows, or after a crash that is not recorded;
 *   - given up in order, nothing is forgotten;
 *   - what is open is bounded by what may be handled, set aside and wait; what a text needs, by the
 *     keys of that;
 *   - in the end all is settled, and there is nothing left.
 *
 * Where keys share hashes, or a record that a text names was removed, a message may be handled
 * again (core/ledger.h); and so may one that was stored ahead of one of its key that failed, as the
 * text names only that one. Never may one be lost, or overtaken. One whose crashes have reached
 * max_crashes runs again if the process is killed before its dead letter is stored.
 */
#include "order_walk.h"
#include "chance.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_STEPS 3000000
#define BURST_STEPS 400

struct walk walk;
static struct process processes[PROCESSES];
static unsigned burst; /* steps in which kills are frequent */

/* --- Chance and verdict */

static uint64_t draw(void) {
    return chance_draw(&walk.random);
}

uint64_t below(uint64_t bound) {
    return draw() % bound;
}

bool happens(unsigned chance_of_256) {
    return (draw() & 255) < chance_of_256;
}

void require(bool holds, const char *format, ...) {
    if (holds)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("seed %" PRIu64 ", step %" PRIu64 " (round %" PRIu64 "): ", walk.seed, walk.step,
           walk.rounds);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    exit(EXIT_FAILURE);
}

/* --- The temper of a round */

static unsigned chance(unsigned bound, unsigned chance_of_none) {
    return happens(chance_of_none) ? 0 : (unsigned)below(bound);
}

static void draw_policy(struct temper *temper) {
    static const enum shove_outcome of_timeout[] = {SHOVE_OUTCOME_RETRY, SHOVE_OUTCOME_REJECT,
                                                    SHOVE_OUTCOME_DEFER, SHOVE_OUTCOME_ACK};
    int64_t hold_ms = 0;
    for (unsigned i = 0; i < 4; i++)
        temper->holds_ms[i] = hold_ms += 1 + (int64_t)below(happens(128) ? 40 : 3000);
    temper->policy = (struct shove_policy){.holds_ms = walk.temper.holds_ms,
                                           .hold_count = 1 + (uint32_t)below(4),
                                           .max_retries = (uint32_t)below(happens(32) ? 20 : 5),
                                           .max_crashes = 1 + (uint32_t)below(4),
                                           .timeout_outcome = of_timeout[below(4)],
                                           .has_dlq = !happens(64),
                                           .is_sequenced = true,
                                           .poisons = happens(128)};
}

static void draw_temper(void) {
    static const size_t rooms[] = {0, 24, 32, 48, 80, 160, 400};
    struct temper *temper = &walk.temper;
    draw_policy(temper);
    temper->partitions = 1 + (unsigned)below(PARTITIONS);
    temper->keys = 1 + (unsigned)below(KEYS_MAX);
    temper->hot_keys = 1 + (unsigned)below(temper->keys < 4 ? temper->keys : 4);
    temper->hot_chance = (unsigned)below(257);
    temper->null_chance = chance(128, 128);
    temper->hole_chance = chance(128, 160);
    temper->oversize_chance = chance(16, 192);
    temper->ack_chance = happens(64) ? 256 : 60 + (unsigned)below(196);
    temper->die_chance = chance(64, 64);
    temper->crash_chance = chance(160, 128);
    temper->kill_chance = chance(16, 48);
    temper->lost_chance = chance(128, 96);
    temper->revoke_chance = chance(64, 64);
    temper->refuse_chance = chance(64, 128);
    temper->hop_failure_chance = chance(128, 96);
    temper->large_chance = chance(192, 128);
    temper->full_chance = chance(64, 128);
    temper->clear_chance = chance(160, 96);
    temper->max_pending = 1 + below(happens(128) ? 6 : 200);
    temper->queued_max = 1 + below(happens(64) ? 20 : 400);
    temper->aside_max = 1 + below(60);
    temper->worker_slots = 1 + below(happens(128) ? 4 : 24);
    const size_t most = happens(96) ? SHOVE_LEDGER_METADATA_MOST : SHOVE_LEDGER_METADATA_MAX;
    temper->metadata_max = happens(64) ? rooms[below(sizeof rooms / sizeof rooms[0])] : most;
    temper->broker_metadata_max = happens(32) ? below(600) : most;
    temper->has_removals = happens(64);
    /* What poisoned a key, and what a commit names, is not there any more: that is another matter.
     */
    temper->has_rewinds = happens(64) && !temper->policy.poisons && temper->metadata_max == most &&
                          temper->broker_metadata_max == most;
    temper->has_weak_hash = happens(24);
    temper->has_blind_acks = happens(96);
    if (temper->has_blind_acks) /* all is read again then, and believed before its end is reached */
        temper->clear_chance = 0;
}

/* --- What is written */

void world_begin(void) {
    memset(worlds, 0, sizeof worlds);
    for (unsigned i = 0; i < PARTITIONS; i++) {
        for (unsigned key = 0; key < KEYS_MAX; key++)
            worlds[i].key_last[key] = worlds[i].key_settled[key] = -1;
        worlds[i].log_end_max = 1 + (int64_t)below(OFFSETS_MAX - 2);
    }
}

static int draw_key(void) {
    const struct temper *temper = &walk.temper;
    if (happens(temper->null_chance))
        return NO_KEY;
    return (int)below(happens(temper->hot_chance) ? temper->hot_keys : temper->keys);
}

void world_write(int partition) {
    struct world *world = &worlds[partition];
    if (world->log_end >= world->log_end_max)
        return;
    const int64_t offset = world->log_end++;
    world->key[offset] = NO_KEY;
    world->before[offset] = -1;
    if (happens(walk.temper.hole_chance))
        return;
    const int key = draw_key();
    world->exists[offset] = true;
    world->is_oversize[offset] = happens(walk.temper.oversize_chance);
    world->key[offset] = key;
    if (key == NO_KEY)
        return;
    world->before[offset] = world->key_last[key];
    world->key_last[key] = offset;
}

/* --- Actions */

static struct process *any_process(void) {
    return &processes[below(PROCESSES)];
}

static struct claim *any_claim(void) {
    return any_process()->claims[below(walk.temper.partitions)];
}

static struct delivery *any_of(enum state state) {
    const unsigned first = (unsigned)below(PROCESSES);
    for (unsigned i = 0; i < PROCESSES; i++) {
        const struct set *set = &processes[(first + i) % PROCESSES].sets[state];
        if (set->count > 0)
            return set->items[below(set->count)];
    }
    return NULL;
}

static enum shove_outcome draw_outcome(void) {
    static const enum shove_outcome others[] = {SHOVE_OUTCOME_RETRY, SHOVE_OUTCOME_RETRY,
                                                SHOVE_OUTCOME_DEFER, SHOVE_OUTCOME_TIMEOUT,
                                                SHOVE_OUTCOME_ERROR, (enum shove_outcome)77};
    if (happens(walk.temper.ack_chance))
        return SHOVE_OUTCOME_ACK;
    if (happens(walk.temper.die_chance))
        return happens(128) ? SHOVE_OUTCOME_REJECT : SHOVE_OUTCOME_UNDECODABLE;
    return others[below(sizeof others / sizeof others[0])];
}

static void end_handler(void) {
    struct delivery *delivery = any_of(RUNNING);
    if (delivery != NULL)
        control_end_handler(delivery, draw_outcome());
}

static void end_worker(void) {
    static const enum shove_outcome ends[] = {SHOVE_OUTCOME_CRASHED, SHOVE_OUTCOME_CRASHED,
                                              SHOVE_OUTCOME_TIMEOUT, 0};
    control_kill_worker(any_process(), (unsigned)below(WORKERS), ends[below(4)]);
}

/* What a producer is given under one key for one topic keeps its order; NULL: there is nothing of
 * the kind of `one` with it. */
static struct delivery *first_like(const struct delivery *one) {
    const struct set *hopping = &one->process->sets[HOPPING];
    struct delivery *first = NULL;
    for (size_t i = 0; i < hopping->count; i++) {
        struct delivery *other = hopping->items[i];
        if (other->is_offered && other->partition == one->partition && other->key == one->key &&
            other->hop.poisons == one->hop.poisons &&
            (first == NULL || other->offered < first->offered))
            first = other;
    }
    return first;
}

/* The answers come one by one, or some at once. */
static void end_hops(void) {
    for (uint64_t left = happens(192) ? 1 : 1 + below(8); left > 0; left--) {
        struct delivery *delivery = any_of(HOPPING);
        if (delivery != NULL)
            delivery = first_like(delivery);
        if (delivery == NULL)
            return;
        const bool fails = happens(walk.temper.hop_failure_chance);
        const bool is_too_large = fails && happens(walk.temper.large_chance);
        control_hop(delivery, !fails || (!is_too_large && happens(64)),
                    is_too_large ? SHOVE_ETOOLARGE
                    : fails      ? SHOVE_ETIMEOUT
                                 : 0,
                    walk.temper.has_blind_acks && happens(64));
    }
}

/* Of those with the producer, of one that is killed: of each key the first ones. */
static void let_hops_arrive(struct process *process) {
    const struct set *hopping = &process->sets[HOPPING];
    for (size_t i = 0; i < hopping->count; i++) {
        struct delivery *delivery;
        bool arrives = true;
        while ((delivery = first_like(hopping->items[i])) != NULL) {
            delivery->is_offered = false;
            arrives = arrives && happens(192);
            if (arrives && delivery->hop.poisons)
                world_store_poison(delivery->partition, delivery->key, delivery->entry.offset);
            else if (arrives)
                reference_stored(delivery);
        }
    }
}

static void commit_round(struct process *process) {
    for (unsigned i = 0; i < PARTITIONS; i++) {
        if (process->claims[i] != NULL)
            control_commit(process->claims[i]);
    }
}

static void answer_commit(struct claim *claim, bool is_refused) {
    if (claim == NULL || !claim->is_committing)
        return;
    if (strlen(claim->commit.text) > walk.temper.broker_metadata_max) {
        control_commit_answered(claim, SHOVE_ETOOLARGE);
        return;
    }
    if (!is_refused || happens(128))
        world_store_commit(claim->partition, &claim->commit);
    control_commit_answered(claim, is_refused ? SHOVE_ETIMEOUT : 0);
}

/* What was on its way when its process, or its claim to the partition, came to its end. */
static void let_commit_arrive(const struct claim *claim) {
    if (claim != NULL && claim->is_committing && happens(128) &&
        strlen(claim->commit.text) <= walk.temper.broker_metadata_max)
        world_store_commit(claim->partition, &claim->commit);
}

static void kill_process(struct process *process) {
    for (unsigned i = 0; i < PARTITIONS; i++)
        let_commit_arrive(process->claims[i]);
    let_hops_arrive(process);
    control_kill(process);
    count(TALLY_KILLS);
    if (happens(128))
        burst = BURST_STEPS;
}

static void lose(struct claim *claim) {
    if (claim == NULL)
        return;
    let_commit_arrive(claim);
    control_lose(claim);
}

static void assign(void) {
    const int partition = (int)below(walk.temper.partitions);
    if (worlds[partition].owner == NULL)
        control_assign(any_process(), partition);
}

static void clear_poison(void) {
    const int partition = (int)below(walk.temper.partitions);
    const struct world *world = &worlds[partition];
    if (world->poison_count > 0 && world->poison_count < POISON_MAX / 2)
        world_store_poison(partition, world->poison[below(world->poison_count)].key, -1);
}

/* Below what was read; and that is committed at once, so that no text speaks of what was there. */
static void cut_log(struct claim *claim) {
    if (claim == NULL || claim->is_revoking || claim->is_committing || claim->pending != NULL ||
        claim->position == 0)
        return;
    const uint64_t most = (uint64_t)claim->position < 40 ? (uint64_t)claim->position : 40;
    const int64_t offset = claim->position - 1 - (int64_t)below(most);
    world_cut(claim->partition, offset);
    control_rewind(claim, offset);
    control_commit(claim);
    world_store_commit(claim->partition, &claim->commit);
    control_commit_answered(claim, 0);
}

/* What seldom happens. */
static void strike(void) {
    const struct temper *temper = &walk.temper;
    struct claim *claim = any_claim();
    if (happens(temper->crash_chance))
        end_worker();
    if (happens(temper->clear_chance))
        clear_poison();
    if (temper->has_removals && happens(64))
        world_remove((int)below(temper->partitions));
    if (temper->has_rewinds && happens(48))
        cut_log(any_claim());
    if (claim != NULL && !claim->is_revoking && happens(temper->revoke_chance))
        control_revoke(claim);
    if (happens(temper->lost_chance) && happens(64))
        lose(any_claim());
    if (happens(temper->kill_chance) && happens(64))
        kill_process(any_process());
}

static void tend(void) {
    struct claim *claim = any_claim();
    if (claim == NULL)
        return;
    if (claim->is_revoking)
        control_step(claim, happens(4));
    else
        control_scan(claim, 1 + below(20));
}

static void act(void) {
    const unsigned die = (unsigned)below(256);
    if (burst > 0 && burst-- > 0 && walk.temper.kill_chance > 0 && happens(6))
        kill_process(any_process());
    if (die < 40)
        world_write((int)below(walk.temper.partitions));
    else if (die < 110)
        control_feed(any_process());
    else if (die < 170)
        end_handler();
    else if (die < 182)
        end_hops();
    else if (die < 186)
        control_hop_round(any_process());
    else if (die < 192)
        commit_round(any_process());
    else if (die < 204)
        answer_commit(any_claim(), happens(walk.temper.refuse_chance));
    else if (die < 214)
        walk.now_ms += (int64_t)below(happens(32) ? 3000 : 100);
    else if (die < 228)
        tend();
    else if (die < 244)
        assign();
    else
        strike();
    walk.step++;
}

/* --- Rounds */

static bool is_all_settled(void) {
    for (unsigned i = 0; i < walk.temper.partitions; i++) {
        const struct claim *claim = worlds[i].owner;
        if (claim == NULL || worlds[i].log_end < worlds[i].log_end_max || claim->is_revoking ||
            claim->is_dirty || claim->is_committing || claim->ledger.open_count > 0 ||
            world_next((int)i, claim->position) >= 0)
            return false;
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (processes[i].sets[RUNNING].count + processes[i].sets[HOPPING].count > 0)
            return false;
    }
    return true;
}

/* Nothing goes wrong any more. */
static void calm(void) {
    struct temper *temper = &walk.temper;
    burst = 0;
    temper->ack_chance = 230;
    temper->crash_chance = temper->kill_chance = temper->lost_chance = temper->revoke_chance = 0;
    temper->refuse_chance = temper->hop_failure_chance = temper->full_chance = 0;
    temper->clear_chance = 0;
    temper->has_removals = temper->has_rewinds = false;
    for (unsigned i = 0; i < temper->partitions; i++)
        worlds[i].log_end_max = worlds[i].log_end;
}

static void append_last(int partition) {
    struct world *world = &worlds[partition];
    const int64_t offset = world->log_end++;
    world->exists[offset] = true;
    world->key[offset] = NO_KEY;
    world->before[offset] = -1;
}

static void begin_round(void) {
    walk.now_ms = 1000000 + (int64_t)below(1000);
    burst = 0;
    draw_temper();
    world_begin();
    for (unsigned i = 0; i < PROCESSES; i++)
        control_start(&processes[i], i);
    walk.rounds++;
}

/* All is settled, and committed; with one more record at the end, so that what is gone is passed.
 */
static void end_round(void) {
    calm();
    for (unsigned i = 0; i < walk.temper.partitions; i++)
        append_last((int)i);
    for (unsigned left = 200000; !is_all_settled(); left--) {
        require(left > 0, "it comes to no end");
        act();
    }
    for (unsigned i = 0; i < walk.temper.partitions; i++) {
        struct claim *claim = worlds[i].owner;
        control_revoke(claim);
        control_step(claim, false);
        require(worlds[i].owner == NULL, "partition %u is not given up", i);
        reference_settled_all((int)i);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        const struct shove_sequence *sequence = &processes[i].sequence;
        require(processes[i].ahead_count == 0, "%zu are ahead", processes[i].ahead_count);
        require(sequence->keys == NULL && sequence->key_count == 0 && sequence->waiting_count == 0,
                "%zu keys are left", sequence->key_count);
        for (unsigned state = 0; state < STATES; state++)
            require(processes[i].sets[state].count == 0, "%zu are left in state %u",
                    processes[i].sets[state].count, state);
        control_kill(&processes[i]);
    }
}

static void print_tallies(void) {
    static const char *const names[TALLY_COUNT] = {
        [TALLY_STARTS] = "handled",
        [TALLY_REPEATS] = "of them again",
        [TALLY_KILLS] = "kills",
        [TALLY_KILLS_IN_WINDOW] = "claims killed before what was restored was read",
        [TALLY_LOST] = "lost claims",
        [TALLY_GIVEN_UP] = "given up",
        [TALLY_ORPHANS_ENDED] = "orphans ended",
        [TALLY_COMMITS] = "commits",
        [TALLY_COMMITS_KEYED] = "keyed",
        [TALLY_COMMITS_CUT] = "cut",
        [TALLY_COMMITS_REFUSED] = "refused",
        [TALLY_DEAD] = "dead",
        [TALLY_POISONED] = "poisoned",
        [TALLY_BLOCKED] = "times blocked",
        [TALLY_CRASHES] = "crashes",
        [TALLY_REMOVED] = "removed",
        [TALLY_REWINDS] = "rewinds",
        [TALLY_AHEAD] = "letters went ahead",
        [TALLY_AHEAD_FAILED] = "failures ahead",
        [TALLY_LAID_ASIDE] = "times laid aside",
        [TALLY_PASSED] = "letters passed a failure",
        [TALLY_CLEARED] = "turns behind letters after a clearance"};
    printf("%" PRIu64 " steps, %" PRIu64 " rounds", walk.step, walk.rounds);
    for (unsigned i = 0; i < TALLY_COUNT; i++)
        printf(", %" PRIu64 " %s", walk.tallies[i], names[i]);
    printf("\n");
}

int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    walk.seed = argc > 1 ? strtoull(argv[1], NULL, 10)
                         : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    walk.steps = argc > 2 ? strtoull(argv[2], NULL, 10) : DEFAULT_STEPS;
    walk.random = walk.seed;
    printf("seed %" PRIu64 "\n", walk.seed);
    fflush(stdout);
    while (walk.step < walk.steps) {
        begin_round();
        for (uint64_t left = 200 + below(12000); left > 0; left--) {
            act();
            if (left % 64 == 0 && is_all_settled())
                break;
        }
        end_round();
    }
    print_tallies();
    return EXIT_SUCCESS;
}
