/* ledger_walk.c: a random walk of the ledger beside a model that is too simple to be wrong.
 *
 *     ledger_walk [SEED [STEPS]]        prints the seed first; exits 1 at the first difference
 *
 * A round is one partition from its first record to the end. The world knows which records exist
 * and how often each was handled. The model is one byte per offset: unknown, open, or finished.
 * Random actions: records are written (with holes), delivered, counted, finished in any order;
 * offsets are committed, or the commit is lost; the process crashes and starts from the last
 * commit; an epoch ends and its completions come late; compaction and retention remove records;
 * the log is truncated and written anew, between two processes or under one; metadata is damaged.
 * Metadata has room for everything, as much of it as Kafka takes, or next to none.
 *
 * What must hold, whatever happens:
 *   - the frontier is the model's, goes back only with the log, and no open offset lies below it;
 *   - a record that is skipped has been handled;
 *   - a record that is handled again was either handled after the commit the process started from,
 *     or belongs to what that commit said it could not name, and `may_repeat` counted it;
 *   - counts come back as they were, metadata written right after a restore is the metadata
 *     restored, damaged metadata is refused and changes nothing;
 *   - in the end every record that was not removed was handled, and there is nothing to name.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chance.h"
#include "core/ledger.h"

#define OFFSETS_MAX 4096
#define DEFAULT_STEPS 5000000
#define HOARDING_EVERY 16 /* rounds: one in which a commit becomes longer than Kafka takes */
#define HOARDING_STEPS 20000
#define TEXT_MAX (OFFSETS_MAX * 32 + 64) /* room there is a use for, where all are open */

enum knowledge { UNKNOWN, OPEN, FINISHED };

struct facts { /* per offset, of the model or of a commit */
    uint8_t knowledge[OFFSETS_MAX];
    uint8_t attempts[OFFSETS_MAX];
    uint8_t crashes[OFFSETS_MAX];
    int64_t frontier;
    int64_t known_end;
};

struct commit {
    struct facts facts; /* cut at what the metadata speaks to */
    size_t max_chars;
    char metadata[TEXT_MAX + 1]; /* last: no more is copied than there is of it */
};

struct walk {
    uint64_t seed, random;
    uint64_t steps, step, round_steps, rounds, crashes, commits, cut_commits, long_commits, skips,
        repeats, refusals, rewinds;

    /* The world */
    bool exists[OFFSETS_MAX];
    uint8_t handled[OFFSETS_MAX];
    bool may_repeat[OFFSETS_MAX]; /* by the commit the present epoch began with */
    int64_t log_end, log_end_max;

    /* The process */
    struct shove_ledger ledger;
    struct shove_ledger_entry entries[2][OFFSETS_MAX]; /* of this epoch and the one before */
    unsigned epoch;
    int64_t open[OFFSETS_MAX];
    size_t open_count;
    struct facts model;
    int64_t position;
    struct commit committed, pending;

    /* The temper of this round, of 256 */
    unsigned hole_chance, crash_chance, newest_chance;
    unsigned hoard_chance; /* that one is tried again and stays open: there is much to say then */
    int64_t stuck;         /* an offset that is finished last; -1: none */
    size_t max_chars;
};

static struct walk walk;

/* --- Chance */

static uint64_t draw(void) {
    return chance_draw(&walk.random);
}

static uint64_t below(uint64_t bound) {
    return draw() % bound;
}

static bool happens(unsigned chance_of_256) {
    return (draw() & 255) < chance_of_256;
}

/* --- Verdict */

