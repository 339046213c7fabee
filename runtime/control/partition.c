/* partition.c: see partition.h. Control only, loop's thread.
 *
 * Revoke protocol (one owner, bounded waits, nothing blocks): revoking -> nothing more is fed and
 * what was taken but not submitted, or waits to be handled again, is left to the next owner -> when
 * nothing of the partition is in a worker or on a hop, or after shove_revocation_wait_ms -> last
 * commit -> when it is answered, refused for good, or after SHOVE_REVOKE_COMMIT_MS -> the rest is
 * orphaned -> release.
 */
#include "control/partition.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/commit.h"
#include "control/delivery.h"
#include "control/drain.h"
#include "control/hop.h"
#include "control/poisoning.h"
#include "control/revocation.h"
#include "control/sequencing.h"

static struct shove_partition *partition_new(struct shove_flow *flow, struct shove_claim *claim) {
    struct shove_partition *partition = calloc(1, sizeof(*partition));
    if (!partition)
        return NULL;
    partition->flow = flow;
    partition->claim = claim;
    partition->topic = flow->topics[claim->topic_index];
    partition->is_hold = claim->topic_index > 0;
    partition->is_dirty = !claim->has_committed;
    shove_ledger_init(&partition->ledger, claim->start_offset);
    claim->user = partition;
    partition->next = flow->partitions;
    flow->partitions = partition;
    return partition;
}

/* Metadata of strangers or of another version, and damaged metadata, is never guessed at:
 * everything from the frontier on is handled again. */
static void restore(struct shove_partition *partition) {
    const char *metadata = partition->claim->metadata ? partition->claim->metadata : "";
    struct shove_error error;
    if (shove_ledger_restore(&partition->ledger, metadata, strlen(metadata), &error) == 0)
        return;
    char where[32];
    snprintf(where, sizeof(where), "%d", (int)partition->claim->partition);
    shove_log_fields(
        SHOVE_LOG_WARN,
        "the commit's metadata cannot be read and is ignored: messages finished beyond "
        "the committed offset may be handled again",
        "topic", partition->topic, "partition", where, "group", partition->flow->group->group_id,
        "why", error.text, SHOVE_CLUSTER_FIELD(partition->flow->cluster), NULL);
}

