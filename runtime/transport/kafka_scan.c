/* kafka_scan.c: what is in a partition from an offset to its end, read once and without a group.
 *
 * Begun and answered on the loop's thread, read on a thread of its own.
 *
 * An assignment asks for many partitions at once, and a client for each would cost more than the
 * reading. So scans stand in line: one at a time is read, all by one client, which goes when the
 * line is empty. It is not the operator's reader: that is the loop's thread's.
 *
 * Where a partition ends is asked for first. It is read until then and no further, however fast
 * others write. librdkafka's own word for the end counts from there on only: a follower that is
 * behind its leader ends earlier.
 *
 * A scan has SCAN_PATIENCE_MS from when it was asked for, or from when the last one succeeded. So
 * all that wait for a broker that is away fail at about the same time, not one after the other;
 * but each has SCAN_LEAST_MS, because the leader of its partition may be there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define SCAN_PATIENCE_MS 15000
#define SCAN_LEAST_MS 2000
#define MISSING_PATIENCE_MS 1000 /* a broker may not have heard yet of what another has made */
#define ASK_TIMEOUT_MS 2000
#define ASK_PAUSE_MS 50
#define POLL_MS 100
#define SCAN_BYTES (8u << 20) /* enough for one scan, so that large records do not pile up */

struct shove_kafka_scan {
    struct shove_kafka_job job;
    struct shove_kafka_scan *next;
    struct shove_kafka_client *client; /* from when it begins */
    struct shove_kafka_batch batch;    /* its arrays alone; in no list */
    size_t bytes;
    void *opaque;
    int64_t asked_ms;
    int64_t missing_until_ms;
    int64_t until_ms;
    int64_t offset; /* in: where to begin; out: where to go on */
    int64_t end_offset;
    int32_t partition;
    bool is_end;
    int code;
    struct shove_error error;
    char topic[];
};

/* ---- on the job's thread ---- */

static int ask_once(struct shove_kafka_scan *scan, int64_t *low, int64_t *high) {
    rd_kafka_t *rk = scan->client->rk;
    int64_t left_ms = scan->until_ms - shove_clock_mono_ms();
    if (left_ms > ASK_TIMEOUT_MS)
        left_ms = ASK_TIMEOUT_MS;
    if (left_ms < 1)
        left_ms = 1;
    /* librdkafka would wait for a topic that is not there. */
    long count =
        shove_kafka_ask_partition_count(rk, scan->topic, left_ms, NULL, NULL, &scan->error);
    if (count < 0)
        return (int)count;
    if (scan->partition < 0 || scan->partition >= count)
        return shove_error_set(&scan->error, SHOVE_ENOPARTITION,
                               "topic '%s' has partitions 0 to %ld, not %d", scan->topic, count - 1,
                               (int)scan->partition);
    rd_kafka_resp_err_t err =
        rd_kafka_query_watermark_offsets(rk, scan->topic, scan->partition, low, high, (int)left_ms);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    return shove_error_set(&scan->error, shove_kafka_code(err), "asking where %s [%d] ends: %s",
                           scan->topic, (int)scan->partition, rd_kafka_err2str(err));
}

static bool may_ask_again(const struct shove_kafka_scan *scan, int code) {
    if (shove_kafka_mailbox_is_closed(scan->job.mailbox))
        return false;
    if (code == SHOVE_ENOTOPIC || code == SHOVE_ENOPARTITION)
        return shove_clock_mono_ms() < scan->missing_until_ms;
    bool is_temporary = code == SHOVE_EUNREACHABLE || code == SHOVE_ETIMEOUT ||
                        code == SHOVE_EAGAIN || code == SHOVE_EIO;
    return is_temporary && shove_clock_mono_ms() < scan->until_ms;
}

static int ask_bounds(struct shove_kafka_scan *scan) {
    int64_t low = 0;
    int64_t high = 0;
    int code;
    while ((code = ask_once(scan, &low, &high)) < 0) {
        if (!may_ask_again(scan, code))
            return code;
        uv_sleep(ASK_PAUSE_MS);
    }
    if (scan->offset < low)
        scan->offset = low;
    if (scan->offset > high)
        scan->offset = high;
    scan->end_offset = high;
    scan->is_end = scan->offset == high;
    return 0;
}

