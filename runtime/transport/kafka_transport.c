/* kafka_transport.c: the Kafka transport's beginning, heartbeat and end. See kafka.h for how events
 * travel.
 *
 * Control and cli, loop's thread.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/ledger.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

int64_t shove_kafka_now_ms(const struct shove_kafka *kafka) {
    (void)kafka;
    return shove_clock_mono_ms();
}

void shove_kafka_poke(struct shove_kafka *kafka) {
    shove_kafka_mailbox_poke(kafka->mailbox);
}

void shove_kafka_pump(struct shove_kafka *kafka) {
    shove_kafka_notice_client(kafka, kafka->admin);
    shove_kafka_scans_pump(kafka);
    shove_kafka_notice_due(kafka);
    shove_kafka_jobs_deliver(kafka, kafka->mailbox);
    shove_kafka_producer_pump(kafka);
    shove_kafka_consumer_pump(kafka);
    if (kafka->is_readable_due && kafka->events->readable != NULL)
        kafka->events->readable(kafka->ctx);
    kafka->is_readable_due = false;
}

/* ---- libuv ---- */

static void on_wake(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    struct shove_kafka *kafka = poll->data;
    uint64_t count;
    ssize_t size = read(shove_kafka_mailbox_fd(kafka->mailbox), &count, sizeof count);
    (void)size;
    kafka->is_readable_due = true; /* a partition's queue may have written */
    shove_kafka_pump(kafka);
}

static void on_tick(uv_timer_t *timer) {
    struct shove_kafka *kafka = timer->data;
    kafka->is_readable_due = true;
    shove_kafka_notice_tick(kafka);
    shove_kafka_pump(kafka);
}

static void on_closed(uv_handle_t *handle) {
    struct shove_kafka_loop *loop =
        handle->type == UV_POLL
            ? (struct shove_kafka_loop *)handle
            : (struct shove_kafka_loop *)((char *)handle -
                                          offsetof(struct shove_kafka_loop, timer));
    if (--loop->open_count == 0)
        free(loop);
}

static int watch(struct shove_kafka *kafka, uv_loop_t *uv, struct shove_error *error) {
    struct shove_kafka_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    int rc = uv_poll_init(uv, &loop->poll, shove_kafka_mailbox_fd(kafka->mailbox));
    if (rc != 0) {
        free(loop);
        return shove_error_set(error, SHOVE_EIO, "watching Kafka's events: %s", uv_strerror(rc));
    }
    uv_timer_init(uv, &loop->timer);
    loop->open_count = 2;
    loop->poll.data = kafka;
    loop->timer.data = kafka;
    uv_poll_start(&loop->poll, UV_READABLE, on_wake);
    uv_timer_start(&loop->timer, on_tick, SHOVE_KAFKA_TICK_MS, SHOVE_KAFKA_TICK_MS);
    kafka->loop = loop;
    return 0;
}

static void unwatch(struct shove_kafka *kafka) {
    if (kafka->loop == NULL)
        return;
    uv_close((uv_handle_t *)&kafka->loop->poll, on_closed);
    uv_close((uv_handle_t *)&kafka->loop->timer, on_closed);
    kafka->loop = NULL;
}

/* ---- open ---- */

#define FIRST_SLICE_MS 250

struct reach { /* what was heard while waiting for the cluster */
    char words[512];
    int code;
};

