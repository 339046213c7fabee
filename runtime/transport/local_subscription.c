/* local_subscription.c: consumer groups of the transports that live on this machine.
 *
 * Control, the loop's thread. A group has one consumer, so assignment is simple: all partitions, at
 * once, until it leaves. Partitions that are added later are assigned when they are seen. States:
 * ACTIVE -> LEAVING -> WAITING -> gone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/local.h"

/* ---- claims ---- */

void shove_local_claim_drop(struct shove_local_claim *claim) {
    if (--claim->references > 0)
        return;
    shove_chunk_drop(claim->chunk);
    free(claim->metadata);
    free(claim);
}

static void claim_link(struct shove_local_subscription *subscription,
                       struct shove_local_claim *claim) {
    claim->next = subscription->claims;
    if (claim->next)
        claim->next->previous = claim;
    subscription->claims = claim;
    subscription->claim_count++;
}

static void claim_unlink(struct shove_local_subscription *subscription,
                         struct shove_local_claim *claim) {
    if (claim->previous)
        claim->previous->next = claim->next;
    else
        subscription->claims = claim->next;
    if (claim->next)
        claim->next->previous = claim->previous;
    claim->next = claim->previous = NULL;
    subscription->claim_count--;
}

/* Where a claim starts: the committed offset while its records are still there, else what the
 * policy says. */
static int resolve_start(struct shove_local *local, struct shove_local_subscription *subscription,
                         struct shove_local_claim *claim, int64_t low, struct shove_error *error) {
    struct shove_local_member *member = &subscription->topics[claim->public.topic_index];
    int64_t committed;
    int rc = local->ops->commit_get(local->store, subscription->group_id, claim->topic_id,
                                    claim->public.partition, &committed, &claim->metadata, error);
    if (rc < 0)
        return rc;
    claim->public.metadata = claim->metadata ? claim->metadata : "";
    /* Partitions are added behind those that are there, and claimed in their order. */
    member->has_begun = member->has_begun || committed >= 0;
    if (committed >= low && committed <= claim->high) {
        claim->public.start_offset = committed;
        claim->public.has_committed = true;
        return 0;
    }
    claim->public.metadata = "";
    if (member->reset == SHOVE_RESET_NONE) {
        if (committed < 0)
            return shove_error_set(
                error, SHOVE_EOFFSET,
                "group '%s' has no committed offset for topic '%s' partition %d, and "
                "auto_offset_reset is none: commit one, or use earliest or latest",
                subscription->head.group_id, member->name, (int)claim->public.partition);
        return shove_error_set(
            error, SHOVE_EOFFSET,
            "the offset %lld that group '%s' committed for topic '%s' partition %d is not there "
            "(%lld to %lld are), and auto_offset_reset is none",
            (long long)committed, subscription->head.group_id, member->name,
            (int)claim->public.partition, (long long)low, (long long)claim->high);
    }
    /* Below the low watermark nothing more is lost by going on with the oldest that is kept. */
    bool is_at_end = committed < 0 ? !member->has_begun : committed > claim->high;
    claim->public.start_offset =
        member->reset == SHOVE_RESET_LATEST && is_at_end ? claim->high : low;
    return 0;
}

static int claim_new(struct shove_local *local, struct shove_local_subscription *subscription,
                     uint32_t topic_index, int32_t partition, struct shove_local_claim **out,
                     struct shove_error *error) {
    struct shove_local_claim *claim = calloc(1, sizeof(*claim));
    if (!claim)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    claim->references = 1;
    claim->topic_id = subscription->topics[topic_index].topic_id;
    claim->public.subscription = &subscription->head;
    claim->public.topic_index = topic_index;
    claim->public.partition = partition;
    int64_t low;
    int rc =
        local->ops->bounds(local->store, claim->topic_id, partition, &low, &claim->high, error);
    if (rc == 0)
        rc = resolve_start(local, subscription, claim, low, error);
    if (rc < 0) {
        shove_local_claim_drop(claim);
        return rc;
    }
    claim->next_offset = claim->public.start_offset;
    claim_link(subscription, claim);
    *out = claim;
    return 0;
}

