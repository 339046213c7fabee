/* kafka_reading.c: a partition read without a group: what the operator's reads and the scans share.
 * On whatever thread the client is used by.
 */
#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

rd_kafka_topic_t *shove_kafka_reading_start(rd_kafka_t *rk, const char *topic, int32_t partition,
                                            int64_t offset, struct shove_error *error) {
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    if (rkt != NULL && rd_kafka_consume_start(rkt, partition, offset) == 0)
        return rkt;
    rd_kafka_resp_err_t err = rd_kafka_last_error();
    if (rkt != NULL)
        rd_kafka_topic_destroy(rkt);
    shove_error_set(error, shove_kafka_code(err), "reading %s [%d]: %s", topic, (int)partition,
                    rd_kafka_err2str(err));
    return NULL;
}

void shove_kafka_reading_stop(rd_kafka_topic_t *rkt, int32_t partition) {
    rd_kafka_consume_stop(rkt, partition);
    rd_kafka_topic_destroy(rkt);
}

size_t shove_kafka_reading_take(rd_kafka_topic_t *rkt, int32_t partition,
                                struct shove_kafka_batch *batch, size_t max, int wait_ms) {
    /* One at a time where nothing is there yet, or the call would wait until the array is full. */
    size_t from = batch->message_count;
    ssize_t count = rd_kafka_consume_batch(rkt, partition, 0, batch->messages + from, max - from);
    if (count <= 0)
        count = rd_kafka_consume_batch(rkt, partition, wait_ms, batch->messages + from, 1);
    batch->message_count += count > 0 ? (size_t)count : 0;
    return from;
}