static void hear(struct reach *reach, rd_kafka_event_t *event) {
    if (rd_kafka_event_type(event) != RD_KAFKA_EVENT_ERROR)
        return;
    const char *words = rd_kafka_event_error_string(event);
    int code = shove_kafka_told_code(rd_kafka_event_error(event), words);
    if (reach->code == SHOVE_EAUTH ||
        rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        return;
    /* What names the setting says more than that a later attempt broke off, too. */
    if (strstr(reach->words, "security.protocol") != NULL && code != SHOVE_EAUTH)
        return;
    reach->code = code;
    snprintf(reach->words, sizeof reach->words, "%s", words);
}

static int tell_refusal(const struct shove_kafka *kafka, const struct reach *reach,
                        struct shove_error *error) {
    const char *verb = "refuses this client";
    const char *advice = "";
    if (strstr(reach->words, "could not be verified") != NULL) {
        /* librdkafka names one reason of three. */
        verb = "is not trusted";
        advice = "; or the certificate is not made out to that host, or is out of date";
    } else if (strstr(reach->words, "SSL alert number ") != NULL &&
               (strstr(reach->words, "certificate") != NULL ||
                strstr(reach->words, "unknown ca") != NULL)) {
        advice = "; ssl.certificate.location and ssl.key.location give the client's certificate";
    }
    return shove_error_set(error, SHOVE_EAUTH, "Kafka at %s %s: %s%s", kafka->address, verb,
                           reach->words, advice);
}

/* Asks for metadata in slices, and listens in between for a refusal that waiting would not change.
 * The slices grow: an answer counts only for the question it belongs to, and a broker that is far
 * away needs longer than the first of them. */
static int reach_cluster(struct shove_kafka *kafka, struct shove_error *error) {
    struct reach reach = {.code = 0};
    int64_t until_ms = shove_kafka_now_ms(kafka) + kafka->timeout_ms;
    for (int64_t slice_ms = FIRST_SLICE_MS;; slice_ms *= 2) {
        int64_t left_ms = until_ms - shove_kafka_now_ms(kafka);
        struct shove_error ignored;
        long count = shove_kafka_ask_partition_count(kafka->admin->rk, "__shove_probe",
                                                     left_ms < slice_ms ? left_ms : slice_ms, NULL,
                                                     NULL, &ignored);
        if (count >= 0 || (count != SHOVE_EUNREACHABLE && count != SHOVE_ETIMEOUT))
            return 0;
        rd_kafka_event_t *event;
        while ((event = rd_kafka_queue_poll(kafka->admin->queue, 0)) != NULL) {
            hear(&reach, event);
            rd_kafka_event_destroy(event);
        }
        if (reach.code == SHOVE_EAUTH)
            return tell_refusal(kafka, &reach, error);
        if (shove_kafka_now_ms(kafka) >= until_ms)
            return shove_error_set(error, SHOVE_EUNREACHABLE,
                                   "no broker of %s answered within %.1f s%s%s", kafka->address,
                                   (double)kafka->timeout_ms / 1000,
                                   reach.words[0] != '\0' ? ": " : "", reach.words);
    }
}

static int copy_properties(struct shove_kafka *kafka, const struct shove_transport_config *config) {
    kafka->properties = calloc(config->property_count + 1u, sizeof *kafka->properties);
    if (kafka->properties == NULL)
        return SHOVE_ENOMEM;
    for (uint32_t i = 0; i < config->property_count; i++) {
        kafka->property_count = i + 1;
        kafka->properties[i].name = strdup(config->properties[i].name);
        kafka->properties[i].value = strdup(config->properties[i].value);
        if (kafka->properties[i].name == NULL || kafka->properties[i].value == NULL)
            return SHOVE_ENOMEM;
    }
    return 0;
}

/* A wrong combination of properties shows only when a handle is made, so the other kinds are tried
 * before anything runs. The real ones come when there is something to do: a user that only reads
 * needs no right to write. */
static int try_properties(struct shove_kafka *kafka, struct shove_error *error) {
    if (kafka->property_count == 0)
        return 0;
    struct shove_kafka_client *producer = NULL;
    struct shove_kafka_client *consumer = NULL;
    int code = shove_kafka_client_new(kafka, SHOVE_KAFKA_PRODUCER, NULL, SHOVE_RESET_EARLIEST,
                                      &producer, error);
    if (code == 0)
        code = shove_kafka_client_new(kafka, SHOVE_KAFKA_CONSUMER, "shove-configuration-check",
                                      SHOVE_RESET_EARLIEST, &consumer, error);
    shove_kafka_client_release(producer);
    shove_kafka_client_release(consumer);
    return code;
}

static int start(struct shove_kafka *kafka, const struct shove_transport_config *config,
                 struct shove_error *error) {
    kafka->address = strdup(config->address);
    kafka->client_id = strdup(config->instance != NULL ? config->instance : "shove");
    kafka->mailbox = shove_kafka_mailbox_new();
    if (kafka->address == NULL || kafka->client_id == NULL || copy_properties(kafka, config) != 0)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory opening Kafka");
    if (kafka->mailbox == NULL)
        return shove_error_set(error, SHOVE_EIO,
                               "no event descriptor can be made: too many open files?");
    int code = shove_kafka_check_properties(config->properties, config->property_count, error);
    if (code == 0)
        code = shove_kafka_client_new(kafka, SHOVE_KAFKA_ADMIN, NULL, SHOVE_RESET_EARLIEST,
                                      &kafka->admin, error);
    if (code == 0)
        code = try_properties(kafka, error);
    if (code == 0)
        code = reach_cluster(kafka, error);
    if (code == 0)
        code = watch(kafka, config->loop, error);
    return code;
}

static void release(struct shove_kafka *kafka, int64_t timeout_ms) {
    int64_t until_ms = shove_kafka_now_ms(kafka) + timeout_ms;
    unwatch(kafka);
    if (kafka->mailbox != NULL)
        shove_kafka_mailbox_close(kafka->mailbox);
    shove_kafka_batches_free(kafka);
    while (kafka->subscriptions != NULL) {
        struct shove_kafka_subscription *subscription = kafka->subscriptions;
        kafka->subscriptions = subscription->next;
        subscription->client->is_leaving_group = true;
        shove_kafka_subscription_free(subscription);
    }
    shove_kafka_producer_close(kafka);
    shove_kafka_reader_close(kafka);
    shove_kafka_scans_close(kafka);
    shove_kafka_batches_free(kafka);
    shove_kafka_client_release(kafka->admin);
    if (kafka->mailbox != NULL) {
        /* What hangs on a frozen broker is left to its thread, which touches nothing that is freed
         * here. */
        int64_t left_ms = until_ms - shove_kafka_now_ms(kafka);
        shove_kafka_mailbox_wait(kafka->mailbox, left_ms > 0 ? left_ms : 0);
        shove_kafka_mailbox_release(kafka->mailbox);
    }
    for (uint32_t i = 0; i < kafka->property_count; i++) {
        free(kafka->properties[i].name);
        free(kafka->properties[i].value);
    }
    free(kafka->properties);
    free(kafka->address);
    free(kafka->client_id);
    free(kafka);
}

static int kafka_open(const struct shove_transport_config *config, struct shove_transport **out,
                      struct shove_error *error) {
    struct shove_kafka *kafka = calloc(1, sizeof *kafka);
    if (kafka == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory opening Kafka");
    kafka->base.ops = &shove_kafka_ops;
    kafka->events = config->events;
    kafka->ctx = config->ctx;
    kafka->timeout_ms = config->timeout_ms;
    kafka->max_message_size_bytes = config->max_message_size_bytes;
    int code = start(kafka, config, error);
    if (code != 0) {
        release(kafka, 1000);
        return code;
    }
    *out = &kafka->base;
    return 0;
}

static const char *value_of(const struct shove_property *properties, uint32_t count,
                            const char *name) {
    const char *value = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(properties[i].name, name) == 0)
            value = properties[i].value;
    }
    return value;
}

