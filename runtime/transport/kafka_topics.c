/* kafka_topics.c: which topics exist, so that publishing never creates one.
 *
 * Control and cli, loop's thread; shove_kafka_ask_partition_count on any.
 *
 * A broker may be configured to create a topic when a client as much as asks for it. shove's
 * handles ask with that turned off, and a record for a name that was not declared waits until one
 * such question is answered; then it is produced, or comes back as ENOTOPIC. A missing topic is
 * asked for again a second later at the earliest.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define ASK_TIMEOUT_MS 20000

long shove_kafka_ask_partition_count(rd_kafka_t *rk, const char *topic, int64_t timeout_ms,
                                     int *brokers, bool *is_led, struct shove_error *error) {
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    if (rkt == NULL)
        return shove_error_set(error, SHOVE_EINVAL, "'%s' cannot be the name of a topic", topic);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, rkt, &metadata, (int)timeout_ms);
    rd_kafka_topic_destroy(rkt);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return shove_error_set(error, shove_kafka_code(err), "asking for topic '%s': %s", topic,
                               rd_kafka_err2str(err));
    long count = 0;
    bool all_led = true;
    if (metadata->topic_cnt == 1)
        err = metadata->topics[0].err;
    else
        err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR || err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) {
        count = metadata->topics[0].partition_cnt;
        for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
            all_led = all_led && metadata->topics[0].partitions[i].leader >= 0;
        err = count > 0 ? RD_KAFKA_RESP_ERR_NO_ERROR : RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    }
    if (brokers != NULL)
        *brokers = metadata->broker_cnt;
    if (is_led != NULL)
        *is_led = all_led;
    rd_kafka_metadata_destroy(metadata);
    if (err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        return shove_error_set(error, shove_kafka_code(err),
                               "topic '%s': %s; grant this user the rights it needs on the topic "
                               "(Describe, Read to consume, Write to publish), or run as another",
                               topic, rd_kafka_err2str(err));
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return shove_error_set(error, shove_kafka_code(err), "topic '%s': %s", topic,
                               rd_kafka_err2str(err));
    return count;
}

static size_t bucket_of(const char *name) {
    uint32_t hash = 2166136261u;
    for (const char *at = name; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    return hash & (SHOVE_KAFKA_TOPIC_BUCKETS - 1);
}

struct shove_kafka_topic *shove_kafka_topic_get(struct shove_kafka *kafka, const char *name) {
    struct shove_kafka_topic **bucket = &kafka->topics[bucket_of(name)];
    for (struct shove_kafka_topic *topic = *bucket; topic != NULL; topic = topic->next) {
        if (strcmp(topic->name, name) == 0)
            return topic;
    }
    size_t size = strlen(name) + 1;
    struct shove_kafka_topic *topic = calloc(1, sizeof *topic + size);
    if (topic == NULL)
        return NULL;
    memcpy(topic->name, name, size);
    topic->next = *bucket;
    *bucket = topic;
    return topic;
}

struct question {
    struct shove_kafka_job job;
    struct shove_kafka_client *client;
    struct shove_error error;
    int code;
    char topic[];
};

static void question_run(struct shove_kafka_job *job) {
    struct question *question = (struct question *)job;
    int64_t until_ms = shove_clock_mono_ms() + ASK_TIMEOUT_MS;
    do {
        long count = shove_kafka_ask_partition_count(question->client->rk, question->topic, 1000,
                                                     NULL, NULL, &question->error);
        question->code = count < 0 ? (int)count : 0;
    } while ((question->code == SHOVE_EUNREACHABLE || question->code == SHOVE_ETIMEOUT) &&
             !shove_kafka_mailbox_is_closed(job->mailbox) && shove_clock_mono_ms() < until_ms);
}

static void question_discard(struct shove_kafka_job *job) {
    shove_kafka_client_release(((struct question *)job)->client);
    free(job);
}

static void question_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    struct question *question = (struct question *)job;
    struct shove_kafka_topic *topic = shove_kafka_topic_get(kafka, question->topic);
    if (topic !=
        NULL) { /* it was there when the question was asked, and is not freed before the end */
        if (question->code == 0)
            topic->state = SHOVE_KAFKA_TOPIC_EXISTS;
        else if (question->code == SHOVE_ENOTOPIC)
            topic->state = SHOVE_KAFKA_TOPIC_MISSING;
        else
            topic->state = SHOVE_KAFKA_TOPIC_UNKNOWN;
        topic->answered_ms = shove_kafka_now_ms(kafka);
        shove_kafka_producer_settle(kafka, topic, question->code, question->error.text);
    }
    question_discard(job);
}

void shove_kafka_topic_ask(struct shove_kafka *kafka, struct shove_kafka_topic *topic) {
    size_t size = strlen(topic->name) + 1;
    struct question *question = calloc(1, sizeof *question + size);
    if (question == NULL)
        return; /* it stays unknown, and the next record asks again */
    question->job = (struct shove_kafka_job){
        .run = question_run, .done = question_done, .discard = question_discard};
    question->client = shove_kafka_client_keep(kafka->admin);
    memcpy(question->topic, topic->name, size);
    topic->state = SHOVE_KAFKA_TOPIC_ASKED;
    shove_kafka_job_start(kafka->mailbox, &question->job);
}

void shove_kafka_topics_forget_handles(struct shove_kafka *kafka) {
    for (size_t i = 0; i < SHOVE_KAFKA_TOPIC_BUCKETS; i++) {
        for (struct shove_kafka_topic *topic = kafka->topics[i]; topic != NULL;
             topic = topic->next) {
            if (topic->rkt != NULL)
                rd_kafka_topic_destroy(topic->rkt);
            topic->rkt = NULL;
        }
    }
}

void shove_kafka_topics_free(struct shove_kafka *kafka) {
    shove_kafka_topics_forget_handles(kafka);
    for (size_t i = 0; i < SHOVE_KAFKA_TOPIC_BUCKETS; i++) {
        while (kafka->topics[i] != NULL) {
            struct shove_kafka_topic *topic = kafka->topics[i];
            kafka->topics[i] = topic->next;
            while (topic->first != NULL) {
                struct shove_kafka_pending *next = topic->first->next;
                free(topic->first);
                topic->first = next;
            }
            free(topic);
        }
    }
}
