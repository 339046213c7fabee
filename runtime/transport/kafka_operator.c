/* kafka_operator.c: the operator table: calls that wait for the broker, for `shove dlq`, `shove
 * publish` and specs.
 *
 * Cli, and control at start. Each is bounded by its timeout. Reads use a consumer without a group,
 * made at the first read; consecutive reads of one partition go on where the last one ended,
 * without asking the broker to start again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

long shove_kafka_partition_count(struct shove_transport *transport, const char *topic,
                                 int64_t timeout_ms, struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    int64_t until_ms = shove_kafka_now_ms(kafka) + timeout_ms;
    for (;;) {
        int64_t left_ms = until_ms - shove_kafka_now_ms(kafka);
        long count = shove_kafka_ask_partition_count(kafka->admin->rk, topic,
                                                     left_ms > 0 ? left_ms : 1, NULL, NULL, error);
        if (count != SHOVE_EUNREACHABLE || left_ms <= 0)
            return count;
        uv_sleep(20);
    }
}

int shove_kafka_topic_names(struct shove_transport *transport, const char *prefix,
                            struct shove_buffer *names, int64_t timeout_ms,
                            struct shove_error *error) {
    const struct shove_kafka *kafka = (const struct shove_kafka *)transport;
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t err =
        rd_kafka_metadata(kafka->admin->rk, 1, NULL, &metadata, (int)timeout_ms);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return shove_error_set(error, shove_kafka_code(err), "asking which topics there are: %s",
                               rd_kafka_err2str(err));
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const char *name = metadata->topics[i].topic;
        if (metadata->topics[i].partition_cnt > 0 && strncmp(name, prefix, strlen(prefix)) == 0)
            shove_buffer_append(names, name, strlen(name) + 1);
    }
    rd_kafka_metadata_destroy(metadata);
    return names->is_failed ? shove_error_set(error, SHOVE_ENOMEM, "out of memory") : 0;
}

static int check_partition(struct shove_kafka *kafka, const char *topic, int32_t partition,
                           int64_t timeout_ms, struct shove_error *error) {
    long count = shove_kafka_partition_count(&kafka->base, topic, timeout_ms, error);
    if (count < 0)
        return (int)count;
    if (partition >= 0 && partition < count)
        return 0;
    return shove_error_set(error, SHOVE_ENOPARTITION, "topic '%s' has partitions 0 to %ld, not %d",
                           topic, count - 1, (int)partition);
}

int shove_kafka_watermarks(struct shove_transport *transport, const char *topic, int32_t partition,
                           int64_t *low, int64_t *high, int64_t timeout_ms,
                           struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    int64_t until_ms = shove_kafka_now_ms(kafka) + timeout_ms;
    rd_kafka_resp_err_t err;
    for (;;) { /* a topic that was created a moment ago has no leader yet */
        int64_t left_ms = until_ms - shove_kafka_now_ms(kafka);
        err = rd_kafka_query_watermark_offsets(kafka->admin->rk, topic, partition, low, high,
                                               left_ms > 0 ? (int)left_ms : 1);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return 0;
        if (shove_kafka_code(err) != SHOVE_EUNREACHABLE || left_ms <= 0)
            break;
        uv_sleep(20);
    }
    int code = shove_kafka_code(err);
    /* librdkafka says the same of a topic and of a partition that is not there. */
    int found =
        code == SHOVE_ENOTOPIC ? check_partition(kafka, topic, partition, timeout_ms, error) : 0;
    return found != 0 ? found
                      : shove_error_set(error, code, "offsets of %s [%d]: %s", topic,
                                        (int)partition, rd_kafka_err2str(err));
}

/* ---- read ---- */

static void reader_stop(struct shove_kafka *kafka) {
    if (kafka->reader_topic == NULL)
        return;
    shove_kafka_reading_stop(kafka->reader_topic, kafka->reader_partition);
    kafka->reader_topic = NULL;
}

static void asker_close(struct shove_kafka *kafka) {
    shove_kafka_client_release(kafka->asker);
    free(kafka->asker_group);
    kafka->asker = NULL;
    kafka->asker_group = NULL;
}