/* Whether the message is one of the records that were asked for. */
static bool take_record(struct shove_kafka_scan *scan, const rd_kafka_message_t *message) {
    if (message->offset < scan->offset)
        return false;
    bool is_wanted = message->offset < scan->end_offset;
    scan->offset = is_wanted ? message->offset + 1 : scan->end_offset;
    scan->is_end = scan->offset == scan->end_offset;
    if (is_wanted)
        scan->bytes += message->len + message->key_len;
    return is_wanted;
}

static int take_news(struct shove_kafka_scan *scan, const rd_kafka_message_t *message) {
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (message->offset >= scan->end_offset) { /* the last offsets are holes */
            scan->offset = scan->end_offset;
            scan->is_end = true;
        }
        return 0;
    }
    if (shove_kafka_is_temporary(message->err))
        return 0;
    return shove_error_set(&scan->error, shove_kafka_code(message->err),
                           "reading %s [%d] from offset %lld: %s", scan->topic,
                           (int)scan->partition, (long long)scan->offset,
                           rd_kafka_message_errstr(message));
}

/* Keeps the records among what came last; nothing that follows the end, or an error. */
static int sift(struct shove_kafka_scan *scan, size_t from) {
    struct shove_kafka_batch *batch = &scan->batch;
    size_t kept = from;
    int code = 0;
    for (size_t i = from; i < batch->message_count; i++) {
        rd_kafka_message_t *message = batch->messages[i];
        bool is_over = scan->is_end || code != 0;
        bool is_record = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
        if (is_record && !is_over && take_record(scan, message)) {
            batch->messages[kept++] = message;
            continue;
        }
        if (!is_record && !is_over)
            code = take_news(scan, message);
        rd_kafka_message_destroy(message);
    }
    batch->message_count = kept;
    return code;
}

static int collect(struct shove_kafka_scan *scan, rd_kafka_topic_t *rkt) {
    struct shove_kafka_batch *batch = &scan->batch;
    int code = 0;
    while (code == 0 && !scan->is_end && batch->message_count < SHOVE_SCAN_MAX &&
           scan->bytes < SCAN_BYTES) {
        if (shove_kafka_mailbox_is_closed(scan->job.mailbox))
            return SHOVE_ECLOSED;
        if (shove_clock_mono_ms() >= scan->until_ms)
            return shove_error_set(&scan->error, SHOVE_ETIMEOUT,
                                   "reading %s [%d] from offset %lld: no answer in time",
                                   scan->topic, (int)scan->partition, (long long)scan->offset);
        size_t from =
            shove_kafka_reading_take(rkt, scan->partition, batch, SHOVE_SCAN_MAX, POLL_MS);
        code = sift(scan, from);
    }
    return code;
}

static int read_records(struct shove_kafka_scan *scan) {
    struct shove_kafka_batch *batch = &scan->batch;
    batch->messages = calloc(SHOVE_SCAN_MAX, sizeof(*batch->messages));
    batch->records = calloc(SHOVE_SCAN_MAX, sizeof(*batch->records));
    if (batch->messages == NULL || batch->records == NULL)
        return shove_error_set(&scan->error, SHOVE_ENOMEM, "out of memory reading %s", scan->topic);
    rd_kafka_topic_t *rkt = shove_kafka_reading_start(scan->client->rk, scan->topic,
                                                      scan->partition, scan->offset, &scan->error);
    if (rkt == NULL)
        return scan->error.code;
    int code = collect(scan, rkt);
    shove_kafka_reading_stop(rkt, scan->partition);
    if (batch->message_count == 0)
        return code;
    if (shove_kafka_batch_fill(batch) != 0)
        return shove_error_set(&scan->error, SHOVE_ENOMEM, "out of memory reading %s", scan->topic);
    return 0; /* what came before a failure is good; the next scan meets the failure again */
}

static void scan_run(struct shove_kafka_job *job) {
    struct shove_kafka_scan *scan = (struct shove_kafka_scan *)job;
    if (scan->code == 0)
        scan->code = ask_bounds(scan);
    if (scan->code == 0 && !scan->is_end)
        scan->code = read_records(scan);
}

