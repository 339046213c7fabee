/* feed.c: see feed.h. Control only, loop's thread. The hot path: no allocation, system call or log
 * line per message.
 *
 * A partition's queue is simply not read while its group is full: a taken batch stays under the
 * partition's cursor, and the record that found no room stays open as `pending`, until a completion
 * makes room. Nothing is ever pushed back.
 */
#include "control/feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/abort_point.h"
#include "control/backlog.h"
#include "control/dead_letter.h"
#include "control/delivery.h"
#include "control/flow.h"
#include "control/isolation.h"
#include "control/metrics.h"
#include "control/partition.h"
#include "control/poisoning.h"
#include "control/sequencing.h"
#include "control/settle.h"

/* ---- a place in a worker ---- */

static bool worker_takes(const struct shove_flow *flow, const struct shove_worker *worker) {
    return worker->state == SHOVE_WORKER_READY && !worker->is_condemned && !worker->is_reserved &&
           worker->free_count > 0 && shove_flow_has_room(flow, worker->index) &&
           shove_channel_submit_room(worker->home->channel) > 0;
}

/* Picks a worker with room for `size_bytes`, keeping to one for a streak; *offset is the arena
 * block. */
static struct shove_worker *find_place(struct shove_flow *flow, size_t size_bytes,
                                       uint64_t *offset) {
    struct shove_control *control = flow->control;
    for (uint32_t tries = 0; tries <= control->worker_count; tries++) {
        struct shove_worker *worker = &control->workers[flow->current_worker];
        if (flow->streak < SHOVE_FEED_STREAK && worker_takes(flow, worker)) {
            *offset = shove_arena_take(worker->home->arena, size_bytes);
            if (*offset != SHOVE_ARENA_NONE) {
                flow->streak++;
                return worker;
            }
        }
        flow->streak = 0;
        if (++flow->current_worker == control->worker_count)
            flow->current_worker = 0;
    }
    return NULL;
}

/* The same for a message that is suspected of killing workers: an empty one, for it alone. */
static struct shove_worker *find_cell(struct shove_flow *flow, size_t size_bytes,
                                      uint64_t *offset) {
    struct shove_worker *worker = shove_isolation_cell(flow);
    if (!worker)
        return NULL;
    *offset = shove_arena_take(worker->home->arena, size_bytes);
    return *offset != SHOVE_ARENA_NONE ? worker : NULL;
}

static void submit(struct shove_worker *worker, struct shove_delivery *delivery, uint64_t offset) {
    struct shove_flow *flow = delivery->flow;
    uint32_t slot = worker->free_slots[--worker->free_count];
    worker->slots[slot] = delivery;
    uint32_t generation = ++worker->generations[slot];
    delivery->state = SHOVE_DELIVERY_RUNNING;
    delivery->slot = slot;
    delivery->worker = worker;
    delivery->home = worker->home;
    delivery->arena_offset = offset;
    delivery->submitted_ms = flow->control->now_ms;
    delivery->entry.due_ms = 0;
    if (delivery->due_ms != 0) {
        shove_metrics_late(flow->control, delivery->submitted_ms - delivery->due_ms);
        delivery->due_ms = 0;
    }
    worker->was_fresh = !worker->has_handled;
    worker->has_handled = true;
    worker->has_suspect |= shove_is_suspect(delivery);
    worker->in_flight++;
    flow->in_flight[worker->index]++;
    flow->in_flight_total++;
    if (delivery->partition)
        delivery->partition->running_count++;
    shove_channel_submit(worker->home->channel, &(struct shove_submit){.type = SHOVE_SUBMIT_MESSAGE,
                                                                       .slot = slot,
                                                                       .generation = generation,
                                                                       .arena_offset = offset});
    shove_abort_point(SHOVE_STEP_SUBMITTED);
}

/* ---- again: after a wait in place or a worker's death ---- */