void shove_kafka_reader_close(struct shove_kafka *kafka) {
    reader_stop(kafka);
    shove_kafka_client_release(kafka->reader);
    kafka->reader = NULL;
    asker_close(kafka);
}

static int reader_start(struct shove_kafka *kafka, const char *topic, int32_t partition,
                        int64_t offset, int64_t timeout_ms, struct shove_error *error) {
    if (kafka->reader_topic != NULL && kafka->reader_partition == partition &&
        kafka->reader_offset == offset &&
        strcmp(rd_kafka_topic_name(kafka->reader_topic), topic) == 0)
        return 0;
    /* librdkafka would wait for a topic that is not there. */
    int missing = check_partition(kafka, topic, partition, timeout_ms, error);
    if (missing != 0)
        return missing;
    reader_stop(kafka);
    if (kafka->reader == NULL) {
        int code = shove_kafka_client_new(kafka, SHOVE_KAFKA_READER, NULL, SHOVE_RESET_EARLIEST,
                                          &kafka->reader, error);
        if (code != 0)
            return code;
    }
    rd_kafka_topic_t *rkt =
        shove_kafka_reading_start(kafka->reader->rk, topic, partition, offset, error);
    if (rkt == NULL)
        return error->code;
    kafka->reader_topic = rkt;
    kafka->reader_partition = partition;
    kafka->reader_offset = offset;
    return 0;
}

/* Drops what is not a record, and all that follows an error: librdkafka goes on behind what it
 * could not read. Returns whether reading is over: the end of the partition, or an error in *err.
 */
static bool sift(struct shove_kafka_batch *batch, size_t from, int64_t offset,
                 rd_kafka_resp_err_t *err) {
    size_t kept = from;
    bool is_over = false;
    for (size_t i = from; i < batch->message_count; i++) {
        rd_kafka_message_t *message = batch->messages[i];
        bool is_record = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
        if (is_record && !is_over && message->offset >= offset) {
            batch->messages[kept++] = message;
            continue;
        }
        if (!is_record && !is_over && message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
            *err = message->err;
        is_over = is_over || !is_record;
        rd_kafka_message_destroy(message);
    }
    batch->message_count = kept;
    return is_over;
}

static rd_kafka_resp_err_t read_into(struct shove_kafka *kafka, struct shove_kafka_batch *batch,
                                     size_t max, int64_t offset, int64_t timeout_ms) {
    int64_t until_ms = shove_kafka_now_ms(kafka) + timeout_ms;
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
    bool is_over = false;
    while (!is_over && batch->message_count < max) {
        int64_t left_ms = until_ms - shove_kafka_now_ms(kafka);
        if (left_ms <= 0)
            break;
        size_t from = shove_kafka_reading_take(kafka->reader_topic, kafka->reader_partition, batch,
                                               max, left_ms < 100 ? (int)left_ms : 100);
        is_over = sift(batch, from, offset, &err);
        shove_kafka_notice_client(kafka, kafka->reader);
    }
    return err;
}

long shove_kafka_read(struct shove_transport *transport, const char *topic, int32_t partition,
                      int64_t offset, size_t max, int64_t timeout_ms, struct shove_batch *out,
                      struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    *out = (struct shove_batch){.records = NULL};
    int code = reader_start(kafka, topic, partition, offset, timeout_ms, error);
    if (code != 0)
        return code;
    struct shove_kafka_batch *batch = shove_kafka_batch_new(kafka, kafka->reader, max);
    if (batch == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory reading %s", topic);
    rd_kafka_resp_err_t err = read_into(kafka, batch, max, offset, timeout_ms);
    if (batch->message_count > 0 && shove_kafka_batch_fill(batch) != 0) {
        shove_kafka_batch_free(kafka, batch);
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory reading %s", topic);
    }
    /* An error, or the end, was announced and will not be again. */
    if (batch->message_count == 0 || err != RD_KAFKA_RESP_ERR_NO_ERROR)
        reader_stop(kafka);
    if (batch->message_count == 0) {
        shove_kafka_batch_free(kafka, batch);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return 0;
        return shove_error_set(error, shove_kafka_code(err), "reading %s [%d] from offset %lld: %s",
                               topic, (int)partition, (long long)offset, rd_kafka_err2str(err));
    }
    kafka->reader_offset = batch->messages[batch->message_count - 1]->offset + 1;
    *out = (struct shove_batch){
        .records = batch->records, .count = batch->message_count, .owner = batch};
    return (long)batch->message_count;
}

/* ---- offsets of a group ---- */

static rd_kafka_AdminOptions_t *options_for(struct shove_kafka *kafka, rd_kafka_admin_op_t op,
                                            int64_t timeout_ms) {
    char text[256];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->admin->rk, op);
    rd_kafka_AdminOptions_set_request_timeout(options, (int)timeout_ms, text, sizeof text);
    return options;
}

static rd_kafka_event_t *wait_for(rd_kafka_queue_t *queue, int64_t timeout_ms, const char *what,
                                  struct shove_error *error) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, (int)timeout_ms + 500);
    rd_kafka_resp_err_t err =
        event != NULL ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return event;
    const char *words = event != NULL ? rd_kafka_event_error_string(event) : NULL;
    shove_error_set(error, shove_kafka_code(err), "%s: %s", what,
                    words != NULL ? words : rd_kafka_err2str(err));
    if (event != NULL)
        rd_kafka_event_destroy(event);
    return NULL;
}

