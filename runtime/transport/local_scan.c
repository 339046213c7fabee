/* local_scan.c: what is in a partition from an offset to its end, of the transports that live on
 * this machine.
 *
 * Control, the loop's thread. A scan is only noted when it is asked for. The pump reads it when it
 * is told, so what it gives is borrowed for the call and nothing is held in between.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/local.h"

int shove_local_scan(struct shove_transport *transport, const char *topic, int32_t partition,
                     int64_t offset, void *opaque) {
    struct shove_local *local = (struct shove_local *)transport;
    size_t size = strlen(topic) + 1;
    struct shove_local_scan *scan = calloc(1, sizeof(*scan) + size);
    if (!scan)
        return SHOVE_ENOMEM;
    memcpy(scan->topic, topic, size);
    scan->partition = partition;
    scan->offset = offset;
    scan->opaque = opaque;
    *local->scans_end = scan;
    local->scans_end = &scan->next;
    shove_local_wake(local);
    return 0;
}

/* The end is looked for after reading: others may write meanwhile, and what they wrote is either
 * among the records or behind them. */
static int scan_read(struct shove_local *local, const struct shove_local_scan *scan,
                     struct shove_batch *batch, struct shove_scanned *out,
                     struct shove_error *error) {
    struct shove_transport *transport = &local->head;
    long partitions = shove_local_partition_count(transport, scan->topic, 0, error);
    if (partitions < 0)
        return (int)partitions;
    if (scan->partition < 0 || scan->partition >= partitions)
        return shove_error_set(error, SHOVE_ENOPARTITION,
                               "topic '%s' has partitions 0 to %ld, not %d", scan->topic,
                               partitions - 1, (int)scan->partition);
    long count = shove_local_read(transport, scan->topic, scan->partition, scan->offset,
                                  SHOVE_SCAN_MAX, 0, batch, error);
    if (count < 0)
        return (int)count;
    int64_t low, high;
    int rc = shove_local_watermarks(transport, scan->topic, scan->partition, &low, &high, 0, error);
    if (rc < 0)
        return rc;
    out->records = batch->records;
    out->count = batch->count;
    out->next_offset = count > 0 ? batch->records[count - 1].offset + 1 : scan->offset;
    if (out->next_offset < low)
        out->next_offset = low;
    if (out->next_offset > high)
        out->next_offset = high;
    out->is_end = out->next_offset == high;
    return 0;
}

static void tell(struct shove_local *local, const struct shove_local_scan *scan) {
    struct shove_error error = {.code = 0};
    struct shove_batch batch = {0};
    struct shove_scanned result = {.opaque = scan->opaque, .next_offset = scan->offset};
    result.code = scan_read(local, scan, &batch, &result, &error);
    if (result.code < 0)
        result.detail = error.text;
    if (local->events->scanned)
        local->events->scanned(local->ctx, &result);
    shove_local_batch_release(&local->head, &batch);
}

void shove_local_scans_deliver(struct shove_local *local) {
    struct shove_local_scan *scan = local->scans;
    local->scans = NULL; /* what is asked for from inside the event waits for the next pump */
    local->scans_end = &local->scans;
    while (scan) {
        struct shove_local_scan *next = scan->next;
        tell(local, scan);
        free(scan);
        scan = next;
    }
}

void shove_local_scans_free(struct shove_local *local) {
    while (local->scans) {
        struct shove_local_scan *next = local->scans->next;
        free(local->scans);
        local->scans = next;
    }
}
