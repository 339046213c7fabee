/* kafka_begun.c: which partitions a group that begins with what comes ("latest") skips the past of.
 *
 * Begun and answered on the loop's thread, asked on a thread of its own.
 *
 * Such a group begins at the end of the partitions that are there when it does. One that is added
 * later has no committed offset either, but nothing in it is older than the group. So it is asked
 * when subscribing, before this member, or another that begins with it, has committed where it
 * begins: has the group committed anything in the topic, and if not, how many partitions has the
 * topic? Assignments wait for the answer. Where there is none nothing is skipped.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define ASK_TIMEOUT_MS 2000
#define ASK_PAUSE_MS 100
#define ASK_PATIENCE_MS 30000

struct shove_kafka_begun {
    struct shove_kafka_job job;
    struct shove_kafka_client *client;
    struct shove_kafka_subscription *subscription; /* loop's thread only; NULL: ended */
    atomic_bool is_cancelled;
    int code;           /* out: SHOVE_E* of the topic there is no answer for */
    size_t asked_count; /* out: of the topics that were answered */
    size_t topic_count;
    int32_t *added_from; /* out; as long as the topics */
    char *topics[];
};

/* Whether the group has committed an offset for one of so many partitions: 1, 0, SHOVE_E*. */
static int has_committed(struct shove_kafka_begun *begun, const char *topic, int32_t count) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
    rd_kafka_topic_partition_list_add_range(list, topic, 0, count - 1);
    rd_kafka_resp_err_t err = rd_kafka_committed(begun->client->rk, list, ASK_TIMEOUT_MS);
    bool has_any = false;
    for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++) {
        err = list->elems[i].err;
        has_any = has_any || list->elems[i].offset >= 0;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return err != RD_KAFKA_RESP_ERR_NO_ERROR ? shove_kafka_code(err) : has_any;
}

static int ask(struct shove_kafka_begun *begun, size_t i) {
    struct shove_error error;
    long count = shove_kafka_ask_partition_count(begun->client->rk, begun->topics[i],
                                                 ASK_TIMEOUT_MS, NULL, NULL, &error);
    int answer = count < 0 ? (int)count : has_committed(begun, begun->topics[i], (int32_t)count);
    if (answer == 0)
        begun->added_from[i] = (int32_t)count;
    return answer;
}

static void begun_run(struct shove_kafka_job *job) {
    struct shove_kafka_begun *begun = (struct shove_kafka_begun *)job;
    int64_t until_ms = shove_clock_mono_ms() + ASK_PATIENCE_MS;
    for (size_t i = 0; i < begun->topic_count; i++) {
        int answer;
        while ((answer = ask(begun, i)) < 0) {
            bool is_final = answer == SHOVE_EDENIED || answer == SHOVE_EAUTH ||
                            answer == SHOVE_ECLOSED || shove_clock_mono_ms() > until_ms;
            if (is_final || atomic_load(&begun->is_cancelled) ||
                shove_kafka_mailbox_is_closed(job->mailbox)) {
                begun->code = answer;
                return;
            }
            uv_sleep(ASK_PAUSE_MS);
        }
        begun->asked_count++;
    }
}

static void begun_discard(struct shove_kafka_job *job) {
    struct shove_kafka_begun *begun = (struct shove_kafka_begun *)job;
    shove_kafka_client_release(begun->client);
    for (size_t i = 0; i < begun->topic_count; i++)
        free(begun->topics[i]);
    free(begun->added_from);
    free(begun);
}

static void begun_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    struct shove_kafka_begun *begun = (struct shove_kafka_begun *)job;
    if (begun->subscription != NULL && begun->code != 0)
        shove_kafka_notice(kafka, begun->code,
                           "%s: it is not known whether group '%s' has begun there before, so it "
                           "begins with the oldest record of each partition for which it has "
                           "committed nothing, and not with what comes (auto_offset_reset = "
                           "\"latest\")",
                           begun->topics[begun->asked_count], begun->subscription->base.group_id);
    if (begun->subscription != NULL) {
        begun->subscription->begun = NULL;
        begun->subscription->added_from = begun->added_from;
        begun->added_from = NULL;
        shove_kafka_poke(kafka);
    }
    begun_discard(job);
}

int shove_kafka_begun_start(struct shove_kafka_subscription *subscription) {
    size_t count = subscription->topic_count - subscription->hold_count;
    struct shove_kafka_begun *begun = calloc(1, sizeof *begun + count * sizeof *begun->topics);
    if (begun == NULL)
        return SHOVE_ENOMEM;
    begun->job =
        (struct shove_kafka_job){.run = begun_run, .done = begun_done, .discard = begun_discard};
    begun->client = shove_kafka_client_keep(subscription->client);
    begun->topic_count = count;
    begun->added_from = calloc(count + 1, sizeof *begun->added_from);
    bool is_whole = begun->added_from != NULL;
    for (size_t i = 0; i < count; i++)
        is_whole = (begun->topics[i] = strdup(subscription->topics[i])) != NULL && is_whole;
    if (!is_whole) {
        begun_discard(&begun->job);
        return SHOVE_ENOMEM;
    }
    atomic_init(&begun->is_cancelled, false);
    begun->subscription = subscription;
    subscription->begun = begun;
    shove_kafka_job_start(subscription->kafka->mailbox, &begun->job);
    return 0;
}

void shove_kafka_begun_forget(struct shove_kafka_begun *begun) {
    begun->subscription = NULL;
    atomic_store(&begun->is_cancelled, true);
}
