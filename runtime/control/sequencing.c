/* sequencing.c: see sequencing.h. Control only, loop's thread. */
#include "control/sequencing.h"

#include <stddef.h>
#include <stdio.h>
#include <zlib.h>

#include "base/log.h"
#include "control/feed.h"
#include "control/flow.h"

static struct shove_delivery *delivery_of(struct shove_sequence_entry *entry) {
    return (struct shove_delivery *)(void *)((char *)entry - offsetof(struct shove_delivery, turn));
}

static size_t held_bytes(const struct shove_delivery *delivery) {
    return sizeof(*delivery) + shove_delivery_held_bytes(delivery);
}

const char *shove_sequencing_name_key(const struct shove_control *control,
                                      const struct shove_record *record, char *out, size_t size) {
    if (!record->key)
        snprintf(out, size, "-");
    else if (control->options->logs_keys)
        snprintf(out, size, "%.*s", record->key_size < size ? (int)record->key_size : (int)size - 1,
                 (const char *)record->key);
    else
        snprintf(out, size, "%08lx", crc32(0, (const Bytef *)record->key, (uInt)record->key_size));
    return out;
}

void shove_sequencing_report(const struct shove_delivery *delivery,
                             const struct shove_record *record, const char *text,
                             enum shove_reason reason) {
    struct shove_flow *flow = delivery->flow;
    if (!shove_flow_may_log(flow))
        return;
    char partition[16];
    char offset[32];
    char key[128];
    snprintf(partition, sizeof(partition), "%d", (int)delivery->partition->claim->partition);
    snprintf(offset, sizeof(offset), "%lld", (long long)record->offset);
    shove_log_fields(
        SHOVE_LOG_WARN, text, "topic", flow->source, "partition", partition, "offset", offset,
        "key", shove_sequencing_name_key(flow->control, record, key, sizeof(key)),
        reason != SHOVE_REASON_NONE ? "reason" : NULL, shove_reason_name(reason), NULL);
}

static enum shove_turn blocked(struct shove_delivery *delivery) {
    delivery->partition->is_blocked = true;
    return SHOVE_TURN_BLOCKED;
}

enum shove_turn shove_sequencing_enter(struct shove_delivery *delivery,
                                       const struct shove_incoming *incoming) {
    struct shove_partition *partition = delivery->partition;
    struct shove_flow *flow = delivery->flow;
    const struct shove_record *record = incoming->record;
    if (partition->queued_bytes >= SHOVE_SEQUENCING_BYTES_MAX)
        return blocked(delivery);
    switch (shove_sequence_enter(&flow->sequence, &delivery->turn, partition->claim->partition,
                                 record->key, record->key_size, flow->group->max_pending_per_key)) {
    case SHOVE_SEQUENCE_TURN:
        return SHOVE_TURN_NOW;
    case SHOVE_SEQUENCE_FULL:
        if (!delivery->has_found_full) {
            delivery->has_found_full = true;
            flow->pending_full++;
            shove_sequencing_report(delivery, record,
                                    "max_pending_per_key messages wait behind one of their key: "
                                    "the partition is not read on until it is settled",
                                    SHOVE_REASON_NONE);
        }
        return blocked(delivery);
    case SHOVE_SEQUENCE_NO_MEMORY:
        return SHOVE_TURN_BLOCKED; /* not for good: it is asked again */
    case SHOVE_SEQUENCE_WAITS:
        break;
    }
    if (shove_delivery_keep(delivery, incoming) != 0) {
        shove_sequence_leave(&flow->sequence, &delivery->turn);
        return SHOVE_TURN_BLOCKED;
    }
    delivery->state = SHOVE_DELIVERY_QUEUED;
    partition->queued_bytes += held_bytes(delivery);
    return SHOVE_TURN_LATER;
}

static void unqueue(struct shove_delivery *delivery) {
    delivery->partition->queued_bytes -= held_bytes(delivery);
    delivery->partition->is_blocked = false;
}

void shove_sequencing_leave(struct shove_delivery *delivery) {
    struct shove_flow *flow = delivery->flow;
    if (!delivery->turn.key)
        return;
    struct shove_sequence_entry *entry = shove_sequence_leave(&flow->sequence, &delivery->turn);
    if (!entry)
        return;
    struct shove_delivery *next = delivery_of(entry);
    unqueue(next);
    flow->control->has_progress = true;
    shove_feed_again(next);
}

void shove_sequencing_forget(struct shove_delivery *delivery) {
    if (!delivery->turn.key)
        return;
    if (delivery->state == SHOVE_DELIVERY_QUEUED)
        unqueue(delivery);
    shove_sequence_leave(&delivery->flow->sequence, &delivery->turn);
}
