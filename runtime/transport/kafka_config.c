/* kafka_config.c: librdkafka's configuration, per kind of handle, and the properties a user may
 * pass.
 *
 * Control and cli, loop's thread; shove_kafka_client_release on any.
 *
 * Three layers, later ones win: shove's defaults, the user's properties, what shove owns. The first
 * may be changed by the user, the last may not, and asking for it is refused by name with the
 * reason (one table): a setting that was accepted and then ignored would be worse. Every property
 * is set on every kind of handle; librdkafka itself knows which are for producers and which for
 * consumers, and ignores the others.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/suggest.h"
#include "transport/kafka.h"
#include "transport/kafka_read_ahead.h"

#define PROPERTIES_MAX 512 /* twice what librdkafka has */

static const struct owned_property {
    const char *name;
    const char *reason;
} owned_properties[] = {
    {"bootstrap.servers", "the brokers are named by broker = \"kafka://HOST:PORT,...\""},
    {"metadata.broker.list", "the brokers are named by broker = \"kafka://HOST:PORT,...\""},
    {"group.id", "use group_id of the group"},
    {"auto.offset.reset", "use auto_offset_reset of the group"},
    {"enable.auto.commit", "shove commits what is finished, and nothing else"},
    {"auto.commit.enable", "shove commits what is finished, and nothing else"},
    {"auto.commit.interval.ms", "shove commits what is finished, and nothing else"},
    {"enable.auto.offset.store", "shove commits what is finished, and nothing else"},
    {"offset.store.method", "shove keeps offsets in the group"},
    {"offset.store.path", "shove keeps offsets in the group"},
    {"offset.store.sync.interval.ms", "shove keeps offsets in the group"},
    {"enable.partition.eof", "shove does not use it"},
    {"consume.callback.max.messages", "shove does not use it"},
    {"enable.idempotence", "shove's producer is always idempotent"},
    {"max.in.flight", "with more than one request under way a refused record can pass for stored"},
    {"max.in.flight.requests.per.connection",
     "with more than one request under way a refused record can pass for stored"},
    {"acks", "a retry or a dead letter counts only when all in-sync replicas have it"},
    {"request.required.acks",
     "a retry or a dead letter counts only when all in-sync replicas have it"},
    {"transactional.id", "shove's producer is not transactional"},
    {"transaction.timeout.ms", "shove's producer is not transactional"},
    {"enable.gapless.guarantee", "shove makes a new producer after a gap"},
    {"partitioner", "keys land where Java's default partitioner puts them"},
    {"partitioner_cb", "keys land where Java's default partitioner puts them"},
    {"msg_order_cmp", "order is by partition"},
    {"queuing.strategy", "order is by partition"},
    {"produce.offset.report", "shove needs every delivery report"},
    {"delivery.report.only.error", "shove needs every delivery report"},
    {"allow.auto.create.topics", "topics are created by being declared, never by being used"},
    {"message.max.bytes", "use max_message_size of the groups"},
    {"enabled_events", "shove chooses which events it reads"},
    {"log.queue", "shove reads librdkafka's log"},
    {"log_level", "shove reads librdkafka's log, where it says that a log went back"},
    {"plugin.library.paths", "a plugin could take over what shove answers for"},
    {"interceptors", "an interceptor could take over what shove answers for"},
    {"dr_cb", "shove sets librdkafka's callbacks"},
    {"dr_msg_cb", "shove sets librdkafka's callbacks"},
    {"error_cb", "shove sets librdkafka's callbacks"},
    {"throttle_cb", "shove sets librdkafka's callbacks"},
    {"stats_cb", "shove sets librdkafka's callbacks"},
    {"log_cb", "shove sets librdkafka's callbacks"},
    {"consume_cb", "shove sets librdkafka's callbacks"},
    {"rebalance_cb", "shove sets librdkafka's callbacks"},
    {"offset_commit_cb", "shove sets librdkafka's callbacks"},
    {"background_event_cb", "shove sets librdkafka's callbacks"},
    {"socket_cb", "shove sets librdkafka's callbacks"},
    {"connect_cb", "shove sets librdkafka's callbacks"},
    {"closesocket_cb", "shove sets librdkafka's callbacks"},
    {"open_cb", "shove sets librdkafka's callbacks"},
    {"resolve_cb", "shove sets librdkafka's callbacks"},
    {"oauthbearer_token_refresh_cb", "shove sets librdkafka's callbacks"},
    {"ssl.certificate.verify_cb", "shove sets librdkafka's callbacks"},
    {"opaque", "shove sets librdkafka's callbacks"},
    {"default_topic_conf", "name the topic properties themselves"},
};

