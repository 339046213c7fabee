/* publish.c: see publish.h. Control only, loop's thread.
 *
 * What a transport has no room for is copied and waits, for each broker apart, so that one which
 * takes nothing delays nothing of another's. When all of it together is too large, nothing more is
 * read from workers for as long as the transport goes on taking; when it does not, what comes is
 * refused: behind it are outcomes, and a worker that waits for room in its ring handles nothing.
 * Answers that a worker does not take are bounded too; one that goes on asking all the same is none
 * of ours.
 */
#include "control/publish.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/drain.h"
#include "control/metrics.h"

/* A transport that has taken nothing for this long is not waited for. */
#define STALL_MS 1000

/* Checks the sizes a worker wrote and points a produce at the parts. */
static int parse(const uint8_t *payload, size_t size, char topic[SHOVE_NAME_SIZE],
                 struct shove_produce *out, uint16_t *broker) {
    struct shove_publish_note head;
    if (size < sizeof(head))
        return SHOVE_ECORRUPT;
    memcpy(&head, payload, sizeof(head));
    uint64_t total = sizeof(head) + (uint64_t)head.topic_size + head.key_size + head.payload_size +
                     head.headers_size;
    if (total != size || head.topic_size == 0 || head.topic_size > SHOVE_TOPIC_NAME_MAX ||
        head.partition < -1)
        return SHOVE_ECORRUPT;
    const uint8_t *at = payload + sizeof(head);
    memcpy(topic, at, head.topic_size);
    topic[head.topic_size] = '\0';
    const uint8_t *key = at + head.topic_size;
    const uint8_t *body = key + head.key_size;
    const uint8_t *headers = body + head.payload_size;
    const uint8_t *at_header = headers;
    struct shove_header header;
    int rc;
    while ((rc = shove_headers_next(&at_header, headers + head.headers_size, &header)) == 1)
        continue;
    if (rc < 0)
        return SHOVE_ECORRUPT;
    *broker = head.broker;
    *out = (struct shove_produce){
        .topic = topic,
        .partition = head.partition,
        .record = {.key = head.flags & SHOVE_ENVELOPE_NULL_KEY ? NULL : key,
                   .payload = head.flags & SHOVE_ENVELOPE_NULL_PAYLOAD ? NULL : body,
                   .headers = head.headers_size ? headers : NULL,
                   .key_size = head.flags & SHOVE_ENVELOPE_NULL_KEY ? 0 : head.key_size,
                   .payload_size = head.flags & SHOVE_ENVELOPE_NULL_PAYLOAD ? 0 : head.payload_size,
                   .headers_size = head.headers_size,
                   .timestamp_ms = head.timestamp_ms,
                   .offset = -1},
    };
    return 0;
}

static void queue(struct shove_publish_request **first, struct shove_publish_request **last,
                  struct shove_publish_request *request) {
    request->next = NULL;
    if (*last)
        (*last)->next = request;
    else
        *first = request;
    *last = request;
}

static void drop_copy(struct shove_publish_request *request) {
    request->cluster->publish_bytes -= request->copy_size;
    free(request->copy);
    request->copy = NULL;
    request->copy_size = 0;
}

static void request_free(struct shove_publish_request *request) {
    drop_copy(request);
    request->cluster->publish_bytes -= sizeof(*request);
    free(request);
}

static struct shove_publish_request *request_new(struct shove_worker *worker,
                                                 struct shove_cluster *cluster, uint32_t number) {
    struct shove_publish_request *request = calloc(1, sizeof(*request));
    if (!request)
        return NULL;
    request->ticket.kind = SHOVE_TICKET_PUBLISH;
    request->worker = worker;
    request->cluster = cluster;
    request->incarnation = worker->incarnation;
    request->request = number;
    cluster->publish_bytes += sizeof(*request);
    return request;
}

/* False: the submit ring is full. */
static bool tell(const struct shove_publish_request *request) {
    struct shove_submit entry = {.type = SHOVE_SUBMIT_PUBLISHED,
                                 .slot = request->request,
                                 .generation = (uint32_t)-request->code};
    return shove_channel_submit(request->worker->home->channel, &entry);
}

static void answer(struct shove_publish_request *request) {
    shove_metrics_published(request);
    struct shove_worker *worker = request->worker;
    const bool is_wanted = worker->home && worker->incarnation == request->incarnation;
    if (is_wanted && (worker->answers_first || !tell(request)))
        queue(&worker->answers_first, &worker->answers_last, request);
    else
        request_free(request);
}

