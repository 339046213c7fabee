/* sequencing.c: see sequencing.h. Control only, loop's thread. */
#include "control/sequencing.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <zlib.h>

#include "base/log.h"
#include "control/feed.h"
#include "control/flow.h"

#define LINE_INTERVAL_MS 10000

static struct shove_delivery *delivery_of(struct shove_sequence_entry *entry) {
    return (struct shove_delivery *)(void *)((char *)entry - offsetof(struct shove_delivery, turn));
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

/* ---- what holds up a partition: few lines, and none of those that messages have ---- */

static const char full_text[] = "max_pending_per_key messages wait behind one of their key: the "
                                "partition is not read on until it is settled";
static const char crowded_text[] = "8 MiB of messages wait for their turn: the partition is not "
                                   "read on until some of them are settled";

static bool may_say(const struct shove_flow *flow, struct shove_rare_line *line) {
    if (flow->control->now_ms < line->next_ms) {
        line->unsaid++;
        return false;
    }
    line->next_ms = flow->control->now_ms + LINE_INTERVAL_MS;
    return true;
}

static void report_held_up(const struct shove_delivery *delivery, const struct shove_record *record,
                           struct shove_rare_line *line, const char *text) {
    struct shove_flow *flow = delivery->flow;
    if (!may_say(flow, line))
        return;
    char partition[16];
    char offset[32];
    char unsaid[16];
    char key[128];
    snprintf(partition, sizeof(partition), "%d", (int)delivery->partition->claim->partition);
    snprintf(offset, sizeof(offset), "%lld", (long long)record->offset);
    snprintf(unsaid, sizeof(unsaid), "%" PRIu32, line->unsaid);
    shove_sequencing_name_key(flow->control, record, key, sizeof(key));
    shove_log_fields(SHOVE_LOG_WARN, text, "topic", flow->source, "partition", partition, "offset",
                     offset, "key", key, line->unsaid > 0 ? "left out" : NULL, unsaid, NULL);
    line->unsaid = 0;
}

static void log_unsaid(struct shove_flow *flow, struct shove_rare_line *line, const char *text) {
    if (line->unsaid == 0 || flow->control->now_ms < line->next_ms)
        return;
    char unsaid[16];
    snprintf(unsaid, sizeof(unsaid), "%" PRIu32, line->unsaid);
    shove_log_fields(SHOVE_LOG_WARN, text, "topic", flow->source, "left out", unsaid, NULL);
    line->next_ms = flow->control->now_ms + LINE_INTERVAL_MS;
    line->unsaid = 0;
}

void shove_sequencing_log_unsaid(struct shove_flow *flow) {
    log_unsaid(flow, &flow->full_line, full_text);
    log_unsaid(flow, &flow->crowded_line, crowded_text);
}

/* ---- turns ---- */

static enum shove_turn blocked(struct shove_delivery *delivery) {
    delivery->partition->is_blocked = true;
    return SHOVE_TURN_BLOCKED;
}

static enum shove_turn crowded(struct shove_delivery *delivery, const struct shove_record *record) {
    struct shove_partition *partition = delivery->partition;
    if (!partition->is_crowded)
        report_held_up(delivery, record, &delivery->flow->crowded_line, crowded_text);
    partition->is_crowded = true;
    return blocked(delivery);
}

/* `is_news`: it was not so of its key a moment ago. */
static enum shove_turn full(struct shove_delivery *delivery, const struct shove_record *record,
                            bool is_news) {
    struct shove_flow *flow = delivery->flow;
    flow->pending_full += !delivery->has_found_full;
    delivery->has_found_full = true;
    if (is_news)
        report_held_up(delivery, record, &flow->full_line, full_text);
    return blocked(delivery);
}

enum shove_turn shove_sequencing_enter(struct shove_delivery *delivery,
                                       const struct shove_incoming *incoming) {
    struct shove_partition *partition = delivery->partition;
    struct shove_flow *flow = delivery->flow;
    const struct shove_record *record = incoming->record;
    const uint64_t full_count = flow->sequence.full_count;
    if (partition->queued_bytes >= SHOVE_SEQUENCING_BYTES_MAX)
        return crowded(delivery, record);
    switch (shove_sequence_enter(&flow->sequence, &delivery->turn, partition->claim->partition,
                                 record->key, record->key_size, flow->group->max_pending_per_key)) {
    case SHOVE_SEQUENCE_TURN:
        return SHOVE_TURN_NOW;
    case SHOVE_SEQUENCE_FULL:
        return full(delivery, record, flow->sequence.full_count != full_count);
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
    delivery->entry.is_implied = delivery_of(delivery->turn.previous)->partition == partition;
    partition->queued_bytes += shove_delivery_held_bytes(delivery);
    return SHOVE_TURN_LATER;
}

/* Its bytes are not among those that wait for their turn any more. */
static void uncount(struct shove_delivery *delivery) {
    struct shove_partition *partition = delivery->partition;
    partition->queued_bytes -= shove_delivery_held_bytes(delivery);
    partition->is_crowded &= partition->queued_bytes > SHOVE_SEQUENCING_BYTES_MAX / 2;
}

static struct shove_delivery *delivery_or_null(struct shove_sequence_entry *entry) {
    return entry ? delivery_of(entry) : NULL;
}

struct shove_delivery *shove_sequencing_previous(const struct shove_delivery *delivery) {
    return delivery_or_null(delivery->turn.previous);
}

struct shove_delivery *shove_sequencing_next(const struct shove_delivery *delivery) {
    return delivery_or_null(delivery->turn.next);
}

void shove_sequencing_go_ahead(struct shove_delivery *delivery) {
    delivery->is_ahead = true;
    delivery->flow->ahead_count++;
}

void shove_sequencing_fall_in(struct shove_delivery *delivery) {
    if (!delivery->is_ahead)
        return;
    delivery->is_ahead = false;
    delivery->entry.is_implied = false;
    delivery->flow->ahead_count--;
    delivery->flow->aside_bytes += shove_delivery_held_bytes(delivery);
    uncount(delivery);
}

/* What is under the cursor of its partition may be one of those that it held up. */
static void unblock(const struct shove_delivery *delivery) {
    if (delivery->partition) {
        delivery->partition->is_blocked = false;
        return;
    }
    for (struct shove_partition *p = delivery->flow->partitions; p; p = p->next)
        p->is_blocked = false; /* of an orphan, which is rare: they look once more */
}

void shove_sequencing_leave(struct shove_delivery *delivery) {
    struct shove_flow *flow = delivery->flow;
    if (!delivery->turn.key)
        return;
    unblock(delivery);
    struct shove_delivery *next =
        delivery_or_null(shove_sequence_leave(&flow->sequence, &delivery->turn));
    if (!next)
        return;
    flow->control->has_progress = true;
    if (next->state != SHOVE_DELIVERY_QUEUED) {
        shove_sequencing_fall_in(next);
        return;
    }
    next->entry.is_implied = false;
    uncount(next);
    shove_feed_again(next);
}

void shove_sequencing_forget(struct shove_delivery *delivery) {
    if (!delivery->turn.key)
        return;
    if (delivery->state == SHOVE_DELIVERY_QUEUED)
        uncount(delivery);
    shove_sequence_leave(&delivery->flow->sequence, &delivery->turn);
}
