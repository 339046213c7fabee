/* sequence_walk.c: a random walk of the sequence beside a model that is too simple to be wrong.
 *
 *     sequence_walk [SEED [STEPS]]      prints the seed first; exits 1 at the first difference
 *
 * The model is an array of messages in the order in which they entered; whose turn it is, is found
 * by looking through all of them. Random actions: messages of few or many keys enter, in few or
 * many partitions, with more or less room behind a key; one leaves whose turn it is, or whose turn
 * it is not; an epoch ends and all that wait in a partition leave, oldest first.
 *
 * What must hold, whatever happens:
 *   - a message has its turn exactly when none of its key and partition is before it;
 *   - one that is refused has as many before it as were allowed to wait, and one more;
 *   - whoever leaves gives its turn to the next of its key and to nobody else;
 *   - the numbers of keys and of those that wait are the model's; at the end there is nothing.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chance.h"
#include "core/sequence.h"

#define MESSAGES_MAX 96
#define KEYS_MAX 64
#define LONG_KEY 1000
#define DEFAULT_STEPS 2000000

struct message {
    struct shove_sequence_entry entry;
    int32_t partition;
    uint32_t key;
    bool has_turn;
};

static struct walk {
    uint64_t random, step, entered, refused, turns;
    struct shove_sequence sequence;
    struct message *messages[MESSAGES_MAX]; /* in the order in which they entered */
    size_t count;
    uint32_t keys, partitions, waiting_max;
} walk;

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t draw(void) {
    return chance_draw(&walk.random);
}

static uint32_t below(uint32_t limit) {
    return (uint32_t)(draw() % limit);
}

static void check(bool holds, const char *what) {
    if (holds)
        return;
    printf("step %" PRIu64 ": %s\n", walk.step, what);
    exit(1);
}

/* Some are empty, some hold zero bytes, some differ only in their length, some are long. */
static size_t key_bytes(uint32_t key, char *out) {
    memset(out, 'k', LONG_KEY);
    if (key % 4 == 0)
        return key / 4;
    memset(out, 0, 4);
    memcpy(out, &key, sizeof key);
    return key % 4 == 1 ? 4 : key % 4 == 2 ? 8 : LONG_KEY;
}

static bool is_same(const struct message *a, const struct message *b) {
    return a->key == b->key && a->partition == b->partition;
}

static size_t count_same(const struct message *message, size_t end) {
    size_t count = 0;
    for (size_t i = 0; i < end; i++)
        count += is_same(walk.messages[i], message);
    return count;
}

static void enter(void) {
    char bytes[LONG_KEY];
    struct message *message = calloc(1, sizeof *message);
    check(message != NULL, "out of memory");
    message->key = below(walk.keys);
    message->partition = (int32_t)below(walk.partitions);
    size_t size = key_bytes(message->key, bytes);
    size_t before = count_same(message, walk.count);
    enum shove_sequence_verdict verdict = shove_sequence_enter(
        &walk.sequence, &message->entry, message->partition, bytes, size, walk.waiting_max);
    if (before > walk.waiting_max) {
        check(verdict == SHOVE_SEQUENCE_FULL && message->entry.key == NULL, "it is not refused");
        walk.refused++;
        free(message);
        return;
    }
    message->has_turn = before == 0;
    check(verdict == (before == 0 ? SHOVE_SEQUENCE_TURN : SHOVE_SEQUENCE_WAITS), "turn on entry");
    walk.messages[walk.count++] = message;
    walk.entered++;
}

static void leave(size_t at) {
    struct message *message = walk.messages[at];
    struct message *next = NULL;
    memmove(&walk.messages[at], &walk.messages[at + 1],
            (walk.count - at - 1) * sizeof(struct message *));
    walk.count--;
    for (size_t i = at; next == NULL && i < walk.count; i++) {
        if (is_same(walk.messages[i], message))
            next = walk.messages[i];
    }
    if (!message->has_turn)
        next = NULL;
    struct shove_sequence_entry *turn = shove_sequence_leave(&walk.sequence, &message->entry);
    check(turn == (next != NULL ? &next->entry : NULL), "the turn goes to another");
    check(message->entry.key == NULL, "it has left and says not so");
    if (next != NULL) {
        next->has_turn = true;
        walk.turns++;
    }
    free(message);
}

static void end_epoch(void) {
    int32_t partition = (int32_t)below(walk.partitions);
    for (size_t i = 0; i < walk.count;) {
        if (walk.messages[i]->partition == partition)
            leave(i);
        else
            i++;
    }
}

static void check_counts(void) {
    size_t keys = 0;
    for (size_t i = 0; i < walk.count; i++)
        keys += count_same(walk.messages[i], i) == 0;
    check(walk.sequence.key_count == keys, "the number of keys");
    check(walk.sequence.waiting_count == walk.count - keys, "the number of those that wait");
}

static void temper(void) {
    walk.keys = 1 + below(KEYS_MAX);
    walk.partitions = 1 + below(4);
    walk.waiting_max = below(20);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
    uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : DEFAULT_STEPS;
    printf("seed %" PRIu64 "\n", seed);
    fflush(stdout);
    walk.random = seed;
    for (walk.step = 0; walk.step < steps; walk.step++) {
        if (walk.step % 5000 == 0)
            temper();
        uint32_t dice = below(100);
        if (dice < 50 && walk.count < MESSAGES_MAX)
            enter();
        else if (dice < 99 && walk.count > 0)
            leave(below((uint32_t)walk.count));
        else if (walk.step % 64 == 0)
            end_epoch();
        if (walk.step % 16 == 0)
            check_counts();
    }
    while (walk.count > 0)
        leave(below((uint32_t)walk.count));
    check(walk.sequence.keys == NULL && walk.sequence.key_count == 0, "keys are left");
    shove_sequence_release(&walk.sequence);
    printf("%" PRIu64 " steps: %" PRIu64 " entered, %" PRIu64 " refused, %" PRIu64 " turns\n",
           walk.step, walk.entered, walk.refused, walk.turns);
    return 0;
}
