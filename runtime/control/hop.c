/* hop.c: see hop.h. Control only, loop's thread.
 *
 * Kafka refuses a whole batch for its size, and the client does not take it apart. So what was
 * refused for its size is offered again alone: one such record is on its way to a broker at a time.
 * Refused again, it leaves out the error text, the largest of what shove adds; only then it is too
 * large.
 *
 * Dead letters of a poisoned key may be on their way together, in order: the producer keeps it.
 * When one fails, the others of its partition that have not been offered are laid aside; when all
 * that were are answered for, those that are not stored are offered in order: the earliest alone,
 * where none was stored since one failed. So only what is on its way beside one that fails can get
 * ahead of it. One that is too large for its DLQ keeps nobody back.
 */
#include "control/hop.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/abort_point.h"
#include "control/delivery.h"
#include "control/feed.h"
#include "control/flow.h"
#include "control/poisoning.h"
#include "control/sequencing.h"
#include "control/settle.h"
#include "core/hop_headers.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 10000
#define BACKOFF_DOUBLINGS 7
#define TRIMMED 2
#define ARENA_PATIENCE_MS 1000

static struct shove_text text_of(const char *text) {
    return (struct shove_text){text, text ? strlen(text) : 0};
}

/* What shove's own headers say on this hop. Texts borrow from the delivery and `id_text`. */
static struct shove_hop_info describe(const struct shove_control *control,
                                      const struct shove_delivery *delivery,
                                      const struct shove_envelope *envelope, struct shove_text id,
                                      char *id_text) {
    const struct shove_hop *hop = &delivery->hop;
    struct shove_hop_info info;
    shove_hop_info_init(&info);
    if (id.size == 0) {
        id.size = shove_message_id_derive(delivery->flow->source, envelope->partition,
                                          envelope->offset, id_text);
        id.data = id_text;
    }
    info.message_id = id;
    info.retry_count = hop->retry_count;
    info.crash_count = delivery->crashes;
    info.death_count = envelope->death_count;
    info.original_queue = text_of(delivery->flow->source);
    info.original_partition = envelope->partition;
    info.original_offset = envelope->offset;
    info.original_timestamp_ms = envelope->timestamp_ms;
    info.group = text_of(delivery->flow->group->group_id);
    info.first_seen_ms = delivery->first_seen_ms;
    if (delivery->error && delivery->size_refusals < TRIMMED)
        info.error = text_of(delivery->error);
    if (hop->kind == SHOVE_HOP_HOLD) {
        /* Not the round's time, which may be from before the handler said retry; and rounded up:
         * late by a millisecond is allowed, early is not. */
        info.due_ms = shove_clock_wall_ms() + 1 + hop->delay_ms;
    } else {
        info.death_reason = text_of(shove_reason_name(hop->reason));
        info.death_count = envelope->death_count + 1;
        info.died_ms = control->wall_ms;
    }
    return info;
}

const char *shove_hop_target(const struct shove_delivery *delivery) {
    const struct shove_topic *topic = delivery->flow->topic;
    if (delivery->hop.poisons)
        return topic->poison;
    return delivery->hop.kind == SHOVE_HOP_HOLD ? topic->holds[delivery->hop.tier] : topic->dlq;
}

static bool is_ordered(const struct shove_delivery *delivery) {
    return delivery->hop.reason == SHOVE_REASON_POISONED && delivery->size_refusals < TRIMMED;
}

/* Until it is due. */
static void lay_aside(struct shove_control *control, struct shove_delivery *delivery) {
    if (!is_ordered(delivery)) {
        shove_delivery_list_push(&control->hops, delivery);
        return;
    }
    delivery->is_laid_aside = true;
    delivery->partition->laid_aside_count++;
    control->laid_aside_count++;
}

static void take_up(struct shove_control *control, struct shove_delivery *delivery) {
    if (!delivery->is_laid_aside)
        return;
    delivery->is_laid_aside = false;
    delivery->partition->laid_aside_count--;
    control->laid_aside_count--;
}

static void stumble(struct shove_delivery *delivery) {
    if (!is_ordered(delivery))
        return;
    delivery->partition->has_stumbled = true;
    delivery->partition->stumbled_until_ms = delivery->due_ms;
}