/* A handle with Kerberos runs kinit, one with OAuth asks for a token. */
static bool would_ask_others(const struct shove_property *properties, uint32_t count) {
    const char *protocol = value_of(properties, count, "security.protocol");
    const char *mechanism = value_of(properties, count, "sasl.mechanism");
    if (mechanism == NULL)
        mechanism = value_of(properties, count, "sasl.mechanisms");
    if (protocol == NULL || strncasecmp(protocol, "sasl", 4) != 0)
        return false;
    return mechanism == NULL ||
           (strcasecmp(mechanism, "PLAIN") != 0 && strncasecmp(mechanism, "SCRAM", 5) != 0);
}

/* As open judges them, but of handles that know no broker. */
static int kafka_check_properties(const struct shove_property *properties, uint32_t count,
                                  struct shove_error *error) {
    int code = shove_kafka_check_properties(properties, count, error);
    if (code != 0 || count == 0 || would_ask_others(properties, count))
        return code;
    const struct shove_transport_config config = {
        .address = "", .properties = properties, .property_count = count};
    struct shove_kafka *kafka = calloc(1, sizeof *kafka);
    if (kafka == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory checking Kafka's properties");
    kafka->base.ops = &shove_kafka_ops;
    kafka->address = strdup(config.address);
    kafka->client_id = strdup("shove");
    kafka->mailbox = shove_kafka_mailbox_new();
    if (kafka->address == NULL || kafka->client_id == NULL || kafka->mailbox == NULL ||
        copy_properties(kafka, &config) != 0)
        code = shove_error_set(error, SHOVE_ENOMEM, "out of memory checking Kafka's properties");
    if (code == 0)
        code = try_properties(kafka, error);
    release(kafka, 1000);
    return code;
}

static void kafka_close(struct shove_transport *transport, int64_t timeout_ms) {
    release((struct shove_kafka *)transport, timeout_ms);
}

const struct shove_transport_ops shove_kafka_ops = {
    .scheme = "kafka",
    .capabilities = SHOVE_CAN_PERSIST | SHOVE_CAN_SHARE | SHOVE_CAN_PUBLISH_OUTSIDE |
                    SHOVE_CAN_EXPAND | SHOVE_HAS_PROPERTIES,
    .metadata_max = SHOVE_LEDGER_METADATA_MAX,
    .check_properties = kafka_check_properties,
    .rebalance_ms = shove_kafka_rebalance_ms,
    .open = kafka_open,
    .close = kafka_close,
    .declare = shove_kafka_declare,
    .declare_start = shove_kafka_declare_start,
    .subscribe = shove_kafka_subscribe,
    .unsubscribe = shove_kafka_unsubscribe,
    .take = shove_kafka_take,
    .batch_release = shove_kafka_batch_release,
    .produce = shove_kafka_produce,
    .commit = shove_kafka_commit,
    .release = shove_kafka_release,
    .retention_ms = shove_kafka_retention_ms,
    .backlog = shove_kafka_backlog,
    .scan = shove_kafka_scan,
    .topic_names = shove_kafka_topic_names,
    .partition_count = shove_kafka_partition_count,
    .watermarks = shove_kafka_watermarks,
    .read = shove_kafka_read,
    .committed_get = shove_kafka_committed_get,
    .committed_set = shove_kafka_committed_set,
    .delete_before = shove_kafka_delete_before,
};