static void hand_out(struct shove_delivery *delivery) {
    struct shove_flow *flow = delivery->flow;
    delivery->state = SHOVE_DELIVERY_AGAIN;
    shove_delivery_list_push(shove_is_suspect(delivery) ? &flow->suspects : &flow->again, delivery);
}

static void wait_until(struct shove_delivery *delivery, int64_t due_ms) {
    struct shove_flow *flow = delivery->flow;
    delivery->state = SHOVE_DELIVERY_WAITING;
    flow->aside_bytes += shove_delivery_held_bytes(delivery);
    delivery->due_ms = due_ms;
    shove_due_heap_insert(&flow->waiting, &delivery->wait, due_ms);
    flow->waiting_count++;
}

/* It waited in an earlier process, or for an earlier owner, and its time has not come. */
static bool is_early(const struct shove_delivery *delivery) {
    return delivery->entry.due_ms > delivery->flow->control->wall_ms;
}

/* No longer than a retry ever waits: the clock that the due time is from may have been wrong, or
 * the hold longer. */
static void wait_on(struct shove_delivery *delivery) {
    const struct shove_policy *policy = &delivery->flow->policy;
    const struct shove_control *control = delivery->flow->control;
    const int64_t longest_ms = policy->hold_count > 0 ? policy->holds_ms[policy->hold_count - 1]
                                                      : SHOVE_RETRY_WITHOUT_HOLD_MS;
    const int64_t wait_ms = delivery->entry.due_ms - control->wall_ms;
    wait_until(delivery, control->now_ms + (wait_ms < longest_ms ? wait_ms : longest_ms));
}

void shove_feed_again(struct shove_delivery *delivery) {
    if (shove_delivery_shelve_if_revoking(delivery))
        return;
    if (is_early(delivery))
        wait_on(delivery);
    else
        hand_out(delivery);
}

void shove_feed_wait(struct shove_delivery *delivery, const struct shove_hop *hop) {
    /* Not the round's time: as for a hold (hop.c), late is allowed and early is not. */
    delivery->entry.due_ms = shove_clock_wall_ms() + 1 + hop->delay_ms;
    if (!shove_delivery_shelve_if_revoking(delivery))
        wait_until(delivery, shove_clock_mono_ms() + 1 + hop->delay_ms);
}

static bool place_again(struct shove_delivery *delivery) {
    const struct shove_envelope *old = shove_delivery_envelope(delivery);
    size_t size = shove_envelope_size_bytes(old);
    uint64_t offset;
    struct shove_worker *worker = shove_is_suspect(delivery)
                                      ? find_cell(delivery->flow, size, &offset)
                                      : find_place(delivery->flow, size, &offset);
    if (!worker)
        return false;
    uint8_t *out = worker->home->bytes + offset;
    memcpy(out, old, size);
    struct shove_envelope *envelope = (struct shove_envelope *)(void *)out;
    envelope->group = delivery->flow->group_number;
    envelope->retry_count = delivery->retry_count;
    if (delivery->is_redelivered)
        envelope->flags |= SHOVE_ENVELOPE_REDELIVERED;
    shove_delivery_drop_bytes(delivery);
    submit(worker, delivery, offset);
    return true;
}

/* What becomes of a message that no handler is given; 0: one is. On a sequenced topic it is asked
 * when the message has its turn: only then it is known whether its key is poisoned, and what dies
 * before its turn would poison it for messages that came earlier. */
static enum shove_outcome outcome_unhandled(const struct shove_partition *partition,
                                            const struct shove_record *record) {
    if (shove_poisoning_covers(partition, record))
        return SHOVE_OUTCOME_POISONED;
    const int64_t size_bytes = (int64_t)record->payload_size;
    return size_bytes > partition->flow->group->max_message_size_bytes ? SHOVE_OUTCOME_OVERSIZE : 0;
}

/* Of one that waited for its turn. */
static enum shove_outcome outcome_of_waiting(const struct shove_delivery *delivery) {
    if (!delivery->flow->policy.is_sequenced || !delivery->partition)
        return 0;
    const struct shove_record record = shove_delivery_record(delivery);
    return outcome_unhandled(delivery->partition, &record);
}

