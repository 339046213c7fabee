/* kafka_errors.h: librdkafka's error codes in shove's words. Any thread. */
#ifndef SHOVE_TRANSPORT_KAFKA_ERRORS_H
#define SHOVE_TRANSPORT_KAFKA_ERRORS_H

#include <stdbool.h>

#include <librdkafka/rdkafka.h>

/* SHOVE_E* for a code of librdkafka's; 0 for none. What is in no group below is SHOVE_EBROKER. */
int shove_kafka_code(rd_kafka_resp_err_t err);

/* The same for an error that came with words, which tell a TLS handshake that either side refused
 * for good from one that broke off or met something that speaks no TLS: a broker that is away, or
 * what stands in its place. */
int shove_kafka_told_code(rd_kafka_resp_err_t err, const char *words);

/* Whether asking again may help: the broker is away, elects a leader, or has not loaded the group
 * yet. */
bool shove_kafka_is_temporary(rd_kafka_resp_err_t err);

#endif
