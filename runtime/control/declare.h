/* declare.h: which topics an app needs, and making sure that they are there. Control and cli;
 * blocks as transport->declare does. */
#ifndef SHOVE_CONTROL_DECLARE_H
#define SHOVE_CONTROL_DECLARE_H

#include <stddef.h>

#include "base/error.h"
#include "core/topology.h"
#include "transport/transport.h"

/* The topics of the app on one of its brokers, each name once: queues, their holds, their DLQs, in
 * the order of the script. gives *out (one block, free() it; the names borrow the topology). 0 or
 * SHOVE_ENOMEM. */
int shove_declare_specs(const struct shove_topology *topology, uint32_t broker,
                        struct shove_topic_spec **out, size_t *count, struct shove_error *error);

/* Declares all of them. What transport->declare returns; ECONFIG too when an external topic of
 * poisoned keys has fewer partitions than its queue. */
int shove_declare_topology(struct shove_transport *transport, const struct shove_topology *topology,
                           uint32_t broker, struct shove_error *error);

/* Declares the one called `name`; SHOVE_EINVAL when the app has no such topic on that broker. */
int shove_declare_topic(struct shove_transport *transport, const struct shove_topology *topology,
                        uint32_t broker, const char *name, struct shove_error *error);

#endif