/* One that waits right behind a dead letter of its poisoned key, and is to be one. */
static bool may_go_ahead(const struct shove_delivery *delivery) {
    const struct shove_delivery *before = shove_sequencing_previous(delivery);
    return delivery->state == SHOVE_DELIVERY_QUEUED && before->partition == delivery->partition &&
           before->state == SHOVE_DELIVERY_HOPPING && before->hop.reason == SHOVE_REASON_POISONED &&
           outcome_of_waiting(delivery) == SHOVE_OUTCOME_POISONED;
}

/* What a producer is given for one partition keeps its order (hop.c). */
static void send_ahead(struct shove_delivery *delivery) {
    while (delivery && may_go_ahead(delivery)) {
        shove_sequencing_go_ahead(delivery);
        shove_settle(delivery->flow->control, delivery, SHOVE_OUTCOME_POISONED, NULL, 0);
        delivery = shove_sequencing_next(delivery);
    }
}

/* It has its turn. */
static void settle_unhandled(struct shove_delivery *delivery, enum shove_outcome outcome) {
    struct shove_delivery *next = shove_sequencing_next(delivery);
    shove_settle(delivery->flow->control, delivery, outcome, NULL, 0);
    if (next && shove_sequencing_previous(next) == delivery)
        send_ahead(next);
}

static void place_list(struct shove_flow *flow, struct shove_delivery_list *list) {
    while (list->first) {
        const enum shove_outcome outcome = outcome_of_waiting(list->first);
        if (outcome == 0 && !place_again(list->first))
            return;
        struct shove_delivery *delivery = shove_delivery_list_pop(list);
        if (outcome != 0)
            settle_unhandled(delivery, outcome);
        flow->control->has_progress = true;
    }
}

static void feed_again(struct shove_flow *flow) {
    struct shove_control *control = flow->control;
    while (flow->waiting.first && flow->waiting.first->due_ms <= control->now_ms) {
        struct shove_delivery *delivery =
            shove_delivery_of_wait(shove_due_heap_pop(&flow->waiting));
        flow->waiting_count--;
        flow->aside_bytes -= shove_delivery_held_bytes(delivery);
        hand_out(delivery); /* whatever the wall clock says */
    }
    place_list(flow, &flow->suspects);
    place_list(flow, &flow->again);
}

/* ---- records of a partition ---- */

/* With the first batch the end of the log is known: what was restored cannot speak of records
 * beyond it (the topic may have been truncated and written anew since). */
static void clip(struct shove_partition *partition) {
    const struct shove_cluster *cluster = partition->flow->cluster;
    int64_t end;
    if (cluster->ops->backlog(cluster->transport, partition->claim, &end) < 0)
        return;
    const struct shove_record *last = &partition->batch.records[partition->batch.count - 1];
    shove_ledger_clip(&partition->ledger, end > last->offset ? end : last->offset + 1);
    partition->is_clipped = true;
}

static bool refill(struct shove_partition *partition) {
    const struct shove_cluster *cluster = partition->flow->cluster;
    shove_partition_drop_batch(partition);
    if (partition->is_dry)
        return false;
    long count =
        cluster->ops->take(cluster->transport, partition->claim, SHOVE_TAKE_MAX, &partition->batch);
    if (count < 0) {
        shove_log_fields(SHOVE_LOG_ERROR, "a partition cannot be read any more", "topic",
                         partition->topic, "code", shove_error_name((int)count), NULL);
        partition->is_broken = true;
        return false;
    }
    if (count == 0) {
        partition->is_dry = true;
        return false;
    }
    partition->has_batch = true;
    partition->cursor = 0;
    if (!partition->is_clipped)
        clip(partition);
    shove_abort_point(SHOVE_STEP_TAKEN);
    return true;
}

