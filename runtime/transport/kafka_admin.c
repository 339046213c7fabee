/* kafka_admin.c: declaring topics: creates what is missing, verifies what is there.
 *
 * Control and cli. What waits for the broker is written once, for any thread: at start-up it runs
 * on the loop's, which has nothing else to do yet; later (a reload with new topics) on a job's, and
 * the loop goes on. Either way what was learned is taken over on the loop's thread.
 *
 * Several processes may declare the same topics at once: "exists already" is success, and what is
 * there is looked at again afterwards rather than believed. It ends when every partition has a
 * leader, so that the first record need not wait.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "transport/kafka.h"
#include "transport/kafka_declaring.h"
#include "transport/kafka_errors.h"

#define DAY_MS (24 * 60 * 60 * INT64_C(1000))
/* A close is looked for in between. Questions grow, because an answer counts only for its own. */
#define FIRST_SLICE_MS 1000
#define POLL_SLICE_MS 100

static int64_t left_ms(const struct shove_kafka_declaring *declaring) {
    int64_t left = declaring->until_ms - shove_clock_mono_ms();
    return left > 0 ? left : 0;
}

/* Nothing more comes of it: its time is up, or nobody wants it any more. */
static bool is_over(const struct shove_kafka_declaring *declaring) {
    return left_ms(declaring) == 0 || shove_kafka_mailbox_is_closed(declaring->job.mailbox);
}

static const char *where(const struct shove_topic_spec *spec) {
    return spec->at != NULL ? spec->at : "topic";
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
    int64_t wanted = 2 * spec->hold_ms + DAY_MS;
    return wanted > 7 * DAY_MS ? wanted : 7 * DAY_MS;
}

static void set_number(rd_kafka_NewTopic_t *topic, const char *name, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    rd_kafka_NewTopic_set_config(topic, name, text);
}

static rd_kafka_NewTopic_t *new_topic(const struct shove_kafka_declaring *declaring,
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
    int64_t largest = declaring->max_message_size_bytes + 2 * SHOVE_KAFKA_RECORD_SLACK_BYTES;
    /* Whatever its queue may hold, keys included. */
    if (spec->role == SHOVE_ROLE_DLQ || spec->role == SHOVE_ROLE_POISON)
        largest = SHOVE_KAFKA_ANY_RECORD_BYTES;
    if (largest > 1048588) /* the broker's default is left alone where it is enough */
        set_number(topic, "max.message.bytes", largest);
    return topic;
}

rd_kafka_event_t *shove_kafka_declaring_poll(const struct shove_kafka_declaring *declaring,
                                             rd_kafka_queue_t *queue, int64_t timeout_ms) {
    rd_kafka_event_t *event = NULL;
    const int64_t until_ms = shove_clock_mono_ms() + timeout_ms;
    for (int64_t left = timeout_ms; event == NULL && left > 0;
         left = until_ms - shove_clock_mono_ms()) {
        if (shove_kafka_mailbox_is_closed(declaring->job.mailbox))
            break;
        event = rd_kafka_queue_poll(queue, left < POLL_SLICE_MS ? (int)left : POLL_SLICE_MS);
    }
    return event;
}

/* The answer to an admin request; NULL with declaring->error when none came. */
static rd_kafka_event_t *wait_for(struct shove_kafka_declaring *declaring, rd_kafka_queue_t *queue,
                                  const char *what) {
    rd_kafka_event_t *event =
        shove_kafka_declaring_poll(declaring, queue, left_ms(declaring) + 500);
    if (event == NULL) {
        shove_error_set(&declaring->error, SHOVE_ETIMEOUT, "%s: Kafka did not answer in time",
                        what);
        return NULL;
    }
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return event;
    shove_error_set(&declaring->error, shove_kafka_code(err), "%s: %s", what,
                    rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
    return NULL;
}

static rd_kafka_AdminOptions_t *options_for(const struct shove_kafka_declaring *declaring,
                                            rd_kafka_admin_op_t op) {
    char text[256];
    int timeout_ms = (int)left_ms(declaring);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(declaring->client->rk, op);
    rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms > 0 ? timeout_ms : 1, text,
                                              sizeof text);
    rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms > 0 ? timeout_ms : 1, text,
                                                sizeof text);
    return options;
}

static int refuse(struct shove_kafka_declaring *declaring, const rd_kafka_topic_result_t *result,
                  const char *verb) {
    const char *name = rd_kafka_topic_result_name(result);
    const char *words = rd_kafka_topic_result_error_string(result);
    rd_kafka_resp_err_t err = rd_kafka_topic_result_error(result);
    const char *at = "topic";
    for (size_t i = 0; i < declaring->count; i++) {
        if (strcmp(declaring->declarations[i].spec.name, name) == 0)
            at = where(&declaring->declarations[i].spec);
    }
    return shove_error_set(&declaring->error, shove_kafka_code(err),
                           "%s: Kafka refuses to %s topic '%s': %s", at, verb, name,
                           words != NULL ? words : rd_kafka_err2str(err));
}