static void set_aside(struct shove_control *control, struct shove_delivery *delivery) {
    uint32_t doublings =
        delivery->hop_failures < BACKOFF_DOUBLINGS ? delivery->hop_failures : BACKOFF_DOUBLINGS;
    int64_t backoff_ms = (int64_t)BACKOFF_FIRST_MS << doublings;
    delivery->due_ms =
        control->now_ms + (backoff_ms < BACKOFF_MAX_MS ? backoff_ms : BACKOFF_MAX_MS);
    stumble(delivery);
    lay_aside(control, delivery);
}

/* The message with what shove says of it. `produce` borrows from the delivery and from
 * control->scratch. 0 or SHOVE_ENOMEM. */
static int describe_message(struct shove_control *control, const struct shove_delivery *delivery,
                            struct shove_produce *produce) {
    const struct shove_envelope *envelope = shove_delivery_envelope(delivery);
    struct shove_text id;
    char id_text[SHOVE_MESSAGE_ID_MAX];
    shove_envelope_parts(envelope, &produce->record, &id);
    struct shove_hop_info info = describe(control, delivery, envelope, id, id_text);
    shove_buffer_clear(&control->scratch);
    shove_buffer_append(&control->scratch, produce->record.headers, produce->record.headers_size);
    shove_hop_headers_append(&control->scratch, &info);
    if (control->scratch.is_failed)
        return SHOVE_ENOMEM;
    produce->record.headers = control->scratch.data;
    produce->record.headers_size = control->scratch.size;
    produce->partition = -1;
    produce->topic = shove_hop_target(delivery);
    /* The hold record's own timestamp is now, so that retention by time cannot eat it; see
     * hop_headers.h. */
    if (delivery->hop.kind == SHOVE_HOP_HOLD)
        produce->record.timestamp_ms = -1;
    return 0;
}

static enum shove_step step_of(const struct shove_hop *hop) {
    if (hop->poisons)
        return SHOVE_STEP_POISONED;
    return hop->kind == SHOVE_HOP_HOLD ? SHOVE_STEP_HELD : SHOVE_STEP_DEAD_LETTERED;
}

/* Returns 0, or why the transport did not take it. */
static int offer(struct shove_control *control, struct shove_delivery *delivery) {
    struct shove_produce produce = {.is_hop = true, .opaque = &delivery->ticket};
    int rc = delivery->hop.poisons ? shove_poisoning_describe(control, delivery, &produce)
                                   : describe_message(control, delivery, &produce);
    if (rc != 0)
        return rc;
    const struct shove_cluster *cluster = delivery->flow->cluster;
    rc = cluster->ops->produce(cluster->transport, &produce);
    if (rc == 0) {
        control->hops_in_flight++;
        shove_abort_point(step_of(&delivery->hop));
    }
    return rc;
}

/* NULL: it comes right by itself, or the detail says it. */
static const char *remedy(int code) {
    switch (code) {
    case SHOVE_ENOTOPIC:
    case SHOVE_ENOPARTITION:
        return "create the topic; shove run does at its start, unless it is external";
    case SHOVE_ETOOLARGE:
        return "raise the topic's max.message.bytes";
    case SHOVE_EDENIED:
        return "grant this user Write on the topic";
    default:
        return NULL;
    }
}

static void report_failure(struct shove_delivery *delivery, int code, const char *detail) {
    struct shove_flow *flow = delivery->flow;
    if (!shove_flow_may_log(flow))
        return;
    char place[SHOVE_PLACE_SIZE];
    const char *what = delivery->hop.kind == SHOVE_HOP_HOLD ? "a retry" : "a dead letter";
    char text[128];
    snprintf(text, sizeof(text),
             "%s could not be stored, it is tried again; the message stays uncommitted",
             delivery->hop.poisons ? "a poisoned key" : what);
    shove_log_fields(SHOVE_LOG_WARN, text, "message", shove_delivery_place(delivery, place), "to",
                     shove_hop_target(delivery), "code", shove_error_name(code), "error",
                     detail ? detail : shove_error_sentence(code),
                     remedy(code) ? "what to do" : NULL, remedy(code), NULL);
}

static void end_hop(struct shove_delivery *delivery) {
    if (delivery->partition)
        delivery->partition->hopping_count--;
    delivery->flow->hopping_count--;
    shove_sequencing_fall_in(delivery);
    delivery->flow->aside_bytes -= shove_delivery_held_bytes(delivery);
}

void shove_hop_wait(struct shove_delivery *delivery, const struct shove_hop *hop) {
    delivery->flow->tally.delayed++;
    delivery->entry.attempts +=
        hop->retry_count > delivery->retry_count && delivery->entry.attempts < UINT8_MAX;
    delivery->retry_count = hop->retry_count;
    delivery->is_redelivered = true;
    delivery->partition->is_dirty = true;
    shove_delivery_detach(delivery);
    shove_feed_wait(delivery, hop);
}