/* ---- assigned, revoking, ended ---- */

struct claim_list {
    struct shove_claim **claims;
    size_t count;
    size_t capacity;
};

static int collect_new(struct shove_local *local, struct shove_local_subscription *subscription,
                       struct claim_list *list, struct shove_error *error) {
    for (uint32_t i = 0; i < subscription->topic_count; i++) {
        struct shove_local_member *member = &subscription->topics[i];
        struct shove_local_topic *topic;
        int rc = shove_local_topic_find(local, member->name, &topic, error);
        while (rc == 0 && member->claimed < topic->info.partitions) {
            struct shove_local_claim *claim = NULL;
            if (shove_local_grow(&list->claims, &list->capacity, list->count,
                                 sizeof(*list->claims)) < 0)
                return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
            rc = claim_new(local, subscription, i, member->claimed, &claim, error);
            if (rc == 0) {
                list->claims[list->count++] = &claim->public;
                member->claimed++;
            }
        }
        if (rc < 0)
            return rc;
        member->has_begun = member->claimed > 0;
    }
    return 0;
}

static void assign_new(struct shove_local *local, struct shove_local_subscription *subscription) {
    struct claim_list list = {0};
    struct shove_error error;
    int rc = local->ops->read_begin(local->store, &error);
    if (rc == 0) {
        rc = collect_new(local, subscription, &list, &error);
        local->ops->read_end(local->store);
    }
    if (rc < 0) {
        /* None of them was told of, so none of them is revoked. */
        for (size_t i = 0; i < list.count; i++) {
            struct shove_local_claim *claim = (struct shove_local_claim *)list.claims[i];
            claim_unlink(subscription, claim);
            shove_local_claim_drop(claim);
        }
        shove_local_subscription_fail(subscription, rc, error.text);
    } else if (list.count > 0) {
        local->is_readable = true;
        if (local->events->assigned)
            local->events->assigned(local->ctx, &subscription->head, list.claims, list.count);
    }
    free(list.claims);
}

static void revoke_all(struct shove_local *local, struct shove_local_subscription *subscription) {
    subscription->state = SHOVE_LOCAL_WAITING;
    size_t count = subscription->claim_count;
    if (count == 0)
        return;
    struct shove_claim **claims = malloc(count * sizeof(*claims));
    if (!claims) {
        subscription->state = SHOVE_LOCAL_LEAVING;
        shove_local_wake(local);
        return;
    }
    size_t at = count; /* the list has the newest first */
    for (struct shove_local_claim *claim = subscription->claims; claim; claim = claim->next)
        claims[--at] = &claim->public;
    if (local->events->revoking)
        local->events->revoking(local->ctx, &subscription->head, claims, count);
    free(claims);
}

static void subscription_free(struct shove_local_subscription *subscription) {
    for (uint32_t i = 0; i < subscription->topic_count; i++)
        free(subscription->topics[i].name);
    free(subscription->topics);
    free(subscription->end_text);
    free(subscription->head.group_id);
    free(subscription);
}

static void end(struct shove_local *local, struct shove_local_subscription *subscription) {
    struct shove_local_subscription **link = &local->subscriptions;
    while (*link != subscription)
        link = &(*link)->next;
    *link = subscription->next;
    local->ops->group_unlock(local->store, subscription->group_id);
    if (local->events->ended)
        local->events->ended(local->ctx, &subscription->head, subscription->end_code,
                             subscription->end_text ? subscription->end_text : "");
    subscription_free(subscription);
}

/* Callbacks may add subscriptions (at the end) and mark others as leaving, but only this function
 * frees one. */
void shove_local_subscriptions_advance(struct shove_local *local) {
    for (struct shove_local_subscription *at = local->subscriptions, *next; at; at = next) {
        if (at->state == SHOVE_LOCAL_ACTIVE)
            assign_new(local, at);
        if (at->state == SHOVE_LOCAL_LEAVING)
            revoke_all(local, at);
        bool is_over =
            at->state == SHOVE_LOCAL_WAITING && at->claim_count == 0 && at->calls_under_way == 0;
        next = at->next;
        if (is_over)
            end(local, at);
    }
}

