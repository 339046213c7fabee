/* kafka_commit.c: frontiers on their way to the group's coordinator.
 *
 * Control, loop's thread.
 *
 * One commit of a subscription is on its way at a time: librdkafka may repeat a request that met a
 * coordinator on the move, and then a later commit would be overtaken by an older one. None is sent
 * while the member (re)joins: it would wait at the broker behind the join, be refused for its old
 * generation, and for that librdkafka gives up every partition the member has. A commit for
 * an assignment that is lost is never sent: once the group is empty, a broker would take it from
 * anybody. A commit of several partitions of which some were refused is repeated one by one, since
 * librdkafka does not say which.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

/* librdkafka frees the metadata with the list. */
static bool add_offset(rd_kafka_topic_partition_list_t *offsets,
                       const struct shove_commit *commit) {
    const struct shove_kafka_claim *claim = (const struct shove_kafka_claim *)commit->claim;
    const struct shove_kafka_subscription *subscription =
        (const struct shove_kafka_subscription *)claim->base.subscription;
    rd_kafka_topic_partition_t *partition = rd_kafka_topic_partition_list_add(
        offsets, subscription->topics[claim->base.topic_index], claim->base.partition);
    partition->offset = commit->offset;
    size_t size = commit->metadata != NULL ? strlen(commit->metadata) : 0;
    if (size == 0)
        return true;
    partition->metadata = malloc(size);
    if (partition->metadata == NULL)
        return false;
    memcpy(partition->metadata, commit->metadata, size);
    partition->metadata_size = size;
    return true;
}

static void commit_free(struct shove_kafka_commit *commit) {
    rd_kafka_topic_partition_list_destroy(commit->offsets);
    free(commit);
}

int shove_kafka_commit(struct shove_transport *transport, struct shove_subscription *base,
                       const struct shove_commit *commits, size_t count, void *opaque) {
    struct shove_kafka_subscription *subscription = (struct shove_kafka_subscription *)base;
    if (count == 0)
        return SHOVE_EINVAL;
    struct shove_kafka_commit *commit =
        calloc(1, sizeof *commit + count * sizeof commit->commits[0]);
    if (commit == NULL)
        return SHOVE_ENOMEM;
    commit->offsets = rd_kafka_topic_partition_list_new((int)count);
    commit->opaque = opaque;
    commit->count = count;
    for (size_t i = 0; i < count; i++) {
        commit->commits[i] = commits[i];
        commit->commits[i].metadata = "";
        commit->commits[i].code = 0;
        if (!add_offset(commit->offsets, &commits[i])) {
            commit_free(commit);
            return SHOVE_ENOMEM;
        }
    }
    struct shove_kafka_commit **link = &subscription->commit;
    while (*link != NULL)
        link = &(*link)->next;
    *link = commit;
    if (link == &subscription->commit)
        shove_kafka_poke((struct shove_kafka *)transport);
    return 0;
}

/* takes the first commit. Claims that were released meanwhile are left out: nobody may hear of them
 * again. */
static void deliver(struct shove_kafka_subscription *subscription) {
    struct shove_kafka_commit *commit = subscription->commit;
    subscription->commit = commit->next;
    subscription->is_committing = false;
    size_t kept = 0;
    for (size_t i = 0; i < commit->count; i++) {
        if (commit->commits[i].claim != NULL)
            commit->commits[kept++] = commit->commits[i];
    }
    const struct shove_transport_events *events = subscription->kafka->events;
    if (events->committed != NULL)
        events->committed(subscription->kafka->ctx, &subscription->base, commit->commits, kept,
                          commit->opaque);
    commit_free(commit);
}

static void set_codes(struct shove_kafka_commit *commit, int code) {
    for (size_t i = 0; i < commit->count; i++)
        commit->commits[i].code = code;
}

/* Refusals of single partitions. librdkafka tells them for the whole commit, as if all had failed.
 */