/* The one partition of the one group that was asked about. */
static int only_partition(const rd_kafka_group_result_t **groups, size_t count, const char *what,
                          const rd_kafka_topic_partition_t **out, struct shove_error *error) {
    if (count != 1)
        return shove_error_set(error, SHOVE_EBROKER, "%s: %zu groups in the answer", what, count);
    const rd_kafka_error_t *refusal = rd_kafka_group_result_error(groups[0]);
    if (refusal != NULL)
        return shove_error_set(error, shove_kafka_code(rd_kafka_error_code(refusal)), "%s: %s",
                               what, rd_kafka_error_string(refusal));
    const rd_kafka_topic_partition_list_t *list = rd_kafka_group_result_partitions(groups[0]);
    if (list == NULL || list->cnt != 1)
        return shove_error_set(error, SHOVE_EBROKER, "%s: %d partitions in the answer", what,
                               list ? list->cnt : 0);
    rd_kafka_resp_err_t err = list->elems[0].err;
    if (err == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID)
        return shove_error_set(error, SHOVE_EBUSY,
                               "%s: the group is being consumed; stop its consumers first", what);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return shove_error_set(error, shove_kafka_code(err), "%s: %s", what, rd_kafka_err2str(err));
    *out = &list->elems[0];
    return 0;
}

static int copy_out(const rd_kafka_topic_partition_t *partition, int64_t *offset, char **metadata,
                    struct shove_error *error) {
    *offset = partition->offset >= 0 ? partition->offset : -1;
    *metadata = NULL;
    if (partition->offset < 0 || partition->metadata_size == 0)
        return 0;
    *metadata = calloc(1, partition->metadata_size + 1);
    if (*metadata == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory reading a committed offset");
    memcpy(*metadata, partition->metadata, partition->metadata_size);
    return 0;
}

/* Who asks for the offsets of a group: a client that has that group and never joins it; NULL with
 * an error. rd_kafka_ListConsumerGroupOffsets needs none, but crashes in a client without a group
 * when the coordinator is not there yet. */
static struct shove_kafka_client *asker_for(struct shove_kafka *kafka, const char *group_id,
                                            struct shove_error *error) {
    if (kafka->asker != NULL && strcmp(kafka->asker_group, group_id) == 0)
        return kafka->asker;
    asker_close(kafka);
    kafka->asker_group = strdup(group_id);
    if (kafka->asker_group == NULL) {
        shove_error_set(error, SHOVE_ENOMEM, "out of memory asking for offsets");
        return NULL;
    }
    int code = shove_kafka_client_new(kafka, SHOVE_KAFKA_CONSUMER, group_id, SHOVE_RESET_EARLIEST,
                                      &kafka->asker, error);
    return code == 0 ? kafka->asker : NULL;
}

/* A coordinator that was not found yet, or loads the group, is asked again. */
static rd_kafka_resp_err_t ask(const struct shove_kafka *kafka,
                               const struct shove_kafka_client *asker,
                               rd_kafka_topic_partition_list_t *list, int64_t timeout_ms) {
    int64_t until_ms = shove_kafka_now_ms(kafka) + timeout_ms;
    for (;;) {
        int64_t left_ms = until_ms - shove_kafka_now_ms(kafka);
        rd_kafka_resp_err_t err =
            rd_kafka_committed(asker->rk, list, left_ms > 0 ? (int)left_ms : 1);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
            err = list->elems[0].err;
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR || !shove_kafka_is_temporary(err) || left_ms <= 0)
            return err;
        uv_sleep(20);
    }
}

