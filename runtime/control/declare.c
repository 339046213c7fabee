/* declare.c: the list of topics behind an app. Control and cli.
 *
 * A name can come up more than once: two groups on one queue (`for_group`), one DLQ for several
 * queues, a DLQ that is also a queue of its own. It is declared once, by what is strictest: the
 * queue's role before the DLQ's, the larger number of partitions, keyed if any of them is keyed.
 *
 * Holds and DLQ have as many partitions as their queue, so a hop keeps the spread of its keys.
 * `external` means that shove creates nothing for that topic, its holds and DLQ included.
 */
#include "control/declare.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void widen(struct shove_topic_spec *spec, const struct shove_topic_spec *other) {
    if (other->role < spec->role) {
        spec->role = other->role;
        spec->retention_ms = other->retention_ms;
        spec->at = other->at;
    }
    if (other->partitions > spec->partitions)
        spec->partitions = other->partitions;
    if (other->replication_factor > spec->replication_factor)
        spec->replication_factor = other->replication_factor;
    if (other->hold_ms > spec->hold_ms)
        spec->hold_ms = other->hold_ms;
    spec->is_keyed = spec->is_keyed || other->is_keyed;
    spec->is_external = spec->is_external || other->is_external;
    if (spec->as_wide_as == NULL)
        spec->as_wide_as = other->as_wide_as;
}

static void add(struct shove_topic_spec *specs, size_t *count,
                const struct shove_topic_spec *spec) {
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(specs[i].name, spec->name) == 0) {
            widen(&specs[i], spec);
            return;
        }
    }
    specs[(*count)++] = *spec;
}

static void add_topic(struct shove_topic_spec *specs, size_t *count,
                      const struct shove_topic *topic) {
    struct shove_topic_spec spec = {
        .name = topic->name,
        .role = SHOVE_ROLE_MAIN,
        .partitions = topic->partitions,
        .replication_factor = topic->replication_factor,
        .retention_ms = topic->retention_ms,
        .is_keyed = topic->sequencing != SHOVE_UNSEQUENCED,
        .is_external = topic->is_external,
        .at = topic->at,
    };
    add(specs, count, &spec);
    spec.is_keyed = false;
    spec.retention_ms = 0;
    spec.role = SHOVE_ROLE_HOLD;
    /* A sequenced topic's retries wait in place. */
    for (uint32_t i = 0; topic->sequencing == SHOVE_UNSEQUENCED && i < topic->hold_count; i++) {
        spec.name = topic->holds[i];
        spec.hold_ms = topic->holds_ms[i];
        add(specs, count, &spec);
    }
    spec.hold_ms = 0;
    if (topic->dlq != NULL) {
        spec.name = topic->dlq;
        spec.role = SHOVE_ROLE_DLQ;
        add(specs, count, &spec);
    }
    if (topic->poison != NULL) {
        spec.name = topic->poison;
        spec.role = SHOVE_ROLE_POISON;
        spec.is_keyed = true; /* a key's poison is in the partition of its messages */
        /* How many an external topic has is its owner's. */
        spec.as_wide_as = topic->is_external ? topic->name : NULL;
        add(specs, count, &spec);
    }
}

int shove_declare_specs(const struct shove_topology *topology, uint32_t broker,
                        struct shove_topic_spec **out, size_t *count, struct shove_error *error) {
    size_t most = 1; /* never an allocation of nothing */
    for (uint32_t i = 0; i < topology->topic_count; i++)
        most += 3 + topology->topics[i].hold_count;
    struct shove_topic_spec *specs = calloc(most, sizeof *specs);
    if (specs == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory listing the app's topics");
    *count = 0;
    for (uint32_t i = 0; i < topology->topic_count; i++) {
        if (topology->topics[i].broker == broker)
            add_topic(specs, count, &topology->topics[i]);
    }
    *out = specs;
    return 0;
}

static int declare(struct shove_transport *transport, const struct shove_topology *topology,
                   uint32_t broker, const char *only, struct shove_error *error) {
    struct shove_topic_spec *specs = NULL;
    size_t count = 0;
    int code = shove_declare_specs(topology, broker, &specs, &count, error);
    if (code != 0)
        return code;
    size_t from = 0;
    if (only != NULL) {
        while (from < count && strcmp(specs[from].name, only) != 0)
            from++;
        count = from < count ? from + 1 : from;
    }
    if (only != NULL && from == count)
        code = shove_error_set(error, SHOVE_EINVAL, "the app has no topic '%s'", only);
    else
        code = transport->ops->declare(transport, specs + from, count - from, error);
    free(specs);
    return code;
}

int shove_declare_topology(struct shove_transport *transport, const struct shove_topology *topology,
                           uint32_t broker, struct shove_error *error) {
    return declare(transport, topology, broker, NULL, error);
}

int shove_declare_topology_start(struct shove_transport *transport,
                                 const struct shove_topology *topology, uint32_t broker,
                                 void *opaque, struct shove_error *error) {
    if (transport->ops->declare_start == NULL)
        return shove_declare_topology(transport, topology, broker, error);
    struct shove_topic_spec *specs = NULL;
    size_t count = 0;
    int code = shove_declare_specs(topology, broker, &specs, &count, error);
    if (code != 0)
        return code;
    code = transport->ops->declare_start(transport, specs, count, opaque);
    free(specs);
    return code == 0 ? 1 : shove_error_set(error, code, "out of memory declaring the app's topics");
}

int shove_declare_topic(struct shove_transport *transport, const struct shove_topology *topology,
                        uint32_t broker, const char *name, struct shove_error *error) {
    return declare(transport, topology, broker, name, error);
}