void shove_partitions_assigned(struct shove_flow *flow, struct shove_claim **claims, size_t count) {
    struct shove_control *control = flow->control;
    size_t main_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct shove_partition *partition = partition_new(flow, claims[i]);
        if (!partition) {
            shove_log(SHOVE_LOG_ERROR,
                      "out of memory for partition %d of %s: it is not consumed by this process",
                      (int)claims[i]->partition, flow->topics[claims[i]->topic_index]);
            control->verdict.failed_groups++;
            continue;
        }
        restore(partition);
        shove_poisoning_learn(partition);
        main_count += !partition->is_hold;
    }
    flow->was_assigned = true;
    if (flow->assigned_ms == 0)
        flow->assigned_ms = control->now_ms;
    control->has_progress = true;
    if (count == 0)
        return;
    char text[32];
    snprintf(text, sizeof(text), "%zu", main_count);
    shove_log_fields(SHOVE_LOG_INFO, "partitions assigned", "group", flow->group->group_id, "topic",
                     flow->source, "partitions", text, SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

static void forget(void *ctx, struct shove_ledger_entry *entry) {
    struct shove_partition *partition = ctx;
    struct shove_delivery *delivery = (struct shove_delivery *)entry;
    if (delivery->state == SHOVE_DELIVERY_RUNNING) {
        partition->running_count--;
        delivery->partition = NULL;
    } else if (delivery->state == SHOVE_DELIVERY_HOPPING) {
        shove_hop_orphan(partition->flow->control, delivery);
    } else {
        shove_sequencing_forget(delivery);
        shove_delivery_free(partition->flow->control, delivery);
    }
}

struct range { /* of a partition, from an offset on */
    const struct shove_partition *partition;
    int64_t from_offset;
};

static bool is_in(const struct range *range, const struct shove_delivery *delivery) {
    return delivery->partition == range->partition && delivery->entry.offset >= range->from_offset;
}

static bool shelve_waiting(void *ctx, struct shove_due_entry *wait) {
    struct shove_delivery *delivery = shove_delivery_of_wait(wait);
    if (!is_in(ctx, delivery))
        return false;
    delivery->flow->aside_bytes -= shove_delivery_held_bytes(delivery);
    delivery->flow->waiting_count--;
    delivery->state = SHOVE_DELIVERY_SHELVED;
    return true;
}

static void shelve_list(const struct range *range, struct shove_delivery_list *list) {
    struct shove_delivery_list rest = {0};
    struct shove_delivery *delivery;
    while ((delivery = shove_delivery_list_pop(list))) {
        if (is_in(range, delivery))
            delivery->state = SHOVE_DELIVERY_SHELVED;
        else
            shove_delivery_list_push(&rest, delivery);
    }
    *list = rest;
}

/* What waits to be handled again is not: it stays open, and its attempts and crashes go with the
 * last commit. */
static void shelve(struct shove_partition *partition, int64_t from_offset) {
    struct shove_flow *flow = partition->flow;
    struct range range = {partition, from_offset};
    shove_due_heap_filter(&flow->waiting, shelve_waiting, &range);
    shelve_list(&range, &flow->again);
    shelve_list(&range, &flow->suspects);
    shelve_list(&range, &flow->recording);
}

/* Ends the epoch of everything open: it completes nothing any more. */
static void orphan_all(struct shove_partition *partition) {
    shelve(partition, INT64_MIN);
    shove_ledger_abandon(&partition->ledger, forget, partition);
    partition->pending = NULL;
}

void shove_partition_rewind(struct shove_partition *partition, int64_t offset) {
    shelve(partition, offset);
    shove_ledger_rewind(&partition->ledger, offset, forget, partition);
}

void shove_partition_drop_batch(struct shove_partition *partition) {
    const struct shove_cluster *cluster = partition->flow->cluster;
    if (partition->has_batch)
        cluster->ops->batch_release(cluster->transport, &partition->batch);
    partition->has_batch = false;
}

static void stop_feeding(struct shove_partition *partition) {
    struct shove_control *control = partition->flow->control;
    partition->is_revoking = true;
    shove_partition_drop_batch(partition);
    shelve(partition, INT64_MIN);
    partition->revoke_deadline_ms = control->now_ms; /* leaving: the drain has done the waiting */
    if (control->phase <= SHOVE_PHASE_DRAINING)
        partition->revoke_deadline_ms += shove_revocation_wait_ms(partition->flow);
    if (control->phase == SHOVE_PHASE_DRAINING &&
        partition->revoke_deadline_ms > control->drain_deadline_ms)
        partition->revoke_deadline_ms = control->drain_deadline_ms;
}

static void give_up(struct shove_partition *partition) {
    struct shove_flow *flow = partition->flow;
    struct shove_control *control = flow->control;
    struct shove_partition **link = &flow->partitions;
    while (*link != partition)
        link = &(*link)->next;
    *link = partition->next;
    if (flow->next_partition == partition)
        flow->next_partition = NULL;
    shove_partition_drop_batch(partition);
    orphan_all(partition);
    shove_poisoning_forget(partition);
    shove_ledger_release(&partition->ledger);
    struct shove_claim *claim = partition->claim;
    free(partition);
    flow->cluster->ops->release(flow->cluster->transport, &claim, 1);
    control->has_progress = true;
}

/* As many as a person knows of: not those of the holds, which are the group's own affair, unless
 * it is about nothing else; then those of the first. */
static void log_given_up(enum shove_log_level level, const char *message,
                         const struct shove_flow *flow, struct shove_claim **claims, size_t count) {
    size_t named = 0; /* topic_index */
    size_t named_count = 0;
    char text[32];
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || claims[i]->topic_index < named) {
            named = claims[i]->topic_index;
            named_count = 0;
        }
        named_count += claims[i]->topic_index == named;
    }
    snprintf(text, sizeof(text), "%zu", named_count);
    shove_log_fields(level, message, "group", flow->group->group_id, "topic", flow->topics[named],
                     "partitions", text, SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

void shove_partitions_revoking(struct shove_flow *flow, struct shove_claim **claims, size_t count) {
    log_given_up(SHOVE_LOG_INFO, "partitions being given up", flow, claims, count);
    for (size_t i = 0; i < count; i++) {
        struct shove_partition *partition = claims[i]->user;
        if (partition)
            stop_feeding(partition);
        else
            flow->cluster->ops->release(flow->cluster->transport, &claims[i], 1);
    }
    flow->control->has_progress = true;
}

void shove_partitions_lost(struct shove_flow *flow, struct shove_claim **claims, size_t count) {
    log_given_up(SHOVE_LOG_WARN,
                 "partitions lost without warning: what was in flight will be handled again by "
                 "their next owner",
                 flow, claims, count);
    for (size_t i = 0; i < count; i++) {
        struct shove_partition *partition = claims[i]->user;
        if (partition)
            give_up(partition);
        else
            flow->cluster->ops->release(flow->cluster->transport, &claims[i], 1);
    }
}

static void report_failed_final(const struct shove_partition *partition) {
    char partition_text[32];
    char offset_text[32];
    snprintf(partition_text, sizeof(partition_text), "%d", (int)partition->claim->partition);
    snprintf(offset_text, sizeof(offset_text), "%" PRId64,
             shove_ledger_frontier(&partition->ledger));
    shove_log_fields(
        SHOVE_LOG_ERROR,
        "the last commit of a partition did not succeed: messages from its last committed offset "
        "on will "
        "be handled again",
        "topic", partition->topic, "partition", partition_text, "offset", offset_text, "code",
        partition->last_commit_code ? shove_error_name(partition->last_commit_code) : "no answer",
        NULL);
}

static bool is_refused_for_good(const struct shove_partition *partition) {
    switch (partition->last_commit_code) {
    case SHOVE_EREVOKED:
    case SHOVE_EDENIED:
    case SHOVE_EAUTH:
    case SHOVE_ENOTOPIC:
    case SHOVE_ECLOSED:
        return !partition->is_committing;
    default:
        return false;
    }
}

/* One step of one revocation. */
static void step(struct shove_partition *partition) {
    struct shove_control *control = partition->flow->control;
    if (!partition->is_final_sent) {
        bool is_busy = partition->running_count + partition->hopping_count > 0;
        if (is_busy && control->now_ms < partition->revoke_deadline_ms)
            return;
        partition->is_final_sent = true;
        partition->last_commit_code = 0; /* of earlier ones: the last is offered in any case */
        partition->commit_after_ms = 0;
        partition->revoke_deadline_ms = control->now_ms + SHOVE_REVOKE_COMMIT_MS;
    }
    bool is_committed =
        !partition->is_dirty && !partition->is_committing && partition->last_commit_code == 0;
    if (!is_committed && !is_refused_for_good(partition) &&
        control->now_ms < partition->revoke_deadline_ms) {
        shove_commit_partition(partition); /* nothing while an answer is awaited */
        return;
    }
    if (!is_committed) {
        report_failed_final(partition);
        if (control->phase != SHOVE_PHASE_RUNNING)
            control->verdict.has_failed_commit = true;
    }
    give_up(partition);
}

void shove_partitions_step(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_partition *partition = control->flows[i].partitions;
        while (partition) {
            struct shove_partition *next = partition->next;
            if (partition->is_revoking)
                step(partition);
            partition = next;
        }
    }
}

bool shove_partitions_are_revoking(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        for (const struct shove_partition *p = control->flows[i].partitions; p; p = p->next) {
            if (p->is_revoking)
                return true;
        }
    }
    return false;
}

void shove_partitions_report_uncommitted(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        for (struct shove_partition *p = control->flows[i].partitions; p; p = p->next) {
            if (!p->is_dirty && !p->is_committing)
                continue;
            report_failed_final(p);
            control->verdict.has_failed_commit = true;
        }
    }
}

void shove_partitions_release_all(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_partition *partition = control->flows[i].partitions;
        while (partition) {
            struct shove_partition *next = partition->next;
            give_up(partition);
            partition = next;
        }
    }
}
