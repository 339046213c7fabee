/* bare_loop.c: the peer of every consuming figure: librdkafka's batch call in a loop, no handler,
 * no offsets kept.
 *
 * bare_loop BROKERS TOPIC COUNT -> one line: "count seconds_from_first cpu_seconds rss_kib".
 * Configured as shove's consumer is, so that the ratio shows what shove adds and nothing else.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BATCH 1000

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char error[512];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "bare_loop: %s\n", error);
        exit(1);
    }
}

static rd_kafka_t *open_consumer(const char *brokers, const char *topic) {
    char error[512];
    char group[64];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    snprintf(group, sizeof(group), "bare-%d", (int)getpid());
    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", group);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.commit", "false");
    set(conf, "fetch.queue.backoff.ms", "5");
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
    if (!consumer) {
        fprintf(stderr, "bare_loop: %s\n", error);
        exit(1);
    }
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(consumer, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return consumer;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: bare_loop BROKERS TOPIC COUNT\n");
        return 64;
    }
    const long total = strtol(argv[3], NULL, 10);
    rd_kafka_t *consumer = open_consumer(argv[1], argv[2]);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    rd_kafka_message_t *messages[BATCH];
    const double start = now_seconds();
    double first = 0;
    long count = 0;
    while (count < total && now_seconds() - start < 120) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 100, messages, BATCH);
        if (got > 0 && first == 0)
            first = now_seconds();
        for (ssize_t i = 0; i < got; i++) {
            count += messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR;
            rd_kafka_message_destroy(messages[i]);
        }
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("%ld %.6f %.3f %ld\n", count, now_seconds() - first, cpu, usage.ru_maxrss);
    fflush(stdout);
    _exit(count == total ? 0 : 1); /* leaving the group is not what is measured */
}
