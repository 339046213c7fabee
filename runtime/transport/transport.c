/* transport.c: which transport a broker's address means, and a rule that all of them share. Control
 * and cli, any thread; no state. */
#include "transport/transport.h"

#include <string.h>

struct scheme {
    const char *prefix;
    const struct shove_transport_ops *ops;
};

static const struct scheme schemes[] = {
    {"kafka://", &shove_kafka_ops},
    {"embedded:", &shove_embedded_ops},
    {"memory:", &shove_memory_ops},
};

int shove_transport_find(const char *broker, const struct shove_transport_ops **ops,
                         const char **address, struct shove_error *error) {
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        size_t size = strlen(schemes[i].prefix);
        if (strncmp(broker, schemes[i].prefix, size) != 0)
            continue;
        const char *rest = broker + size;
        bool is_memory = schemes[i].ops == &shove_memory_ops;
        if (is_memory != (*rest == '\0'))
            break;
        *ops = schemes[i].ops;
        *address = rest;
        return 0;
    }
    return shove_error_set(error, SHOVE_ECONFIG,
                           "broker '%s' is not an address: use \"kafka://host1:9092,host2:9092\", "
                           "\"embedded:./file.db\" or \"memory:\"",
                           broker);
}

int shove_transport_check_width(const struct shove_topic_spec *spec, long partitions, long least,
                                struct shove_error *error) {
    if (partitions >= least)
        return 0;
    return shove_error_set(error, SHOVE_ECONFIG,
                           "%s: topic '%s' is external and has fewer partitions (%ld) than its "
                           "queue '%s' (%ld): the poisoned keys of a partition are kept in the one "
                           "of the same number, so give it %ld",
                           spec->at != NULL ? spec->at : "topic", spec->name, partitions,
                           spec->as_wide_as, least, least);
}
