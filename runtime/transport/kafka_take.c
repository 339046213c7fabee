/* kafka_take.c: records out of a partition's queue. The hot path.
 *
 * Control, loop's thread.
 *
 * A batch is an array of librdkafka's messages and an array of records that point into them; both
 * are kept for the next batch, so nothing is allocated per message. Headers are the exception: they
 * are encoded, for the records that have any, into one buffer of the batch. A batch keeps its
 * client alive, not its claim.
 *
 * librdkafka allocates half a kilobyte to find out that a message has no headers, a fifth of what
 * taking it costs. So that is read off the record itself where it can be: in message format 2, the
 * only one with a leader epoch, the count of headers follows the value, and librdkafka hands out
 * the value where it lies in the response. That is not in its interface, so only versions whose
 * source was read are trusted with it (HEADER_COUNT_*), and never for a null or empty value, which
 * librdkafka points elsewhere.
 *
 * A rebalance makes librdkafka pause what stays assigned and fetch again from the last offset it
 * knows to have been taken. It may not yet know of the very last take, and then gives those records
 * a second time in the same assignment; they are dropped here, because for the subscriber a claim
 * only ever goes forward. Going back further than that is a real reset (the log was truncated), and
 * is passed on. So are those that follow a reset which librdkafka's log tells of: it writes that
 * before it fetches again, so the log is read before anything that does not follow, or is the first
 * there is, is judged. And so are records at the same offsets that a later leader wrote: librdkafka
 * finds out by itself where a log was cut, and goes back there without a word.
 *
 * After a reset librdkafka still takes the highest offset for the last one taken: the next
 * rebalance would go on there, past what the new log has below. So it is told where we are, or,
 * when a rebalance comes before anything was taken (kafka_assignment.c), to reset once more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/record.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define FREE_BATCHES_MAX 64
#define BATCH_CAPACITY_MIN 256
#define HEADER_COUNT_KNOWN_FROM 0x02020000
#define HEADER_COUNT_KNOWN_TO 0x020f00ff
#define PAGE_BYTES_MIN 4096

static bool grow(struct shove_kafka_batch *batch, size_t capacity) {
    rd_kafka_message_t **messages = realloc(batch->messages, capacity * sizeof *messages);
    if (messages == NULL)
        return false;
    batch->messages = messages;
    struct shove_record *records = realloc(batch->records, capacity * sizeof *records);
    if (records == NULL)
        return false;
    batch->records = records;
    batch->capacity = capacity;
    return true;
}

static void free_memory(struct shove_kafka_batch *batch) {
    free(batch->messages);
    free(batch->records);
    shove_buffer_release(&batch->headers);
    free(batch);
}

struct shove_kafka_batch *shove_kafka_batch_new(struct shove_kafka *kafka,
                                                struct shove_kafka_client *client, size_t max) {
    struct shove_kafka_batch *batch = kafka->free_batches;
    if (batch != NULL) {
        kafka->free_batches = batch->next;
        kafka->free_batch_count--;
    } else if ((batch = calloc(1, sizeof *batch)) != NULL) {
        shove_buffer_init(&batch->headers);
    } else {
        return NULL;
    }
    size_t capacity = max > BATCH_CAPACITY_MIN ? max : BATCH_CAPACITY_MIN;
    if (batch->capacity < capacity && !grow(batch, capacity)) {
        free_memory(batch);
        return NULL;
    }
    batch->client = shove_kafka_client_keep(client);
    batch->message_count = 0;
    batch->previous = NULL;
    batch->next = kafka->live_batches;
    if (batch->next != NULL)
        batch->next->previous = batch;
    kafka->live_batches = batch;
    return batch;
}

void shove_kafka_batch_free(struct shove_kafka *kafka, struct shove_kafka_batch *batch) {
    for (size_t i = 0; i < batch->message_count; i++)
        rd_kafka_message_destroy(batch->messages[i]);
    shove_kafka_client_release(batch->client);
    if (batch->previous != NULL)
        batch->previous->next = batch->next;
    else
        kafka->live_batches = batch->next;
    if (batch->next != NULL)
        batch->next->previous = batch->previous;
    shove_buffer_clear(&batch->headers);
    if (kafka->free_batch_count == FREE_BATCHES_MAX) {
        free_memory(batch);
        return;
    }
    batch->next = kafka->free_batches;
    kafka->free_batches = batch;
    kafka->free_batch_count++;
}

void shove_kafka_batches_free(struct shove_kafka *kafka) {
    while (kafka->live_batches != NULL)
        shove_kafka_batch_free(kafka, kafka->live_batches);
    while (kafka->free_batches != NULL) {
        struct shove_kafka_batch *next = kafka->free_batches->next;
        free_memory(kafka->free_batches);
        kafka->free_batches = next;
    }
}

static bool may_have_headers(const rd_kafka_message_t *message, bool is_count_known) {
    if (!is_count_known || message->payload == NULL || message->len == 0 ||
        rd_kafka_message_leader_epoch(message) < 0)
        return true;
    /* Not where a page may end with the value: a broker that let a malformed record in must cost a
     * look at most, never a fault. */
    const uint8_t *after = (const uint8_t *)message->payload + message->len;
    return (uintptr_t)after % PAGE_BYTES_MIN == 0 || *after != 0;
}

