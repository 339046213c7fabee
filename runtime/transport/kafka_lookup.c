/* kafka_lookup.c: where to begin with partitions that were assigned: the committed offset with its
 * metadata, or else what the reset policy means now.
 *
 * Begun and answered on the loop's thread, asked on a thread of its own, again and again until it
 * is known: a coordinator that still loads the group, or a broker that is away, is no reason to
 * begin anywhere else. Gives up at once where permission is missing or the policy is "none", and
 * after ASK_PATIENCE_MS where the answer makes no sense.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define ASK_TIMEOUT_MS 2000
#define ASK_PAUSE_MS 100
#define ASK_PATIENCE_MS                                                                            \
    10000 /* for answers that ought not to come but may pass, as right after a topic was created   \
           */

struct shove_kafka_lookup {
    struct shove_kafka_job job;
    struct shove_kafka_client *client;
    rd_kafka_topic_partition_list_t *partitions; /* in: which; out: offset, metadata */
    bool *has_committed;                         /* as long as the list, as is the next */
    enum shove_reset *resets;
    char *group_id;
    struct shove_kafka_subscription
        *subscription; /* loop's thread only; NULL once nobody waits for the result */
    atomic_bool is_cancelled;
    int code;
    struct shove_error error;
};

static rd_kafka_resp_err_t first_error(const rd_kafka_topic_partition_list_t *list,
                                       rd_kafka_resp_err_t err) {
    for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
        err = list->elems[i].err;
    return err;
}

/* What the policy means now, for the partitions nothing was committed for. */
static rd_kafka_resp_err_t apply_reset(struct shove_kafka_lookup *lookup) {
    rd_kafka_topic_partition_list_t *list = lookup->partitions;
    rd_kafka_topic_partition_list_t *fresh = rd_kafka_topic_partition_list_new(list->cnt);
    for (int i = 0; i < list->cnt; i++) {
        if (!lookup->has_committed[i])
            rd_kafka_topic_partition_list_add(fresh, list->elems[i].topic, list->elems[i].partition)
                ->offset = lookup->resets[i] == SHOVE_RESET_LATEST ? RD_KAFKA_OFFSET_END
                                                                   : RD_KAFKA_OFFSET_BEGINNING;
    }
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (fresh->cnt > 0) /* a time that is a logical offset asks for that offset */
        err = first_error(fresh,
                          rd_kafka_offsets_for_times(lookup->client->rk, fresh, ASK_TIMEOUT_MS));
    for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && i < fresh->cnt; i++) {
        if (fresh->elems[i].offset < 0)
            err = RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE;
        else
            rd_kafka_topic_partition_list_find(list, fresh->elems[i].topic,
                                               fresh->elems[i].partition)
                ->offset = fresh->elems[i].offset;
    }
    rd_kafka_topic_partition_list_destroy(fresh);
    return err;
}

static rd_kafka_resp_err_t ask(struct shove_kafka_lookup *lookup) {
    rd_kafka_topic_partition_list_t *list = lookup->partitions;
    rd_kafka_resp_err_t err =
        first_error(list, rd_kafka_committed(lookup->client->rk, list, ASK_TIMEOUT_MS));
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err;
    for (int i = 0; i < list->cnt; i++) {
        lookup->has_committed[i] = list->elems[i].offset >= 0;
        if (lookup->has_committed[i] || lookup->resets[i] != SHOVE_RESET_NONE)
            continue;
        lookup->code = shove_error_set(
            &lookup->error, SHOVE_EOFFSET,
            "group '%s' has committed no offset for %s [%d], and auto_offset_reset is \"none\"",
            lookup->group_id, list->elems[i].topic, (int)list->elems[i].partition);
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    return apply_reset(lookup);
}

static void lookup_run(struct shove_kafka_job *job) {
    struct shove_kafka_lookup *lookup = (struct shove_kafka_lookup *)job;
    int64_t until_ms = shove_clock_mono_ms() + ASK_PATIENCE_MS;
    while (!atomic_load(&lookup->is_cancelled) && !shove_kafka_mailbox_is_closed(job->mailbox)) {
        rd_kafka_resp_err_t err = ask(lookup);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return;
        int code = shove_kafka_code(err);
        bool is_final = code == SHOVE_EDENIED || code == SHOVE_EAUTH || code == SHOVE_ECLOSED;
        if (!shove_kafka_is_temporary(err) && shove_clock_mono_ms() > until_ms)
            is_final = true;
        if (is_final) {
            lookup->code =
                shove_error_set(&lookup->error, code, "asking for the offsets of group '%s': %s",
                                lookup->group_id, rd_kafka_err2str(err));
            return;
        }
        uv_sleep(ASK_PAUSE_MS);
    }
    lookup->code = SHOVE_ECLOSED;
}

static void lookup_discard(struct shove_kafka_job *job) {
    struct shove_kafka_lookup *lookup = (struct shove_kafka_lookup *)job;
    shove_kafka_client_release(lookup->client);
    if (lookup->partitions != NULL)
        rd_kafka_topic_partition_list_destroy(lookup->partitions);
    free(lookup->has_committed);
    free(lookup->resets);
    free(lookup->group_id);
    free(lookup);
}

static void lookup_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    (void)kafka;
    struct shove_kafka_lookup *lookup = (struct shove_kafka_lookup *)job;
    if (lookup->subscription != NULL)
        shove_kafka_rebalance_begin(lookup->subscription, lookup->code, lookup->error.text,
                                    lookup->partitions, lookup->has_committed);
    lookup_discard(job);
}

int shove_kafka_lookup_start(struct shove_kafka_subscription *subscription,
                             struct shove_kafka_rebalance *rebalance) {
    struct shove_kafka_lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        return SHOVE_ENOMEM;
    lookup->job =
        (struct shove_kafka_job){.run = lookup_run, .done = lookup_done, .discard = lookup_discard};
    lookup->group_id = strdup(subscription->base.group_id);
    lookup->has_committed =
        calloc((size_t)rebalance->partitions->cnt, sizeof *lookup->has_committed);
    lookup->resets = calloc((size_t)rebalance->partitions->cnt, sizeof *lookup->resets);
    if (lookup->group_id == NULL || lookup->has_committed == NULL || lookup->resets == NULL) {
        lookup_discard(&lookup->job);
        return SHOVE_ENOMEM;
    }
    for (int i = 0; i < rebalance->partitions->cnt; i++)
        lookup->resets[i] =
            shove_kafka_subscription_reset(subscription, rebalance->partitions->elems[i].topic,
                                           rebalance->partitions->elems[i].partition);
    lookup->client = shove_kafka_client_keep(subscription->client);
    lookup->partitions = rd_kafka_topic_partition_list_copy(rebalance->partitions);
    lookup->subscription = subscription;
    atomic_init(&lookup->is_cancelled, false);
    rebalance->lookup = lookup;
    shove_kafka_job_start(subscription->kafka->mailbox, &lookup->job);
    return 0;
}

void shove_kafka_lookup_hurry(struct shove_kafka_lookup *lookup) {
    atomic_store(&lookup->is_cancelled, true);
}

void shove_kafka_lookup_forget(struct shove_kafka_lookup *lookup) {
    lookup->subscription = NULL;
    shove_kafka_lookup_hurry(lookup);
}