static const rd_kafka_topic_result_t **results_of(rd_kafka_event_t *event, size_t *count) {
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
        return rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event),
                                                   count);
    return rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event),
                                                   count);
}

/* Waits for the answer to what was asked there. `done`: the error that says it was done already. */
static int hear_results(struct shove_kafka_declaring *declaring, rd_kafka_queue_t *queue,
                        const char *what, const char *verb, rd_kafka_resp_err_t done) {
    rd_kafka_event_t *event = wait_for(declaring, queue, what);
    if (event == NULL)
        return declaring->error.code;
    int code = 0;
    size_t count = 0;
    const rd_kafka_topic_result_t **results = results_of(event, &count);
    for (size_t i = 0; i < count && code == 0; i++) {
        rd_kafka_resp_err_t err = rd_kafka_topic_result_error(results[i]);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != done)
            code = refuse(declaring, results[i], verb);
    }
    rd_kafka_event_destroy(event);
    return code;
}

static int send_creation(struct shove_kafka_declaring *declaring, rd_kafka_NewTopic_t **topics,
                         size_t topic_count) {
    rd_kafka_queue_t *queue = rd_kafka_queue_new(declaring->client->rk);
    rd_kafka_AdminOptions_t *options = options_for(declaring, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_CreateTopics(declaring->client->rk, topics, topic_count, options, queue);
    int code = hear_results(declaring, queue, "creating topics", "create",
                            RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    return code;
}

static int create(struct shove_kafka_declaring *declaring) {
    rd_kafka_NewTopic_t **topics = calloc(declaring->count + 1, sizeof(*topics));
    if (topics == NULL)
        return shove_error_set(&declaring->error, SHOVE_ENOMEM, "out of memory declaring topics");
    size_t topic_count = 0;
    int code = 0;
    for (size_t i = 0; i < declaring->count && code == 0; i++) {
        const struct shove_topic_spec *spec = &declaring->declarations[i].spec;
        if (declaring->declarations[i].partition_count > 0)
            continue;
        if ((topics[topic_count] = new_topic(declaring, spec)) != NULL)
            topic_count++;
        else
            code = shove_error_set(&declaring->error, SHOVE_ECONFIG,
                                   "%s: topic '%s' cannot have %d partitions with %d replicas",
                                   where(spec), spec->name, (int)spec->partitions,
                                   (int)spec->replication_factor);
    }
    if (code == 0 && topic_count > 0)
        code = send_creation(declaring, topics, topic_count);
    rd_kafka_NewTopic_destroy_array(topics, topic_count);
    free(topics);
    return code;
}

static int expand(struct shove_kafka_declaring *declaring,
                  const struct shove_kafka_declaration *declaration) {
    char text[256];
    const struct shove_topic_spec *spec = &declaration->spec;
    rd_kafka_NewPartitions_t *more =
        rd_kafka_NewPartitions_new(spec->name, (size_t)spec->partitions, text, sizeof text);
    if (more == NULL)
        return shove_error_set(&declaring->error, SHOVE_ECONFIG, "%s: topic '%s': %s", where(spec),
                               spec->name, text);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(declaring->client->rk);
    rd_kafka_AdminOptions_t *options = options_for(declaring, RD_KAFKA_ADMIN_OP_CREATEPARTITIONS);
    rd_kafka_CreatePartitions(declaring->client->rk, &more, 1, options, queue);
    /* Somebody else may have expanded it; the last look at it decides. */
    int code = hear_results(declaring, queue, "adding partitions", "add partitions to",
                            RD_KAFKA_RESP_ERR_INVALID_PARTITIONS);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewPartitions_destroy(more);
    if (code == 0)
        shove_log(SHOVE_LOG_INFO, "topic %s has %d partitions now, %ld before", spec->name,
                  (int)spec->partitions, declaration->partition_count);
    return code;
}

/* One question; a topic that is not there is an answer. */
static int look(struct shove_kafka_declaring *declaring,
                struct shove_kafka_declaration *declaration, int *brokers) {
    struct shove_error words;
    int64_t slice_ms = FIRST_SLICE_MS;
    long count;
    do {
        int64_t left = left_ms(declaring);
        if (left > slice_ms)
            left = slice_ms;
        count = shove_kafka_ask_partition_count(declaring->client->rk, declaration->spec.name,
                                                left > 0 ? left : 1, brokers, &declaration->is_led,
                                                &words);
        if (count == SHOVE_EUNREACHABLE) /* no leader yet, or the connection broke */
            uv_sleep(20);
        else
            slice_ms *= 2;
    } while ((count == SHOVE_EUNREACHABLE || count == SHOVE_ETIMEOUT) && !is_over(declaring));
    if (count < 0 && count != SHOVE_ENOTOPIC)
        return shove_error_set(&declaring->error, (int)count, "%s: %s", where(&declaration->spec),
                               words.text);
    declaration->partition_count = count < 0 ? 0 : count;
    return 0;
}

static int verify(struct shove_kafka_declaring *declaring,
                  const struct shove_kafka_declaration *declaration) {
    const struct shove_topic_spec *spec = &declaration->spec;
    if (declaration->partition_count == 0) {
        if (!spec->is_external)
            return 0;
        return shove_error_set(
            &declaring->error, SHOVE_ECONFIG,
            "%s: topic '%s' is external and does not exist: create it, or take away `external`",
            where(spec), spec->name);
    }
    if (spec->is_external || !spec->is_keyed || declaration->partition_count == spec->partitions)
        return 0;
    return shove_error_set(
        &declaring->error, SHOVE_ECONFIG,
        "%s: topic '%s' has %ld partitions and %d were asked for; it is sequenced, and another "
        "number would move keys to other partitions: set shards = %ld, or use a new topic",
        where(spec), spec->name, declaration->partition_count, (int)spec->partitions,
        declaration->partition_count);
}

static int check_width(struct shove_kafka_declaring *declaring,
                       const struct shove_kafka_declaration *declaration) {
    const struct shove_topic_spec *spec = &declaration->spec;
    for (size_t i = 0; i < declaring->count && spec->as_wide_as != NULL; i++) {
        const struct shove_kafka_declaration *queue = &declaring->declarations[i];
        if (strcmp(queue->spec.name, spec->as_wide_as) == 0)
            return shove_transport_check_width(spec, declaration->partition_count,
                                               queue->partition_count, &declaring->error);
    }
    return 0;
}

static void warn_of_replication(struct shove_kafka_declaring *declaring,
                                const struct shove_topic_spec *spec, int brokers) {
    if (brokers <= 1 || spec->is_external || spec->replication_factor != 1 ||
        declaring->has_warned_of_replication)
        return;
    declaring->has_warned_of_replication = true;
    shove_log(SHOVE_LOG_WARN,
              "%s: topic %s has replication factor 1 on a cluster of %d brokers: if the broker "
              "that has it is lost, so are "
              "its messages (said once, for all topics)",
              where(spec), spec->name, brokers);
}

static bool is_ready(const struct shove_kafka_declaration *declaration) {
    const struct shove_topic_spec *spec = &declaration->spec;
    bool is_wide_enough = spec->is_external || declaration->partition_count >= spec->partitions;
    return declaration->partition_count > 0 && is_wide_enough && declaration->is_led;
}

static int wait_until_ready(struct shove_kafka_declaring *declaring,
                            struct shove_kafka_declaration *declaration) {
    while (!is_ready(declaration)) {
        int code = look(declaring, declaration, NULL);
        if (code != 0)
            return code;
        if (is_ready(declaration))
            break;
        if (is_over(declaring))
            return shove_error_set(
                &declaring->error, SHOVE_ETIMEOUT,
                "%s: topic '%s' has %ld of %d partitions, or some without a leader, after %.1f s",
                where(&declaration->spec), declaration->spec.name, declaration->partition_count,
                (int)declaration->spec.partitions, (double)declaring->timeout_ms / 1000);
        uv_sleep(20);
    }
    return verify(declaring, declaration);
}

static int declare(struct shove_kafka_declaring *declaring) {
    struct shove_kafka_declaration *declarations = declaring->declarations;
    const size_t count = declaring->count;
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        int brokers = 0;
        code = look(declaring, &declarations[i], &brokers);
        if (code == 0)
            code = verify(declaring, &declarations[i]);
        if (code == 0)
            warn_of_replication(declaring, &declarations[i].spec, brokers);
    }
    for (size_t i = 0; i < count && code == 0; i++)
        code = check_width(declaring, &declarations[i]);
    if (code == 0)
        code = create(declaring);
    for (size_t i = 0; i < count && code == 0; i++) {
        const struct shove_topic_spec *spec = &declarations[i].spec;
        if (declarations[i].partition_count > 0 &&
            declarations[i].partition_count < spec->partitions && !spec->is_external)
            code = expand(declaring, &declarations[i]);
    }
    for (size_t i = 0; i < count && code == 0; i++)
        code = wait_until_ready(declaring, &declarations[i]);
    return code;
}

/* ---- under way ---- */

static void declaring_run(struct shove_kafka_job *job) {
    struct shove_kafka_declaring *declaring = (struct shove_kafka_declaring *)job;
    declaring->until_ms = shove_clock_mono_ms() + declaring->timeout_ms;
    declaring->code = declare(declaring);
    declaring->are_there = declaring->code == 0;
    if (declaring->are_there)
        declaring->code = shove_kafka_learn_retention(declaring);
}

/* Loop's thread. A topic that is being asked for is left to the answer. */
static void take_over(struct shove_kafka *kafka, const struct shove_kafka_declaring *declaring) {
    kafka->has_warned_of_replication |= declaring->has_warned_of_replication;
    for (size_t i = 0; i < declaring->count && declaring->are_there; i++) {
        const struct shove_kafka_declaration *declaration = &declaring->declarations[i];
        struct shove_kafka_topic *topic = shove_kafka_topic_get(kafka, declaration->spec.name);
        if (topic != NULL && topic->state != SHOVE_KAFKA_TOPIC_ASKED)
            topic->state = SHOVE_KAFKA_TOPIC_EXISTS;
        if (topic != NULL && declaration->has_retention)
            topic->retention_ms = declaration->retention_ms;
        if (declaration->partition_count > kafka->widest_topic)
            kafka->widest_topic = declaration->partition_count;
    }
}

static void declaring_discard(struct shove_kafka_job *job) {
    struct shove_kafka_declaring *declaring = (struct shove_kafka_declaring *)job;
    for (size_t i = 0; i < declaring->count; i++) {
        free((char *)declaring->declarations[i].spec.name);
        free((char *)declaring->declarations[i].spec.at);
        free((char *)declaring->declarations[i].spec.as_wide_as);
    }
    shove_kafka_client_release(declaring->client);
    free(declaring);
}

static void declaring_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    struct shove_kafka_declaring *declaring = (struct shove_kafka_declaring *)job;
    take_over(kafka, declaring);
    if (kafka->events->declared != NULL)
        kafka->events->declared(kafka->ctx, declaring->opaque, declaring->code,
                                declaring->code != 0 ? declaring->error.text : "");
    declaring_discard(job);
}