/* What is open below stays open: its records are still there, or nowhere but here. */
static void go_back(struct shove_partition *partition, int64_t offset) {
    char from[32];
    char number[16];
    snprintf(from, sizeof(from), "%" PRId64, offset);
    snprintf(number, sizeof(number), "%d", (int)partition->claim->partition);
    shove_log_fields(SHOVE_LOG_WARN,
                     "the partition went back to an earlier offset (truncated or recreated): it is "
                     "read again from there",
                     "topic", partition->topic, "partition", number, "offset", from, NULL);
    shove_partition_rewind(partition, offset);
}

/* Where shove's retries wait, a record that says nothing of a group or a queue. */
static void report_stranger(const struct shove_partition *partition, int64_t offset) {
    if (!shove_flow_may_log(partition->flow))
        return;
    char place[SHOVE_PLACE_SIZE];
    snprintf(place, sizeof(place), "%s/%d@%" PRId64, partition->topic,
             (int)partition->claim->partition, offset);
    shove_log_fields(SHOVE_LOG_WARN,
                     "a record in a hold was not written by shove and is not handled: it stays "
                     "there as long as the topic keeps records; what is to be handled goes into "
                     "the queue",
                     "record", place, "queue", partition->flow->source, NULL);
}

enum parsed { PARSED_OK, PARSED_SKIP, PARSED_NOT_DUE };

/* What shove's headers say, believed as far as the place they were read allows
 * (core/hop_headers.h). */
static enum parsed parse(struct shove_partition *partition, struct shove_incoming *incoming) {
    const struct shove_record *record = incoming->record;
    struct shove_hop_info *info = &incoming->info;
    shove_hop_info_init(info);
    incoming->original_headers_size = 0;
    incoming->death = NULL;
    if (record->headers_size > 0) {
        long originals = shove_hop_headers_parse(record->headers, record->headers_size, info);
        incoming->original_headers_size = originals >= 0 ? (size_t)originals : 0;
    }
    if (!partition->is_hold) {
        info->retry_count = 0;
        info->crash_count = 0;
        return PARSED_OK;
    }
    const char *group_id = partition->flow->group->group_id;
    if (!info->group.data) {
        report_stranger(partition, record->offset);
        return PARSED_SKIP;
    }
    if (info->group.size != strlen(group_id) ||
        memcmp(info->group.data, group_id, info->group.size) != 0)
        return PARSED_SKIP;
    if (info->due_ms > partition->flow->control->wall_ms) {
        partition->next_due_ms = info->due_ms;
        return PARSED_NOT_DUE;
    }
    return PARSED_OK;
}

/* Whether a handler may have been given it before, as far as anything says so: not of what was
 * first handed out after the last commit of an earlier owner. A hold's record was, once. So was
 * what is back from a DLQ (a stranger may claim that: it is only told, nothing follows from it). */
static bool was_handed_out(const struct shove_partition *partition,
                           const struct shove_delivery *delivery,
                           const struct shove_hop_info *info) {
    const bool is_dead_letter = partition->flow->group->kind == SHOVE_GROUP_DEAD_LETTERS;
    return partition->is_hold || delivery->entry.was_open || delivery->retry_count > 0 ||
           delivery->crashes > 0 || (!is_dead_letter && info->death_count > 0);
}

static uint64_t hash_if_asked(const struct shove_partition *partition,
                              const struct shove_record *record) {
    return shove_ledger_asks_for_keys(&partition->ledger) && record->key
               ? shove_ledger_hash(record->key, record->key_size)
               : 0;
}

enum opened { OPENED, ALREADY_FINISHED, NO_MEMORY };

