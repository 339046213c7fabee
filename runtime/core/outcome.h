/* outcome.h: what becomes of a message. The one decision function that every settle path uses; its
 * table is in outcome.c. Pure; control only.
 */
#ifndef SHOVE_CORE_OUTCOME_H
#define SHOVE_CORE_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

/* What a handler, or the runtime on its behalf, says of one message. Crosses the completion ring as
 * a number. */
enum shove_outcome {
    SHOVE_OUTCOME_ACK = 1,
    SHOVE_OUTCOME_RETRY,
    SHOVE_OUTCOME_REJECT,
    SHOVE_OUTCOME_DEFER,
    SHOVE_OUTCOME_ERROR,       /* a Lua error, or a return value that is no outcome */
    SHOVE_OUTCOME_TIMEOUT,     /* ran past handler_timeout */
    SHOVE_OUTCOME_OVERSIZE,    /* larger than max_message_size: never reached the handler */
    SHOVE_OUTCOME_UNDECODABLE, /* the codec refused the payload */
    SHOVE_OUTCOME_CRASHED,     /* its worker died while it ran */
    SHOVE_OUTCOME_POISONED,    /* its key is poisoned: it never reached the handler */
    SHOVE_OUTCOME_COUNT_
};

const char *shove_outcome_name(enum shove_outcome outcome); /* "ack", "retry", ... */

/* X(code, text): the death reasons, as in the header Shove-Death-Reason and the metric label. */
#define SHOVE_REASON_TABLE(X)                                                                      \
    X(SHOVE_REASON_NONE, "")                                                                       \
    X(SHOVE_REASON_REJECTED, "rejected")                                                           \
    X(SHOVE_REASON_MAX_RETRIES, "max_retries_exceeded")                                            \
    X(SHOVE_REASON_OVERSIZE, "oversize")                                                           \
    X(SHOVE_REASON_UNDECODABLE, "deserialize")                                                     \
    X(SHOVE_REASON_CRASHED, "crashed")                                                             \
    X(SHOVE_REASON_TIMEOUT, "timeout")                                                             \
    X(SHOVE_REASON_POISONED, "sequence_poisoned")
#define SHOVE_REASON_ENUM(code, text) code,
enum shove_reason { SHOVE_REASON_TABLE(SHOVE_REASON_ENUM) SHOVE_REASON_COUNT_ };
#undef SHOVE_REASON_ENUM
const char *shove_reason_name(enum shove_reason reason);

/* What a group and its topic say; see core/topology.h. */
struct shove_policy {
    const int64_t *holds_ms; /* borrowed, ascending */
    uint32_t hold_count;
    uint32_t max_retries;
    uint32_t max_crashes;
    enum shove_outcome timeout_outcome; /* RETRY, REJECT, DEFER or ACK */
    bool has_dlq;
    bool is_sequenced;
    bool poisons; /* a message that dies takes all that follow under its key with it */
};

struct shove_attempt { /* what is known of the message */
    enum shove_outcome outcome;
    uint32_t retry_count; /* retries so far; 0 on the first call */
    uint32_t crashes;     /* including the present one when outcome is CRASHED */
};

enum shove_hop_kind {
    SHOVE_HOP_DONE,   /* close the slot */
    SHOVE_HOP_HOLD,   /* produce to the hold topic of `tier`, close when acknowledged */
    SHOVE_HOP_WAIT,   /* no hold topic (or sequenced): stay open, handle again after delay_ms */
    SHOVE_HOP_AGAIN,  /* handle again at once (after a crash) */
    SHOVE_HOP_DEAD,   /* produce to the DLQ, close when acknowledged */
    SHOVE_HOP_DISCARD /* no DLQ: close, warn, count as discarded */
};

struct shove_hop {
    enum shove_hop_kind kind;
    enum shove_reason reason;   /* of DEAD and DISCARD */
    uint32_t tier;              /* of HOLD */
    uint32_t retry_count;       /* of the next handling */
    int64_t delay_ms;           /* of HOLD and WAIT */
    bool warns_defer_sequenced; /* defer on a sequenced topic was taken as retry */
    bool poisons; /* of DEAD and DISCARD: its key, if it has one, is poisoned before that */
};

/* Without holds a retry waits this long where it is. */
#define SHOVE_RETRY_WITHOUT_HOLD_MS 1000

struct shove_hop shove_outcome_decide(const struct shove_policy *policy,
                                      const struct shove_attempt *attempt);

/* What becomes of a HOLD or DEAD hop whose topic takes no record of that size. */
struct shove_hop shove_outcome_refused(const struct shove_hop *refused);

#endif
