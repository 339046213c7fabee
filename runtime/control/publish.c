/* publish.c: see publish.h. Control only, loop's thread.
 *
 * The number of requests under way is bounded by the coroutines that wait for them, so nothing here
 * needs a limit of its own: a handler that publishes a batch has that batch in its own memory as
 * well.
 */
#include "control/publish.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/drain.h"

/* Checks the sizes a worker wrote and points a produce at the parts. */
static int parse(const uint8_t *payload, size_t size, char topic[SHOVE_NAME_SIZE],
                 struct shove_produce *out) {
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

static void request_free(struct shove_publish_request *request) {
    free(request->copy);
    free(request);
}

/* False: the submit ring is full. */
static bool tell(const struct shove_publish_request *request) {
    struct shove_submit entry = {.type = SHOVE_SUBMIT_PUBLISHED,
                                 .slot = request->request,
                                 .generation = (uint32_t)-request->code};
    return shove_channel_submit(request->worker->home->channel, &entry);
}

static void answer(struct shove_publish_request *request) {
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
static int offer(struct shove_control *control, struct shove_publish_request *request,
                 struct shove_produce *produce) {
    produce->opaque = &request->ticket;
    int rc = control->ops->produce(control->transport, produce);
    if (rc == SHOVE_EAGAIN)
        return rc;
    if (rc == 0)
        return 0;
    control->publishes_in_flight--;
    request->code = rc;
    answer(request);
    return 0;
}

int shove_publish_asked(struct shove_worker *worker, const struct shove_note *note,
                        const uint8_t *payload) {
    struct shove_control *control = worker->control;
    char topic[SHOVE_NAME_SIZE];
    struct shove_produce produce;
    int rc = parse(payload, note->size, topic, &produce);
    if (rc != 0)
        return rc;
    struct shove_publish_request *request = calloc(1, sizeof(*request));
    if (!request)
        return SHOVE_ENOMEM;
    request->ticket.kind = SHOVE_TICKET_PUBLISH;
    request->worker = worker;
    request->incarnation = worker->incarnation;
    request->request = note->slot;
    control->publishes_in_flight++;
    if (!control->publishes_first && offer(control, request, &produce) == 0)
        return 0;
    request->copy = malloc(note->size);
    if (!request->copy) {
        control->publishes_in_flight--;
        request->code = SHOVE_ENOMEM;
        answer(request);
        return 0;
    }
    memcpy(request->copy, payload, note->size);
    request->copy_size = note->size;
    queue(&control->publishes_first, &control->publishes_last, request);
    return 0;
}

void shove_publish_answered(struct shove_control *control, struct shove_publish_request *request,
                            int code) {
    control->publishes_in_flight--;
    request->code = code;
    answer(request);
    shove_drain_check(control);
}

void shove_publish_round(struct shove_control *control) {
    struct shove_publish_request *request;
    while ((request = control->publishes_first)) {
        char topic[SHOVE_NAME_SIZE];
        struct shove_produce produce;
        struct shove_publish_request *next = request->next;
        parse(request->copy, request->copy_size, topic, &produce);
        if (offer(control, request, &produce) == SHOVE_EAGAIN)
            return;
        control->publishes_first = next;
        if (!next)
            control->publishes_last = NULL;
        control->has_progress = true;
    }
}

void shove_publish_answer_waiting(struct shove_worker *worker) {
    while (worker->answers_first && tell(worker->answers_first))
        drop_first_answer(worker);
}

void shove_publish_forget_worker(struct shove_worker *worker) {
    while (worker->answers_first)
        drop_first_answer(worker);
}
