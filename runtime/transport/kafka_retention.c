/* kafka_retention.c: how long Kafka keeps the records of a topic, asked once, when it is declared.
 *
 * Control and cli, on whichever thread declares (kafka_declaring.h); blocks for 2 ASK_MS and a bit
 * at most. Nothing depends on an answer: a client may lack the right to ask (DescribeConfigs), and
 * then it is not known.
 *
 * Where the answer is that a topic of poisoned keys forgets them, it is refused: deleted by age, or
 * never compacted, it would let through what must wait, or grow without bound.
 *
 * What a topic keeps is the broker's to say: its default, or what somebody has set since. A
 * script's `retention` is only given to topics that shove creates, so where a topic has another,
 * that is said.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/kafka.h"
#include "transport/kafka_declaring.h"

#define ASK_MS 2000 /* at most: it is good to know, not needed */

static const char *value_of(const rd_kafka_ConfigResource_t *resource, const char *name) {
    size_t count = 0;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0)
            return rd_kafka_ConfigEntry_value(entries[i]);
    }
    return NULL;
}

/* As in shove_transport_ops. */
static int64_t retention_of(const rd_kafka_ConfigResource_t *resource) {
    if (rd_kafka_ConfigResource_error(resource) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    const char *policy = value_of(resource, "cleanup.policy");
    const char *kept = value_of(resource, "retention.ms");
    if (policy == NULL || kept == NULL)
        return 0;
    if (strstr(policy, "delete") == NULL)
        return -1;
    int64_t retention_ms = strtoll(kept, NULL, 10);
    return retention_ms < 0 ? -1 : retention_ms;
}

static void warn_of_difference(const struct shove_topic_spec *spec, int64_t retention_ms) {
    if (spec->retention_ms <= 0 || retention_ms == 0 || retention_ms == spec->retention_ms)
        return;
    char kept[48] = "everything";
    if (retention_ms > 0)
        snprintf(kept, sizeof kept, "%" PRId64 " s", retention_ms / 1000);
    shove_log(SHOVE_LOG_WARN,
              "%s: topic %s keeps %s, not the %" PRId64
              " s of `retention`: that is for topics which "
              "shove creates, and is not changed in one that exists",
              spec->at != NULL ? spec->at : "topic", spec->name, kept, spec->retention_ms / 1000);
}

static int check_policy(const struct shove_topic_spec *spec,
                        const rd_kafka_ConfigResource_t *resource, struct shove_error *error) {
    const char *policy = value_of(resource, "cleanup.policy");
    if (spec->role != SHOVE_ROLE_POISON || policy == NULL ||
        (strstr(policy, "compact") != NULL && strstr(policy, "delete") == NULL))
        return 0;
    return shove_error_set(
        error, SHOVE_ECONFIG,
        "%s: topic '%s' has cleanup.policy=%s, and shove keeps there which keys are poisoned, "
        "which must be compacted and never deleted: set it to compact alone (kafka-configs "
        "--alter --topic %s --add-config cleanup.policy=compact), or use a new topic",
        spec->at != NULL ? spec->at : "topic", spec->name, policy, spec->name);
}

static int learn(struct shove_kafka_declaring *declaring,
                 const rd_kafka_ConfigResource_t *resource) {
    const char *name = rd_kafka_ConfigResource_name(resource);
    int code = 0;
    for (size_t i = 0; i < declaring->count && code == 0; i++) {
        struct shove_kafka_declaration *declaration = &declaring->declarations[i];
        if (strcmp(declaration->spec.name, name) != 0)
            continue;
        declaration->retention_ms = retention_of(resource);
        declaration->has_retention = true;
        warn_of_difference(&declaration->spec, declaration->retention_ms);
        code = check_policy(&declaration->spec, resource, &declaring->error);
    }
    return code;
}

/* Any broker can answer; without being told which, librdkafka waits for the controller, which may
 * be gone. -1: none. */
static int32_t find_broker(rd_kafka_t *rk, int timeout_ms) {
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(rk, 0, NULL, &metadata, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return -1;
    int32_t id = metadata->orig_broker_id;
    rd_kafka_metadata_destroy(metadata);
    return id;
}

static rd_kafka_event_t *ask(const struct shove_kafka_declaring *declaring,
                             rd_kafka_ConfigResource_t **resources, size_t count) {
    char text[256];
    rd_kafka_t *rk = declaring->client->rk;
    int timeout_ms = declaring->timeout_ms < ASK_MS ? (int)declaring->timeout_ms : ASK_MS;
    int32_t broker = find_broker(rk, timeout_ms);
    if (broker < 0)
        return NULL;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_AdminOptions_set_broker(options, broker, text, sizeof text);
    rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, text, sizeof text);
    rd_kafka_DescribeConfigs(rk, resources, count, options, queue);
    rd_kafka_event_t *event = shove_kafka_declaring_poll(declaring, queue, timeout_ms + 500);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    return event;
}

int shove_kafka_learn_retention(struct shove_kafka_declaring *declaring) {
    rd_kafka_ConfigResource_t **resources = calloc(declaring->count + 1, sizeof(*resources));
    if (resources == NULL)
        return 0;
    size_t asked = 0;
    for (size_t i = 0; i < declaring->count; i++) {
        const struct shove_topic_spec *spec = &declaring->declarations[i].spec;
        if (spec->role != SHOVE_ROLE_HOLD)
            resources[asked++] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, spec->name);
    }
    rd_kafka_event_t *event = asked > 0 ? ask(declaring, resources, asked) : NULL;
    rd_kafka_ConfigResource_destroy_array(resources, asked);
    free(resources);
    if (event == NULL)
        return 0;
    int code = 0;
    size_t answered = 0;
    const rd_kafka_ConfigResource_t **answers = NULL;
    if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
        answers = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result(event), &answered);
    for (size_t i = 0; i < answered && code == 0; i++)
        code = learn(declaring, answers[i]);
    rd_kafka_event_destroy(event);
    return code;
}

int64_t shove_kafka_retention_ms(struct shove_transport *transport, const char *topic) {
    const struct shove_kafka_topic *known =
        shove_kafka_topic_get((struct shove_kafka *)transport, topic);
    return known != NULL ? known->retention_ms : 0;
}
