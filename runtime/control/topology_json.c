/* topology_json.c: JSON of the app's description -> struct shove_topology. Control and cli.
 *
 * The document comes from a worker process, which runs foreign code: nothing about it is taken for
 * granted. Unknown keys are refused (an option that is sent and not read would be silently
 * ignored), and every complaint names the path ("topics[2].holds_ms[0]") or, where the user is to
 * blame, his line. Everything owned hangs in the topology at all times, so a failure releases the
 * whole.
 */
#include "control/topology_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/json_reader.h"

/* --- Brokers */

static void read_properties(struct shove_json_reader *reader, const json_t *object,
                            struct shove_broker *broker) {
    json_t *properties = shove_json_get(reader, object, "kafka", false);
    if (properties == NULL || (json_is_array(properties) && json_array_size(properties) == 0))
        return;
    if (!json_is_object(properties)) {
        shove_json_fail(reader, "kafka", "expected an object, got %s",
                        shove_json_type_name(properties));
        return;
    }
    broker->properties =
        shove_json_new_array(reader, json_object_size(properties), sizeof *broker->properties);
    const char *name;
    json_t *value;
    json_object_foreach(properties, name, value) {
        if (!json_is_string(value))
            shove_json_fail(reader, "kafka", "expected strings, got %s for %s",
                            shove_json_type_name(value), name);
        if (reader->rc < 0)
            return;
        struct shove_property *property = &broker->properties[broker->property_count++];
        property->name = shove_json_copy_text(reader, name);
        property->value = shove_json_copy_text(reader, json_string_value(value));
    }
}

static void read_broker(struct shove_json_reader *reader, json_t *object,
                        struct shove_broker *broker) {
    static const char *const known[] = {"url", "kafka", "at", NULL};
    broker->at = shove_json_get_text(reader, object, "at", false);
    reader->at = broker->at;
    broker->url = shove_json_get_text(reader, object, "url", true);
    read_properties(reader, object, broker);
    shove_json_refuse_unknown(reader, object, known);
}

/* --- Topics */

static void read_holds(struct shove_json_reader *reader, const json_t *object,
                       struct shove_topic *topic) {
    json_t *list;
    size_t count = shove_json_get_list(reader, object, "holds_ms", true, &list);
    topic->holds_ms = shove_json_new_array(reader, count, sizeof *topic->holds_ms);
    topic->holds = shove_json_new_array(reader, count, sizeof *topic->holds);
    if (reader->rc < 0)
        return;
    topic->hold_count = (uint32_t)count;
    for (size_t i = 0; i < count && reader->rc == 0; i++) {
        char key[32], name[SHOVE_NAME_SIZE];
        snprintf(key, sizeof key, "holds_ms[%zu]", i);
        topic->holds_ms[i] =
            shove_json_to_whole(reader, json_array_get(list, i), key, 1, INT64_MAX);
        if (reader->rc == 0 &&
            shove_topology_hold_name(topic->name, topic->for_group, topic->holds_ms[i], name,
                                     reader->error) < 0)
            shove_json_fail_at_line(reader);
        if (reader->rc == 0)
            topic->holds[i] = shove_json_copy_text(reader, name);
    }
}

/* false or null: none; true: the derived name; a string: that name. */
static void read_dlq(struct shove_json_reader *reader, const json_t *object,
                     struct shove_topic *topic) {
    json_t *value = shove_json_get(reader, object, "dlq", false);
    char name[SHOVE_NAME_SIZE];
    if (value == NULL || json_is_false(value))
        return;
    if (json_is_string(value)) {
        topic->dlq = shove_json_copy_text(reader, json_string_value(value));
    } else if (!json_is_true(value)) {
        shove_json_fail(reader, "dlq", "expected a boolean or a string, got %s",
                        shove_json_type_name(value));
    } else if (shove_topology_dlq_name(topic->name, topic->for_group, name, reader->error) < 0) {
        shove_json_fail_at_line(reader);
    } else {
        topic->dlq = shove_json_copy_text(reader, name);
    }
}

static void read_poison(struct shove_json_reader *reader, struct shove_topic *topic) {
    char name[SHOVE_NAME_SIZE];
    if (reader->rc < 0 || topic->sequencing != SHOVE_SEQUENCED_FAIL_ALL)
        return;
    if (shove_topology_poison_name(topic->name, topic->for_group, name, reader->error) < 0)
        shove_json_fail_at_line(reader);
    else
        topic->poison = shove_json_copy_text(reader, name);
}