/* false: out of memory. */
static bool copy_text(const char **text) {
    if (*text == NULL)
        return true;
    *text = strdup(*text);
    return *text != NULL;
}

static bool copy_spec(const struct shove_topic_spec *spec, struct shove_topic_spec *out) {
    *out = *spec;
    const bool has_name = copy_text(&out->name);
    const bool has_at = copy_text(&out->at);
    return copy_text(&out->as_wide_as) && has_name && has_at;
}

/* NULL: out of memory. */
static struct shove_kafka_declaring *
declaring_new(const struct shove_kafka *kafka, const struct shove_topic_spec *specs, size_t count) {
    struct shove_kafka_declaring *declaring =
        calloc(1, sizeof *declaring + count * sizeof declaring->declarations[0]);
    if (declaring == NULL)
        return NULL;
    declaring->job = (struct shove_kafka_job){
        .run = declaring_run, .done = declaring_done, .discard = declaring_discard};
    declaring->client = shove_kafka_client_keep(kafka->admin);
    declaring->timeout_ms = kafka->timeout_ms;
    declaring->max_message_size_bytes = kafka->max_message_size_bytes;
    declaring->has_warned_of_replication = kafka->has_warned_of_replication;
    bool is_copied = true;
    while (is_copied && declaring->count < count) {
        is_copied =
            copy_spec(&specs[declaring->count], &declaring->declarations[declaring->count].spec);
        declaring->count++;
    }
    if (is_copied)
        return declaring;
    declaring_discard(&declaring->job);
    return NULL;
}

int shove_kafka_declare(struct shove_transport *transport, const struct shove_topic_spec *specs,
                        size_t count, struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    struct shove_kafka_declaring *declaring = declaring_new(kafka, specs, count);
    if (declaring == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory declaring topics");
    declaring->job.mailbox = kafka->mailbox;
    declaring_run(&declaring->job);
    take_over(kafka, declaring);
    const int code = declaring->code;
    if (code != 0)
        shove_error_set(error, code, "%s", declaring->error.text);
    declaring_discard(&declaring->job);
    return code;
}

int shove_kafka_declare_start(struct shove_transport *transport,
                              const struct shove_topic_spec *specs, size_t count, void *opaque) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    struct shove_kafka_declaring *declaring = declaring_new(kafka, specs, count);
    if (declaring == NULL)
        return SHOVE_ENOMEM;
    declaring->opaque = opaque;
    shove_kafka_job_start(kafka->mailbox, &declaring->job);
    return 0;
}