/* True: it waits where it is. */
static bool stays(struct shove_delivery *delivery) {
    const struct shove_hop hop = shove_outcome_refused(&delivery->hop);
    if (hop.kind != SHOVE_HOP_WAIT)
        return false;
    char place[SHOVE_PLACE_SIZE];
    if (shove_flow_may_log(delivery->flow))
        shove_log_fields(SHOVE_LOG_WARN,
                         "a retry is larger than its hold takes: it waits where it is, "
                         "uncommitted; raise the hold's max.message.bytes",
                         "message", shove_delivery_place(delivery, place), "hold",
                         shove_hop_target(delivery), NULL);
    end_hop(delivery);
    shove_hop_wait(delivery, &hop);
    return true;
}

/* False: there is nothing left to leave out. */
static bool tries_smaller(struct shove_control *control, struct shove_delivery *delivery) {
    if (delivery->size_refusals == TRIMMED)
        return false;
    delivery->size_refusals++;
    delivery->due_ms = control->now_ms;
    stumble(delivery);
    lay_aside(control, delivery);
    control->has_progress = true;
    return true;
}

static void failed(struct shove_control *control, struct shove_delivery *delivery, int code,
                   const char *detail) {
    if (code == SHOVE_ETOOLARGE && (tries_smaller(control, delivery) || stays(delivery)))
        return;
    if (code != SHOVE_EAGAIN) {
        delivery->hop_failures++;
        report_failure(delivery, code, detail);
    }
    set_aside(control, delivery);
}

static bool waits_for_its_turn(const struct shove_delivery *delivery) {
    return delivery->size_refusals > 0 && delivery->flow->cluster->lone_hop;
}

static void attempt(struct shove_control *control, struct shove_delivery *delivery) {
    take_up(control, delivery);
    int rc = offer(control, delivery);
    if (rc != 0) {
        failed(control, delivery, rc, NULL);
        return;
    }
    delivery->partition->ordered_in_flight += is_ordered(delivery);
    if (delivery->size_refusals > 0)
        delivery->flow->cluster->lone_hop = delivery;
}

void shove_hop_start(struct shove_control *control, struct shove_delivery *delivery,
                     const struct shove_hop *hop) {
    delivery->state = SHOVE_DELIVERY_HOPPING;
    delivery->hop = *hop;
    delivery->submitted_ms = control->now_ms;
    delivery->hop_failures = 0;
    delivery->size_refusals = 0;
    delivery->partition->hopping_count++;
    delivery->flow->hopping_count++;
    if (!delivery->is_ahead)
        delivery->flow->aside_bytes += shove_delivery_held_bytes(delivery);
    const struct shove_partition *partition = delivery->partition;
    if (is_ordered(delivery) && (partition->has_stumbled || partition->laid_aside_count > 0))
        lay_aside(control, delivery);
    else
        attempt(control, delivery);
}

/* Of an orphan: whoever has the partition now hops it. */
static void abandon(struct shove_control *control, struct shove_delivery *delivery) {
    end_hop(delivery);
    shove_delivery_free(control, delivery);
}

void shove_hop_orphan(struct shove_control *control, struct shove_delivery *delivery) {
    const bool is_in_no_list = delivery->is_laid_aside;
    shove_sequencing_fall_in(delivery);
    take_up(control, delivery);
    delivery->partition->ordered_in_flight -= !is_in_no_list && is_ordered(delivery);
    delivery->partition->hopping_count--;
    delivery->partition = NULL;
    if (!is_in_no_list)
        return;
    shove_sequencing_forget(delivery);
    abandon(control, delivery);
}

/* All of it is stored. */
static void end(struct shove_control *control, struct shove_delivery *delivery) {
    struct shove_tally *tally = &delivery->flow->tally;
    end_hop(delivery);
    if (is_ordered(delivery))
        delivery->partition->has_stumbled = false;
    if (delivery->hop.kind == SHOVE_HOP_DISCARD) {
        shove_settle_discard(control, delivery, delivery->hop.reason);
        return;
    }
    if (delivery->hop.kind == SHOVE_HOP_DEAD) {
        tally->dead++;
        tally->failed[delivery->hop.reason]++;
    } else {
        tally->delayed++;
    }
    shove_delivery_close(control, delivery);
}

