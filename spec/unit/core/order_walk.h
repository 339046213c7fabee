/* order_walk.h: what the four files of order_walk share; order_walk.c says what it is.
 *
 *   order_walk.c        chance, the temper of a round, which action comes next
 *   order_control.c     a stand-in for runtime/control around the real core: messages
 *   order_owner.c       the same: hops, partitions and processes
 *   order_reference.c   the world and what is true of it, in arrays; every check
 */
#ifndef SHOVE_SPEC_ORDER_WALK_H
#define SHOVE_SPEC_ORDER_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ledger.h"
#include "core/outcome.h"
#include "core/poison.h"
#include "core/sequence.h"

#define PARTITIONS 2
#define PROCESSES 2
#define OFFSETS_MAX 512
#define KEYS_MAX 48
#define POISON_MAX 8192
#define TEXT_MAX (OFFSETS_MAX * 32 + 64) /* room there is a use for, where all are open */
#define WORKERS 2
#define LATE_LOOKS 2
#define STREAK 8
#define NO_KEY (-1)

/* --- order_walk.c */

enum tally {
    TALLY_STARTS,
    TALLY_REPEATS,
    TALLY_KILLS,
    TALLY_KILLS_IN_WINDOW, /* while restored keys were not passed */
    TALLY_LOST,
    TALLY_GIVEN_UP,
    TALLY_ORPHANS_ENDED,
    TALLY_COMMITS,
    TALLY_COMMITS_KEYED,
    TALLY_COMMITS_CUT,
    TALLY_COMMITS_REFUSED,
    TALLY_DEAD,
    TALLY_POISONED,
    TALLY_BLOCKED,
    TALLY_CRASHES,
    TALLY_REMOVED,
    TALLY_REWINDS,
    TALLY_AHEAD,        /* dead letters of poisoned keys that went ahead of their turn */
    TALLY_AHEAD_FAILED, /* times that one of them failed, ahead of its turn */
    TALLY_LAID_ASIDE,
    TALLY_PASSED,  /* stored before one that failed beside them */
    TALLY_CLEARED, /* had their turn, and no dead letter's, behind such dead letters */
    TALLY_COUNT
};

struct temper { /* of a round; chances are of 256 */
    struct shove_policy policy;
    int64_t holds_ms[4];
    unsigned partitions, keys, hot_keys, hot_chance, null_chance, hole_chance, oversize_chance;
    unsigned ack_chance, die_chance, crash_chance, kill_chance, lost_chance, revoke_chance;
    unsigned refuse_chance, hop_failure_chance, large_chance, full_chance, clear_chance;
    size_t max_pending, queued_max, aside_max, worker_slots, metadata_max, broker_metadata_max;
    bool has_removals;   /* compaction and retention */
    bool has_rewinds;    /* the log is cut, and written anew */
    bool has_weak_hash;  /* keys share hashes */
    bool has_blind_acks; /* a poison record's place is not always told */
};

struct walk {
    uint64_t seed, random, step, steps, rounds;
    uint64_t tallies[TALLY_COUNT];
    int64_t now_ms;
    struct temper temper;
};

extern struct walk walk;

