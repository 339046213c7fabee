/* dlq_settle.c: acting on letters and remembering it, batch by batch. Cli.
 *
 * For each batch: read; choose; act (a replay waits for its acknowledgements); close what is done
 * in the ledger; write the marks. A process killed between act and marks repeats at most that
 * batch.
 *
 * A filter leaves letters open between settled ones, and the marks have room for about a thousand
 * such gaps. So before a batch is acted on, it is played through on a second ledger, the plan: if
 * the marks could not hold the outcome, nothing of the batch is touched and the command stops,
 * rather than forget what it did and do it again next time.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/dlq.h"

#define SMALL_BATCH 64 /* once gaps are many: where it must stop is found more closely */
#define MANY_GAPS 150  /* far fewer than fit, whatever their sizes */

struct slab { /* ledger entries of one batch: they are linked, so they stay where they are */
    struct slab *next;
    struct shove_ledger_entry real[SHOVE_DLQ_BATCH];
    struct shove_ledger_entry plan[SHOVE_DLQ_BATCH];
};

struct work { /* one partition */
    struct shove_dlq *dlq;
    struct shove_dlq_settling *settling;
    struct shove_dlq_partition partition;
    struct shove_ledger plan;
    struct slab *slabs;
    uint32_t gap_count; /* turns from settled to open in the plan */
    bool was_settled;   /* the last letter of the plan */
    bool is_full;       /* the limit is reached */
};

struct portion { /* what of a batch is looked at */
    struct slab *slab;
    struct shove_letter letters[SHOVE_DLQ_BATCH]; /* chosen */
    size_t entry_of[SHOVE_DLQ_BATCH];             /* chosen -> index in the batch */
    bool is_done[SHOVE_DLQ_BATCH];
    size_t chosen;
    size_t looked_at; /* records of the batch up to the limit */
    size_t left;      /* still open */
};

static bool is_meant(const struct work *work, const struct shove_letter *letter) {
    const struct shove_dlq_settling *settling = work->settling;
    return shove_dlq_means(work->dlq, letter) &&
           (settling->is_wanted == NULL || settling->is_wanted(settling->ctx, letter));
}

static bool is_at_limit(const struct work *work, const struct portion *portion) {
    int64_t limit = work->dlq->options.limit;
    return limit > 0 && work->settling->settled + portion->chosen >= (uint64_t)limit;
}

static void choose(struct work *work, const struct shove_batch *batch, size_t count,
                   struct portion *portion) {
    for (size_t i = 0; i < count && !is_at_limit(work, portion); i++) {
        struct shove_letter *letter = &portion->letters[portion->chosen];
        struct shove_ledger_entry *entry = &portion->slab->plan[i];
        shove_letter_read(letter, work->partition.number, &batch->records[i]);
        portion->looked_at = i + 1;
        bool is_open = shove_ledger_deliver(&work->plan, entry, letter->record->offset, 0) ==
                       SHOVE_LEDGER_OPENED;
        if (is_open && is_meant(work, letter)) {
            shove_ledger_close(&work->plan, entry);
            portion->entry_of[portion->chosen++] = i;
            is_open = false;
        }
        portion->left += is_open;
        work->gap_count += is_open && work->was_settled;
        work->was_settled = !is_open;
    }
    work->is_full = is_at_limit(work, portion);
}

