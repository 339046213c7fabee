/* kafka_producer.c: records on their way out.
 *
 * Control and cli, loop's thread.
 *
 * One idempotent producer, made when the first record comes. A fatal error (the broker lost its
 * state of this producer, or refuses it) ends it for good: it is retired, its unacknowledged
 * records are purged and reported failed, and the next record makes a new one. A record resent
 * through the new producer is not deduplicated against the old one, so it may be in the topic
 * twice; that is what at-least-once means here.
 *
 * A record for a topic that was not looked up yet is copied and waits for the answer
 * (kafka_topics.c); records of one topic are produced in call order all the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/record.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define RESULTS_MAX 256
#define PENDING_BYTES_MAX (32u << 20)
#define MISSING_FOR_MS 1000
#define REMAKE_INTERVAL_MS 1000

static int make_producer(struct shove_kafka *kafka, struct shove_error *error) {
    struct shove_kafka_producer *producer = calloc(1, sizeof *producer);
    if (producer == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for a Kafka producer");
    int code = shove_kafka_client_new(kafka, SHOVE_KAFKA_PRODUCER, NULL, SHOVE_RESET_EARLIEST,
                                      &producer->client, error);
    if (code != 0) {
        free(producer);
        return code;
    }
    kafka->producer = producer;
    kafka->producer_made_ms = shove_kafka_now_ms(kafka);
    return 0;
}

/* What the broker took away may be given back by asking again, but not in a tight loop. */
static int need_producer(struct shove_kafka *kafka) {
    if (kafka->producer != NULL)
        return 0;
    if (kafka->producer_made_ms != 0 &&
        shove_kafka_now_ms(kafka) - kafka->producer_made_ms < REMAKE_INTERVAL_MS)
        return SHOVE_EAGAIN;
    struct shove_error error;
    int code = make_producer(kafka, &error);
    if (code != 0)
        shove_log(SHOVE_LOG_ERROR, "%s", error.text);
    return code;
}

/* What the records of a producer that failed for good are told: that, unless the reason is one for
 * a person to mend. */
static int fatal_code(const struct shove_kafka_producer *producer, char *words, size_t size) {
    int code = shove_kafka_code(rd_kafka_fatal_error(producer->client->rk, words, size));
    return code == SHOVE_EDENIED || code == SHOVE_EAUTH ? code : SHOVE_EFATAL;
}

static void retire(struct shove_kafka *kafka) {
    struct shove_kafka_producer *producer = kafka->producer;
    char words[512];
    producer->retired_code = fatal_code(producer, words, sizeof words);
    shove_kafka_topics_forget_handles(kafka);
    rd_kafka_purge(producer->client->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                             RD_KAFKA_PURGE_F_NON_BLOCKING);
    kafka->producer = NULL;
    producer->next = kafka->retired;
    kafka->retired = producer;
    shove_kafka_notice(kafka, producer->retired_code,
                       producer->retired_code == SHOVE_EFATAL
                           ? "the Kafka producer failed and is made anew, what was not "
                             "acknowledged is sent again: %s"
                           : "the broker refuses what shove writes; it is asked again, and what "
                             "waits for it stays uncommitted: %s",
                       words);
}

