/* local_take.c: batches of the transports that live on this machine.
 *
 * Control, the loop's thread. A claim reads ahead one chunk of blocks; take hands out records that
 * point into it and shares it, so nothing is copied or allocated per record. A batch may outlive
 * its claim.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/local.h"

#define READ_AHEAD_BYTES (64u << 10)
/* A batch is cut short beyond this, so that a large `max` does not gather gigabytes of large
 * records. */
#define BATCH_BYTES (4u << 20)

/* ---- batches ---- */

static void batch_unlink(struct shove_local *local, struct shove_local_batch *batch) {
    if (batch->previous)
        batch->previous->next = batch->next;
    else
        local->batches = batch->next;
    if (batch->next)
        batch->next->previous = batch->previous;
    batch->next = batch->previous = NULL;
}

static void batch_free(struct shove_local_batch *batch) {
    for (size_t i = 0; i < batch->chunk_count; i++)
        shove_chunk_drop(batch->chunks[i]);
    free(batch->chunks);
    free(batch->records);
    free(batch);
}

static struct shove_local_batch *batch_new(struct shove_local *local, size_t max) {
    struct shove_local_batch *batch = local->spare_batches;
    if (batch)
        local->spare_batches = batch->next;
    else
        batch = calloc(1, sizeof(*batch));
    if (!batch)
        return NULL;
    if (batch->capacity < max) {
        struct shove_record *records = realloc(batch->records, max * sizeof(*records));
        if (!records) {
            batch_free(batch);
            return NULL;
        }
        batch->records = records;
        batch->capacity = max;
    }
    batch->previous = NULL;
    batch->next = local->batches;
    if (batch->next)
        batch->next->previous = batch;
    local->batches = batch;
    return batch;
}

static void batch_put_back(struct shove_local *local, struct shove_local_batch *batch) {
    for (size_t i = 0; i < batch->chunk_count; i++)
        shove_chunk_drop(batch->chunks[i]);
    batch->chunk_count = 0;
    batch_unlink(local, batch);
    batch->next = local->spare_batches;
    local->spare_batches = batch;
}

static int batch_share(struct shove_local_batch *batch, struct shove_chunk *chunk) {
    if (batch->chunk_count > 0 && batch->chunks[batch->chunk_count - 1] == chunk)
        return 0;
    if (shove_local_grow(&batch->chunks, &batch->chunk_capacity, batch->chunk_count,
                         sizeof(struct shove_chunk *)) < 0)
        return SHOVE_ENOMEM;
    batch->chunks[batch->chunk_count++] = shove_chunk_share(chunk);
    return 0;
}

void shove_local_batch_release(struct shove_transport *transport, struct shove_batch *batch) {
    if (batch->owner)
        batch_put_back((struct shove_local *)transport, batch->owner);
    *batch = (struct shove_batch){0};
}

void shove_local_batches_free(struct shove_local *local) {
    struct shove_local_batch **lists[] = {&local->batches, &local->spare_batches};
    for (size_t i = 0; i < 2; i++)
        while (*lists[i]) {
            struct shove_local_batch *batch = *lists[i];
            *lists[i] = batch->next;
            batch_free(batch);
        }
}

/* ---- reading ---- */

struct source { /* a place in a partition: a claim's, or an operator's */
    struct shove_local *local;
    const char *topic;
    uint32_t topic_id;
    int32_t partition;
    int64_t next_offset;
    int64_t high;
    struct shove_chunk *chunk;
    struct shove_block_reader reader;
    bool is_reading; /* between the store's read_begin and read_end */
};

static int say_corrupt(const struct source *source, struct shove_error *error) {
    return shove_error_set(
        error, SHOVE_ECORRUPT,
        "topic '%s' partition %d offset %lld: the stored record fails its check; the file is "
        "damaged there: restore it from a backup, or move it away to begin with an empty one",
        source->topic, (int)source->partition, (long long)source->next_offset);
}

/* Makes the next chunk the current one. 1, 0 when the end is reached, or an error. */
static int source_refill(struct source *source, struct shove_error *error) {
    struct shove_local *local = source->local;
    int64_t low;
    int rc = 0;
    shove_chunk_drop(source->chunk);
    source->chunk = NULL;
    if (!source->is_reading) {
        rc = local->ops->read_begin(local->store, error);
        if (rc < 0)
            return rc;
        source->is_reading = true;
    }
    rc = local->ops->bounds(local->store, source->topic_id, source->partition, &low, &source->high,
                            error);
    if (rc < 0)
        return rc;
    if (source->next_offset < low)
        source->next_offset = low; /* deleted meanwhile, by retention or an operator */
    if (source->next_offset >= source->high)
        return 0;
    rc = local->ops->read(local->store, source->topic_id, source->partition, source->next_offset,
                          READ_AHEAD_BYTES, &source->chunk, error);
    if (rc < 0)
        return rc == SHOVE_ECORRUPT ? say_corrupt(source, error) : rc;
    shove_block_reader_init(&source->reader, source->chunk->data, source->chunk->size,
                            local->ops->has_crc);
    return 1;
}

