/* declare.h: which topics an app needs, and making sure that they are there. Control and cli. */
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

/* Declares all of them. Blocks as transport->declare does, and returns what it does. */
int shove_declare_topology(struct shove_transport *transport, const struct shove_topology *topology,
                           uint32_t broker, struct shove_error *error);

/* The same without waiting for the broker, on the loop's thread: 1 when the transport's `declared`
 * will tell, with `opaque`; 0 or SHOVE_E* when it is over. */
int shove_declare_topology_start(struct shove_transport *transport,
                                 const struct shove_topology *topology, uint32_t broker,
                                 void *opaque, struct shove_error *error);

/* Declares the one called `name`; SHOVE_EINVAL when the app has no such topic on that broker.
 * Blocks, too. */
int shove_declare_topic(struct shove_transport *transport, const struct shove_topology *topology,
                        uint32_t broker, const char *name, struct shove_error *error);

#endif