/* Takes the first of the worker's answers off its list and frees it. */
static void drop_first_answer(struct shove_worker *worker) {
    struct shove_publish_request *request = worker->answers_first;
    worker->answers_first = request->next;
    if (!worker->answers_first)
        worker->answers_last = NULL;
    request_free(request);
}

/* 0 when the transport has it or it was answered; SHOVE_EAGAIN: later. */
static int offer(struct shove_publish_request *request, struct shove_produce *produce) {
    struct shove_cluster *cluster = request->cluster;
    produce->opaque = &request->ticket;
    int rc = cluster->ops->produce(cluster->transport, produce);
    if (rc == SHOVE_EAGAIN)
        return rc;
    drop_copy(request);
    if (rc == 0)
        return 0;
    cluster->control->publishes_in_flight--;
    request->code = rc;
    answer(request);
    return 0;
}

static bool is_full(const struct shove_cluster *cluster) {
    return cluster->publish_bytes >= cluster->control->arena_bytes;
}

bool shove_publish_waits(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->cluster_count; i++) {
        const struct shove_cluster *cluster = &control->clusters[i];
        if (is_full(cluster) && control->now_ms - cluster->publish_moved_ms < STALL_MS)
            return true;
    }
    return false;
}

static int keep(struct shove_publish_request *request, const uint8_t *payload, size_t size) {
    struct shove_cluster *cluster = request->cluster;
    if (is_full(cluster))
        return SHOVE_EBACKLOG;
    request->copy = malloc(size);
    if (!request->copy)
        return SHOVE_ENOMEM;
    memcpy(request->copy, payload, size);
    request->copy_size = size;
    cluster->publish_bytes += size;
    if (!cluster->publishes_first)
        cluster->publish_moved_ms = cluster->control->now_ms;
    queue(&cluster->publishes_first, &cluster->publishes_last, request);
    return 0;
}

int shove_publish_asked(struct shove_worker *worker, const struct shove_note *note,
                        const uint8_t *payload) {
    struct shove_control *control = worker->control;
    char topic[SHOVE_NAME_SIZE];
    struct shove_produce produce;
    uint16_t broker;
    int rc = parse(payload, note->size, topic, &produce, &broker);
    if (rc != 0)
        return rc;
    if (broker >= control->cluster_count)
        return SHOVE_ECORRUPT;
    struct shove_cluster *cluster = &control->clusters[broker];
    if (cluster->publish_bytes > 2 * control->arena_bytes)
        return SHOVE_EBACKLOG;
    struct shove_publish_request *request = request_new(worker, cluster, note->slot);
    if (!request)
        return SHOVE_ENOMEM;
    request->metrics = shove_metrics_publish_to(control, topic);
    request->asked_ns = control->metrics ? control->metrics->now_ns : 0;
    control->publishes_in_flight++;
    if (!cluster->publishes_first && offer(request, &produce) == 0)
        return 0;
    request->code = keep(request, payload, note->size);
    if (request->code != 0) {
        control->publishes_in_flight--;
        answer(request);
    }
    return 0;
}

void shove_publish_answered(struct shove_control *control, struct shove_publish_request *request,
                            int code) {
    control->publishes_in_flight--;
    request->code = code;
    answer(request);
    shove_drain_check(control);
}

static void offer_waiting(struct shove_cluster *cluster) {
    struct shove_control *control = cluster->control;
    struct shove_publish_request *request;
    while ((request = cluster->publishes_first)) {
        char topic[SHOVE_NAME_SIZE];
        struct shove_produce produce;
        uint16_t broker;
        struct shove_publish_request *next = request->next;
        parse(request->copy, request->copy_size, topic, &produce, &broker);
        if (offer(request, &produce) == SHOVE_EAGAIN)
            return;
        cluster->publishes_first = next;
        if (!next)
            cluster->publishes_last = NULL;
        cluster->publish_moved_ms = control->now_ms;
        control->has_progress = true;
    }
}

void shove_publish_round(struct shove_control *control) {
    for (uint32_t i = 0; i < control->cluster_count; i++)
        offer_waiting(&control->clusters[i]);
}

void shove_publish_answer_waiting(struct shove_worker *worker) {
    while (worker->answers_first && tell(worker->answers_first))
        drop_first_answer(worker);
}

void shove_publish_forget_worker(struct shove_worker *worker) {
    while (worker->answers_first)
        drop_first_answer(worker);
}