static bool is_of_one_partition(rd_kafka_resp_err_t err) {
    return err == RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE ||
           err == RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE ||
           err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

static void take_result(struct shove_kafka_subscription *subscription, rd_kafka_event_t *event) {
    struct shove_kafka_commit *commit = subscription->commit;
    if (commit == NULL || rd_kafka_event_type(event) != RD_KAFKA_EVENT_OFFSET_COMMIT)
        return;
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    subscription->is_committing = false;
    if (commit->is_apart) {
        commit->commits[commit->sent++].code = shove_kafka_code(err);
    } else if (commit->count > 1 && is_of_one_partition(err)) {
        commit->is_apart = true; /* again, one by one, to tell who is meant */
    } else {
        set_codes(commit, shove_kafka_code(err));
        commit->sent = commit->count;
    }
    if (commit->sent == commit->count)
        deliver(subscription);
}

static bool is_lost(const struct shove_kafka_subscription *subscription,
                    const struct shove_kafka_commit *commit) {
    if (rd_kafka_assignment_lost(subscription->client->rk))
        return true;
    for (size_t i = 0; i < commit->count; i++) {
        const struct shove_kafka_claim *claim =
            (const struct shove_kafka_claim *)commit->commits[i].claim;
        if (claim == NULL || claim->state == SHOVE_KAFKA_CLAIM_LOST)
            return true;
    }
    return false;
}

static rd_kafka_resp_err_t send_offsets(struct shove_kafka_subscription *subscription,
                                        struct shove_kafka_commit *commit) {
    rd_kafka_t *rk = subscription->client->rk;
    if (!commit->is_apart)
        return rd_kafka_commit_queue(rk, commit->offsets, subscription->commit_queue, NULL, NULL);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_copy(commit->offsets);
    for (int i = all->cnt - 1; i >= 0; i--) {
        if ((size_t)i != commit->sent)
            rd_kafka_topic_partition_list_del_by_idx(all, i);
    }
    rd_kafka_resp_err_t err =
        rd_kafka_commit_queue(rk, all, subscription->commit_queue, NULL, NULL);
    rd_kafka_topic_partition_list_destroy(all);
    return err;
}

/* In the end it is tried all the same: better refused, and said so, than not answered. */
static bool is_held(const struct shove_kafka_subscription *subscription) {
    return atomic_load(&subscription->client->membership) == SHOVE_KAFKA_JOINING &&
           !subscription->is_closing;
}

/* Sends the first that can be sent; those that cannot are answered. */
static void send_next(struct shove_kafka_subscription *subscription) {
    while (!subscription->is_committing && subscription->commit != NULL) {
        struct shove_kafka_commit *commit = subscription->commit;
        int code = SHOVE_EREVOKED;
        bool is_void = is_lost(subscription, commit);
        if (!is_void && is_held(subscription))
            return;
        if (!is_void)
            code = shove_kafka_code(send_offsets(subscription, commit));
        if (code == 0) {
            subscription->is_committing = true;
            return;
        }
        set_codes(commit, code);
        deliver(subscription);
    }
}

void shove_kafka_commit_pump(struct shove_kafka_subscription *subscription) {
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(subscription->commit_queue, 0)) != NULL) {
        take_result(subscription, event);
        rd_kafka_event_destroy(event);
    }
    send_next(subscription);
}

void shove_kafka_commits_fail(struct shove_kafka_subscription *subscription, int code) {
    while (subscription->commit != NULL) {
        set_codes(subscription->commit, code);
        deliver(subscription);
    }
}

void shove_kafka_commits_forget(struct shove_kafka_subscription *subscription,
                                const struct shove_claim *claim) {
    for (struct shove_kafka_commit *commit = subscription->commit; commit != NULL;
         commit = commit->next) {
        for (size_t i = 0; i < commit->count; i++) {
            if (commit->commits[i].claim == claim)
                commit->commits[i].claim = NULL;
        }
    }
}