/* Any thread. */
static void scan_discard(struct shove_kafka_job *job) {
    struct shove_kafka_scan *scan = (struct shove_kafka_scan *)job;
    for (size_t i = 0; i < scan->batch.message_count; i++)
        rd_kafka_message_destroy(scan->batch.messages[i]);
    free(scan->batch.messages);
    free(scan->batch.records);
    shove_buffer_release(&scan->batch.headers);
    shove_kafka_client_release(scan->client);
    free(scan);
}

/* ---- on the loop's thread ---- */

/* A client that cannot be made is told with the result. */
static void scan_begin(struct shove_kafka *kafka) {
    struct shove_kafka_scans *scans = &kafka->scans;
    struct shove_kafka_scan *scan = scans->first;
    scans->first = scan->next;
    if (scans->client == NULL)
        scan->code = shove_kafka_client_new(kafka, SHOVE_KAFKA_READER, NULL, SHOVE_RESET_EARLIEST,
                                            &scans->client, &scan->error);
    if (scans->client != NULL)
        scan->client = shove_kafka_client_keep(scans->client);
    int64_t at_ms = shove_clock_mono_ms();
    int64_t from_ms = scan->asked_ms > scans->answered_ms ? scan->asked_ms : scans->answered_ms;
    scan->until_ms = from_ms + SCAN_PATIENCE_MS;
    if (scan->until_ms < at_ms + SCAN_LEAST_MS)
        scan->until_ms = at_ms + SCAN_LEAST_MS;
    scan->missing_until_ms = from_ms + MISSING_PATIENCE_MS;
    scans->is_scanning = true;
    shove_kafka_job_start(kafka->mailbox, &scan->job);
}

static void scan_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    struct shove_kafka_scan *scan = (struct shove_kafka_scan *)job;
    struct shove_kafka_scans *scans = &kafka->scans;
    bool is_good = scan->code == 0;
    const struct shove_scanned result = {.opaque = scan->opaque,
                                         .code = scan->code,
                                         .detail = is_good ? NULL : scan->error.text,
                                         .records = is_good ? scan->batch.records : NULL,
                                         .count = is_good ? scan->batch.message_count : 0,
                                         .next_offset = scan->offset,
                                         .is_end = is_good && scan->is_end};
    scans->is_scanning = false;
    if (is_good)
        scans->answered_ms = shove_clock_mono_ms();
    if (kafka->events->scanned != NULL)
        kafka->events->scanned(kafka->ctx, &result);
    scan_discard(job);
    if (scans->is_scanning) /* begun from inside the event */
        return;
    if (scans->first != NULL) {
        scan_begin(kafka);
        return;
    }
    shove_kafka_client_release(scans->client);
    scans->client = NULL;
}

int shove_kafka_scan(struct shove_transport *transport, const char *topic, int32_t partition,
                     int64_t offset, void *opaque) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    struct shove_kafka_scans *scans = &kafka->scans;
    size_t size = strlen(topic) + 1;
    struct shove_kafka_scan *scan = calloc(1, sizeof *scan + size);
    if (scan == NULL)
        return SHOVE_ENOMEM;
    memcpy(scan->topic, topic, size);
    scan->job =
        (struct shove_kafka_job){.run = scan_run, .done = scan_done, .discard = scan_discard};
    shove_buffer_init(&scan->batch.headers);
    scan->opaque = opaque;
    scan->partition = partition;
    scan->offset = offset;
    scan->asked_ms = shove_clock_mono_ms();
    if (scans->first != NULL)
        scans->last->next = scan;
    else
        scans->first = scan;
    scans->last = scan;
    if (!scans->is_scanning)
        scan_begin(kafka);
    return 0;
}

void shove_kafka_scans_pump(struct shove_kafka *kafka) {
    if (kafka->scans.client != NULL)
        shove_kafka_notice_client(kafka, kafka->scans.client);
}

void shove_kafka_scans_close(struct shove_kafka *kafka) {
    struct shove_kafka_scans *scans = &kafka->scans;
    while (scans->first != NULL) {
        struct shove_kafka_scan *next = scans->first->next;
        scan_discard(&scans->first->job);
        scans->first = next;
    }
    shove_kafka_client_release(scans->client);
    scans->client = NULL;
}