static void read_topic(struct shove_json_reader *reader, json_t *object,
                       struct shove_topic *topic) {
    static const char *const known[] = {"name",
                                        "broker",
                                        "for_group",
                                        "holds_ms",
                                        "dlq",
                                        "partitions",
                                        "replication_factor",
                                        "retention_ms",
                                        "sequenced",
                                        "key",
                                        "codec",
                                        "external",
                                        "allow_message_loss",
                                        "at",
                                        NULL};
    static const char *const orders[] = {[SHOVE_UNSEQUENCED] = NULL,
                                         [SHOVE_SEQUENCED_SKIP] = "skip",
                                         [SHOVE_SEQUENCED_FAIL_ALL] = "fail_all"};
    static const char *const codecs[] = {
        [SHOVE_CODEC_JSON] = "json", [SHOVE_CODEC_RAW] = "raw", [SHOVE_CODEC_CUSTOM] = "custom"};
    topic->at = shove_json_get_text(reader, object, "at", true);
    reader->at = topic->at;
    topic->name = shove_json_get_text(reader, object, "name", true);
    topic->broker = shove_json_get_count(reader, object, "broker", 0);
    topic->for_group = shove_json_get_text(reader, object, "for_group", false);
    topic->partitions = (int32_t)shove_json_get_whole(reader, object, "partitions", 1, INT32_MAX);
    topic->replication_factor =
        (int32_t)shove_json_get_whole(reader, object, "replication_factor", 1, INT16_MAX);
    topic->retention_ms = shove_json_get_whole(reader, object, "retention_ms", 0, INT64_MAX);
    topic->sequencing = (enum shove_sequencing)shove_json_get_choice(reader, object, "sequenced",
                                                                     orders, 3, SHOVE_UNSEQUENCED);
    topic->codec = (enum shove_codec)shove_json_get_choice(reader, object, "codec", codecs, 3, -1);
    topic->has_key = shove_json_get_bool(reader, object, "key", true);
    topic->is_external = shove_json_get_bool(reader, object, "external", true);
    topic->allows_message_loss = shove_json_get_bool(reader, object, "allow_message_loss", true);
    if (reader->rc == 0) { /* names are derived from a name */
        read_holds(reader, object, topic);
        read_dlq(reader, object, topic);
        read_poison(reader, topic);
    }
    shove_json_refuse_unknown(reader, object, known);
}

/* --- Groups */

static enum shove_outcome get_timeout_outcome(struct shove_json_reader *reader,
                                              const json_t *object) {
    static const char *const names[] = {"ack", "retry", "reject", "defer"};
    static const enum shove_outcome outcomes[] = {SHOVE_OUTCOME_ACK, SHOVE_OUTCOME_RETRY,
                                                  SHOVE_OUTCOME_REJECT, SHOVE_OUTCOME_DEFER};
    return outcomes[shove_json_get_choice(reader, object, "timeout_outcome", names, 4, -1)];
}

static void resolve_group_id(struct shove_json_reader *reader, const json_t *object,
                             const struct shove_topology *topology, struct shove_group *group) {
    char name[SHOVE_NAME_SIZE];
    char *explicit_id = shove_json_get_text(reader, object, "group_id", false);
    if (reader->rc == 0 && group->topic >= topology->topic_count)
        shove_json_fail(reader, "topic", "there is no topic number %u", group->topic);
    if (reader->rc == 0) {
        const struct shove_topic *topic = &topology->topics[group->topic];
        bool is_dead_letters = group->kind == SHOVE_GROUP_DEAD_LETTERS;
        const char *queue = shove_topology_source(topology, group);
        if (queue == NULL) {
            shove_error_set(reader->error, SHOVE_ECONFIG,
                            "dead letters of topic '%s' are to be handled, but it has no dlq: give "
                            "it dlq = true",
                            topic->name);
            shove_json_fail_at_line(reader);
        } else if (shove_topology_group_id(
                       explicit_id, queue, is_dead_letters ? NULL : topic->for_group,
                       !is_dead_letters && topic->sequencing != SHOVE_UNSEQUENCED, name,
                       reader->error) < 0) {
            shove_json_fail_at_line(reader);
        } else {
            group->group_id = shove_json_copy_text(reader, name);
        }
    }
    free(explicit_id);
}

