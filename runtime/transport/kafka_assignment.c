/* kafka_assignment.c: answers librdkafka's rebalances, which turn into claims and take them away
 * again.
 *
 * Control, loop's thread.
 *
 * librdkafka asks one thing at a time and waits for assign or unassign to be called before it goes
 * on; heartbeats continue meanwhile. What it asks is queued all the same, and answered in order.
 *
 * To an assignment: where to begin is looked up (kafka_lookup.c), the partitions' queues are taken
 * out of the consumer's queue, the partitions are assigned with explicit offsets, and `assigned` is
 * delivered.
 *
 * To a revocation: `revoking` is delivered, or `lost` where the group has given the partitions away
 * already. When all of the claims are released, and not before, the partitions are unassigned.
 *
 * With a cooperative assignor both speak of some partitions, with an eager one of all.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define DRAIN_ROUNDS 256

/* ---- claims ---- */

struct shove_kafka_claim *shove_kafka_claim_find(struct shove_kafka_subscription *subscription,
                                                 const char *topic, int32_t partition) {
    for (struct shove_kafka_claim *claim = subscription->claims; claim != NULL;
         claim = claim->next) {
        if (claim->base.partition == partition &&
            strcmp(subscription->topics[claim->base.topic_index], topic) == 0)
            return claim;
    }
    return NULL;
}

static char *copy_metadata(const rd_kafka_topic_partition_t *partition) {
    char *text = calloc(1, partition->metadata_size + 1);
    if (text != NULL && partition->metadata_size > 0)
        memcpy(text, partition->metadata, partition->metadata_size);
    return text;
}

/* NULL: out of memory, or a topic that was not subscribed to. */
static struct shove_kafka_claim *claim_new(struct shove_kafka_subscription *subscription,
                                           const rd_kafka_topic_partition_t *partition,
                                           bool has_committed) {
    uint32_t topic = 0;
    while (topic < subscription->topic_count &&
           strcmp(subscription->topics[topic], partition->topic) != 0)
        topic++;
    struct shove_kafka_claim *claim = calloc(1, sizeof *claim);
    char *metadata = copy_metadata(partition);
    if (topic == subscription->topic_count || claim == NULL || metadata == NULL) {
        free(claim);
        free(metadata);
        return NULL;
    }
    claim->base = (struct shove_claim){.subscription = &subscription->base,
                                       .topic_index = topic,
                                       .partition = partition->partition,
                                       .start_offset = partition->offset,
                                       .has_committed = has_committed,
                                       .metadata = metadata};
    claim->next_offset = claim->last_take_offset = partition->offset;
    claim->leader_epoch = -1;
    /* Out of the consumer's queue before anything is fetched into it. */
    claim->queue = rd_kafka_queue_get_partition(subscription->client->rk, partition->topic,
                                                partition->partition);
    if (claim->queue != NULL) {
        uint64_t one = 1;
        rd_kafka_queue_forward(claim->queue, NULL);
        rd_kafka_queue_io_event_enable(
            claim->queue, shove_kafka_mailbox_fd(subscription->kafka->mailbox), &one, sizeof one);
    }
    claim->next = subscription->claims;
    if (claim->next != NULL)
        claim->next->previous = claim;
    subscription->claims = claim;
    return claim;
}

/* What was fetched but not taken stays in the queue until somebody reads it: librdkafka discards it
 * by itself only when the partition is assigned again. Bounded, because after a failure it may
 * still be filling. */
static void drain(rd_kafka_queue_t *queue) {
    rd_kafka_message_t *messages[256];
    ssize_t count = 1;
    for (int round = 0; round < DRAIN_ROUNDS && count > 0; round++) {
        count = rd_kafka_consume_batch_queue(queue, 0, messages, 256);
        for (ssize_t i = 0; i < count; i++)
            rd_kafka_message_destroy(messages[i]);
    }
}