/* Leaves the block's offset in the buffer where its address belongs: the buffer may still move. */
static void encode_headers(struct shove_buffer *block, const rd_kafka_message_t *message,
                           struct shove_record *record) {
    rd_kafka_headers_t *headers;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    size_t from = block->size;
    const char *name;
    const void *value;
    size_t size;
    for (size_t i = 0;
         rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        shove_headers_append(block, name, strlen(name), value, size);
    record->headers_size = block->size - from;
    record->headers = (const void *)(uintptr_t)from;
}

int shove_kafka_batch_fill(struct shove_kafka_batch *batch) {
    struct shove_buffer *block = &batch->headers;
    int version = rd_kafka_version();
    bool is_count_known = version >= HEADER_COUNT_KNOWN_FROM && version <= HEADER_COUNT_KNOWN_TO;
    for (size_t i = 0; i < batch->message_count; i++) {
        const rd_kafka_message_t *message = batch->messages[i];
        struct shove_record *record = &batch->records[i];
        record->key = message->key;
        record->payload = message->payload;
        record->headers = NULL;
        record->key_size = message->key_len;
        record->payload_size = message->len;
        record->headers_size = 0;
        record->timestamp_ms = rd_kafka_message_timestamp(message, NULL);
        record->offset = message->offset;
        if (may_have_headers(message, is_count_known))
            encode_headers(block, message, record);
    }
    if (block->size == 0)
        return block->is_failed ? SHOVE_ENOMEM : 0;
    for (size_t i = 0; i < batch->message_count; i++) {
        struct shove_record *record = &batch->records[i];
        record->headers =
            record->headers_size > 0 ? block->data + (uintptr_t)record->headers : NULL;
    }
    return block->is_failed ? SHOVE_ENOMEM : 0;
}

/* Told of and not tried again: librdkafka would give the same answer to every fetch, or go on
 * behind what it could not read. */
static bool is_final(int code) {
    return code == SHOVE_EDENIED || code == SHOVE_EAUTH || code == SHOVE_EOFFSET ||
           code == SHOVE_ECORRUPT || code == SHOVE_EUNSUPPORTED || code == SHOVE_ETOOLARGE;
}

/* An error in a partition's queue is news of the partition, never a record. */
static void take_error(struct shove_kafka_claim *claim, const rd_kafka_message_t *message) {
    struct shove_kafka_subscription *subscription =
        (struct shove_kafka_subscription *)claim->base.subscription;
    int code = shove_kafka_code(message->err);
    const char *topic = subscription->topics[claim->base.topic_index];
    int partition = (int)claim->base.partition;
    const char *words = rd_kafka_message_errstr(message);
    if (!is_final(code)) {
        char text[512];
        snprintf(text, sizeof text, "%s [%d]: %s", topic, partition, words);
        shove_kafka_notice_later(subscription->kafka, code, text);
        return;
    }
    claim->code = code;
    if (code == SHOVE_EDENIED || code == SHOVE_EAUTH || code == SHOVE_EOFFSET)
        shove_kafka_subscription_fail(subscription, code, "%s [%d]: %s", topic, partition, words);
    else
        shove_kafka_subscription_fail(
            subscription, code,
            "%s [%d]: %s; nothing is passed over: restore the topic, or move group '%s' past it "
            "(kafka-consumer-groups --reset-offsets)",
            topic, partition, words, subscription->base.group_id);
}

static bool is_repeated(const struct shove_kafka_claim *claim, const rd_kafka_message_t *message) {
    return message->offset < claim->next_offset && message->offset >= claim->last_take_offset &&
           !claim->may_go_back && rd_kafka_message_leader_epoch(message) <= claim->leader_epoch;
}

/* Keeps the messages that are records, in order, as far as there is no gap. What goes back further
 * than a repetition can is new, and so is all that follows it. Returns whether any went back. */
static bool sift(struct shove_kafka_claim *claim, struct shove_kafka_batch *batch) {
    size_t kept = 0;
    bool has_gone_back = false;
    int64_t next_offset = claim->next_offset;
    for (size_t i = 0; i < batch->message_count; i++) {
        rd_kafka_message_t *message = batch->messages[i];
        bool is_record = message->err == RD_KAFKA_RESP_ERR_NO_ERROR && claim->code == 0;
        if (is_record && (has_gone_back || !is_repeated(claim, message))) {
            has_gone_back = has_gone_back || message->offset < next_offset;
            next_offset = message->offset + 1;
            batch->messages[kept++] = message;
            continue;
        }
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR && claim->code == 0)
            take_error(claim, message);
        rd_kafka_message_destroy(message);
    }
    batch->message_count = kept;
    return has_gone_back;
}