__attribute__((format(printf, 2, 3))) static void require(bool holds, const char *format, ...) {
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

static void move_model_frontier(void) {
    struct facts *model = &walk.model;
    while (model->frontier < model->known_end && model->knowledge[model->frontier] == FINISHED)
        model->frontier++;
}

static void check_frontier(void) {
    int64_t before = walk.model.frontier;
    move_model_frontier();
    int64_t frontier = shove_ledger_frontier(&walk.ledger);
    require(frontier == walk.model.frontier, "frontier is %" PRId64 ", not %" PRId64, frontier,
            walk.model.frontier);
    require(frontier >= before, "frontier went back from %" PRId64 " to %" PRId64, before,
            frontier);
    require(walk.ledger.open_count == walk.open_count, "%zu are open, not %zu",
            walk.ledger.open_count, walk.open_count);
    require(shove_ledger_known_end(&walk.ledger) == walk.model.known_end,
            "known end is %" PRId64 ", not %" PRId64, shove_ledger_known_end(&walk.ledger),
            walk.model.known_end);
}

/* --- Delivering and finishing */

static void write_record(void) {
    if (walk.log_end == walk.log_end_max)
        return;
    walk.exists[walk.log_end] = !happens(walk.hole_chance);
    walk.handled[walk.log_end] = 0;
    walk.may_repeat[walk.log_end] = false;
    walk.log_end++;
}

static struct shove_ledger_entry *entry_of(int64_t offset) {
    return &walk.entries[walk.epoch & 1][offset];
}

/* What the model expects of a record that comes by. */
static enum shove_ledger_verdict model_deliver(int64_t offset) {
    struct facts *model = &walk.model;
    for (int64_t gone = walk.position; gone < offset; gone++)
        model->knowledge[gone] = FINISHED;
    walk.position = offset + 1;
    if (model->known_end < walk.position)
        model->known_end = walk.position;
    if (model->knowledge[offset] == FINISHED)
        return SHOVE_LEDGER_FINISHED;
    if (model->knowledge[offset] == UNKNOWN) {
        model->attempts[offset] = 0;
        model->crashes[offset] = 0;
    }
    model->knowledge[offset] = OPEN;
    walk.open[walk.open_count++] = offset;
    return SHOVE_LEDGER_OPENED;
}

static bool deliver_next(void) {
    int64_t offset = walk.position;
    while (offset < walk.log_end && !walk.exists[offset])
        offset++;
    if (offset >= walk.log_end)
        return false;
    struct shove_ledger_entry *entry = entry_of(offset);
    *entry = (struct shove_ledger_entry){0};
    enum shove_ledger_verdict expected = model_deliver(offset);
    enum shove_ledger_verdict verdict = shove_ledger_deliver(&walk.ledger, entry, offset, 0);
    require(verdict == expected, "delivering %" PRId64 " gave %d, not %d", offset, (int)verdict,
            (int)expected);
    if (verdict == SHOVE_LEDGER_FINISHED) {
        require(walk.handled[offset] > 0, "%" PRId64 " was skipped and never handled", offset);
        walk.skips++;
    } else {
        require(entry->is_open && entry->offset == offset &&
                    entry->attempts == walk.model.attempts[offset] &&
                    entry->crashes == walk.model.crashes[offset],
                "%" PRId64 " opened as %" PRId64 " with %u attempts and %u crashes", offset,
                entry->offset, entry->attempts, entry->crashes);
    }
    return true;
}

static void deliver_rewound(void) {
    if (walk.position == 0)
        return;
    struct shove_ledger_entry stray = {0};
    struct shove_ledger before = walk.ledger;
    int64_t offset = (int64_t)below((uint64_t)walk.position);
    require(shove_ledger_deliver(&walk.ledger, &stray, offset, 0) == SHOVE_LEDGER_REWOUND &&
                !stray.is_open && memcmp(&before, &walk.ledger, sizeof before) == 0,
            "%" PRId64 " came by again and was taken", offset);
}

static void finish_at(size_t index) {
    int64_t offset = walk.open[index];
    struct shove_ledger_entry *entry = entry_of(offset);
    bool expected = offset == walk.model.frontier;
    walk.open[index] = walk.open[--walk.open_count];
    walk.model.knowledge[offset] = FINISHED;
    if (walk.handled[offset] > 0) {
        require(walk.may_repeat[offset], "%" PRId64 " was handled again", offset);
        walk.repeats++;
    }
    walk.may_repeat[offset] = false;
    walk.handled[offset] = 1;
    require(shove_ledger_close(&walk.ledger, entry) == expected,
            "closing %" PRId64 " told the wrong news", offset);
    require(!shove_ledger_close(&walk.ledger, entry), "%" PRId64 " was closed twice", offset);
}

static void finish_one(void) {
    if (walk.open_count == 0)
        return;
    size_t index = happens(walk.newest_chance) ? walk.open_count - 1 : below(walk.open_count);
    if (walk.open[index] != walk.stuck)
        finish_at(index);
}

static void count_one(void) {
    if (walk.open_count == 0)
        return;
    int64_t offset = walk.open[below(walk.open_count)];
    struct shove_ledger_entry *entry = entry_of(offset);
    entry->attempts = walk.model.attempts[offset] = (uint8_t)below(happens(64) ? 256 : 2);
    entry->crashes = walk.model.crashes[offset] = (uint8_t)below(happens(64) ? 256 : 2);
}

static void complete_late(void) {
    size_t offset = below(OFFSETS_MAX);
    require(!shove_ledger_close(&walk.ledger, &walk.entries[~walk.epoch & 1][offset]),
            "a completion of an earlier epoch closed %zu", offset);
}

/* --- Committing */

static void check_coverage(const struct shove_ledger_coverage *coverage) {
    const struct facts *model = &walk.model;
    size_t listed = 0, unlisted = 0;
    int64_t may_repeat = 0, finished = 0;
    for (int64_t offset = model->frontier; offset < model->known_end; offset++) {
        bool is_open = model->knowledge[offset] == OPEN;
        listed += is_open && offset < coverage->speaks_to;
        unlisted += is_open && offset >= coverage->speaks_to;
        may_repeat += !is_open && offset >= coverage->speaks_to;
        finished += !is_open;
    }
    require(coverage->speaks_to >= model->frontier && coverage->speaks_to <= model->known_end,
            "the metadata speaks to %" PRId64, coverage->speaks_to);
    require(listed == coverage->listed && unlisted == coverage->unlisted &&
                may_repeat == coverage->may_repeat,
            "coverage says %zu listed, %zu unlisted, %" PRId64
            " may repeat; true are %zu, %zu, %" PRId64,
            coverage->listed, coverage->unlisted, coverage->may_repeat, listed, unlisted,
            may_repeat);
    require(finished == shove_ledger_finished_beyond(&walk.ledger),
            "finished beyond the frontier: %" PRId64, finished);
}

/* As control gives it room. Returns its size. */
static size_t write_metadata(char out[TEXT_MAX + 1], size_t max_chars,
                             struct shove_ledger_coverage *coverage) {
    const size_t room = shove_ledger_metadata_room(&walk.ledger, max_chars);
    require(room <= max_chars && room <= TEXT_MAX, "room for %zu characters", room);
    memset(out, 0x55, room + 1);
    shove_ledger_metadata(&walk.ledger, out, room, coverage);
    const size_t size = strnlen(out, room + 1);
    require(size <= room, "metadata has %zu characters", size);
    require(coverage->may_repeat == 0 || room == max_chars,
            "it was cut for want of %zu characters that it had", max_chars);
    return size;
}

static void store_commit(const struct commit *commit, size_t size) {
    memcpy(&walk.committed, commit, offsetof(struct commit, metadata) + size + 1);
}

static void commit_offsets(void) {
    struct commit *pending = &walk.pending;
    struct shove_ledger_coverage coverage;
    move_model_frontier();
    const size_t size = write_metadata(pending->metadata, walk.max_chars, &coverage);
    check_coverage(&coverage);
    require((size == 0) == (coverage.listed == 0), "%zu characters for %zu offsets", size,
            coverage.listed);
    walk.commits++;
    walk.cut_commits += coverage.unlisted > 0 || coverage.may_repeat > 0;
    walk.long_commits += size > SHOVE_LEDGER_METADATA_MAX;
    if (happens(32)) /* lost on its way */
        return;
    pending->facts = walk.model;
    pending->facts.known_end = coverage.speaks_to;
    pending->max_chars = walk.max_chars;
    store_commit(pending, size);
}

/* --- Ending an epoch, beginning another */

static void check_refusal(void) {
    size_t size = strlen(walk.committed.metadata);
    char damaged[TEXT_MAX + 8];
    if (size == 0)
        return;
    memcpy(damaged, walk.committed.metadata, size);
    if (happens(64))
        size = 1 + below(size);
    for (uint64_t left = 1 + below(3); left > 0; left--)
        damaged[below(size)] ^= (char)(1 + below(255));
    if (size == strlen(walk.committed.metadata) &&
        memcmp(damaged, walk.committed.metadata, size) == 0)
        return;
    struct shove_ledger before = walk.ledger;
    struct shove_error error;
    require(shove_ledger_restore(&walk.ledger, damaged, size, &error) == SHOVE_ECORRUPT &&
                memcmp(&before, &walk.ledger, sizeof before) == 0,
            "damaged metadata was taken");
    walk.refusals++;
}

static void restore_ledger(void) {
    char again[TEXT_MAX + 1];
    struct shove_ledger_coverage coverage;
    check_refusal();
    struct shove_error error = {0, ""};
    const char *metadata = walk.committed.metadata;
    require(shove_ledger_restore(&walk.ledger, metadata, strlen(metadata), &error) == 0,
            "the committed metadata was refused: %s", error.text);
    write_metadata(again, walk.committed.max_chars, &coverage);
    require(strcmp(again, metadata) == 0, "what was restored is told differently");
}

/* What the model knows when it begins at the last commit. */
static void model_restart(void) {
    const struct facts *saved = &walk.committed.facts;
    struct facts *model = &walk.model;
    for (int64_t offset = 0; offset < OFFSETS_MAX; offset++) {
        bool is_known = offset < saved->known_end;
        model->knowledge[offset] = !is_known                  ? UNKNOWN
                                   : offset < saved->frontier ? FINISHED
                                                              : saved->knowledge[offset];
        if (walk.handled[offset] > 0 && model->knowledge[offset] != FINISHED)
            walk.may_repeat[offset] = true;
    }
    memcpy(model->attempts, saved->attempts, sizeof model->attempts);
    memcpy(model->crashes, saved->crashes, sizeof model->crashes);
    model->frontier = saved->frontier;
    model->known_end = saved->known_end;
    walk.position = saved->frontier;
    walk.open_count = 0;
}

/* The end of the log is lost, and what is written there next is something else. */
static void truncate_log(int64_t end) {
    walk.log_end = end > 0 ? end : 0;
    for (int64_t offset = walk.log_end; offset < OFFSETS_MAX; offset++) {
        walk.exists[offset] = false;
        walk.handled[offset] = 0;
        walk.may_repeat[offset] = false;
    }
    struct facts *saved = &walk.committed.facts;
    if (saved->frontier > walk.log_end) { /* out of range: the reset policy starts at the end */
        saved->frontier = walk.log_end;
        saved->known_end = walk.log_end;
        walk.committed.metadata[0] = '\0';
    }
}

static size_t forgotten_count;

static void forget(void *ctx, struct shove_ledger_entry *entry) {
    require(ctx == &walk && !entry->is_open, "a forgotten entry is open");
    forgotten_count++;
}

static void abandon(void) {
    char metadata[SHOVE_LEDGER_METADATA_MAX + 1];
    int64_t frontier = shove_ledger_frontier(&walk.ledger);
    forgotten_count = 0;
    shove_ledger_abandon(&walk.ledger, forget, &walk);
    shove_ledger_metadata(&walk.ledger, metadata, SHOVE_LEDGER_METADATA_MAX, NULL);
    require(forgotten_count == walk.open_count && walk.ledger.open_count == 0,
            "%zu were forgotten of %zu", forgotten_count, walk.open_count);
    require(shove_ledger_frontier(&walk.ledger) == frontier && metadata[0] == '\0',
            "the frontier moved from %" PRId64 " at the end of the epoch", frontier);
}

/* The next crash starts from a commit that knows of the truncation. */
static void commit_truncation(void) {
    move_model_frontier();
    struct shove_ledger_coverage coverage;
    write_metadata(walk.committed.metadata, SHOVE_LEDGER_METADATA_MOST, &coverage);
    walk.committed.facts = walk.model;
    walk.committed.max_chars = SHOVE_LEDGER_METADATA_MOST;
}

static void restart(void) {
    bool is_crash = happens(128), is_truncated = happens(64);
    if (!is_crash)
        abandon();
    else
        for (size_t i = 0; i < walk.open_count; i++) /* the memory of a dead process */
            entry_of(walk.open[i])->is_open = false;
    shove_ledger_release(&walk.ledger);
    if (is_truncated)
        truncate_log(walk.log_end - (int64_t)below(happens(128) ? 10 : 200));
    walk.crashes++;
    walk.epoch++;
    shove_ledger_init(&walk.ledger, walk.committed.facts.frontier);
    restore_ledger();
    if (is_truncated) {
        shove_ledger_clip(&walk.ledger, walk.log_end);
        if (walk.committed.facts.known_end > walk.log_end)
            walk.committed.facts.known_end = walk.log_end;
    }
    model_restart();
    if (is_truncated)
        commit_truncation();
}

/* The log is cut below what was delivered, and the reader notices. */
static void rewind_log(void) {
    if (walk.position == 0)
        return;
    struct facts *model = &walk.model;
    int64_t end =
        walk.position - 1 - (int64_t)below((uint64_t)walk.position < 50 ? walk.position : 50);
    truncate_log(end);
    size_t kept = 0;
    for (size_t i = 0; i < walk.open_count; i++) {
        if (walk.open[i] < end)
            walk.open[kept++] = walk.open[i];
    }
    forgotten_count = 0;
    shove_ledger_rewind(&walk.ledger, end, forget, &walk);
    require(forgotten_count == walk.open_count - kept, "%zu were forgotten of %zu", forgotten_count,
            walk.open_count - kept);
    walk.open_count = kept;
    for (int64_t offset = end; offset < OFFSETS_MAX; offset++)
        model->knowledge[offset] = UNKNOWN;
    model->known_end = walk.position = end;
    if (model->frontier > end)
        model->frontier = end;
    commit_truncation();
    walk.rewinds++;
}

/* --- Records that vanish */

static void remove_record(int64_t offset) {
    walk.exists[offset] = false;
}

static void compact(void) {
    for (uint64_t left = below(8); left > 0 && walk.log_end > 0; left--)
        remove_record((int64_t)below((uint64_t)walk.log_end));
}

static void retain(void) {
    int64_t start = walk.model.frontier + (int64_t)below(30);
    for (int64_t offset = 0; offset < start && offset < walk.log_end; offset++)
        remove_record(offset);
}

/* --- Rounds */

static void begin_round(void) {
    static const size_t rooms[] = {
        0, 12, 20, 24, 40, 100, 400, SHOVE_LEDGER_METADATA_MAX, SHOVE_LEDGER_METADATA_MOST};
    memset(walk.exists, 0, sizeof walk.exists);
    memset(walk.handled, 0, sizeof walk.handled);
    memset(walk.may_repeat, 0, sizeof walk.may_repeat);
    memset(walk.entries, 0, sizeof walk.entries);
    memset(&walk.model, 0, sizeof walk.model);
    memset(&walk.committed, 0, sizeof walk.committed);
    walk.log_end = 0;
    walk.log_end_max = 1 + (int64_t)below(OFFSETS_MAX - 1);
    walk.position = 0;
    walk.open_count = 0;
    walk.hole_chance = happens(128) ? 0 : (unsigned)below(200);
    walk.crash_chance = happens(64) ? 0 : (unsigned)below(4);
    walk.newest_chance = (unsigned)below(257);
    walk.stuck = happens(128) ? (int64_t)below((uint64_t)walk.log_end_max) : -1;
    walk.max_chars = rooms[below(sizeof rooms / sizeof rooms[0])];
    walk.round_steps = 200 + below(30000);
    if (walk.rounds % HOARDING_EVERY == 0) {
        walk.round_steps = HOARDING_STEPS;
        walk.max_chars = SHOVE_LEDGER_METADATA_MOST;
        walk.log_end_max = OFFSETS_MAX - 1;
        walk.hole_chance = walk.crash_chance = 0;
    }
    walk.hoard_chance = walk.max_chars == SHOVE_LEDGER_METADATA_MOST ? 176 : 0;
    shove_ledger_init(&walk.ledger, 0);
    walk.rounds++;
}

static void act(void) {
    unsigned die = (unsigned)(draw() & 255);
    if (happens(walk.crash_chance) && happens(32))
        restart();
    else if (happens(walk.crash_chance) && happens(32))
        rewind_log();
    else if (die < 70)
        write_record();
    else if (die < 150)
        (void)deliver_next();
    else if (die < 230)
        happens(walk.hoard_chance) ? count_one() : finish_one();
    else if (die < 238)
        count_one();
    else if (die < 244)
        commit_offsets();
    else if (die < 248)
        complete_late();
    else if (die < 252)
        deliver_rewound();
    else if (happens(24))
        compact();
    else if (happens(4))
        retain();
    check_frontier();
    walk.step++;
}

/* Everything is read and finished, and one more record comes by so that what is gone is passed. */
static void end_round(void) {
    int64_t last = walk.log_end;
    walk.exists[last] = true;
    walk.handled[last] = 0;
    walk.may_repeat[last] = false;
    walk.log_end = last + 1;
    while (deliver_next())
        check_frontier();
    while (walk.open_count > 0) {
        finish_at(below(walk.open_count));
        check_frontier();
    }
    require(shove_ledger_frontier(&walk.ledger) == walk.log_end,
            "with nothing in flight the frontier is %" PRId64, shove_ledger_frontier(&walk.ledger));
    for (int64_t offset = 0; offset < walk.log_end; offset++)
        require(!walk.exists[offset] || walk.handled[offset] > 0, "%" PRId64 " was lost", offset);
    walk.max_chars = SHOVE_LEDGER_METADATA_MAX;
    commit_offsets();
    require(walk.pending.metadata[0] == '\0', "with nothing open the metadata is not empty");
    shove_ledger_release(&walk.ledger);
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
        for (uint64_t left = walk.round_steps; left > 0; left--)
            act();
        end_round();
    }
    printf("%" PRIu64 " steps, %" PRIu64 " rounds, %" PRIu64 " restarts, %" PRIu64
           " commits (%" PRIu64 " cut, %" PRIu64 " longer than Kafka takes), %" PRIu64
           " skipped, %" PRIu64 " repeated, %" PRIu64 " damaged texts refused, %" PRIu64
           " rewinds\n",
           walk.step, walk.rounds, walk.crashes, walk.commits, walk.cut_commits, walk.long_commits,
           walk.skips, walk.repeats, walk.refusals, walk.rewinds);
    return EXIT_SUCCESS;
}