static void claim_free(struct shove_kafka_claim *claim) {
    struct shove_kafka_subscription *subscription =
        (struct shove_kafka_subscription *)claim->base.subscription;
    shove_kafka_commits_forget(subscription, &claim->base);
    if (claim->previous != NULL)
        claim->previous->next = claim->next;
    else
        subscription->claims = claim->next;
    if (claim->next != NULL)
        claim->next->previous = claim->previous;
    if (claim->queue != NULL) {
        rd_kafka_queue_io_event_enable(claim->queue, -1, NULL, 0);
        drain(claim->queue);
        rd_kafka_queue_destroy(claim->queue);
    }
    free((char *)claim->base.metadata);
    free(claim);
}

void shove_kafka_release(struct shove_transport *transport, struct shove_claim **claims,
                         size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct shove_kafka_claim *claim = (struct shove_kafka_claim *)claims[i];
        if (claim->rebalance != NULL)
            claim->rebalance->unreleased--;
        claim_free(claim);
    }
    /* The answer to librdkafka, and `ended`, come from the pump. */
    shove_kafka_poke((struct shove_kafka *)transport);
}

static struct shove_claim **list_claims(struct shove_kafka_subscription *subscription,
                                        enum shove_kafka_claim_state below, size_t *count) {
    size_t most = 0;
    for (struct shove_kafka_claim *claim = subscription->claims; claim != NULL; claim = claim->next)
        most++;
    struct shove_claim **list = calloc(most > 0 ? most : 1, sizeof *list);
    *count = 0;
    for (struct shove_kafka_claim *claim = subscription->claims; list != NULL && claim != NULL;
         claim = claim->next) {
        if (claim->state < below)
            list[(*count)++] = &claim->base;
    }
    return list;
}

void shove_kafka_claims_lose(struct shove_kafka_subscription *subscription) {
    size_t count;
    struct shove_claim **list = list_claims(subscription, SHOVE_KAFKA_CLAIM_LOST, &count);
    if (list == NULL)
        return; /* out of memory: the next pump tries again */
    for (size_t i = 0; i < count; i++)
        ((struct shove_kafka_claim *)list[i])->state = SHOVE_KAFKA_CLAIM_LOST;
    const struct shove_transport_events *events = subscription->kafka->events;
    if (count > 0 && events->lost != NULL)
        events->lost(subscription->kafka->ctx, &subscription->base, list, count);
    free(list);
}

/* ---- assign ---- */

static bool is_cooperative(const struct shove_kafka_subscription *subscription) {
    const char *protocol = rd_kafka_rebalance_protocol(subscription->client->rk);
    return protocol != NULL && strcmp(protocol, "COOPERATIVE") == 0;
}

static int call_assign(struct shove_kafka_subscription *subscription,
                       rd_kafka_topic_partition_list_t *partitions, struct shove_error *error) {
    rd_kafka_t *rk = subscription->client->rk;
    if (is_cooperative(subscription)) {
        rd_kafka_error_t *refusal = rd_kafka_incremental_assign(rk, partitions);
        if (refusal == NULL)
            return 0;
        shove_error_set(error, shove_kafka_code(rd_kafka_error_code(refusal)),
                        "taking over partitions: %s", rd_kafka_error_string(refusal));
        rd_kafka_error_destroy(refusal);
        return error->code;
    }
    rd_kafka_resp_err_t err = rd_kafka_assign(rk, partitions);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    return shove_error_set(error, shove_kafka_code(err), "taking over partitions: %s",
                           rd_kafka_err2str(err));
}

static void pop_rebalance(struct shove_kafka_subscription *subscription) {
    struct shove_kafka_rebalance *rebalance = subscription->rebalance;
    subscription->rebalance = rebalance->next;
    rd_kafka_topic_partition_list_destroy(rebalance->partitions);
    free(rebalance);
}

static void deliver_assigned(struct shove_kafka_subscription *subscription,
                             struct shove_claim **claims, size_t count) {
    const struct shove_transport_events *events = subscription->kafka->events;
    if (events->assigned != NULL)
        events->assigned(subscription->kafka->ctx, &subscription->base, claims, count);
}

static bool is_parting(const struct shove_kafka_subscription *subscription) {
    return subscription->is_leaving || subscription->failure != 0;
}

/* Somebody who leaves has no use for partitions, but librdkafka must hear of them before it takes
 * them away. */