struct setting {
    const char *name;
    const char *value;
};

/* What the user may change. */
static const struct setting common_defaults[] = {
    {"socket.timeout.ms", "30000"},
    {"socket.nagle.disable", "true"},
    {"reconnect.backoff.ms", "50"},
    {"reconnect.backoff.max.ms", "2000"},
    {"topic.metadata.refresh.interval.ms", "60000"},
    {"topic.metadata.refresh.fast.interval.ms", "100"},
    /* librdkafka waits for the last push when a handle is destroyed. */
    {"enable.metrics.push", "false"},
};
static const struct setting producer_defaults[] = {
    {"linger.ms", "1"},
    {"delivery.timeout.ms", "30000"},
    {"queue.buffering.max.messages", "100000"},
    {"queue.buffering.max.kbytes", "65536"},
    /* Keyless records spread at once, not in stretches of 10 ms. */
    {"sticky.partitioning.linger.ms", "0"},
};
static const struct setting consumer_defaults[] = {
    /* librdkafka 2.2 and newer; otherwise a full queue stops fetching for a second. */
    {"fetch.queue.backoff.ms", "5"},
    /* One fetch at a time goes to a broker, for the partitions that have room. When those have
       nothing new (a hold topic, mostly) it waits there this long, and all others wait with it: at
       the usual 500 ms a topic beside a hold topic was read at half its speed. Shorter costs the
       broker: a request each time from every idle consumer. */
    {"fetch.wait.max.ms", "50"},
};
static const struct setting classic_defaults[] = {
    {"partition.assignment.strategy", "cooperative-sticky"},
    /* Members hear of a rebalance with their next heartbeat. */
    {"heartbeat.interval.ms", "1000"},
};