void shove_local_subscriptions_refresh(struct shove_local *local) {
    for (struct shove_local_subscription *s = local->subscriptions; s; s = s->next) {
        for (struct shove_local_claim *claim = s->claims; claim; claim = claim->next) {
            int64_t low, high;
            if (local->ops->bounds(local->store, claim->topic_id, claim->public.partition, &low,
                                   &high, NULL) < 0)
                continue; /* take will meet the same failure and say it */
            if (high > claim->high)
                local->is_readable = true;
            claim->high = high;
        }
    }
}

void shove_local_subscription_fail(struct shove_local_subscription *subscription, int code,
                                   const char *text) {
    struct shove_local *local = (struct shove_local *)subscription->head.transport;
    if (subscription->state != SHOVE_LOCAL_ACTIVE)
        return;
    subscription->state = SHOVE_LOCAL_LEAVING;
    subscription->end_code = code;
    subscription->end_text = strdup(text);
    shove_local_wake(local);
}

void shove_local_subscriptions_free(struct shove_local *local) {
    while (local->subscriptions) {
        struct shove_local_subscription *subscription = local->subscriptions;
        local->subscriptions = subscription->next;
        while (subscription->claims) {
            struct shove_local_claim *claim = subscription->claims;
            subscription->claims = claim->next;
            shove_local_claim_drop(claim);
        }
        subscription_free(subscription);
    }
}

/* ---- operations ---- */

static int subscription_new(struct shove_local *local, const struct shove_subscribe *what,
                            struct shove_local_subscription **out, struct shove_error *error) {
    struct shove_local_subscription *subscription = calloc(1, sizeof(*subscription));
    if (!subscription)
        goto no_memory;
    subscription->head.transport = &local->head;
    subscription->head.user = what->user;
    subscription->head.group_id = strdup(what->group_id);
    subscription->topics = calloc(what->topic_count, sizeof(*subscription->topics));
    if (!subscription->head.group_id || !subscription->topics)
        goto no_memory;
    for (size_t i = 0; i < what->topic_count; i++) {
        struct shove_local_topic *topic;
        int rc = shove_local_topic_find(local, what->topics[i], &topic, error);
        if (rc < 0) {
            subscription_free(subscription);
            return rc;
        }
        subscription->topics[i].topic_id = topic->info.id;
        subscription->topics[i].reset =
            i + what->hold_count < what->topic_count ? what->reset : SHOVE_RESET_EARLIEST;
        subscription->topics[i].name = strdup(what->topics[i]);
        subscription->topic_count++;
        if (!subscription->topics[i].name)
            goto no_memory;
    }
    *out = subscription;
    return 0;

no_memory:
    if (subscription)
        subscription_free(subscription);
    return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
}

static int join_group(struct shove_local *local, struct shove_local_subscription *subscription,
                      struct shove_error *error) {
    uint32_t *ids = malloc(subscription->topic_count * sizeof(*ids));
    if (!ids)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < subscription->topic_count; i++)
        ids[i] = subscription->topics[i].topic_id;
    int rc = local->ops->group_get(local->store, subscription->head.group_id, true, ids,
                                   subscription->topic_count, &subscription->group_id, error);
    free(ids);
    if (rc < 0)
        return rc;
    return local->ops->group_lock(local->store, subscription->group_id, subscription->head.group_id,
                                  error);
}

int shove_local_subscribe(struct shove_transport *transport, const struct shove_subscribe *what,
                          struct shove_subscription **out, struct shove_error *error) {
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_local_subscription **link = &local->subscriptions;
    if (what->topic_count == 0)
        return shove_error_set(error, SHOVE_EINVAL, "group '%s' subscribes to no topic",
                               what->group_id);
    for (; *link; link = &(*link)->next)
        if (strcmp((*link)->head.group_id, what->group_id) == 0)
            return shove_error_set(error, SHOVE_EBUSY,
                                   "group '%s' is consumed already, by this process (pid %d)",
                                   what->group_id, (int)uv_os_getpid());
    struct shove_local_subscription *subscription = NULL;
    int rc = subscription_new(local, what, &subscription, error);
    if (!subscription)
        return rc;
    rc = join_group(local, subscription, error);
    if (rc < 0) {
        subscription_free(subscription);
        return rc;
    }
    *link = subscription;
    *out = &subscription->head;
    shove_local_wake(local);
    return 0;
}