static void assign_unused(struct shove_kafka_subscription *subscription,
                          rd_kafka_topic_partition_list_t *partitions) {
    struct shove_error error;
    for (int i = 0; i < partitions->cnt; i++)
        partitions->elems[i].offset = RD_KAFKA_OFFSET_END;
    if (call_assign(subscription, partitions, &error) != 0)
        shove_log(SHOVE_LOG_DEBUG, "group %s, leaving: %s", subscription->base.group_id,
                  error.text);
}

static void assign(struct shove_kafka_subscription *subscription,
                   rd_kafka_topic_partition_list_t *partitions, const bool *has_committed) {
    struct shove_error error = {.code = 0};
    struct shove_claim **claims = calloc((size_t)partitions->cnt + 1, sizeof *claims);
    size_t count = 0;
    for (int i = 0; claims != NULL && i < partitions->cnt; i++) {
        struct shove_kafka_claim *claim =
            claim_new(subscription, &partitions->elems[i], has_committed[i]);
        if (claim != NULL)
            claims[count++] = &claim->base;
    }
    bool is_whole = count == (size_t)partitions->cnt;
    if (!is_whole)
        shove_error_set(&error, SHOVE_ENOMEM, "out of memory for newly assigned partitions");
    else
        call_assign(subscription, partitions, &error);
    if (error.code == 0) {
        deliver_assigned(subscription, claims, count);
    } else {
        while (count > 0)
            claim_free((struct shove_kafka_claim *)claims[--count]);
        shove_kafka_subscription_fail(subscription, error.code, "%s", error.text);
        if (!is_whole)
            assign_unused(subscription, partitions);
    }
    free(claims);
}

void shove_kafka_rebalance_begin(struct shove_kafka_subscription *subscription, int code,
                                 const char *text, rd_kafka_topic_partition_list_t *partitions,
                                 const bool *has_committed) {
    subscription->rebalance->lookup = NULL;
    if (!is_parting(subscription) && code != 0)
        shove_kafka_subscription_fail(subscription, code, "%s", text);
    if (!is_parting(subscription))
        assign(subscription, partitions, has_committed);
    else
        assign_unused(subscription, partitions);
    pop_rebalance(subscription);
    shove_kafka_poke(subscription->kafka);
}

static void start_assign(struct shove_kafka_subscription *subscription,
                         struct shove_kafka_rebalance *rebalance) {
    struct shove_error error;
    bool is_empty = rebalance->partitions->cnt == 0;
    if (!is_parting(subscription) && !is_empty) {
        if (shove_kafka_lookup_start(subscription, rebalance) == 0)
            return;
        shove_kafka_subscription_fail(subscription, SHOVE_ENOMEM,
                                      "out of memory for newly assigned partitions");
    }
    if (is_parting(subscription))
        assign_unused(subscription, rebalance->partitions);
    else if (call_assign(subscription, rebalance->partitions, &error) != 0)
        shove_kafka_subscription_fail(subscription, error.code, "%s", error.text);
    else
        deliver_assigned(subscription, NULL, 0);
    pop_rebalance(subscription);
}

/* ---- revoke ---- */

static void call_unassign(struct shove_kafka_subscription *subscription,
                          rd_kafka_topic_partition_list_t *partitions) {
    rd_kafka_t *rk = subscription->client->rk;
    int member = SHOVE_KAFKA_MEMBER;
    if (!subscription->is_closing)
        atomic_compare_exchange_strong(&subscription->client->membership, &member,
                                       SHOVE_KAFKA_REJOINS);
    if (!is_cooperative(subscription)) {
        rd_kafka_assign(rk, NULL);
        return;
    }
    rd_kafka_error_t *refusal = rd_kafka_incremental_unassign(rk, partitions);
    if (refusal != NULL) {
        shove_log(SHOVE_LOG_DEBUG, "group %s, giving up partitions: %s",
                  subscription->base.group_id, rd_kafka_error_string(refusal));
        rd_kafka_error_destroy(refusal);
    }
}

