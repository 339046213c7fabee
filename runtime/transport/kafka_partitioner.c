/* kafka_partitioner.c: where a key lands, as Java's default partitioner decides it: 32-bit
 * MurmurHash2 with a fixed seed, made non-negative, modulo the number of partitions. Any process;
 * the embedded and memory transports use it too, so that a key keeps its partition number when an
 * app moves to Kafka. librdkafka's murmur2_random is the same function.
 */
#include <string.h>

#include "transport/transport.h"

#define MURMUR_SEED 0x9747b28cu
#define MURMUR_MULTIPLIER 0x5bd1e995u
#define MURMUR_SHIFT 24

static uint32_t murmur2(const uint8_t *data, uint32_t size) {
    uint32_t hash = MURMUR_SEED ^ size;
    while (size >= 4) {
        uint32_t word;
        memcpy(&word, data, sizeof word);
        word *= MURMUR_MULTIPLIER;
        word ^= word >> MURMUR_SHIFT;
        word *= MURMUR_MULTIPLIER;
        hash *= MURMUR_MULTIPLIER;
        hash ^= word;
        data += 4;
        size -= 4;
    }
    for (uint32_t i = size; i > 0; i--)
        hash ^= (uint32_t)data[i - 1] << (8 * (i - 1));
    if (size > 0)
        hash *= MURMUR_MULTIPLIER;
    hash ^= hash >> 13;
    hash *= MURMUR_MULTIPLIER;
    hash ^= hash >> 15;
    return hash;
}

int32_t shove_transport_partition_for_key(const void *key, size_t key_size,
                                          int32_t partition_count) {
    uint32_t hash = murmur2(key, (uint32_t)key_size);
    return (int32_t)((hash & 0x7fffffffu) % (uint32_t)partition_count);
}