static bool is_dead(const struct shove_kafka_producer *producer) {
    return rd_kafka_fatal_error(producer->client->rk, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_headers_t *make_headers(const struct shove_record *record, int *code) {
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    const uint8_t *at = record->headers;
    const uint8_t *end = at + record->headers_size;
    struct shove_header header;
    int found;
    while ((found = shove_headers_next(&at, end, &header)) == 1)
        rd_kafka_header_add(headers, header.name, (ssize_t)header.name_size, header.value,
                            (ssize_t)header.value_size);
    if (found == 0)
        return headers;
    *code = found;
    rd_kafka_headers_destroy(headers);
    return NULL;
}

static int send_now(struct shove_kafka *kafka, struct shove_kafka_topic *topic,
                    const struct shove_produce *what) {
    int code = need_producer(kafka);
    if (code != 0)
        return code;
    rd_kafka_t *rk = kafka->producer->client->rk;
    if (topic->rkt == NULL && (topic->rkt = rd_kafka_topic_new(rk, topic->name, NULL)) == NULL)
        return SHOVE_EINVAL;
    const struct shove_record *record = &what->record;
    rd_kafka_headers_t *headers = NULL;
    if (record->headers_size > 0 && (headers = make_headers(record, &code)) == NULL)
        return code;
    rd_kafka_vu_t arguments[8];
    size_t count = 0;
    arguments[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic->rkt};
    arguments[count++] =
        (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = what->partition};
    arguments[count++] =
        (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY};
    arguments[count++] =
        (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_VALUE,
                        .u.mem = {.ptr = (void *)record->payload, .size = record->payload_size}};
    arguments[count++] =
        (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_KEY,
                        .u.mem = {.ptr = (void *)record->key, .size = record->key_size}};
    arguments[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = what->opaque};
    if (record->timestamp_ms >= 0)
        arguments[count++] =
            (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = record->timestamp_ms};
    if (headers != NULL)
        arguments[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers};
    rd_kafka_error_t *error = rd_kafka_produceva(rk, arguments, count);
    if (error == NULL)
        return 0; /* the headers are librdkafka's now */
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    code = shove_kafka_code(rd_kafka_error_code(error));
    rd_kafka_error_destroy(error);
    return code;
}

/* A producer that turns out dead is retired by the next pump; the caller comes back, and finds a
 * new one. */
static int try_send(struct shove_kafka *kafka, struct shove_kafka_topic *topic,
                    const struct shove_produce *what) {
    int code = send_now(kafka, topic, what);
    if (code != SHOVE_EFATAL)
        return code;
    shove_kafka_poke(kafka);
    return SHOVE_EAGAIN;
}

static const void *put_bytes(uint8_t **at, const void *data, size_t size) {
    if (data == NULL)
        return NULL;
    uint8_t *to = *at;
    if (size > 0)
        memcpy(to, data, size);
    *at += size;
    return to;
}

static int wait_for_topic(struct shove_kafka *kafka, struct shove_kafka_topic *topic,
                          const struct shove_produce *what) {
    const struct shove_record *record = &what->record;
    size_t bytes = record->key_size + record->payload_size + record->headers_size;
    size_t total = sizeof(struct shove_kafka_pending) + bytes +
                   1; /* never a pointer past the end for an empty value */
    if (topic->first != NULL && kafka->pending_bytes + total > PENDING_BYTES_MAX)
        return SHOVE_EAGAIN;
    struct shove_kafka_pending *pending = calloc(1, total);
    if (pending == NULL)
        return SHOVE_ENOMEM;
    uint8_t *at = (uint8_t *)(pending + 1);
    pending->produce = *what;
    pending->produce.topic = topic->name;
    pending->produce.record.key = put_bytes(&at, record->key, record->key_size);
    pending->produce.record.payload = put_bytes(&at, record->payload, record->payload_size);
    pending->produce.record.headers = put_bytes(&at, record->headers, record->headers_size);
    pending->size_bytes = total;
    if (topic->last != NULL)
        topic->last->next = pending;
    else
        topic->first = pending;
    topic->last = pending;
    kafka->pending_bytes += total;
    return 0;
}

static bool is_too_large(const struct shove_kafka *kafka, const struct shove_record *record) {
    size_t size = record->key_size + record->payload_size + record->headers_size;
    return (int64_t)size > kafka->max_message_size_bytes + SHOVE_KAFKA_RECORD_SLACK_BYTES;
}

int shove_kafka_produce(struct shove_transport *transport, const struct shove_produce *what) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    if (!what->is_hop && is_too_large(kafka, &what->record))
        return SHOVE_ETOOLARGE;
    struct shove_kafka_topic *topic = shove_kafka_topic_get(kafka, what->topic);
    if (topic == NULL)
        return SHOVE_ENOMEM;
    if (topic->state == SHOVE_KAFKA_TOPIC_EXISTS && topic->first == NULL)
        return try_send(kafka, topic, what);
    if (topic->state == SHOVE_KAFKA_TOPIC_MISSING) {
        if (shove_kafka_now_ms(kafka) - topic->answered_ms < MISSING_FOR_MS)
            return SHOVE_ENOTOPIC;
        topic->state = SHOVE_KAFKA_TOPIC_UNKNOWN;
    }
    if (topic->state == SHOVE_KAFKA_TOPIC_UNKNOWN)
        shove_kafka_topic_ask(kafka, topic);
    return wait_for_topic(kafka, topic, what);
}

static void report(struct shove_kafka *kafka, const struct shove_produced *results, size_t count) {
    if (count > 0 && kafka->events->produced != NULL)
        kafka->events->produced(kafka->ctx, results, count);
}

static void fail_pending(struct shove_kafka *kafka, struct shove_kafka_pending *pending, int code,
                         const char *detail) {
    struct shove_produced failed = {.opaque = pending->produce.opaque,
                                    .code = code,
                                    .partition = -1,
                                    .offset = -1,
                                    .detail = detail};
    free(pending);
    report(kafka, &failed, 1);
}

/* The subscriber may produce to the same topic while it hears of a failure, so the list is taken
 * away first. */
static void fail_all(struct shove_kafka *kafka, struct shove_kafka_topic *topic, int code,
                     const char *detail) {
    struct shove_kafka_pending *pending = topic->first;
    topic->first = topic->last = NULL;
    for (struct shove_kafka_pending *each = pending; each != NULL; each = each->next)
        kafka->pending_bytes -= each->size_bytes;
    while (pending != NULL) {
        struct shove_kafka_pending *next = pending->next;
        fail_pending(kafka, pending, code, detail);
        pending = next;
    }
}

void shove_kafka_producer_settle(struct shove_kafka *kafka, struct shove_kafka_topic *topic,
                                 int code, const char *detail) {
    if (code != 0) {
        fail_all(kafka, topic, code, detail);
        return;
    }
    while (topic->first != NULL) {
        struct shove_kafka_pending *pending = topic->first;
        int result = try_send(kafka, topic, &pending->produce);
        if (result == SHOVE_EAGAIN)
            return; /* the next pump tries again */
        topic->first = pending->next;
        if (topic->first == NULL)
            topic->last = NULL;
        kafka->pending_bytes -= pending->size_bytes;
        if (result != 0)
            fail_pending(kafka, pending, result, shove_error_sentence(result));
        else
            free(pending);
    }
}

static void settle_waiting(struct shove_kafka *kafka) {
    if (kafka->pending_bytes == 0)
        return;
    for (size_t i = 0; i < SHOVE_KAFKA_TOPIC_BUCKETS; i++) {
        for (struct shove_kafka_topic *topic = kafka->topics[i]; topic != NULL;
             topic = topic->next) {
            if (topic->first != NULL && topic->state == SHOVE_KAFKA_TOPIC_EXISTS)
                shove_kafka_producer_settle(kafka, topic, 0, NULL);
            else if (topic->first != NULL && topic->state == SHOVE_KAFKA_TOPIC_UNKNOWN)
                shove_kafka_topic_ask(kafka, topic);
        }
    }
}

static void fill_result(struct shove_kafka *kafka, const struct shove_kafka_producer *producer,
                        const rd_kafka_message_t *message, struct shove_produced *result) {
    *result = (struct shove_produced){
        .opaque = message->_private,
        .code = shove_kafka_code(message->err),
        .partition = message->partition,
        .offset = message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? message->offset : -1};
    if (result->code == 0)
        return;
    result->detail = rd_kafka_err2str(message->err);
    if (producer->retired_code != 0)
        result->code = producer->retired_code;
    else if (result->code == SHOVE_EFATAL)
        result->code = fatal_code(producer, NULL, 0);
    if (result->code == SHOVE_ENOTOPIC &&
        message->rkt != NULL) { /* deleted under way: look before the next one */
        struct shove_kafka_topic *topic =
            shove_kafka_topic_get(kafka, rd_kafka_topic_name(message->rkt));
        if (topic != NULL && topic->state == SHOVE_KAFKA_TOPIC_EXISTS)
            topic->state = SHOVE_KAFKA_TOPIC_UNKNOWN;
    }
    if (message->err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION && result->code == SHOVE_ENOTOPIC)
        result->code = SHOVE_ENOPARTITION;
}

static size_t take_reports(struct shove_kafka *kafka, const struct shove_kafka_producer *producer,
                           rd_kafka_event_t *event) {
    const rd_kafka_message_t *messages[RESULTS_MAX];
    struct shove_produced results[RESULTS_MAX];
    size_t total = 0;
    size_t count;
    while ((count = rd_kafka_event_message_array(event, messages, RESULTS_MAX)) > 0) {
        for (size_t i = 0; i < count; i++)
            fill_result(kafka, producer, messages[i], &results[i]);
        report(kafka, results, count);
        total += count;
    }
    return total;
}

static void pump(struct shove_kafka *kafka, struct shove_kafka_producer *producer) {
    rd_kafka_event_t *event;
    size_t handled = 0;
    while (handled < SHOVE_KAFKA_EVENTS_PER_PUMP * 8 &&
           (event = rd_kafka_queue_poll(producer->client->queue, 0)) != NULL) {
        handled++;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
            handled += take_reports(kafka, producer, event);
            kafka->is_readable_due = true; /* there is room again */
        } else {
            shove_kafka_notice_event(kafka, NULL, event);
        }
        rd_kafka_event_destroy(event);
    }
    if (handled >= SHOVE_KAFKA_EVENTS_PER_PUMP * 8)
        shove_kafka_poke(kafka);
}

void shove_kafka_producer_pump(struct shove_kafka *kafka) {
    settle_waiting(kafka);
    if (kafka->producer != NULL) {
        pump(kafka, kafka->producer);
        if (is_dead(kafka->producer))
            retire(kafka);
    }
    struct shove_kafka_producer **link = &kafka->retired;
    while (*link != NULL) {
        struct shove_kafka_producer *producer = *link;
        pump(kafka, producer);
        if (rd_kafka_outq_len(producer->client->rk) > 0) {
            link = &producer->next;
            continue;
        }
        *link = producer->next;
        shove_kafka_client_release(producer->client);
        free(producer);
    }
}

void shove_kafka_producer_close(struct shove_kafka *kafka) {
    shove_kafka_topics_free(kafka);
    if (kafka->producer != NULL) {
        kafka->producer->next = kafka->retired;
        kafka->retired = kafka->producer;
        kafka->producer = NULL;
    }
    while (kafka->retired != NULL) {
        struct shove_kafka_producer *producer = kafka->retired;
        kafka->retired = producer->next;
        rd_kafka_purge(producer->client->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                                 RD_KAFKA_PURGE_F_NON_BLOCKING);
        shove_kafka_client_release(producer->client);
        free(producer);
    }
}