/* The next record, at or beyond source->next_offset. 1, 0, or an error. */
static int source_next(struct source *source, struct shove_record *out, struct shove_error *error) {
    for (;;) {
        if (!source->chunk) {
            int rc = source_refill(source, error);
            if (rc <= 0)
                return rc;
        }
        int rc = shove_block_next(&source->reader, out);
        if (rc == 1 && out->offset < source->next_offset)
            continue; /* the block begins before the place where we do */
        if (rc == 1 && out->offset > source->next_offset)
            return say_corrupt(source, error);
        if (rc < 0)
            return say_corrupt(source, error);
        if (rc == 1) {
            source->next_offset = out->offset + 1;
            return 1;
        }
        shove_chunk_drop(source->chunk);
        source->chunk = NULL;
    }
}

/* Fills a batch with up to `max` records. *was_cut: there may be more than what was returned. */
static long fill(struct source *source, size_t max, struct shove_batch *out, bool *was_cut,
                 struct shove_error *error) {
    struct shove_local_batch *batch = batch_new(source->local, max);
    *was_cut = false;
    if (!batch)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    size_t count = 0, bytes = 0;
    int rc = 1;
    while (count < max && rc == 1) {
        if (bytes > BATCH_BYTES) {
            *was_cut = true;
            break;
        }
        rc = source_next(source, &batch->records[count], error);
        if (rc == 1 && batch_share(batch, source->chunk) < 0)
            rc = shove_error_set(error, SHOVE_ENOMEM, "out of memory");
        if (rc == 1) {
            bytes += shove_block_record_size(&batch->records[count]);
            count++;
        }
    }
    if (source->is_reading)
        source->local->ops->read_end(source->local->store);
    source->is_reading = false;
    if (count == 0) {
        batch_put_back(source->local, batch);
        return rc < 0 ? rc : 0;
    }
    /* What came before a failure is good; the failure comes again with the next take. */
    *out = (struct shove_batch){.records = batch->records, .count = count, .owner = batch};
    return (long)count;
}

long shove_local_take(struct shove_transport *transport, struct shove_claim *claim, size_t max,
                      struct shove_batch *batch) {
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_local_claim *own = (struct shove_local_claim *)claim;
    struct shove_local_subscription *subscription =
        (struct shove_local_subscription *)claim->subscription;
    *batch = (struct shove_batch){0};
    if (subscription->state != SHOVE_LOCAL_ACTIVE)
        return subscription->end_code < 0 ? subscription->end_code : SHOVE_EREVOKED;
    if (max == 0 || (!own->chunk && own->next_offset >= own->high && !local->is_stale))
        return 0;
    struct source source = {
        .local = local,
        .topic = subscription->topics[claim->topic_index].name,
        .topic_id = own->topic_id,
        .partition = claim->partition,
        .next_offset = own->next_offset,
        .high = own->high,
        .chunk = own->chunk,
        .reader = own->reader,
    };
    bool was_cut;
    struct shove_error error;
    long count = fill(&source, max, batch, &was_cut, &error);
    own->next_offset = source.next_offset;
    own->high = source.high;
    own->chunk = source.chunk;
    own->reader = source.reader;
    if (was_cut) {
        local->is_readable = true;
        shove_local_wake(local);
    }
    if (count < 0)
        shove_local_subscription_fail(subscription, (int)count, error.text);
    return count;
}

long shove_local_read(struct shove_transport *transport, const char *topic, int32_t partition,
                      int64_t offset, size_t max, int64_t timeout_ms, struct shove_batch *batch,
                      struct shove_error *error) {
    (void)timeout_ms; /* what there is is there at once */
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_local_topic *found;
    *batch = (struct shove_batch){0};
    int rc = shove_local_topic_find(local, topic, &found, error);
    if (rc < 0)
        return rc;
    if (partition < 0 || partition >= found->info.partitions)
        return shove_error_set(error, SHOVE_ENOPARTITION,
                               "topic '%s' has partitions 0 to %d, not %d", topic,
                               (int)found->info.partitions - 1, (int)partition);
    struct source source = {.local = local,
                            .topic = topic,
                            .topic_id = found->info.id,
                            .partition = partition,
                            .next_offset = offset};
    bool was_cut;
    long count = max > 0 ? fill(&source, max, batch, &was_cut, error) : 0;
    shove_chunk_drop(source.chunk);
    return count;
}