/* The usual case: ascending from where the last take ended. */
static bool is_ascending(const struct shove_kafka_claim *claim,
                         const struct shove_kafka_batch *batch) {
    int64_t next_offset = claim->next_offset;
    for (size_t i = 0; i < batch->message_count; i++) {
        const rd_kafka_message_t *message = batch->messages[i];
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR || message->offset < next_offset)
            return false;
        next_offset = message->offset + 1;
    }
    return true;
}

/* Offsets are missing: of a transaction's marker, of what was compacted away, or behind a reset. */
static bool has_jumped(const struct shove_kafka_claim *claim,
                       const struct shove_kafka_batch *batch) {
    size_t count = batch->message_count;
    return count > 0 &&
           batch->messages[count - 1]->offset + 1 != claim->next_offset + (int64_t)count;
}

static void read_log(struct shove_kafka_subscription *subscription) {
    shove_kafka_notice_resets(subscription);
    if (subscription->lines != NULL)
        shove_kafka_poke(subscription->kafka); /* which tells of them */
}

/* Records fetched before a reset may still come after it was told; it is behind us once the offsets
 * jump. */
static void note_taken(struct shove_kafka_claim *claim, const struct shove_kafka_batch *batch) {
    const rd_kafka_message_t *last = batch->messages[batch->message_count - 1];
    if (has_jumped(claim, batch))
        claim->may_go_back = false;
    claim->last_take_offset = batch->messages[0]->offset;
    claim->next_offset = last->offset + 1;
    claim->leader_epoch = rd_kafka_message_leader_epoch(last);
}

/* gives a list of the claim's partition alone */
static rd_kafka_topic_partition_list_t *list_of(const struct shove_kafka_claim *claim) {
    const struct shove_kafka_subscription *subscription =
        (const struct shove_kafka_subscription *)claim->base.subscription;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, subscription->topics[claim->base.topic_index],
                                      claim->base.partition);
    return list;
}

void shove_kafka_claim_seek(const struct shove_kafka_claim *claim, int64_t offset,
                            int32_t leader_epoch) {
    const struct shove_kafka_subscription *subscription =
        (const struct shove_kafka_subscription *)claim->base.subscription;
    rd_kafka_topic_partition_list_t *list = list_of(claim);
    list->elems[0].offset = offset;
    rd_kafka_topic_partition_set_leader_epoch(&list->elems[0], leader_epoch);
    /* Does not wait, and so has no error to tell. */
    rd_kafka_error_destroy(rd_kafka_seek_partitions(subscription->client->rk, list, 0));
    rd_kafka_topic_partition_list_destroy(list);
}

