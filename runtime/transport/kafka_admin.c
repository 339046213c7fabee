/* kafka_admin.c: declaring topics: creates what is missing, verifies what is there.
 *
 * Control and cli, at start-up; blocks up to the transport's timeout.
 *
 * Several processes may declare the same topics at once: "exists already" is success, and what is
 * there is looked at again afterwards rather than believed. It ends when every partition has a
 * leader, so that the first record need not wait.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define DAY_MS (24 * 60 * 60 * INT64_C(1000))

struct declaration {
    const struct shove_topic_spec *spec;
    long partition_count; /* 0: not there */
    bool is_led;
};

static int64_t left_ms(const struct shove_kafka *kafka, int64_t until_ms) {
    int64_t left = until_ms - shove_kafka_now_ms(kafka);
    return left > 0 ? left : 0;
}

static const char *where(const struct shove_topic_spec *spec) {
    return spec->at != NULL ? spec->at : "topic";
}

/* The delay a hold topic's name ends in, -hold-{N}s or -hold-{N}ms; 0 when it has none. */
static int64_t hold_delay_ms(const char *name) {
    const char *tail = NULL;
    for (const char *at = name; (at = strstr(at, "-hold-")) != NULL; at++)
        tail = at + strlen("-hold-");
    if (tail == NULL)
        return 0;
    char *unit;
    long long number = strtoll(tail, &unit, 10);
    if (number <= 0 || number > INT64_MAX / 1000 / 2)
        return 0;
    return strcmp(unit, "s") == 0 ? number * 1000 : strcmp(unit, "ms") == 0 ? number : 0;
}

/* 0: the broker's default. A held message must outlive its delay with room to spare, a dead letter
 * until somebody looks; what is compacted is kept whatever its age. */
static int64_t retention_ms(const struct shove_topic_spec *spec) {
    if (spec->role == SHOVE_ROLE_POISON)
        return 0;
    if (spec->retention_ms != 0)
        return spec->retention_ms;
    if (spec->role == SHOVE_ROLE_DLQ)
        return -1;
    if (spec->role != SHOVE_ROLE_HOLD)
        return 0;
    int64_t wanted = 2 * hold_delay_ms(spec->name) + DAY_MS;
    return wanted > 7 * DAY_MS ? wanted : 7 * DAY_MS;
}

static void set_number(rd_kafka_NewTopic_t *topic, const char *name, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    rd_kafka_NewTopic_set_config(topic, name, text);
}

static rd_kafka_NewTopic_t *new_topic(const struct shove_kafka *kafka,
                                      const struct shove_topic_spec *spec) {
    char text[256];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(spec->name, spec->partitions,
                                                       spec->replication_factor, text, sizeof text);
    if (topic == NULL)
        return NULL;
    rd_kafka_NewTopic_set_config(topic, "cleanup.policy",
                                 spec->role == SHOVE_ROLE_POISON ? "compact" : "delete");
    int64_t retention = retention_ms(spec);
    if (retention != 0)
        set_number(topic, "retention.ms", retention);
    /* The broker measures a batch, which has framing of its own. */
    int64_t largest = kafka->max_message_size_bytes + 2 * SHOVE_KAFKA_RECORD_SLACK_BYTES;
    /* Whatever its queue may hold, keys included. */
    if (spec->role == SHOVE_ROLE_DLQ || spec->role == SHOVE_ROLE_POISON)
        largest = SHOVE_KAFKA_ANY_RECORD_BYTES;
    if (largest > 1048588) /* the broker's default is left alone where it is enough */
        set_number(topic, "max.message.bytes", largest);
    return topic;
}

/* Runs one admin request and waits for its answer; NULL with `error` when none came. */
static rd_kafka_event_t *wait_for(struct shove_kafka *kafka, rd_kafka_queue_t *queue,
                                  int64_t until_ms, const char *what, struct shove_error *error) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, (int)left_ms(kafka, until_ms) + 500);
    if (event == NULL) {
        shove_error_set(error, SHOVE_ETIMEOUT, "%s: Kafka did not answer in time", what);
        return NULL;
    }
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return event;
    shove_error_set(error, shove_kafka_code(err), "%s: %s", what,
                    rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
    return NULL;
}

static rd_kafka_AdminOptions_t *options_until(struct shove_kafka *kafka, rd_kafka_admin_op_t op,
                                              int64_t until_ms) {
    char text[256];
    int timeout_ms = (int)left_ms(kafka, until_ms);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->admin->rk, op);
    rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms > 0 ? timeout_ms : 1, text,
                                              sizeof text);
    rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms > 0 ? timeout_ms : 1, text,
                                                sizeof text);
    return options;
}