int shove_kafka_committed_get(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t *offset,
                              char **metadata, int64_t timeout_ms, struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    const struct shove_kafka_client *asker = asker_for(kafka, group_id, error);
    if (asker == NULL)
        return error->code;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition);
    rd_kafka_resp_err_t err = ask(kafka, asker, list, timeout_ms);
    int code =
        err == RD_KAFKA_RESP_ERR_NO_ERROR
            ? copy_out(&list->elems[0], offset, metadata, error)
            : shove_error_set(error, shove_kafka_code(err), "offset of group '%s' for %s [%d]: %s",
                              group_id, topic, (int)partition, rd_kafka_err2str(err));
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

int shove_kafka_committed_set(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t offset,
                              const char *metadata, int64_t timeout_ms, struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *wanted = rd_kafka_topic_partition_list_add(list, topic, partition);
    wanted->offset = offset;
    if (metadata != NULL && *metadata != '\0' && (wanted->metadata = strdup(metadata)) != NULL)
        wanted->metadata_size = strlen(metadata);
    rd_kafka_AlterConsumerGroupOffsets_t *request =
        rd_kafka_AlterConsumerGroupOffsets_new(group_id, list);
    rd_kafka_AdminOptions_t *options =
        options_for(kafka, RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout_ms);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->admin->rk);
    rd_kafka_AlterConsumerGroupOffsets(kafka->admin->rk, &request, 1, options, queue);
    char what[512];
    snprintf(what, sizeof what, "setting the offset of group '%s' for %s [%d]", group_id, topic,
             (int)partition);
    rd_kafka_event_t *event = wait_for(queue, timeout_ms, what, error);
    int code = event == NULL ? error->code : 0;
    if (code == 0) {
        size_t count;
        const rd_kafka_topic_partition_t *found = NULL;
        const rd_kafka_group_result_t **groups = rd_kafka_AlterConsumerGroupOffsets_result_groups(
            rd_kafka_event_AlterConsumerGroupOffsets_result(event), &count);
        code = only_partition(groups, count, what, &found, error);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_AlterConsumerGroupOffsets_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

/* ---- delete ---- */

int shove_kafka_delete_before(struct shove_transport *transport, const char *topic,
                              int32_t partition, int64_t offset, int64_t timeout_ms,
                              struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = offset;
    rd_kafka_DeleteRecords_t *request = rd_kafka_DeleteRecords_new(list);
    rd_kafka_AdminOptions_t *options =
        options_for(kafka, RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout_ms);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->admin->rk);
    rd_kafka_DeleteRecords(kafka->admin->rk, &request, 1, options, queue);
    char what[512];
    snprintf(what, sizeof what, "deleting records of %s [%d]", topic, (int)partition);
    rd_kafka_event_t *event = wait_for(queue, timeout_ms, what, error);
    int code = event == NULL ? error->code : 0;
    if (code == 0) {
        const rd_kafka_topic_partition_list_t *done =
            rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
        rd_kafka_resp_err_t err = done->cnt == 1 ? done->elems[0].err : RD_KAFKA_RESP_ERR__FAIL;
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
            code = shove_error_set(error, shove_kafka_code(err), "%s: %s", what,
                                   rd_kafka_err2str(err));
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_DeleteRecords_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}