void shove_local_unsubscribe(struct shove_transport *transport,
                             struct shove_subscription *subscription) {
    (void)transport;
    shove_local_subscription_fail((struct shove_local_subscription *)subscription, 0, "");
}

static int commit_queue(struct shove_local_set *set,
                        const struct shove_local_subscription *subscription,
                        const struct shove_commit *commit) {
    struct shove_local_claim *claim = (struct shove_local_claim *)commit->claim;
    const char *metadata = commit->metadata ? commit->metadata : "";
    if (shove_local_grow(&set->commits, &set->answer_capacity, set->answer_count,
                         sizeof(*set->commits)) < 0 ||
        shove_local_grow(&set->write.commits, &set->commit_capacity, set->write.commit_count,
                         sizeof(*set->write.commits)) < 0)
        return SHOVE_ENOMEM;
    char *copy = strdup(metadata);
    if (!copy)
        return SHOVE_ENOMEM;
    struct shove_commit *answer = &set->commits[set->answer_count++];
    *answer =
        (struct shove_commit){.claim = commit->claim, .offset = commit->offset, .metadata = copy};
    claim->references++;
    if (claim->is_released)
        answer->code = SHOVE_EREVOKED;
    else if (commit->offset < 0 || strlen(metadata) > SHOVE_LEDGER_METADATA_MOST)
        answer->code = SHOVE_EINVAL;
    else
        set->write.commits[set->write.commit_count++] = (struct shove_store_commit){
            .group_id = subscription->group_id,
            .topic_id = claim->topic_id,
            .partition = claim->public.partition,
            .offset = commit->offset,
            .metadata = copy,
        };
    return 0;
}

int shove_local_commit(struct shove_transport *transport, struct shove_subscription *subscription,
                       const struct shove_commit *commits, size_t count, void *opaque) {
    struct shove_local *local = (struct shove_local *)transport;
    struct shove_local_subscription *own = (struct shove_local_subscription *)subscription;
    struct shove_local_set *set = shove_local_filling(local);
    if (!set || shove_local_grow(&set->calls, &set->call_capacity, set->call_count,
                                 sizeof(*set->calls)) < 0)
        return SHOVE_ENOMEM;
    size_t first = set->answer_count, first_write = set->write.commit_count;
    for (size_t i = 0; i < count; i++) {
        if (commit_queue(set, own, &commits[i]) == 0)
            continue;
        while (set->answer_count > first) {
            struct shove_commit *answer = &set->commits[--set->answer_count];
            shove_local_claim_drop((struct shove_local_claim *)answer->claim);
            free((char *)answer->metadata);
        }
        set->write.commit_count = first_write;
        return SHOVE_ENOMEM;
    }
    set->calls[set->call_count++] = (struct shove_local_call){
        .subscription = own, .opaque = opaque, .first = first, .count = count};
    own->calls_under_way++;
    shove_local_wake(local);
    return 0;
}

void shove_local_release(struct shove_transport *transport, struct shove_claim **claims,
                         size_t count) {
    struct shove_local *local = (struct shove_local *)transport;
    for (size_t i = 0; i < count; i++) {
        struct shove_local_claim *claim = (struct shove_local_claim *)claims[i];
        claim_unlink((struct shove_local_subscription *)claim->public.subscription, claim);
        claim->is_released = true;
        shove_chunk_drop(claim->chunk);
        claim->chunk = NULL;
        shove_local_claim_drop(claim);
    }
    shove_local_wake(local);
}

int64_t shove_local_backlog(struct shove_transport *transport, const struct shove_claim *claim,
                            int64_t *end) {
    (void)transport;
    const struct shove_local_claim *own = (const struct shove_local_claim *)claim;
    if (end != NULL)
        *end = own->high;
    return own->high > own->next_offset ? own->high - own->next_offset : 0;
}