/* What nobody may change. */
static const struct setting common_owned[] = {
    {"allow.auto.create.topics", "false"},
    {"log.queue", "true"},
};
static const struct setting producer_owned[] = {
    {"enable.idempotence", "true"},
    /* A broker that knows nothing yet of this producer in a partition takes any sequence number for
       the first. Where it refused one request for a moment (a leader not ready, too few replicas)
       and took the next, librdkafka reports the records of the first as stored: they are lost. So
       none is sent before the last is answered. */
    {"max.in.flight.requests.per.connection", "1"},
    {"acks", "all"},
    {"partitioner", "murmur2_random"},
};
static const struct setting consumer_owned[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    /* Taken in a batch, the news of an end counts as a record for librdkafka's own position: with
     * the next rebalance it goes on behind the record that came after it. */
    {"enable.partition.eof", "false"},
};
/* Reads without a group: told where a partition ends, and never waits for one that has nothing. */
static const struct setting reader_owned[] = {
    {"enable.auto.commit", "false"},
    {"enable.partition.eof", "true"},
    {"auto.offset.reset", "earliest"},
    {"fetch.wait.max.ms", "10"}, /* what it waits before it says where the end is */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The property that was probably meant, from the table that librdkafka prints for people, a line
 * "name | ..." for each; "" when none is near. */
static void find_meant(const char *name, char *out, size_t size) {
    char *table = NULL;
    size_t table_size;
    FILE *file = open_memstream(&table, &table_size);
    out[0] = '\0';
    if (file == NULL)
        return;
    rd_kafka_conf_properties_show(file);
    fclose(file);
    const char *names[PROPERTIES_MAX];
    size_t count = 0;
    for (char *rest, *line = table == NULL ? NULL : strtok_r(table, "\n", &rest);
         line != NULL && count < PROPERTIES_MAX; line = strtok_r(NULL, "\n", &rest)) {
        size_t length = strcspn(line, " |");
        if (length == 0 || strchr(line, '|') == NULL)
            continue;
        line[length] = '\0';
        names[count++] = line;
    }
    const char *meant = shove_suggest(name, names, count);
    if (meant != NULL)
        snprintf(out, size, "%s", meant);
    free(table);
}

static int refuse_unknown(const char *name, struct shove_error *error) {
    char meant[64];
    find_meant(name, meant, sizeof meant);
    return meant[0] != '\0'
               ? shove_error_set(error, SHOVE_ECONFIG,
                                 "kafka[\"%s\"]: librdkafka has no property of that name (did you "
                                 "mean \"%s\"?)",
                                 name, meant)
               : shove_error_set(error, SHOVE_ECONFIG,
                                 "kafka[\"%s\"]: librdkafka has no property of that name", name);
}

static int set(rd_kafka_conf_t *conf, const char *name, const char *value,
               struct shove_error *error) {
    char text[256];
    rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, name, value, text, sizeof text);
    if (result == RD_KAFKA_CONF_OK)
        return 0;
    if (result == RD_KAFKA_CONF_UNKNOWN)
        return refuse_unknown(name, error);
    return shove_error_set(error, SHOVE_ECONFIG, "kafka[\"%s\"]: %s", name, text);
}

static int set_all(rd_kafka_conf_t *conf, const struct setting *settings, size_t count,
                   struct shove_error *error) {
    for (size_t i = 0; i < count; i++) {
        int code = set(conf, settings[i].name, settings[i].value, error);
        if (code != 0)
            return code;
    }
    return 0;
}

/* A default may be newer than the librdkafka that is there. */
static void prefer(rd_kafka_conf_t *conf, const struct setting *settings, size_t count) {
    for (size_t i = 0; i < count; i++)
        rd_kafka_conf_set(conf, settings[i].name, settings[i].value, NULL, 0);
}

static int set_number(rd_kafka_conf_t *conf, const char *name, int64_t value,
                      struct shove_error *error) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    return set(conf, name, text, error);
}

static bool is_number(const char *text) {
    char *end;
    strtod(text, &end);
    return end != text && *end == '\0';
}

/* librdkafka takes "6s" for 6: of "session.timeout.ms" that would be six milliseconds. */
static int check_number(const rd_kafka_conf_t *conf, const struct shove_property *property,
                        struct shove_error *error) {
    char taken[64];
    size_t size = sizeof taken;
    char *end;
    strtod(property->value, &end);
    if (end == property->value || *end == '\0' ||
        rd_kafka_conf_get(conf, property->name, taken, &size) != RD_KAFKA_CONF_OK ||
        !is_number(taken))
        return 0;
    return shove_error_set(error, SHOVE_ECONFIG,
                           "kafka[\"%s\"]: \"%s\" is not a number; librdkafka's properties have "
                           "their unit in their name, so give the number alone",
                           property->name, property->value);
}

int shove_kafka_check_properties(const struct shove_property *properties, uint32_t count,
                                 struct shove_error *error) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int code = 0;
    for (uint32_t i = 0; i < count && code == 0; i++) {
        for (size_t k = 0; k < COUNT(owned_properties) && code == 0; k++) {
            if (strcmp(properties[i].name, owned_properties[k].name) == 0)
                code = shove_error_set(error, SHOVE_ECONFIG, "kafka[\"%s\"] cannot be set: %s",
                                       properties[i].name, owned_properties[k].reason);
        }
        if (code == 0)
            code = set(conf, properties[i].name, properties[i].value, error);
        if (code == 0)
            code = check_number(conf, &properties[i], error);
    }
    rd_kafka_conf_destroy(conf);
    return code;
}

