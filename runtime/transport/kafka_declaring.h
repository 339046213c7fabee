/* kafka_declaring.h: a declaration of topics under way; for kafka_admin.c and kafka_retention.c.
 *
 * It has all it needs and keeps all it learns: the part that waits for the broker touches nothing
 * else, so that it may run on a thread of its own beside the loop's. What was learned is taken over
 * on the loop's thread.
 */
#ifndef SHOVE_TRANSPORT_KAFKA_DECLARING_H
#define SHOVE_TRANSPORT_KAFKA_DECLARING_H

#include "transport/kafka.h"

struct shove_kafka_declaration {  /* of one topic */
    struct shove_topic_spec spec; /* its texts are owned */
    long partition_count;         /* 0: not there */
    bool is_led;
    bool has_retention;   /* it was told */
    int64_t retention_ms; /* as in shove_transport_ops */
};

struct shove_kafka_declaring {
    struct shove_kafka_job job; /* first */
    struct shove_kafka_client *client;
    int64_t timeout_ms;
    int64_t until_ms; /* set when it begins */
    int64_t max_message_size_bytes;
    bool has_warned_of_replication;
    bool are_there; /* all topics, as they were asked for */
    int code;
    struct shove_error error; /* with a code that is not 0 */
    void *opaque;
    size_t count;
    struct shove_kafka_declaration declarations[];
};

/* Waits for an event, at most timeout_ms and not beyond the transport's close. NULL: none came. */
rd_kafka_event_t *shove_kafka_declaring_poll(const struct shove_kafka_declaring *declaring,
                                             rd_kafka_queue_t *queue, int64_t timeout_ms);

/* ---- kafka_retention.c ---- */

/* Asks how long the topics keep their records; silent when that is not told. ECONFIG for a poison
 * topic that is known to forget what it must keep. */
int shove_kafka_learn_retention(struct shove_kafka_declaring *declaring);

#endif
