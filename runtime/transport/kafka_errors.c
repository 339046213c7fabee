/* kafka_errors.c: the one table from librdkafka's codes to shove's. Any thread.
 *
 * Codes that begin with two underscores in their name are librdkafka's own, the others came from a
 * broker. A code that is not in the table is a refusal nobody planned for: SHOVE_EBROKER, and the
 * broker's words go with it. Three newer codes stand as numbers, because librdkafka 2.2 has no
 * names for them.
 */
#include "transport/kafka_errors.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const struct translation {
    rd_kafka_resp_err_t from;
    int to;
    bool is_temporary;
} translations[] = {
    {RD_KAFKA_RESP_ERR__TRANSPORT, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR__RESOLVE, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR__WAIT_COORD, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR__NODE_UPDATE, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_NOT_COORDINATOR, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_NOT_CONTROLLER, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT, SHOVE_EAGAIN, true},
    {RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, SHOVE_EUNREACHABLE, true},
    {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, SHOVE_EUNREACHABLE, true},

    {RD_KAFKA_RESP_ERR__SSL, SHOVE_EUNREACHABLE, true}, /* its words may say more */

    {RD_KAFKA_RESP_ERR__TIMED_OUT, SHOVE_ETIMEOUT, true},
    {RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, SHOVE_ETIMEOUT, true},
    {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, SHOVE_ETIMEOUT, false},
    {RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, SHOVE_ETIMEOUT, true},

    {RD_KAFKA_RESP_ERR__AUTHENTICATION, SHOVE_EAUTH, false},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, SHOVE_EAUTH, false},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, SHOVE_EAUTH, false},
    {RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE, SHOVE_EAUTH, false},

    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SHOVE_EDENIED, false},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, SHOVE_EDENIED, false},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, SHOVE_EDENIED, false},
    {RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, SHOVE_EDENIED, false},
    {RD_KAFKA_RESP_ERR_SECURITY_DISABLED, SHOVE_EDENIED, false},

    {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, SHOVE_ENOTOPIC, false},
    {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, SHOVE_ENOTOPIC, false},
    {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, SHOVE_ENOTOPIC, false},
    {(rd_kafka_resp_err_t)100 /* UNKNOWN_TOPIC_ID */, SHOVE_ENOTOPIC, false},

    {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, SHOVE_ETOOLARGE, false},
    {RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, SHOVE_ETOOLARGE, false},
    {RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE, SHOVE_ETOOLARGE, false},

    {RD_KAFKA_RESP_ERR__QUEUE_FULL, SHOVE_EAGAIN, true},
    {RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, SHOVE_EAGAIN, true},
    {RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS, SHOVE_EAGAIN, true},

    {RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, SHOVE_EREVOKED, false},
    {RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, SHOVE_EREVOKED, false},
    {RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, SHOVE_EREVOKED, false},
    {(rd_kafka_resp_err_t)110 /* FENCED_MEMBER_EPOCH */, SHOVE_EREVOKED, false},
    {(rd_kafka_resp_err_t)113 /* STALE_MEMBER_EPOCH */, SHOVE_EREVOKED, false},
    {RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST, SHOVE_EREVOKED, false},

    {RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, SHOVE_EOFFSET, false},
    {RD_KAFKA_RESP_ERR__NO_OFFSET, SHOVE_EOFFSET, false},
    {RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, SHOVE_EOFFSET, false},
    {RD_KAFKA_RESP_ERR__LOG_TRUNCATION, SHOVE_EOFFSET, false},

    {RD_KAFKA_RESP_ERR__DESTROY, SHOVE_ECLOSED, false},
    {RD_KAFKA_RESP_ERR__FATAL, SHOVE_EFATAL, false},
    {RD_KAFKA_RESP_ERR__FENCED, SHOVE_EFATAL, false},
    {RD_KAFKA_RESP_ERR__PURGE_QUEUE, SHOVE_EFATAL, false},
    {RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, SHOVE_EFATAL, false},
    {RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE, SHOVE_EFATAL, false},
    {RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, SHOVE_EFATAL, false},
    {RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, SHOVE_EFATAL, false},

    {RD_KAFKA_RESP_ERR__INVALID_ARG, SHOVE_EINVAL, false},
    {RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, SHOVE_EINVAL, false},
    {RD_KAFKA_RESP_ERR_INVALID_RECORD, SHOVE_EINVAL, false},
    {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_INVALID_PARTITIONS, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_INVALID_CONFIG, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_INVALID_GROUP_ID, SHOVE_ECONFIG, false},
    {RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS, SHOVE_ECONFIG, false},

    {RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP, SHOVE_EBUSY, false},
    {RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE, SHOVE_ENOMEM, false},
    {RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, SHOVE_EIO, true},
    {RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, SHOVE_EUNSUPPORTED, false},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, SHOVE_EUNSUPPORTED, false},
    {RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED, SHOVE_EUNSUPPORTED, false},
    {RD_KAFKA_RESP_ERR__BAD_MSG, SHOVE_ECORRUPT, false},
    {RD_KAFKA_RESP_ERR__BAD_COMPRESSION, SHOVE_ECORRUPT, false},
    {RD_KAFKA_RESP_ERR_INVALID_MSG, SHOVE_ECORRUPT, false},
};

static const struct translation *find(rd_kafka_resp_err_t err) {
    for (size_t i = 0; i < sizeof(translations) / sizeof(translations[0]); i++) {
        if (translations[i].from == err)
            return &translations[i];
    }
    return NULL;
}

int shove_kafka_code(rd_kafka_resp_err_t err) {
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    const struct translation *found = find(err);
    return found != NULL ? found->to : SHOVE_EBROKER;
}

/* Whether the other side would say so again: an alert (RFC 8446, section 6.2) about how this side
 * speaks TLS (40, 70, 71), its certificate (42 to 46, 48, 116), its rights (49) or its proof of who
 * it is (51). Others may be of a moment, as one of a proxy whose backend is away. */
static bool is_final_alert(const char *words) {
    static const long final[] = {40, 42, 43, 44, 45, 46, 48, 49, 51, 70, 71, 116};
    static const char before[] = "SSL alert number ";
    const char *at = strstr(words, before);
    long number = at != NULL ? strtol(at + sizeof before - 1, NULL, 10) : 0;
    for (size_t i = 0; i < sizeof final / sizeof *final; i++) {
        if (final[i] == number)
            return true;
    }
    return false;
}

int shove_kafka_told_code(rd_kafka_resp_err_t err, const char *words) {
    bool is_distrusted =
        err == RD_KAFKA_RESP_ERR__SSL && strstr(words, "certificate verify failed") != NULL;
    /* In TLS 1.3 a client is judged when it has finished the handshake, and has a connection. */
    bool may_be_alert = err == RD_KAFKA_RESP_ERR__SSL || err == RD_KAFKA_RESP_ERR__TRANSPORT;
    if (is_distrusted || (may_be_alert && is_final_alert(words)))
        return SHOVE_EAUTH;
    return shove_kafka_code(err);
}

bool shove_kafka_is_temporary(rd_kafka_resp_err_t err) {
    const struct translation *found = find(err);
    return found != NULL && found->is_temporary;
}