int64_t shove_kafka_rebalance_ms(const struct shove_property *properties, uint32_t count) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[32] = "";
    size_t size = sizeof text;
    for (uint32_t i = 0; i < count; i++)
        rd_kafka_conf_set(conf, properties[i].name, properties[i].value, NULL, 0);
    rd_kafka_conf_get(conf, "max.poll.interval.ms", text, &size);
    rd_kafka_conf_destroy(conf);
    return strtoll(text, NULL, 10);
}

static void set_read_ahead(const struct shove_kafka *kafka, rd_kafka_conf_t *conf) {
    struct shove_kafka_read_ahead ahead = shove_kafka_read_ahead(kafka->widest_topic);
    char messages[24];
    char kib[24];
    char fetch_bytes[24];
    snprintf(messages, sizeof messages, "%ld", ahead.messages);
    snprintf(kib, sizeof kib, "%ld", ahead.kib);
    snprintf(fetch_bytes, sizeof fetch_bytes, "%ld", ahead.fetch_bytes);
    const struct setting settings[] = {{"queued.min.messages", messages},
                                       {"queued.max.messages.kbytes", kib},
                                       {"fetch.message.max.bytes", fetch_bytes}};
    prefer(conf, settings, COUNT(settings));
}

static int set_sizes(const struct shove_kafka *kafka, enum shove_kafka_role role,
                     rd_kafka_conf_t *conf, struct shove_error *error) {
    int64_t record_bytes = kafka->max_message_size_bytes + SHOVE_KAFKA_RECORD_SLACK_BYTES;
    if (record_bytes < 1000000) /* librdkafka's default, and about the broker's */
        record_bytes = 1000000;
    int64_t fetch_bytes = record_bytes < (16 << 20) ? (16 << 20) : record_bytes;
    /* A topic may hold what is larger than this app allows. It must be possible to read it, since a
     * broker sends at least one batch however large, and to dead-letter it. */
    if (role == SHOVE_KAFKA_PRODUCER)
        return set_number(conf, "message.max.bytes", SHOVE_KAFKA_ANY_RECORD_BYTES, error);
    int code = set_number(conf, "message.max.bytes", record_bytes, error);
    if (code == 0)
        code = set_number(conf, "fetch.max.bytes", fetch_bytes, error);
    if (code == 0)
        code = set_number(conf, "receive.message.max.bytes", INT32_MAX, error);
    return code;
}

static const char *user_value(const struct shove_kafka *kafka, const char *name) {
    for (uint32_t i = 0; i < kafka->property_count; i++) {
        if (strcmp(kafka->properties[i].name, name) == 0)
            return kafka->properties[i].value;
    }
    return NULL;
}

static int set_defaults(const struct shove_kafka *kafka, enum shove_kafka_role role,
                        rd_kafka_conf_t *conf, struct shove_error *error) {
    prefer(conf, common_defaults, COUNT(common_defaults));
    if (role == SHOVE_KAFKA_PRODUCER)
        prefer(conf, producer_defaults, COUNT(producer_defaults));
    if (role == SHOVE_KAFKA_CONSUMER || role == SHOVE_KAFKA_READER) {
        prefer(conf, consumer_defaults, COUNT(consumer_defaults));
        set_read_ahead(kafka, conf);
    }
    /* In the newer group protocol these are the broker's, and librdkafka refuses them. */
    const char *protocol = user_value(kafka, "group.protocol");
    if (role == SHOVE_KAFKA_CONSUMER && (protocol == NULL || strcmp(protocol, "classic") == 0))
        prefer(conf, classic_defaults, COUNT(classic_defaults));
    int code = set_sizes(kafka, role, conf, error);
    if (code == 0)
        code = set(conf, "client.id", kafka->client_id, error);
    return code;
}

