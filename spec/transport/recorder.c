/* recorder.c: a subscriber of a transport that writes down what it is told, for specs to read
 * through ffi.
 *
 * spec_runner. It owns a loop, and one transport on it; events become entries of a queue. Lua is
 * never called from here, and the loop runs only inside recorder_run, so a spec is plain sequential
 * code. What no event may do is counted: to come from inside an operation (specs say when they are
 * in one), or on another thread.
 *
 * The declarations a spec needs are in driver.lua.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "transport/transport.h"

enum recorder_kind {
    RECORDED_ASSIGNED = 1,
    RECORDED_REVOKING,
    RECORDED_LOST,
    RECORDED_READABLE,
    RECORDED_PRODUCED,
    RECORDED_COMMITTED,
    RECORDED_ENDED,
    RECORDED_NOTICE,
    RECORDED_SCANNED,
    RECORDED_DECLARED
};

struct recorder_event {
    int kind;
    int code;
    unsigned call; /* events of one call of the transport carry the same number */
    int32_t partition;
    int64_t offset;
    struct shove_subscription *subscription;
    struct shove_claim *claim;
    uintptr_t opaque;
    const char *text; /* valid until the next recorder_next, as are the records */
    const struct shove_record *records;
    size_t count;
    bool is_end;
};

struct entry {
    struct entry *next;
    struct recorder_event event;
    struct shove_record *records; /* event.records, and what they point to behind them */
    char text[];
};

struct recorder {
    uv_loop_t loop;
    uv_timer_t deadline;
    struct shove_transport *transport;
    pthread_t thread;
    bool is_in_operation;
    bool is_over; /* the deadline came */
    unsigned violations;
    unsigned calls;
    struct entry *first;
    struct entry **end;
    struct entry *shown;
};

static void note_call(struct recorder *recorder) {
    recorder->calls++;
    if (recorder->is_in_operation || !pthread_equal(recorder->thread, pthread_self()))
        recorder->violations++;
}

static void entry_free(struct entry *entry) {
    if (entry)
        free(entry->records);
    free(entry);
}

static struct entry *note(struct recorder *recorder, const struct recorder_event *event,
                          const char *text) {
    if (!text)
        text = "";
    size_t size = strlen(text) + 1;
    struct entry *entry = malloc(sizeof(*entry) + size);
    if (!entry)
        abort();
    entry->next = NULL;
    entry->event = *event;
    entry->event.call = recorder->calls;
    entry->records = NULL;
    memcpy(entry->text, text, size);
    entry->event.text = entry->text;
    *recorder->end = entry;
    recorder->end = &entry->next;
    return entry;
}

static void note_claims(struct recorder *recorder, int kind,
                        struct shove_subscription *subscription, struct shove_claim **claims,
                        size_t count) {
    note_call(recorder);
    for (size_t i = 0; i < count; i++)
        note(recorder,
             &(struct recorder_event){.kind = kind,
                                      .subscription = subscription,
                                      .claim = claims[i],
                                      .partition = claims[i]->partition,
                                      .offset = claims[i]->start_offset},
             claims[i]->metadata);
}

static void on_assigned(void *ctx, struct shove_subscription *subscription,
                        struct shove_claim **claims, size_t count) {
    note_claims(ctx, RECORDED_ASSIGNED, subscription, claims, count);
}

static void on_revoking(void *ctx, struct shove_subscription *subscription,
                        struct shove_claim **claims, size_t count) {
    note_claims(ctx, RECORDED_REVOKING, subscription, claims, count);
}

static void on_lost(void *ctx, struct shove_subscription *subscription, struct shove_claim **claims,
                    size_t count) {
    note_claims(ctx, RECORDED_LOST, subscription, claims, count);
}

static void on_readable(void *ctx) {
    note_call(ctx);
    note(ctx, &(struct recorder_event){.kind = RECORDED_READABLE}, NULL);
}

static void on_produced(void *ctx, const struct shove_produced *results, size_t count) {
    note_call(ctx);
    for (size_t i = 0; i < count; i++)
        note(ctx,
             &(struct recorder_event){.kind = RECORDED_PRODUCED,
                                      .code = results[i].code,
                                      .partition = results[i].partition,
                                      .offset = results[i].offset,
                                      .opaque = (uintptr_t)results[i].opaque},
             results[i].detail);
}

static void on_committed(void *ctx, struct shove_subscription *subscription,
                         const struct shove_commit *commits, size_t count, void *opaque) {
    note_call(ctx);
    for (size_t i = 0; i < count; i++)
        note(ctx,
             &(struct recorder_event){.kind = RECORDED_COMMITTED,
                                      .code = commits[i].code,
                                      .subscription = subscription,
                                      .claim = commits[i].claim,
                                      .offset = commits[i].offset,
                                      .opaque = (uintptr_t)opaque},
             NULL);
}

static void on_ended(void *ctx, struct shove_subscription *subscription, int code,
                     const char *text) {
    note_call(ctx);
    note(ctx,
         &(struct recorder_event){
             .kind = RECORDED_ENDED, .code = code, .subscription = subscription},
         text);
}

static const void *copy(uint8_t **to, const void *bytes, size_t size) {
    if (!bytes)
        return NULL;
    const void *at = *to;
    memcpy(*to, bytes, size);
    *to += size;
    return at;
}

