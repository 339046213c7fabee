/* peer.c: another process that uses the same broker as a spec, to publish, consume, hold a group,
 * or be killed.
 *
 *   transport_peer BROKER publish TOPIC COUNT PREFIX   COUNT records "PREFIX1" ...; prints "done
 * COUNT" transport_peer BROKER append TOPIC                 for ever; prints "ack PARTITION OFFSET
 * NUMBER" for each that is safe transport_peer BROKER consume GROUP TOPIC          prints "assigned
 * COUNT", "took PARTITION OFFSET PAYLOAD", until standard input ends; then leaves and prints "ended
 * CODE"
 *
 *   transport_peer BROKER exercise TOPIC               reads all, publishes, deletes what retention
 * allows in a year; prints "read COUNT" and "done"
 *
 * A failure is printed as "error NAME: text"; exit code 1.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "transport/local.h"
#include "transport/transport.h"

#define WINDOW 300 /* records under way when appending */
#define CLAIMS_MAX 1024

struct peer {
    uv_loop_t loop;
    uv_pipe_t input;
    const struct shove_transport_ops *ops;
    struct shove_transport *transport;
    struct shove_subscription *subscription;
    struct shove_claim *claims[CLAIMS_MAX];
    size_t claim_count;
    uint64_t sent;
    uint64_t answered;
    bool prints_acks;
    bool has_ended;
};

static void fail(int code, const char *text) {
    printf("error %s: %s\n", shove_error_name(code), text);
    exit(1);
}

static void on_produced(void *ctx, const struct shove_produced *results, size_t count) {
    struct peer *peer = ctx;
    for (size_t i = 0; i < count; i++) {
        if (results[i].code < 0)
            fail(results[i].code, results[i].detail ? results[i].detail : "");
        if (peer->prints_acks)
            printf("ack %" PRId32 " %" PRId64 " %" PRIuPTR "\n", results[i].partition,
                   results[i].offset, (uintptr_t)results[i].opaque);
    }
    peer->answered += count;
    fflush(stdout);
}

static void on_assigned(void *ctx, struct shove_subscription *subscription,
                        struct shove_claim **claims, size_t count) {
    struct peer *peer = ctx;
    (void)subscription;
    for (size_t i = 0; i < count && peer->claim_count < CLAIMS_MAX; i++)
        peer->claims[peer->claim_count++] = claims[i];
    printf("assigned %zu\n", count);
    fflush(stdout);
}

static void give_up(void *ctx, struct shove_subscription *subscription, struct shove_claim **claims,
                    size_t count) {
    struct peer *peer = ctx;
    (void)subscription;
    size_t kept = 0;
    for (size_t i = 0; i < peer->claim_count; i++) {
        bool goes = false;
        for (size_t k = 0; k < count; k++)
            goes = goes || claims[k] == peer->claims[i];
        if (!goes)
            peer->claims[kept++] = peer->claims[i];
    }
    peer->claim_count = kept;
    printf("revoked %zu\n", count);
    fflush(stdout);
    peer->ops->release(peer->transport, claims, count);
}

static void on_readable(void *ctx) {
    struct peer *peer = ctx;
    struct shove_batch batch;
    for (size_t i = 0; i < peer->claim_count; i++) {
        while (peer->ops->take(peer->transport, peer->claims[i], 100, &batch) > 0) {
            for (size_t k = 0; k < batch.count; k++)
                printf("took %" PRId32 " %" PRId64 " %.*s\n", peer->claims[i]->partition,
                       batch.records[k].offset, (int)batch.records[k].payload_size,
                       batch.records[k].payload ? (const char *)batch.records[k].payload : "");
            peer->ops->batch_release(peer->transport, &batch);
        }
    }
    fflush(stdout);
}

static void on_ended(void *ctx, struct shove_subscription *subscription, int code,
                     const char *text) {
    struct peer *peer = ctx;
    (void)subscription;
    if (code < 0)
        fail(code, text);
    printf("ended %d\n", code);
    peer->has_ended = true;
}

static const struct shove_transport_events events = {
    .assigned = on_assigned,
    .revoking = give_up,
    .lost = give_up,
    .readable = on_readable,
    .produced = on_produced,
    .ended = on_ended,
};

/* Returns false when there is no room now. */
static bool send_one(struct peer *peer, const char *topic, const char *prefix) {
    char payload[256];
    int size = snprintf(payload, sizeof(payload), "%s%" PRIu64, prefix, peer->sent + 1);
    struct shove_produce what = {
        .topic = topic,
        .partition = -1,
        .record = {.payload = payload,
                   .payload_size = (size_t)size,
                   .timestamp_ms = -1,
                   .offset = -1},
        .opaque = (void *)(uintptr_t)(peer->sent + 1),
    };
    int rc = peer->ops->produce(peer->transport, &what);
    if (rc == SHOVE_EAGAIN)
        return false;
    if (rc < 0)
        fail(rc, "produce");
    peer->sent++;
    return true;
}

