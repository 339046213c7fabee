/* kafka_read_ahead.h: how far ahead of the handlers a consumer fetches. Pure. */
#ifndef SHOVE_TRANSPORT_KAFKA_READ_AHEAD_H
#define SHOVE_TRANSPORT_KAFKA_READ_AHEAD_H

struct shove_kafka_read_ahead { /* for each partition, whichever is reached first */
    long messages;
    long kib;
    long fetch_bytes; /* what one fetch may bring at most, by which a queue overshoots */
};

/* `partitions`: of the group's topic, all of which one member may get; 0: not known. */
struct shove_kafka_read_ahead shove_kafka_read_ahead(long partitions);

#endif