/* What was read and cannot be given must not be passed over either. */
static int fail_unread(struct shove_kafka_claim *claim) {
    claim->code = SHOVE_ENOMEM;
    shove_kafka_subscription_fail((struct shove_kafka_subscription *)claim->base.subscription,
                                  SHOVE_ENOMEM, "out of memory taking records");
    return SHOVE_ENOMEM;
}

long shove_kafka_take(struct shove_transport *transport, struct shove_claim *base, size_t max,
                      struct shove_batch *out) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    struct shove_kafka_claim *claim = (struct shove_kafka_claim *)base;
    struct shove_kafka_subscription *subscription =
        (struct shove_kafka_subscription *)base->subscription;
    if (claim->state == SHOVE_KAFKA_CLAIM_LOST)
        return SHOVE_EREVOKED;
    if (claim->code != 0 || max == 0 || claim->queue == NULL)
        return claim->code;
    struct shove_kafka_batch *batch = shove_kafka_batch_new(kafka, subscription->client, max);
    if (batch == NULL)
        return fail_unread(claim);
    ssize_t count = rd_kafka_consume_batch_queue(claim->queue, 0, batch->messages, max);
    batch->message_count = count > 0 ? (size_t)count : 0;
    bool is_clean = is_ascending(claim, batch);
    /* Where nothing was given yet, a reset to the beginning shows in no offset. */
    if (!is_clean || has_jumped(claim, batch) || (count > 0 && claim->next_offset == 0))
        read_log(subscription);
    bool has_gone_back = !is_clean && sift(claim, batch);
    int code = claim->code;
    if (batch->message_count > 0)
        code = shove_kafka_batch_fill(batch) == 0 ? 0 : fail_unread(claim);
    if (code != 0 || batch->message_count == 0) {
        shove_kafka_batch_free(kafka, batch);
        return code;
    }
    note_taken(claim, batch);
    if (has_gone_back)
        shove_kafka_claim_seek(claim, claim->next_offset, claim->leader_epoch);
    *out = (struct shove_batch){
        .records = batch->records, .count = batch->message_count, .owner = batch};
    return (long)batch->message_count;
}

void shove_kafka_batch_release(struct shove_transport *transport, struct shove_batch *batch) {
    if (batch->owner != NULL)
        shove_kafka_batch_free((struct shove_kafka *)transport, batch->owner);
    *batch = (struct shove_batch){.records = NULL};
}

/* Where the next record comes from; -1: not known yet. Beyond the last record of a transaction is
 * its marker, and behind aborted ones is theirs: librdkafka's own position is past those, the last
 * record's offset is not. Neither says anything after a reset, which ends at the first that is
 * there. What is below that has expired unread. */
static int64_t position_of(const struct shove_kafka_claim *claim, int64_t low) {
    if (claim->may_go_back)
        return low;
    const struct shove_kafka_subscription *subscription =
        (const struct shove_kafka_subscription *)claim->base.subscription;
    int64_t position = claim->next_offset > low ? claim->next_offset : low;
    rd_kafka_topic_partition_list_t *list = list_of(claim);
    if (rd_kafka_position(subscription->client->rk, list) == 0 && list->elems[0].offset > position)
        position = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return position;
}

int64_t shove_kafka_backlog(struct shove_transport *transport, const struct shove_claim *base,
                            int64_t *end) {
    (void)transport;
    const struct shove_kafka_claim *claim = (const struct shove_kafka_claim *)base;
    const struct shove_kafka_subscription *subscription =
        (const struct shove_kafka_subscription *)base->subscription;
    int64_t low;
    int64_t high;
    rd_kafka_resp_err_t err = rd_kafka_get_watermark_offsets(
        subscription->client->rk, subscription->topics[base->topic_index], base->partition, &low,
        &high);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR || high < 0)
        return -1;
    if (end != NULL)
        *end = high;
    int64_t position = position_of(claim, low);
    if (position < 0)
        return -1;
    return high > position ? high - position : 0;
}
