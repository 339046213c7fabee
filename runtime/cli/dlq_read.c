/* dlq_read.c: reading a DLQ from its partitions, and which of its letters are settled. Cli. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/dlq.h"

/* The marks as a ledger. Marks past the end belong to a DLQ of the same name that is gone. */
static int restore(struct shove_dlq *dlq, struct shove_dlq_partition *partition,
                   struct shove_error *error) {
    shove_ledger_init(&partition->ledger, partition->low);
    if (partition->committed < 0)
        return 0;
    if (partition->committed > partition->high) {
        shove_log(
            SHOVE_LOG_WARN,
            "the marks of group %s on %s/%d are at offset %lld, past its end %lld: the DLQ was "
            "created anew, so they are not looked at",
            dlq->triage, dlq->name, partition->number, (long long)partition->committed,
            (long long)partition->high);
        return 0;
    }
    shove_ledger_init(&partition->ledger, partition->committed);
    const char *text = partition->metadata;
    if (text == NULL || shove_ledger_restore(&partition->ledger, text, strlen(text), error) == 0) {
        shove_ledger_clip(&partition->ledger, partition->high);
        return 0;
    }
    shove_error_prefix(error,
                       "the marks of group %s on %s/%d cannot be read (delete that group to start "
                       "over: letters replayed before will count as waiting again)",
                       dlq->triage, dlq->name, partition->number);
    return error->code;
}

int shove_dlq_partition_open(struct shove_dlq *dlq, struct shove_dlq_partition *partition,
                             int32_t number, struct shove_error *error) {
    const struct shove_client *client = &dlq->client;
    memset(partition, 0, sizeof *partition);
    partition->number = number;
    int code = client->ops->watermarks(client->transport, dlq->name, number, &partition->low,
                                       &partition->high, client->timeout_ms, error);
    if (code == 0)
        code = client->ops->committed_get(client->transport, dlq->triage, dlq->name, number,
                                          &partition->committed, &partition->metadata,
                                          client->timeout_ms, error);
    if (code == 0)
        code = restore(dlq, partition, error);
    if (partition->high > dlq->ends[number]) /* after the marks were held against the real end */
        partition->high = dlq->ends[number];
    partition->next = partition->low > partition->ledger.next_offset
                          ? partition->low
                          : partition->ledger.next_offset;
    return code;
}

void shove_dlq_partition_close(struct shove_dlq_partition *partition) {
    shove_ledger_abandon(&partition->ledger, NULL, NULL);
    shove_ledger_release(&partition->ledger);
    free(partition->metadata);
    partition->metadata = NULL;
}

long shove_dlq_partition_read(struct shove_dlq *dlq, struct shove_dlq_partition *partition,
                              size_t max, struct shove_batch *batch, struct shove_error *error) {
    return shove_client_read(&dlq->client, dlq->name, partition->number, &partition->next,
                             partition->high, max, batch, error);
}

static int walk_batch(struct shove_dlq_partition *partition, const struct shove_batch *batch,
                      size_t count, shove_dlq_each *each, void *ctx) {
    for (size_t i = 0; i < count; i++) {
        const struct shove_record *record = &batch->records[i];
        struct shove_ledger_entry entry;
        struct shove_letter letter;
        shove_letter_read(&letter, partition->number, record);
        letter.is_settled = shove_ledger_deliver(&partition->ledger, &entry, record->offset, 0) !=
                            SHOVE_LEDGER_OPENED; /* below the frontier: REWOUND */
        if (!letter.is_settled)
            shove_ledger_close(&partition->ledger, &entry); /* nothing is written: only asked */
        if (each(ctx, &letter) != 0)
            return 1;
    }
    return 0;
}

static int walk_partition(struct shove_dlq *dlq, int32_t number, shove_dlq_each *each, void *ctx,
                          struct shove_error *error) {
    struct shove_dlq_partition partition;
    struct shove_batch batch;
    long result = shove_dlq_partition_open(dlq, &partition, number, error);
    partition.next = partition.low;
    while (result == 0) {
        long count = shove_dlq_partition_read(dlq, &partition, SHOVE_DLQ_BATCH, &batch, error);
        if (count <= 0) {
            result = count;
            break;
        }
        result = walk_batch(&partition, &batch, (size_t)count, each, ctx);
        dlq->client.ops->batch_release(dlq->client.transport, &batch);
    }
    shove_dlq_partition_close(&partition);
    return (int)result;
}

int shove_dlq_walk(struct shove_dlq *dlq, shove_dlq_each *each, void *ctx,
                   struct shove_error *error) {
    struct shove_error here = {0};
    int result = 0;
    error->code = 0;
    for (int32_t i = 0; i < dlq->partition_count && result == 0; i++) {
        result = walk_partition(dlq, i, each, ctx, &here);
        if (result < 0)
            result = shove_client_keep_first(error, &here);
    }
    return error->code;
}