static int refuse(const struct declaration *declarations, size_t count,
                  const rd_kafka_topic_result_t *result, const char *verb,
                  struct shove_error *error) {
    const char *name = rd_kafka_topic_result_name(result);
    const char *words = rd_kafka_topic_result_error_string(result);
    rd_kafka_resp_err_t err = rd_kafka_topic_result_error(result);
    const char *at = "topic";
    for (size_t i = 0; i < count; i++) {
        if (strcmp(declarations[i].spec->name, name) == 0)
            at = where(declarations[i].spec);
    }
    return shove_error_set(error, shove_kafka_code(err), "%s: Kafka refuses to %s topic '%s': %s",
                           at, verb, name, words != NULL ? words : rd_kafka_err2str(err));
}

static int create(struct shove_kafka *kafka, const struct declaration *declarations, size_t count,
                  int64_t until_ms, struct shove_error *error) {
    rd_kafka_NewTopic_t **topics = calloc(count + 1, sizeof(*topics));
    if (topics == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory declaring topics");
    size_t topic_count = 0;
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        const struct shove_topic_spec *spec = declarations[i].spec;
        if (declarations[i].partition_count > 0)
            continue;
        if ((topics[topic_count] = new_topic(kafka, spec)) != NULL)
            topic_count++;
        else
            code = shove_error_set(
                error, SHOVE_ECONFIG, "%s: topic '%s' cannot have %d partitions with %d replicas",
                where(spec), spec->name, (int)spec->partitions, (int)spec->replication_factor);
    }
    if (code == 0 && topic_count > 0) {
        rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->admin->rk);
        rd_kafka_AdminOptions_t *options =
            options_until(kafka, RD_KAFKA_ADMIN_OP_CREATETOPICS, until_ms);
        rd_kafka_CreateTopics(kafka->admin->rk, topics, topic_count, options, queue);
        rd_kafka_event_t *event = wait_for(kafka, queue, until_ms, "creating topics", error);
        size_t result_count = 0;
        const rd_kafka_topic_result_t **results = NULL;
        if (event == NULL)
            code = error->code;
        else
            results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event),
                                                          &result_count);
        for (size_t i = 0; i < result_count && code == 0; i++) {
            rd_kafka_resp_err_t err = rd_kafka_topic_result_error(results[i]);
            if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
                code = refuse(declarations, count, results[i], "create", error);
        }
        if (event != NULL)
            rd_kafka_event_destroy(event);
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_queue_destroy(queue);
    }
    rd_kafka_NewTopic_destroy_array(topics, topic_count);
    free(topics);
    return code;
}

static int expand(struct shove_kafka *kafka, const struct declaration *declaration,
                  int64_t until_ms, struct shove_error *error) {
    char text[256];
    const struct shove_topic_spec *spec = declaration->spec;
    rd_kafka_NewPartitions_t *more =
        rd_kafka_NewPartitions_new(spec->name, (size_t)spec->partitions, text, sizeof text);
    if (more == NULL)
        return shove_error_set(error, SHOVE_ECONFIG, "%s: topic '%s': %s", where(spec), spec->name,
                               text);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->admin->rk);
    rd_kafka_AdminOptions_t *options =
        options_until(kafka, RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, until_ms);
    rd_kafka_CreatePartitions(kafka->admin->rk, &more, 1, options, queue);
    rd_kafka_event_t *event = wait_for(kafka, queue, until_ms, "adding partitions", error);
    int code = event == NULL ? error->code : 0;
    size_t count = 0;
    const rd_kafka_topic_result_t **results = NULL;
    if (event != NULL)
        results = rd_kafka_CreatePartitions_result_topics(
            rd_kafka_event_CreatePartitions_result(event), &count);
    for (size_t i = 0; i < count && code == 0; i++) {
        rd_kafka_resp_err_t err = rd_kafka_topic_result_error(results[i]);
        /* Somebody else may have expanded it; the last look at it decides. */
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR_INVALID_PARTITIONS)
            code = refuse(declaration, 1, results[i], "add partitions to", error);
    }
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewPartitions_destroy(more);
    if (code == 0)
        shove_log(SHOVE_LOG_INFO, "topic %s has %d partitions now, %ld before", spec->name,
                  (int)spec->partitions, declaration->partition_count);
    return code;
}

/* One question; a topic that is not there is an answer. */
static int look(struct shove_kafka *kafka, struct declaration *declaration, int64_t until_ms,
                int *brokers, struct shove_error *error) {
    struct shove_error words;
    long count;
    do {
        int64_t left = left_ms(kafka, until_ms);
        count = shove_kafka_ask_partition_count(kafka->admin->rk, declaration->spec->name,
                                                left > 0 ? left : 1, brokers, &declaration->is_led,
                                                &words);
        if (count == SHOVE_EUNREACHABLE) /* no leader yet, or the connection broke */
            uv_sleep(20);
    } while (count == SHOVE_EUNREACHABLE && left_ms(kafka, until_ms) > 0);
    if (count < 0 && count != SHOVE_ENOTOPIC)
        return shove_error_set(error, (int)count, "%s: %s", where(declaration->spec), words.text);
    declaration->partition_count = count < 0 ? 0 : count;
    return 0;
}