uint64_t below(uint64_t bound);
bool happens(unsigned chance_of_256);
void require(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void count(enum tally tally) {
    walk.tallies[tally]++;
}

/* --- order_control.c, order_owner.c */

enum state { PENDING, QUEUED, RUNNING, HOPPING, WAITING, AGAIN, RECORDING, SHELVED, STATES };

struct process;
struct claim;

struct delivery {
    struct shove_ledger_entry entry; /* first */
    struct shove_sequence_entry turn;
    enum state state;
    size_t place; /* in its process's set of that state */
    struct process *process;
    struct claim *claim; /* NULL: orphan */
    int partition;
    int key;
    uint32_t retry_count, crashes;
    uint8_t suspicions;
    unsigned worker;
    uint64_t commit_sequence;
    struct shove_hop hop;
    bool is_ahead, is_laid_aside; /* HOPPING: before its turn; until it is due */
    bool is_offered;              /* HOPPING, and with the producer */
    uint64_t offered;             /* is_offered: in this order */
    int64_t due_ms;               /* HOPPING and neither: when it is offered again */
    unsigned hop_failures, size_refusals;
};

struct set {
    struct delivery **items;
    size_t count, capacity;
};

struct facts { /* of a partition, as a commit or an owner has them */
    int64_t frontier;
    int64_t speaks_to;
    bool is_finished[OFFSETS_MAX];
    bool is_doubtful[OFFSETS_MAX]; /* finished, and a keyed text does not say so */
    uint8_t attempts[OFFSETS_MAX];
    uint8_t crashes[OFFSETS_MAX];
    int64_t due_ms[OFFSETS_MAX];
};

struct commit {
    char text[TEXT_MAX + 1];
    int64_t offset;
    bool is_cut;
    bool is_keyed; /* perhaps */
    struct facts facts;
};

struct claim {
    struct process *process;
    int partition;
    struct shove_ledger ledger;
    int64_t position;         /* of the next record to read */
    struct delivery *pending; /* of the record before it */
    bool is_revoking, is_blocked, is_dirty, is_learning, is_committing, is_final_sent, is_clipped;
    bool has_refused_last; /* the last commit was answered so */
    size_t queued_count;
    unsigned running_count, hopping_count, late_looks;
    unsigned ordered_in_flight, laid_aside_count;
    bool has_stumbled;
    int64_t stumbled_until_ms;
    uint64_t commit_sequence, commit_acknowledged;
    struct shove_poisoned_keys poison;
    int64_t poison_next;  /* -1: from the beginning */
    struct commit commit; /* the last one built */
};

struct process {
    unsigned index;
    struct shove_sequence sequence;
    struct set sets[STATES];
    struct claim *claims[PARTITIONS];
    unsigned in_flight[WORKERS];
    bool has_suspect[WORKERS], is_reserved[WORKERS];
    size_t metadata_max, ahead_count;
    uint64_t offered;
    struct delivery *lone_hop; /* with the producer, and refused for its size before */
};

void control_start(struct process *process, unsigned index);
void control_kill(struct process *process);
void control_assign(struct process *process, int partition);
void control_revoke(struct claim *claim);
void control_rewind(struct claim *claim, int64_t offset);
void control_step(struct claim *claim, bool is_impatient);
void control_lose(struct claim *claim);
void control_feed(struct process *process);
void control_end_handler(struct delivery *delivery, enum shove_outcome outcome);
void control_kill_worker(struct process *process, unsigned worker, enum shove_outcome outcome);
void control_hop(struct delivery *delivery, bool is_stored, int code, bool is_blind);
void control_hop_round(struct process *process);
void control_commit(struct claim *claim);
void control_commit_answered(struct claim *claim, int code);
void control_scan(struct claim *claim, size_t most);

/* Between the two. */
void control_set_state(struct delivery *delivery, enum state state);
void control_delivery_free(struct delivery *delivery);
void control_delivery_close(struct delivery *delivery);
void control_feed_again(struct delivery *delivery);
void control_forget_turn(struct delivery *delivery);
void control_fall_in(struct delivery *delivery);
void control_hop_start(struct delivery *delivery, const struct shove_hop *hop);

/* --- order_reference.c */

struct world { /* of a partition */
    int key[OFFSETS_MAX];
    int64_t before[OFFSETS_MAX]; /* the record of its key before it; -1 */
    bool exists[OFFSETS_MAX];
    bool is_removed[OFFSETS_MAX]; /* it did exist */
    bool is_oversize[OFFSETS_MAX];
    int64_t log_end, log_end_max;
    struct claim *owner;
    struct commit committed;
    struct { /* of the poison topic */
        int key;
        int64_t offset; /* -1: clears it */
        bool is_known;  /* to the owner */
    } poison[POISON_MAX];
    size_t poison_count;

    bool is_settled[OFFSETS_MAX];      /* for good, by whoever owned it then */
    bool may_repeat[OFFSETS_MAX];      /* nevertheless */
    bool has_crashed_out[OFFSETS_MAX]; /* of which a kill may have forgotten the dead letter */
    bool must_poison[OFFSETS_MAX];     /* so it was decided last */
    enum shove_hop_kind decided[OFFSETS_MAX];
    unsigned dead_letters[OFFSETS_MAX];
    bool is_acked[OFFSETS_MAX];        /* by a handler, for whoever owned it then */
    bool is_stored[OFFSETS_MAX];       /* as a dead letter, whoever offered it */
    int64_t passed_until[OFFSETS_MAX]; /* the last of its key that was on its way beside a failure
                                          of it, and may be stored before it; 0: none */
    int64_t key_last[KEYS_MAX];        /* the last one written; -1: none */
    int64_t key_settled[KEYS_MAX];     /* up to there none of the key is left that never was */

    struct facts now; /* of its owner */
    bool is_open[OFFSETS_MAX];
    bool is_follower[OFFSETS_MAX]; /* decided to be a dead letter because its key is poisoned */
    int64_t key_started[KEYS_MAX]; /* the last one this owner started */
    unsigned key_running[KEYS_MAX];
    unsigned key_running_in[PROCESSES][KEYS_MAX]; /* with orphans */
    unsigned key_entered[PROCESSES][KEYS_MAX];    /* the same, of those in the sequence */
};

extern struct world worlds[PARTITIONS];

size_t key_bytes(int key, char out[KEYS_MAX]);
void world_begin(void);
void world_write(int partition);
void world_remove(int partition);
void world_cut(int partition, int64_t offset);
void world_store_poison(int partition, int key, int64_t offset);
void world_store_commit(int partition, const struct commit *commit);
int64_t world_next(int partition, int64_t offset); /* -1: none */

void reference_assigned(struct claim *claim);
void reference_delivered(const struct delivery *delivery, enum shove_ledger_verdict verdict);
void reference_entered(const struct delivery *delivery, enum shove_sequence_verdict verdict);
void reference_left(const struct delivery *delivery);
void reference_unhandled(const struct delivery *delivery, enum shove_outcome outcome);
void reference_went_ahead(const struct delivery *delivery);
void reference_started(const struct delivery *delivery);
void reference_ended(const struct delivery *delivery); /* left its worker, however */
void reference_orphaned(const struct delivery *delivery);
void reference_decided(const struct delivery *delivery, enum shove_outcome outcome,
                       const struct shove_hop *hop);
void reference_failed(const struct delivery *delivery);
void reference_let_pass(const struct delivery *delivery); /* it keeps nobody back any more */
void reference_stored(const struct delivery *delivery);
void reference_closed(const struct delivery *delivery);
void reference_learned(const struct claim *claim);
void reference_poisoned(const struct delivery *delivery, size_t at);
void reference_built(struct claim *claim, const struct shove_ledger_coverage *coverage);
void reference_given_up(struct claim *claim, bool is_orderly);
void reference_settled_all(int partition);

#endif