static int check_room(const struct work *work, const struct portion *portion,
                      struct shove_error *error) {
    struct shove_ledger_coverage coverage;
    const bool is_narrow = work->dlq->metadata_max < work->dlq->client.ops->metadata_max;
    if (portion->chosen == 0 || (work->gap_count < MANY_GAPS && !is_narrow))
        return 0;
    const size_t room = shove_ledger_metadata_room(&work->plan, work->dlq->metadata_max);
    char *text = malloc(room + 1);
    if (text == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    shove_ledger_metadata(&work->plan, text, room, &coverage);
    free(text);
    if (coverage.may_repeat == 0)
        return 0;
    return shove_error_set(
        error, SHOVE_EUNSUPPORTED,
        "stopped before %s %d:%lld: the filter has left so many letters waiting between those that "
        "are settled that no more can be remembered; settle what waits before it (dlq replay or "
        "purge with fewer filters), then run this again",
        work->dlq->name, work->partition.number, (long long)portion->letters[0].record->offset);
}

/* --- Marks */

static bool is_same_text(const char *a, const char *b) {
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

/* Somebody else's marks would be overwritten, and both would have acted on the same letters. */
static int check_alone(struct work *work, struct shove_error *error) {
    struct shove_dlq_partition *partition = &work->partition;
    const struct shove_client *client = &work->dlq->client;
    int64_t offset;
    char *metadata;
    int code = client->ops->committed_get(client->transport, work->dlq->triage, work->dlq->name,
                                          partition->number, &offset, &metadata, client->timeout_ms,
                                          error);
    if (code != 0)
        return code;
    if (offset != partition->committed || !is_same_text(metadata, partition->metadata))
        code =
            shove_error_set(error, SHOVE_EBUSY,
                            "another command is settling letters of %s: up to %d of partition %d "
                            "may have been acted on twice; let it end, then run this again",
                            work->dlq->name, SHOVE_DLQ_BATCH, partition->number);
    free(metadata);
    return code;
}

/* As much of them as the broker takes; *forgotten is how many settled letters that leaves out. */
static int commit_marks(struct work *work, char *text, size_t room, int64_t *forgotten,
                        struct shove_error *error) {
    const struct shove_client *client = &work->dlq->client;
    const struct shove_dlq_partition *partition = &work->partition;
    struct shove_ledger_coverage coverage;
    int code;
    do {
        room = room < work->dlq->metadata_max ? room : work->dlq->metadata_max;
        shove_ledger_metadata(&partition->ledger, text, room, &coverage);
        code = client->ops->committed_set(
            client->transport, work->dlq->triage, work->dlq->name, partition->number,
            shove_ledger_frontier(&partition->ledger), text, client->timeout_ms, error);
        if (code == SHOVE_ETOOLARGE)
            work->dlq->metadata_max = strlen(text) / 2;
    } while (code == SHOVE_ETOOLARGE && *text != '\0');
    *forgotten = coverage.may_repeat;
    return code;
}

static int write_marks(struct work *work, struct shove_error *error) {
    struct shove_dlq_partition *partition = &work->partition;
    int code = check_alone(work, error);
    const size_t room = shove_ledger_metadata_room(&partition->ledger, work->dlq->metadata_max);
    char *text = code == 0 ? malloc(room + 1) : NULL;
    if (text == NULL)
        return code != 0 ? code : shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    int64_t forgotten;
    code = commit_marks(work, text, room, &forgotten, error);
    if (code != 0) {
        free(text);
        return code;
    }
    free(partition->metadata);
    partition->metadata = text;
    partition->committed = shove_ledger_frontier(&partition->ledger);
    if (forgotten == 0)
        return 0;
    return shove_error_set(error, SHOVE_EUNSUPPORTED,
                           "%lld of the letters of %s that were settled in partition %d cannot be "
                           "marked and would be settled again: the broker takes only %zu "
                           "characters of a commit's metadata; raise its "
                           "offset.metadata.max.bytes to 4096, or settle without filters",
                           (long long)forgotten, work->dlq->name, partition->number,
                           work->dlq->metadata_max);
}

/* --- One batch */

/* Closes what is done in the real ledger; returns how many. */
static size_t close_done(struct work *work, const struct shove_batch *batch,
                         const struct portion *portion) {
    size_t done = 0;
    size_t next = 0; /* chosen letter */
    for (size_t i = 0; i < portion->looked_at; i++) {
        struct shove_ledger_entry *entry = &portion->slab->real[i];
        shove_ledger_deliver(&work->partition.ledger, entry, batch->records[i].offset, 0);
        if (next == portion->chosen || portion->entry_of[next] != i)
            continue;
        if (portion->is_done[next]) {
            shove_ledger_close(&work->partition.ledger, entry);
            done++;
        }
        next++;
    }
    return done;
}

static int settle_batch(struct work *work, const struct shove_batch *batch, size_t count,
                        struct portion *portion, struct shove_error *error) {
    struct shove_dlq_settling *settling = work->settling;
    choose(work, batch, count, portion);
    int code = check_room(work, portion, error);
    if (code != 0)
        return code;
    if (portion->chosen > 0)
        code = settling->act(settling->ctx, portion->letters, portion->chosen, portion->is_done,
                             error);
    size_t done = close_done(work, batch, portion);
    if (done > 0) {
        struct shove_error marking;
        int marked = write_marks(work, &marking);
        if (marked != 0 && code == 0)
            *error = marking;
        code = code != 0 ? code : marked;
        if (marked == 0)
            settling->settled += done;
    }
    portion->left += portion->chosen - done;
    settling->left += portion->left;
    return code;
}

static int next_batch(struct work *work, struct portion *portion, struct shove_error *error) {
    const struct shove_client *client = &work->dlq->client;
    struct shove_batch batch;
    size_t max = work->gap_count < MANY_GAPS ? SHOVE_DLQ_BATCH : SMALL_BATCH;
    struct slab *slab = calloc(1, sizeof *slab);
    if (slab == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory reading %s", work->dlq->name);
    slab->next = work->slabs;
    work->slabs = slab;
    memset(portion, 0, sizeof *portion);
    portion->slab = slab;
    long count = shove_dlq_partition_read(work->dlq, &work->partition, max, &batch, error);
    if (count <= 0)
        return (int)count;
    int code = settle_batch(work, &batch, (size_t)count, portion, error);
    client->ops->batch_release(client->transport, &batch);
    if (portion->left == 0) { /* nothing of it is linked any more */
        work->slabs = slab->next;
        free(slab);
    }
    return code != 0 ? code : 1;
}

/* --- One partition */

static int copy_ledger(struct shove_ledger *out, const struct shove_dlq_partition *partition,
                       struct shove_error *error) {
    shove_ledger_init(out, partition->ledger.next_offset);
    if (partition->ledger.mark_count == 0) {
        out->speaks_to = partition->ledger.speaks_to;
        return 0;
    }
    int code = shove_ledger_restore(out, partition->metadata, strlen(partition->metadata), error);
    if (code == 0)
        shove_ledger_clip(out, partition->high);
    return code;
}

static void release(struct work *work) {
    shove_ledger_abandon(&work->plan, NULL, NULL);
    shove_ledger_release(&work->plan);
    shove_dlq_partition_close(&work->partition);
    while (work->slabs != NULL) {
        struct slab *next = work->slabs->next;
        free(work->slabs);
        work->slabs = next;
    }
}

static int settle_partition(struct work *work, int32_t number, struct portion *portion,
                            struct shove_error *error) {
    int code = shove_dlq_partition_open(work->dlq, &work->partition, number, error);
    if (code == 0)
        code = copy_ledger(&work->plan, &work->partition, error);
    while (code == 0 && !work->is_full && !work->dlq->client.is_interrupted) {
        code = next_batch(work, portion, error);
        if (code == 0)
            break; /* the end */
        code = code == 1 ? 0 : code;
    }
    if (code == 0 && work->settling->partition_done != NULL)
        code = work->settling->partition_done(work->settling->ctx, &work->partition, error);
    release(work);
    return code;
}

int shove_dlq_settle(struct shove_dlq *dlq, struct shove_dlq_settling *settling,
                     struct shove_error *error) {
    struct portion *portion = malloc(sizeof *portion);
    if (portion == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    struct shove_error here = {0};
    int code = 0;
    bool is_full = false;
    error->code = 0;
    dlq->metadata_max = dlq->client.ops->metadata_max;
    for (int32_t i = 0; i < dlq->partition_count && code == 0 && !is_full; i++) {
        struct work work = {.dlq = dlq, .settling = settling};
        code = settle_partition(&work, i, portion, &here);
        if (code != 0)
            code = shove_client_keep_first(error, &here);
        is_full = work.is_full;
    }
    free(portion);
    if (error->code == 0 && dlq->client.is_interrupted)
        shove_error_set(error, SHOVE_ECLOSED, "interrupted");
    return error->code;
}