static void read_group(struct shove_json_reader *reader, json_t *object,
                       const struct shove_topology *topology, struct shove_group *group) {
    static const char *const known[] = {"topic",
                                        "kind",
                                        "group_id",
                                        "consumers_min",
                                        "consumers_max",
                                        "prefetch",
                                        "concurrent",
                                        "max_retries",
                                        "max_crashes",
                                        "handler_timeout_ms",
                                        "timeout_outcome",
                                        "auto_offset_reset",
                                        "max_message_size_bytes",
                                        "max_pending_per_key",
                                        "audit_timeout_ms",
                                        "at",
                                        NULL};
    static const char *const kinds[] = {
        [SHOVE_GROUP_CONSUMER] = "consumer", [SHOVE_GROUP_DEAD_LETTERS] = "dead_letters"};
    static const char *const resets[] = {[SHOVE_RESET_EARLIEST] = "earliest",
                                         [SHOVE_RESET_LATEST] = "latest",
                                         [SHOVE_RESET_NONE] = "none"};
    group->at = shove_json_get_text(reader, object, "at", true);
    reader->at = group->at;
    group->topic = shove_json_get_count(reader, object, "topic", 0);
    group->kind =
        (enum shove_group_kind)shove_json_get_choice(reader, object, "kind", kinds, 2, -1);
    group->consumers_min = shove_json_get_count(reader, object, "consumers_min", 0);
    group->consumers_max = shove_json_get_count(reader, object, "consumers_max", 1);
    group->prefetch = shove_json_get_count(reader, object, "prefetch", 1);
    group->is_concurrent = shove_json_get_bool(reader, object, "concurrent", true);
    group->max_retries = shove_json_get_count(reader, object, "max_retries", 0);
    group->max_crashes = shove_json_get_count(reader, object, "max_crashes", 0);
    group->handler_timeout_ms =
        shove_json_get_whole(reader, object, "handler_timeout_ms", 1, INT64_MAX);
    group->audit_timeout_ms =
        shove_json_get_whole(reader, object, "audit_timeout_ms", 0, SHOVE_AUDIT_TIMEOUT_MAX_MS);
    group->timeout_outcome = get_timeout_outcome(reader, object);
    group->reset =
        (enum shove_reset)shove_json_get_choice(reader, object, "auto_offset_reset", resets, 3, -1);
    group->max_message_size_bytes =
        shove_json_get_whole(reader, object, "max_message_size_bytes", 1, INT64_MAX);
    group->max_pending_per_key = shove_json_get_count(reader, object, "max_pending_per_key", 1);
    resolve_group_id(reader, object, topology, group);
    shove_json_refuse_unknown(reader, object, known);
}

/* --- The autoscaler's rule */

static void read_autoscale(struct shove_json_reader *reader, const json_t *document,
                           struct shove_topology *topology) {
    static const char *const known[] = {"poll_ms",     "up",       "down", "hysteresis_ms",
                                        "cooldown_ms", "strategy", NULL};
    struct shove_autoscale_rule *rule = &topology->autoscale;
    json_t *object = shove_json_get(reader, document, "autoscale", true);
    if (object == NULL)
        return;
    if (!json_is_object(object)) {
        shove_json_fail(reader, "autoscale", "expected an object, got %s",
                        shove_json_type_name(object));
        return;
    }
    snprintf(reader->path, sizeof reader->path, "autoscale");
    rule->poll_ms = shove_json_get_whole(reader, object, "poll_ms", 1, INT32_MAX);
    rule->up = shove_json_get_number(reader, object, "up", 0, SHOVE_AUTOSCALE_TIMES_MAX);
    rule->down = shove_json_get_number(reader, object, "down", 0, SHOVE_AUTOSCALE_TIMES_MAX);
    rule->hysteresis_ms = shove_json_get_whole(reader, object, "hysteresis_ms", 0, INT32_MAX);
    rule->cooldown_ms = shove_json_get_whole(reader, object, "cooldown_ms", 0, INT32_MAX);
    rule->has_strategy = shove_json_get_bool(reader, object, "strategy", true);
    if (reader->rc == 0 && rule->up <= rule->down)
        shove_json_fail(reader, "up", "%g is not more than down, %g", rule->up, rule->down);
    shove_json_refuse_unknown(reader, object, known);
    reader->path[0] = '\0';
}

/* --- The document */

/* Element `index` of a list, as an object with its path set. */
static json_t *enter(struct shove_json_reader *reader, json_t *list, const char *key,
                     size_t index) {
    json_t *object = json_array_get(list, index);
    reader->at = NULL;
    snprintf(reader->path, sizeof reader->path, "%s[%zu]", key, index);
    if (!json_is_object(object))
        shove_json_fail(reader, "", "expected an object, got %s", shove_json_type_name(object));
    return object;
}