static int verify(const struct declaration *declaration, struct shove_error *error) {
    const struct shove_topic_spec *spec = declaration->spec;
    if (declaration->partition_count == 0) {
        if (!spec->is_external)
            return 0;
        return shove_error_set(
            error, SHOVE_ECONFIG,
            "%s: topic '%s' is external and does not exist: create it, or take away `external`",
            where(spec), spec->name);
    }
    if (spec->is_external || !spec->is_keyed || declaration->partition_count == spec->partitions)
        return 0;
    return shove_error_set(
        error, SHOVE_ECONFIG,
        "%s: topic '%s' has %ld partitions and %d were asked for; it is sequenced, and another "
        "number would move keys to other partitions: set shards = %ld, or use a new topic",
        where(spec), spec->name, declaration->partition_count, (int)spec->partitions,
        declaration->partition_count);
}

static void warn_of_replication(struct shove_kafka *kafka, const struct shove_topic_spec *spec,
                                int brokers) {
    if (brokers <= 1 || spec->is_external || spec->replication_factor != 1 ||
        kafka->has_warned_of_replication)
        return;
    kafka->has_warned_of_replication = true;
    shove_log(SHOVE_LOG_WARN,
              "%s: topic %s has replication factor 1 on a cluster of %d brokers: if the broker "
              "that has it is lost, so are "
              "its messages (said once, for all topics)",
              where(spec), spec->name, brokers);
}

static bool is_ready(const struct declaration *declaration) {
    const struct shove_topic_spec *spec = declaration->spec;
    bool is_wide_enough = spec->is_external || declaration->partition_count >= spec->partitions;
    return declaration->partition_count > 0 && is_wide_enough && declaration->is_led;
}

static int wait_until_ready(struct shove_kafka *kafka, struct declaration *declaration,
                            int64_t until_ms, struct shove_error *error) {
    while (!is_ready(declaration)) {
        int code = look(kafka, declaration, until_ms, NULL, error);
        if (code != 0)
            return code;
        if (is_ready(declaration))
            break;
        if (left_ms(kafka, until_ms) == 0)
            return shove_error_set(
                error, SHOVE_ETIMEOUT,
                "%s: topic '%s' has %ld of %d partitions, or some without a leader, after %.1f s",
                where(declaration->spec), declaration->spec->name, declaration->partition_count,
                (int)declaration->spec->partitions, (double)kafka->timeout_ms / 1000);
        uv_sleep(20);
    }
    return verify(declaration, error);
}

static int declare(struct shove_kafka *kafka, struct declaration *declarations, size_t count,
                   struct shove_error *error) {
    int64_t until_ms = shove_kafka_now_ms(kafka) + kafka->timeout_ms;
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        int brokers = 0;
        code = look(kafka, &declarations[i], until_ms, &brokers, error);
        if (code == 0)
            code = verify(&declarations[i], error);
        if (code == 0)
            warn_of_replication(kafka, declarations[i].spec, brokers);
    }
    if (code == 0)
        code = create(kafka, declarations, count, until_ms, error);
    for (size_t i = 0; i < count && code == 0; i++) {
        const struct shove_topic_spec *spec = declarations[i].spec;
        if (declarations[i].partition_count > 0 &&
            declarations[i].partition_count < spec->partitions && !spec->is_external)
            code = expand(kafka, &declarations[i], until_ms, error);
    }
    for (size_t i = 0; i < count && code == 0; i++)
        code = wait_until_ready(kafka, &declarations[i], until_ms, error);
    return code;
}

int shove_kafka_declare(struct shove_transport *transport, const struct shove_topic_spec *specs,
                        size_t count, struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    struct declaration *declarations = calloc(count > 0 ? count : 1, sizeof *declarations);
    if (declarations == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory declaring topics");
    for (size_t i = 0; i < count; i++)
        declarations[i].spec = &specs[i];
    int code = declare(kafka, declarations, count, error);
    for (size_t i = 0; i < count && code == 0; i++) {
        struct shove_kafka_topic *topic = shove_kafka_topic_get(kafka, specs[i].name);
        if (topic != NULL && topic->state != SHOVE_KAFKA_TOPIC_ASKED)
            topic->state = SHOVE_KAFKA_TOPIC_EXISTS;
        if (declarations[i].partition_count > kafka->widest_topic)
            kafka->widest_topic = declarations[i].partition_count;
    }
    free(declarations);
    if (code == 0)
        code = shove_kafka_learn_retention(kafka, specs, count, error);
    return code;
}