static int set_owned(const struct shove_kafka *kafka, enum shove_kafka_role role,
                     const char *group_id, enum shove_reset reset, rd_kafka_conf_t *conf,
                     struct shove_error *error) {
    /* Where a group begins is asked for and said outright (kafka_lookup.c). librdkafka's own policy
     * only serves offsets that are not in the log any more: then what is left is what is due. */
    static const char *const resets[] = {[SHOVE_RESET_EARLIEST] = "earliest",
                                         [SHOVE_RESET_LATEST] = "earliest",
                                         [SHOVE_RESET_NONE] = "error"};
    int code = set(conf, "bootstrap.servers", kafka->address, error);
    if (code == 0)
        code = set_all(conf, common_owned, COUNT(common_owned), error);
    if (code != 0)
        return code;
    switch (role) {
    case SHOVE_KAFKA_ADMIN:
        return 0;
    case SHOVE_KAFKA_PRODUCER:
        return set_all(conf, producer_owned, COUNT(producer_owned), error);
    case SHOVE_KAFKA_READER:
        return set_all(conf, reader_owned, COUNT(reader_owned), error);
    case SHOVE_KAFKA_CONSUMER:
        code = set_all(conf, consumer_owned, COUNT(consumer_owned), error);
        if (code == 0)
            code = set(conf, "group.id", group_id, error);
        if (code == 0)
            code = set(conf, "auto.offset.reset", resets[reset], error);
        return code;
    }
    return SHOVE_EINVAL;
}

static int configure(const struct shove_kafka *kafka, enum shove_kafka_role role,
                     const char *group_id, enum shove_reset reset, rd_kafka_conf_t *conf,
                     struct shove_error *error) {
    int code = set_defaults(kafka, role, conf, error);
    for (uint32_t i = 0; i < kafka->property_count && code == 0; i++)
        code = set(conf, kafka->properties[i].name, kafka->properties[i].value, error);
    if (code == 0)
        code = set_owned(kafka, role, group_id, reset, conf, error);
    if (code != 0)
        return code;
    int events = RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG;
    if (role == SHOVE_KAFKA_PRODUCER)
        events |= RD_KAFKA_EVENT_DR;
    if (role == SHOVE_KAFKA_CONSUMER)
        events |= RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT;
    rd_kafka_conf_set_events(conf, events);
    rd_kafka_conf_set_log_cb(conf, NULL);
    return 0;
}

/* ---- whether a consumer is joining its group ---- */

#define API_JOIN_GROUP 11
#define API_SYNC_GROUP 14

/* Called by librdkafka's threads. A member that (re)joins keeps its partitions meanwhile, and
 * librdkafka tells nobody; what its requests say is the only sign. From the SyncGroup request on
 * the generation of the join's answer is used. */