/* Opens the slot of the record under the cursor and leaves its delivery in partition->pending. */
static enum opened open_slot(struct shove_partition *partition,
                             const struct shove_incoming *incoming) {
    struct shove_control *control = partition->flow->control;
    struct shove_delivery *delivery = shove_delivery_new(control, partition);
    if (!delivery)
        return NO_MEMORY;
    const int64_t offset = incoming->record->offset;
    const uint64_t key_hash = hash_if_asked(partition, incoming->record);
    enum shove_ledger_verdict verdict =
        shove_ledger_deliver(&partition->ledger, &delivery->entry, offset, key_hash);
    if (verdict == SHOVE_LEDGER_REWOUND) {
        go_back(partition, offset);
        verdict = shove_ledger_deliver(&partition->ledger, &delivery->entry, offset, 0);
    }
    partition->is_dirty = true;
    if (verdict != SHOVE_LEDGER_OPENED) {
        shove_delivery_free(control, delivery);
        return ALREADY_FINISHED;
    }
    const struct shove_hop_info *info = &incoming->info;
    delivery->retry_count = info->retry_count + delivery->entry.attempts;
    delivery->crashes = info->crash_count + delivery->entry.crashes;
    delivery->is_redelivered = was_handed_out(partition, delivery, info);
    if (partition->is_hold && info->first_seen_ms >= 0)
        delivery->first_seen_ms = info->first_seen_ms;
    if (!partition->is_hold)
        shove_metrics_sized(partition->flow, incoming->record->payload_size);
    else if (info->due_ms >= 0)
        delivery->due_ms = control->now_ms + info->due_ms - control->wall_ms;
    shove_abort_point(SHOVE_STEP_OPENED);
    partition->pending = delivery;
    return OPENED;
}

/* Skips a record that is not for this group: for the ledger it was delivered and finished. */
static void skip_record(struct shove_partition *partition, int64_t offset) {
    struct shove_ledger_entry entry = {0};
    if (shove_ledger_deliver(&partition->ledger, &entry, offset, 0) == SHOVE_LEDGER_OPENED)
        shove_ledger_close(&partition->ledger, &entry);
    partition->is_dirty = true;
}

/* So that what comes after it need not wait. False: no memory now, it is pending. */
static bool keep_bytes(struct shove_partition *partition, struct shove_delivery *delivery,
                       const struct shove_incoming *incoming) {
    if (shove_delivery_keep(delivery, incoming) == 0)
        return true;
    partition->pending = delivery;
    return false;
}

/* Feeds the record under the cursor. False: no room, not due, or not its turn: the partition has to
 * wait. */
static bool feed_record(struct shove_partition *partition) {
    struct shove_control *control = partition->flow->control;
    struct shove_incoming incoming = {.record = &partition->batch.records[partition->cursor]};
    enum parsed parsed = parse(partition, &incoming);
    if (parsed == PARSED_NOT_DUE)
        return false;
    if (parsed == PARSED_SKIP) {
        skip_record(partition, incoming.record->offset);
        return true;
    }
    if (!partition->pending) {
        enum opened opened = open_slot(partition, &incoming);
        if (opened != OPENED)
            return opened == ALREADY_FINISHED;
    }
    struct shove_delivery *delivery = partition->pending;
    partition->pending = NULL;
    if (partition->flow->policy.is_sequenced && incoming.record->key && !delivery->turn.key) {
        const enum shove_turn turn = shove_sequencing_enter(delivery, &incoming);
        if (turn == SHOVE_TURN_BLOCKED)
            partition->pending = delivery;
        if (turn == SHOVE_TURN_LATER)
            send_ahead(delivery);
        if (turn != SHOVE_TURN_NOW)
            return turn == SHOVE_TURN_LATER;
    }
    const enum shove_outcome outcome = outcome_unhandled(partition, incoming.record);
    if (outcome != 0) {
        if (!keep_bytes(partition, delivery, &incoming))
            return false;
        settle_unhandled(delivery, outcome);
        return true;
    }
    if (is_early(delivery)) {
        if (!keep_bytes(partition, delivery, &incoming))
            return false;
        wait_on(delivery);
        return true;
    }
    if (partition->flow->group->kind == SHOVE_GROUP_DEAD_LETTERS)
        incoming.death = shove_dead_letter_describe(control, &incoming);
    if (shove_is_suspect(delivery)) {
        if (!keep_bytes(partition, delivery, &incoming))
            return false;
        shove_feed_again(delivery);
        return true;
    }
    uint64_t offset;
    struct shove_worker *worker =
        find_place(partition->flow, shove_delivery_size_bytes(&incoming), &offset);
    if (!worker) {
        partition->pending = delivery;
        return false;
    }
    shove_delivery_write(delivery, &incoming, worker->home->bytes + offset);
    submit(worker, delivery, offset);
    return true;
}

