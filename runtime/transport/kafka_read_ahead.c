/* kafka_read_ahead.c: see kafka_read_ahead.h.
 *
 * librdkafka bounds the queue of each partition, not of all: at 16,000 messages a topic of 100
 * partitions and slow handlers took 770 MB. A message costs 400 bytes there besides its own. So
 * what 8 partitions have is shared by as many as there are. Less than the minimum would let a
 * partition run dry between two fetches. A fetch of 1 MiB, the usual size, is 15,000 small messages
 * on top.
 */
#include "transport/kafka_read_ahead.h"

#define SHARES 8
#define MESSAGES (SHARES * 16000)
#define KIB (SHARES * 8192)
#define MESSAGES_MIN 1000
#define KIB_MIN 256
#define FETCH_BYTES (SHARES * 262144L)
#define FETCH_BYTES_MIN 65536

struct shove_kafka_read_ahead shove_kafka_read_ahead(long partitions) {
    long sharing = partitions > SHARES ? partitions : SHARES;
    struct shove_kafka_read_ahead ahead = {
        .messages = MESSAGES / sharing, .kib = KIB / sharing, .fetch_bytes = FETCH_BYTES / sharing};
    if (ahead.messages < MESSAGES_MIN)
        ahead.messages = MESSAGES_MIN;
    if (ahead.kib < KIB_MIN)
        ahead.kib = KIB_MIN;
    if (ahead.fetch_bytes < FETCH_BYTES_MIN)
        ahead.fetch_bytes = FETCH_BYTES_MIN;
    return ahead;
}
