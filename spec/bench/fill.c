/* fill.c: writes COUNT JSON messages of about 44 bytes with KEYS (10,007) keys: to a topic, or
 * without keys to standard output.
 *
 * fill BROKERS TOPIC COUNT [KEYS], or fill - - COUNT (one body per line, for `shove publish`).
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>

static int body(char *out, size_t size, long i) {
    return snprintf(out, size, "{\"id\":%ld,\"user\":\"u%06ld\",\"amount\":%ld.25}", i, i % 1000003,
                    i % 5000);
}

static int to_stdout(long count) {
    char text[128];
    for (long i = 0; i < count; i++) {
        body(text, sizeof(text), i);
        puts(text);
    }
    return fflush(stdout);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char error[512];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "fill: %s\n", error);
        exit(1);
    }
}

static void produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, long i, long keys) {
    char key[24];
    char text[128];
    int key_size = snprintf(key, sizeof(key), "k%ld", i % keys);
    int size = body(text, sizeof(text), i);
    while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, text, (size_t)size,
                            key, (size_t)key_size, NULL) != 0)
        rd_kafka_poll(producer, 10);
    if (i % 1000 == 0)
        rd_kafka_poll(producer, 0);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: fill BROKERS TOPIC COUNT [KEYS] | fill - - COUNT\n");
        return 64;
    }
    const long count = strtol(argv[3], NULL, 10);
    const long keys = argc == 5 ? strtol(argv[4], NULL, 10) : 10007;
    if (argv[1][0] == '-')
        return to_stdout(count) == 0 ? 0 : 1;
    char error[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[1]);
    set(conf, "linger.ms", "20");
    set(conf, "batch.num.messages", "10000");
    set(conf, "queue.buffering.max.messages", "1000000");
    set(conf, "partitioner", "murmur2");
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
    if (!producer) {
        fprintf(stderr, "fill: %s\n", error);
        return 1;
    }
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, argv[2], NULL);
    for (long i = 0; i < count; i++)
        produce(producer, topic, i, keys);
    const int is_late = rd_kafka_flush(producer, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(producer);
    return is_late;
}