static void leave(struct shove_json_reader *reader) {
    reader->path[0] = '\0';
    reader->at = NULL;
}

static void read_topics(struct shove_json_reader *reader, const json_t *document,
                        struct shove_topology *topology) {
    json_t *list;
    size_t count = shove_json_get_list(reader, document, "topics", true, &list);
    topology->topics = shove_json_new_array(reader, count, sizeof *topology->topics);
    for (size_t i = 0; i < count && reader->rc == 0; i++) {
        json_t *object = enter(reader, list, "topics", i);
        topology->topic_count = (uint32_t)i + 1;
        if (reader->rc == 0)
            read_topic(reader, object, &topology->topics[i]);
    }
    leave(reader);
}

static void read_brokers(struct shove_json_reader *reader, const json_t *document,
                         struct shove_topology *topology) {
    json_t *list;
    size_t count = shove_json_get_list(reader, document, "brokers", true, &list);
    if (count == 0)
        shove_json_fail(reader, "brokers", "the list is empty");
    topology->brokers = shove_json_new_array(reader, count, sizeof *topology->brokers);
    for (size_t i = 0; i < count && reader->rc == 0; i++) {
        json_t *object = enter(reader, list, "brokers", i);
        topology->broker_count = (uint32_t)i + 1;
        if (reader->rc == 0)
            read_broker(reader, object, &topology->brokers[i]);
    }
    leave(reader);
}

static void read_groups(struct shove_json_reader *reader, const json_t *document,
                        struct shove_topology *topology) {
    json_t *list;
    size_t count = shove_json_get_list(reader, document, "groups", true, &list);
    topology->groups = shove_json_new_array(reader, count, sizeof *topology->groups);
    for (size_t i = 0; i < count && reader->rc == 0; i++) {
        json_t *object = enter(reader, list, "groups", i);
        topology->group_count = (uint32_t)i + 1;
        if (reader->rc == 0)
            read_group(reader, object, topology, &topology->groups[i]);
    }
    leave(reader);
}

/* gives the texts of a list, `*out_count` of them. */
static char **read_texts(struct shove_json_reader *reader, const json_t *document, const char *key,
                         uint32_t *out_count) {
    json_t *list;
    size_t count = shove_json_get_list(reader, document, key, false, &list);
    char **texts = shove_json_new_array(reader, count, sizeof *texts);
    for (size_t i = 0; i < count && reader->rc == 0; i++) {
        json_t *value = json_array_get(list, i);
        if (!json_is_string(value))
            shove_json_fail(reader, key, "expected strings, got %s", shove_json_type_name(value));
        if (reader->rc == 0)
            texts[i] = shove_json_copy_text(reader, json_string_value(value));
        *out_count = (uint32_t)i + 1;
    }
    return texts;
}

static void read_document(struct shove_json_reader *reader, json_t *document,
                          struct shove_topology *topology) {
    static const char *const known[] = {"brokers", "at",     "on_start", "autoscale", "warnings",
                                        "files",   "topics", "groups",   NULL};
    read_brokers(reader, document, topology);
    topology->at = shove_json_get_text(reader, document, "at", false);
    topology->has_on_start = shove_json_get_bool(reader, document, "on_start", false);
    read_autoscale(reader, document, topology);
    topology->warnings = read_texts(reader, document, "warnings", &topology->warning_count);
    topology->files = read_texts(reader, document, "files", &topology->file_count);
    read_topics(reader, document, topology);
    read_groups(reader, document, topology);
    shove_json_refuse_unknown(reader, document, known);
}

int shove_topology_parse(const char *json, size_t size, struct shove_topology *out,
                         struct shove_error *error) {
    struct shove_json_reader reader = {.error = error, .what = "the description of the app"};
    json_error_t syntax;
    *out = (struct shove_topology){0};
    json_t *document = json_loadb(json, size, JSON_REJECT_DUPLICATES, &syntax);
    if (document == NULL)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "the description of the app is not JSON: %s (at byte %d)",
                               syntax.text, syntax.position);
    if (!json_is_object(document))
        shove_json_fail(&reader, "", "expected an object, got %s", shove_json_type_name(document));
    else
        read_document(&reader, document, out);
    json_decref(document);
    if (reader.rc == 0)
        reader.rc = shove_topology_check(out, error);
    if (reader.rc < 0)
        shove_topology_release(out);
    return reader.rc;
}