static void publish(struct peer *peer, const char *topic, uint64_t count, const char *prefix,
                    uint64_t window) {
    while (peer->answered < count) {
        while (peer->sent < count && peer->sent - peer->answered < window &&
               send_one(peer, topic, prefix))
            ;
        uv_run(&peer->loop, UV_RUN_ONCE);
    }
}

static void on_room(uv_handle_t *handle, size_t size, uv_buf_t *out) {
    static char bytes[64];
    (void)handle;
    (void)size;
    *out = uv_buf_init(bytes, sizeof(bytes));
}

static void on_input(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    struct peer *peer = stream->data;
    (void)buffer;
    if (size >= 0)
        return;
    uv_close((uv_handle_t *)stream, NULL);
    peer->ops->unsubscribe(peer->transport, peer->subscription);
}

static void consume(struct peer *peer, const char *group, const char *topic) {
    struct shove_error error;
    struct shove_subscribe what = {.group_id = group, .topics = &topic, .topic_count = 1};
    int rc = peer->ops->subscribe(peer->transport, &what, &peer->subscription, &error);
    if (rc < 0)
        fail(rc, error.text);
    uv_pipe_init(&peer->loop, &peer->input, 0);
    peer->input.data = peer;
    uv_pipe_open(&peer->input, 0);
    uv_read_start((uv_stream_t *)&peer->input, on_room, on_input);
    while (!peer->has_ended)
        uv_run(&peer->loop, UV_RUN_ONCE);
}

static uint64_t read_partition(struct peer *peer, const char *topic, int32_t partition) {
    struct shove_error error;
    struct shove_batch batch;
    int64_t low, high;
    uint64_t count = 0;
    int rc = peer->ops->watermarks(peer->transport, topic, partition, &low, &high, 5000, &error);
    while (rc == 0 && low < high) {
        long got =
            peer->ops->read(peer->transport, topic, partition, low, 500, 5000, &batch, &error);
        if (got <= 0) {
            rc = got < 0 ? (int)got : SHOVE_ECORRUPT;
            break;
        }
        count += (uint64_t)got;
        low = batch.records[got - 1].offset + 1;
        peer->ops->batch_release(peer->transport, &batch);
    }
    if (rc < 0)
        printf("partition %d: %s\n", (int)partition, shove_error_name(rc));
    return count;
}

static void exercise(struct peer *peer, const char *topic) {
    struct shove_error error;
    uint64_t count = 0;
    long partitions = peer->ops->partition_count(peer->transport, topic, 5000, &error);
    if (partitions < 0)
        fail((int)partitions, error.text);
    for (int32_t p = 0; p < (int32_t)partitions; p++)
        count += read_partition(peer, topic, p);
    printf("read %" PRIu64 "\n", count);
    publish(peer, topic, 3000, "after the damage ", UINT64_MAX);
    int rc = shove_local_retain(peer->transport, shove_clock_wall_ms() + INT64_C(366) * 86400000,
                                &error);
    if (rc < 0)
        fail(rc, error.text);
    peer->sent = peer->answered = 0;
    publish(peer, topic, 3000, "after retention ", UINT64_MAX);
    printf("done\n");
}

int main(int argc, char **argv) {
    struct peer peer = {0};
    struct shove_error error;
    const char *address, *command = argc > 2 ? argv[2] : "";
    if (argc < 4 || shove_transport_find(argv[1], &peer.ops, &address, &error) < 0) {
        fprintf(stderr, "usage: transport_peer BROKER publish|append|consume ...\n");
        return 64;
    }
    uv_loop_init(&peer.loop);
    struct shove_transport_config config = {.address = address,
                                            .loop = &peer.loop,
                                            .events = &events,
                                            .ctx = &peer,
                                            .timeout_ms = 15000,
                                            .max_message_size_bytes = 10 << 20,
                                            .instance = "shove-peer"};
    int rc = peer.ops->open(&config, &peer.transport, &error);
    if (rc < 0)
        fail(rc, error.text);
    if (strcmp(command, "publish") == 0 && argc == 6) {
        uint64_t count = strtoull(argv[4], NULL, 10);
        publish(&peer, argv[3], count, argv[5], UINT64_MAX);
        printf("done %" PRIu64 "\n", count);
    } else if (strcmp(command, "declare") == 0 && argc == 5) {
        struct shove_topic_spec spec = {.name = argv[3],
                                        .partitions = (int32_t)strtol(argv[4], NULL, 10)};
        rc = peer.ops->declare(peer.transport, &spec, 1, &error);
        if (rc < 0)
            fail(rc, error.text);
        printf("declared\n");
    } else if (strcmp(command, "append") == 0) {
        peer.prints_acks = true;
        publish(&peer, argv[3], UINT64_MAX, "", WINDOW);
    } else if (strcmp(command, "exercise") == 0) {
        exercise(&peer, argv[3]);
    } else if (strcmp(command, "consume") == 0 && argc == 5) {
        consume(&peer, argv[3], argv[4]);
    } else {
        fail(SHOVE_EUSAGE, command);
    }
    peer.ops->close(peer.transport, 5000);
    uv_run(&peer.loop, UV_RUN_DEFAULT);
    uv_loop_close(&peer.loop);
    return 0;
}