static struct shove_record *copy_records(const struct shove_record *records, size_t count) {
    size_t size = (count + 1) * sizeof(*records);
    for (size_t i = 0; i < count; i++)
        size += records[i].key_size + records[i].payload_size + records[i].headers_size;
    struct shove_record *copies = malloc(size);
    if (!copies)
        abort();
    uint8_t *to = (uint8_t *)(copies + count + 1);
    for (size_t i = 0; i < count; i++) {
        copies[i] = records[i];
        copies[i].key = copy(&to, records[i].key, records[i].key_size);
        copies[i].payload = copy(&to, records[i].payload, records[i].payload_size);
        copies[i].headers = copy(&to, records[i].headers, records[i].headers_size);
    }
    return copies;
}

static void on_scanned(void *ctx, const struct shove_scanned *result) {
    note_call(ctx);
    struct entry *entry = note(ctx,
                               &(struct recorder_event){.kind = RECORDED_SCANNED,
                                                        .code = result->code,
                                                        .offset = result->next_offset,
                                                        .opaque = (uintptr_t)result->opaque,
                                                        .count = result->count,
                                                        .is_end = result->is_end},
                               result->detail);
    entry->records = copy_records(result->records, result->count);
    entry->event.records = entry->records;
}

static void on_declared(void *ctx, void *opaque, int code, const char *text) {
    note_call(ctx);
    note(ctx,
         &(struct recorder_event){
             .kind = RECORDED_DECLARED, .code = code, .opaque = (uintptr_t)opaque},
         text);
}

static void on_notice(void *ctx, int code, const char *text) {
    note_call(ctx);
    note(ctx, &(struct recorder_event){.kind = RECORDED_NOTICE, .code = code}, text);
}

static const struct shove_transport_events events = {
    .assigned = on_assigned,
    .revoking = on_revoking,
    .lost = on_lost,
    .readable = on_readable,
    .produced = on_produced,
    .committed = on_committed,
    .scanned = on_scanned,
    .declared = on_declared,
    .ended = on_ended,
    .notice = on_notice,
};

static void on_deadline(uv_timer_t *timer) {
    struct recorder *recorder = timer->data;
    recorder->is_over = true;
}

/* Runs the loop until nothing is left of it, and frees. */
static void dispose(struct recorder *recorder) {
    uv_close((uv_handle_t *)&recorder->deadline, NULL);
    uv_run(&recorder->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&recorder->loop) != 0)
        abort(); /* a handle of the transport's was never closed */
    while (recorder->first) {
        struct entry *entry = recorder->first;
        recorder->first = entry->next;
        entry_free(entry);
    }
    entry_free(recorder->shown);
    free(recorder);
}

/* `config` without loop, events and ctx. gives a recorder; NULL with `error` set when the transport
 * does not open. */
struct recorder *recorder_open(const struct shove_transport_ops *ops,
                               const struct shove_transport_config *config,
                               struct shove_error *error);
struct recorder *recorder_open(const struct shove_transport_ops *ops,
                               const struct shove_transport_config *config,
                               struct shove_error *error) {
    struct recorder *recorder = calloc(1, sizeof(*recorder));
    if (!recorder)
        abort();
    recorder->end = &recorder->first;
    recorder->thread = pthread_self();
    uv_loop_init(&recorder->loop);
    uv_timer_init(&recorder->loop, &recorder->deadline);
    recorder->deadline.data = recorder;
    struct shove_transport_config own = *config;
    own.loop = &recorder->loop;
    own.events = &events;
    own.ctx = recorder;
    recorder->is_in_operation = true;
    int rc = ops->open(&own, &recorder->transport, error);
    recorder->is_in_operation = false;
    if (rc == 0)
        return recorder;
    error->code = rc;
    dispose(recorder);
    return NULL;
}

struct shove_transport *recorder_transport(struct recorder *recorder);
struct shove_transport *recorder_transport(struct recorder *recorder) {
    return recorder->transport;
}

/* Between enter and leave an operation is under way. */
void recorder_enter(struct recorder *recorder, bool is_in_operation);
void recorder_enter(struct recorder *recorder, bool is_in_operation) {
    recorder->is_in_operation = is_in_operation;
}

unsigned recorder_violations(const struct recorder *recorder);
unsigned recorder_violations(const struct recorder *recorder) {
    return recorder->violations;
}

/* Runs the loop until an event is there, or for timeout_ms. Returns whether one is. */
bool recorder_run(struct recorder *recorder, uint64_t timeout_ms);
bool recorder_run(struct recorder *recorder, uint64_t timeout_ms) {
    if (recorder->first)
        return true;
    recorder->is_over = false;
    uv_update_time(&recorder->loop);
    uv_timer_start(&recorder->deadline, on_deadline, timeout_ms, 0);
    while (!recorder->first && !recorder->is_over)
        uv_run(&recorder->loop, UV_RUN_ONCE);
    uv_timer_stop(&recorder->deadline);
    return recorder->first;
}

/* The oldest event, or false when there is none. */
bool recorder_next(struct recorder *recorder, struct recorder_event *out);
bool recorder_next(struct recorder *recorder, struct recorder_event *out) {
    entry_free(recorder->shown);
    recorder->shown = recorder->first;
    if (!recorder->shown)
        return false;
    recorder->first = recorder->shown->next;
    if (!recorder->first)
        recorder->end = &recorder->first;
    *out = recorder->shown->event;
    return true;
}

/* Closes the transport and lets the loop finish. */
void recorder_close(struct recorder *recorder, int64_t timeout_ms);
void recorder_close(struct recorder *recorder, int64_t timeout_ms) {
    recorder->transport->ops->close(recorder->transport, timeout_ms);
    dispose(recorder);
}