/* Its key is: now the message itself. */
static void poisoned(struct shove_control *control, struct shove_delivery *delivery, int64_t at) {
    int rc = shove_poisoning_stored(delivery, at);
    if (rc != 0) {
        failed(control, delivery, rc, NULL);
        return;
    }
    delivery->hop.poisons = false;
    delivery->hop_failures = 0;
    delivery->size_refusals = 0;
    if (delivery->hop.kind == SHOVE_HOP_DISCARD)
        end(control, delivery);
    else
        attempt(control, delivery);
}

void shove_hop_answered(struct shove_control *control, struct shove_delivery *delivery,
                        const struct shove_produced *result) {
    control->hops_in_flight--;
    if (delivery->flow->cluster->lone_hop == delivery)
        delivery->flow->cluster->lone_hop = NULL;
    if (!delivery->partition) {
        if (result->code == 0 && delivery->hop.poisons)
            shove_poisoning_orphaned(delivery);
        abandon(control, delivery);
        return;
    }
    delivery->partition->ordered_in_flight -= is_ordered(delivery);
    if (result->code != 0) {
        failed(control, delivery, result->code, result->detail);
        return;
    }
    if (delivery->hop.poisons) {
        poisoned(control, delivery, result->offset);
        return;
    }
    end(control, delivery);
}

static bool may_go_on(const struct shove_partition *partition) {
    return partition->laid_aside_count > 0 && partition->ordered_in_flight == 0;
}

/* Offers those that were laid aside, in their order; after a failure, the first. */
static void go_on(struct shove_control *control, struct shove_partition *partition) {
    const bool is_alone = partition->has_stumbled;
    struct shove_ledger_entry *entry = partition->ledger.first;
    for (; entry && partition->laid_aside_count > 0; entry = entry->next) {
        struct shove_delivery *delivery = (struct shove_delivery *)entry;
        if (!delivery->is_laid_aside)
            continue;
        if (!waits_for_its_turn(delivery))
            attempt(control, delivery);
        else if (partition->ordered_in_flight == 0)
            partition->stumbled_until_ms = control->now_ms + BACKOFF_FIRST_MS;
        if (is_alone || delivery->is_laid_aside)
            return;
    }
}

static void go_on_where_due(struct shove_control *control) {
    for (uint32_t i = 0; control->laid_aside_count > 0 && i < control->flow_count; i++) {
        for (struct shove_partition *p = control->flows[i].partitions; p; p = p->next) {
            if (may_go_on(p) && p->stumbled_until_ms <= control->now_ms)
                go_on(control, p);
        }
    }
}

void shove_hop_round(struct shove_control *control) {
    go_on_where_due(control);
    struct shove_delivery_list due = control->hops;
    control->hops = (struct shove_delivery_list){0};
    struct shove_delivery *delivery;
    while ((delivery = shove_delivery_list_pop(&due))) {
        if (!delivery->partition)
            abandon(control, delivery);
        else if (delivery->due_ms <= control->now_ms && !waits_for_its_turn(delivery))
            attempt(control, delivery);
        else
            shove_delivery_list_push(&control->hops, delivery);
    }
}

int64_t shove_hop_next_due_ms(const struct shove_control *control) {
    int64_t due_ms = INT64_MAX;
    for (const struct shove_delivery *d = control->hops.first; d; d = d->next) {
        if (d->due_ms < due_ms && !waits_for_its_turn(d))
            due_ms = d->due_ms;
    }
    for (uint32_t i = 0; control->laid_aside_count > 0 && i < control->flow_count; i++) {
        for (const struct shove_partition *p = control->flows[i].partitions; p; p = p->next) {
            if (may_go_on(p) && p->stumbled_until_ms < due_ms)
                due_ms = p->stumbled_until_ms;
        }
    }
    return due_ms;
}

static void leave_arena(struct shove_partition *partition, int64_t since_ms) {
    for (struct shove_ledger_entry *e = partition->ledger.first; e; e = e->next) {
        struct shove_delivery *delivery = (struct shove_delivery *)e;
        if (delivery->state == SHOVE_DELIVERY_HOPPING && delivery->submitted_ms <= since_ms)
            (void)shove_delivery_detach(delivery); /* no memory: at the next look */
    }
}

void shove_hop_watch(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        for (struct shove_partition *p = control->flows[i].partitions; p; p = p->next) {
            if (p->hopping_count > 0)
                leave_arena(p, control->now_ms - ARENA_PATIENCE_MS);
        }
    }
}