static rd_kafka_resp_err_t on_request_sent(rd_kafka_t *rk, int sockfd, const char *broker,
                                           int32_t broker_id, int16_t api_key, int16_t api_version,
                                           int32_t correlation_id, size_t size, void *opaque) {
    struct shove_kafka_client *client = opaque;
    (void)rk, (void)sockfd, (void)broker, (void)broker_id;
    (void)api_version, (void)correlation_id, (void)size;
    if (api_key == API_JOIN_GROUP) {
        atomic_store(&client->membership, SHOVE_KAFKA_JOINING);
    } else if (api_key == API_SYNC_GROUP) {
        atomic_store(&client->membership, SHOVE_KAFKA_MEMBER);
        shove_kafka_mailbox_poke(client->mailbox);
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque,
                                  char *text, size_t text_size) {
    (void)conf, (void)text, (void)text_size;
    return rd_kafka_interceptor_add_on_request_sent(rk, "shove", on_request_sent, opaque);
}

static void watch_queue(struct shove_kafka_client *client, rd_kafka_queue_t *queue) {
    uint64_t one = 1;
    rd_kafka_queue_io_event_enable(queue, shove_kafka_mailbox_fd(client->mailbox), &one,
                                   sizeof one);
}

/* Of a file that cannot be read librdkafka says only which property names it. */
static int tell_refused(const struct shove_kafka *kafka, const char *words,
                        struct shove_error *error) {
    for (uint32_t i = 0; i < kafka->property_count; i++) {
        const struct shove_property *property = &kafka->properties[i];
        const char *end = strrchr(property->name, '.');
        if (end != NULL && strcmp(end, ".location") == 0 && strstr(words, property->name) != NULL &&
            access(property->value, R_OK) != 0)
            return shove_error_set(error, SHOVE_ECONFIG, "kafka[\"%s\"]: %s: %s", property->name,
                                   property->value, strerror(errno));
    }
    return shove_error_set(error, SHOVE_ECONFIG, "librdkafka refuses the configuration: %s", words);
}

int shove_kafka_client_new(struct shove_kafka *kafka, enum shove_kafka_role role,
                           const char *group_id, enum shove_reset reset,
                           struct shove_kafka_client **out, struct shove_error *error) {
    struct shove_kafka_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for a Kafka client");
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int code = configure(kafka, role, group_id, reset, conf, error);
    if (code != 0) {
        rd_kafka_conf_destroy(conf);
        free(client);
        return code;
    }
    client->mailbox = shove_kafka_mailbox_keep(kafka->mailbox);
    if (role == SHOVE_KAFKA_CONSUMER)
        rd_kafka_conf_interceptor_add_on_new(conf, "shove", on_new, client);
    char text[512];
    bool is_consumer = role == SHOVE_KAFKA_CONSUMER || role == SHOVE_KAFKA_READER;
    client->rk =
        rd_kafka_new(is_consumer ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (client->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        shove_kafka_mailbox_release(client->mailbox);
        free(client);
        return tell_refused(kafka, text, error);
    }
    atomic_init(&client->references, 1);
    rd_kafka_set_log_queue(client->rk, NULL);
    if (role == SHOVE_KAFKA_CONSUMER) {
        rd_kafka_poll_set_consumer(client->rk);
        client->queue = rd_kafka_queue_get_consumer(client->rk);
    } else {
        client->queue = rd_kafka_queue_get_main(client->rk);
    }
    watch_queue(client, client->queue);
    *out = client;
    return 0;
}

struct shove_kafka_client *shove_kafka_client_keep(struct shove_kafka_client *client) {
    atomic_fetch_add(&client->references, 1);
    return client;
}

struct burial { /* a handle being destroyed: librdkafka joins its threads, which may take as long as
                   a request */
    struct shove_kafka_job job;
    struct shove_kafka_client *client;
};

static void bury(struct shove_kafka_job *job) {
    struct shove_kafka_client *client = ((struct burial *)job)->client;
    rd_kafka_queue_destroy(client->queue);
    rd_kafka_destroy_flags(client->rk,
                           client->is_leaving_group ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    shove_kafka_mailbox_release(client->mailbox);
    free(client);
}

static void burial_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    (void)kafka;
    free(job);
}

static void burial_discard(struct shove_kafka_job *job) {
    free(job);
}

void shove_kafka_client_release(struct shove_kafka_client *client) {
    if (client == NULL || atomic_fetch_sub(&client->references, 1) != 1)
        return;
    struct burial *burial = calloc(1, sizeof *burial);
    if (burial == NULL)
        return; /* out of memory: the handle stays until the process ends */
    burial->job =
        (struct shove_kafka_job){.run = bury, .done = burial_done, .discard = burial_discard};
    burial->client = client;
    shove_kafka_job_start(client->mailbox, &burial->job);
}