static void start_revoke(struct shove_kafka_subscription *subscription,
                         struct shove_kafka_rebalance *rebalance) {
    struct shove_claim **claims = calloc((size_t)rebalance->partitions->cnt + 1, sizeof *claims);
    if (claims == NULL) {
        shove_kafka_subscription_fail(subscription, SHOVE_ENOMEM,
                                      "out of memory giving up partitions");
        return;
    }
    bool is_lost = rd_kafka_assignment_lost(subscription->client->rk) != 0;
    size_t count = 0;
    for (int i = 0; i < rebalance->partitions->cnt; i++) {
        const rd_kafka_topic_partition_t *partition = &rebalance->partitions->elems[i];
        struct shove_kafka_claim *claim =
            shove_kafka_claim_find(subscription, partition->topic, partition->partition);
        if (claim == NULL || claim->rebalance != NULL)
            continue;
        claim->rebalance = rebalance;
        rebalance->unreleased++;
        if (claim->state == SHOVE_KAFKA_CLAIM_LOST)
            continue; /* said before */
        claim->state = is_lost ? SHOVE_KAFKA_CLAIM_LOST : SHOVE_KAFKA_CLAIM_REVOKING;
        claims[count++] = &claim->base;
    }
    const struct shove_transport_events *events = subscription->kafka->events;
    void (*event)(void *, struct shove_subscription *, struct shove_claim **, size_t) =
        is_lost ? events->lost : events->revoking;
    if (count > 0 && event != NULL)
        event(subscription->kafka->ctx, &subscription->base, claims, count);
    free(claims);
}

/* ---- the queue ---- */

void shove_kafka_rebalance_add(struct shove_kafka_subscription *subscription, bool is_assign,
                               rd_kafka_topic_partition_list_t *partitions) {
    struct shove_kafka_rebalance *rebalance = calloc(1, sizeof *rebalance);
    if (rebalance == NULL) {
        rd_kafka_topic_partition_list_destroy(partitions);
        shove_kafka_subscription_fail(subscription, SHOVE_ENOMEM, "out of memory for a rebalance");
        return;
    }
    rebalance->partitions = partitions;
    rebalance->is_assign = is_assign;
    struct shove_kafka_rebalance **link = &subscription->rebalance;
    while (*link != NULL)
        link = &(*link)->next;
    *link = rebalance;
}

/* With each rebalance librdkafka goes back to the highest offset that was taken. Where it has reset
 * the offset, and nothing was taken since, that would undo the reset. */
static void reset_again(struct shove_kafka_subscription *subscription) {
    for (struct shove_kafka_claim *claim = subscription->claims; claim != NULL;
         claim = claim->next) {
        if (claim->may_go_back)
            shove_kafka_claim_seek(claim, RD_KAFKA_OFFSET_BEGINNING, -1);
    }
}

void shove_kafka_rebalance_step(struct shove_kafka_subscription *subscription) {
    struct shove_kafka_rebalance *rebalance;
    while ((rebalance = subscription->rebalance) != NULL) {
        if (!rebalance->is_started) {
            if (rebalance->is_assign && subscription->begun != NULL && !is_parting(subscription))
                return;
            rebalance->is_started = true;
            reset_again(subscription);
            if (rebalance->is_assign) {
                start_assign(subscription, rebalance);
                continue;
            }
            start_revoke(subscription, rebalance);
        }
        if (rebalance->is_assign || rebalance->unreleased > 0) {
            /* Who leaves need not know where to begin. */
            if (is_parting(subscription) && rebalance->lookup != NULL)
                shove_kafka_lookup_hurry(rebalance->lookup);
            return;
        }
        call_unassign(subscription, rebalance->partitions);
        pop_rebalance(subscription);
    }
}

void shove_kafka_rebalances_free(struct shove_kafka_subscription *subscription) {
    for (struct shove_kafka_claim *claim = subscription->claims; claim != NULL; claim = claim->next)
        claim->rebalance = NULL;
    while (subscription->rebalance != NULL) {
        if (subscription->rebalance->lookup != NULL)
            shove_kafka_lookup_forget(subscription->rebalance->lookup);
        pop_rebalance(subscription);
    }
}