static bool can_feed(const struct shove_partition *partition) {
    const struct shove_control *control = partition->flow->control;
    return !partition->is_revoking && !partition->is_broken && !partition->is_blocked &&
           !partition->is_learning &&
           (partition->next_due_ms == 0 || partition->next_due_ms <= control->wall_ms);
}

/* Up to a streak of records. False: the group is full, nobody of this flow needs to be asked now.
 */
static bool feed_partition(struct shove_partition *partition) {
    struct shove_control *control = partition->flow->control;
    if (!can_feed(partition))
        return true;
    partition->next_due_ms = 0;
    for (uint32_t n = 0; n < SHOVE_FEED_STREAK; n++) {
        if (!partition->has_batch || partition->cursor == partition->batch.count) {
            if (!refill(partition))
                return true;
        }
        if (!feed_record(partition))
            return partition->next_due_ms != 0 || partition->is_blocked;
        partition->cursor++;
        control->has_progress = true;
    }
    return true;
}

/* The group is full. Without an end to a turn a partition with a backlog would keep all room, and
 * retries that are due would wait for the end of it; ending it at every message costs control a
 * tenth and more of its time, in cache misses. A sixteenth of what may be in flight is no long wait
 * for the others, however slow the handler. */
static void end_turn(struct shove_flow *flow, struct shove_partition *partition, uint32_t given) {
    const uint32_t share = flow->capacity_total / 16;
    flow->turn_count += given;
    const bool is_over =
        flow->turn_count > 0 &&
        flow->turn_count >= (share < SHOVE_FEED_STREAK ? share : SHOVE_FEED_STREAK);
    flow->next_partition = is_over ? partition->next : partition;
    if (is_over)
        flow->turn_count = 0;
}

static void feed_flow(struct shove_flow *flow) {
    if (flow->is_paused || flow->is_removed)
        return;
    feed_again(flow);
    if (flow->again.first || flow->state != SHOVE_FLOW_JOINED || shove_backlog_is_full(flow))
        return;
    struct shove_partition *start = flow->next_partition ? flow->next_partition : flow->partitions;
    struct shove_partition *partition = start;
    while (partition) {
        struct shove_partition *next = partition->next ? partition->next : flow->partitions;
        const uint32_t before = flow->in_flight_total;
        if (!feed_partition(partition)) {
            end_turn(flow, partition, flow->in_flight_total - before);
            return;
        }
        flow->turn_count = 0;
        partition = next == start ? NULL : next;
    }
    if (start)
        flow->next_partition = start->next;
}

void shove_feed_round(struct shove_control *control) {
    shove_isolation_reserve(control);
    for (uint32_t i = 0; control->phase == SHOVE_PHASE_RUNNING && i < control->flow_count; i++)
        feed_flow(&control->flows[i]);
    for (uint32_t w = 0; w < control->worker_count; w++) {
        if (control->workers[w].home)
            shove_channel_flush(control->workers[w].home->channel);
    }
}

int64_t shove_feed_next_due_ms(const struct shove_control *control) {
    int64_t due_ms = INT64_MAX;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const struct shove_flow *flow = &control->flows[i];
        if (flow->is_paused || flow->is_removed)
            continue;
        const struct shove_due_entry *first = flow->waiting.first;
        if (first && first->due_ms < due_ms)
            due_ms = first->due_ms;
        for (const struct shove_partition *p = flow->partitions; p; p = p->next) {
            if (p->next_due_ms == 0 || p->is_revoking)
                continue;
            int64_t at_ms = control->now_ms + p->next_due_ms - control->wall_ms;
            if (at_ms < due_ms)
                due_ms = at_ms;
        }
    }
    return due_ms;
}
