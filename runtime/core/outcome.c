/* outcome.c: outcome -> next hop. Pure; control only.
 *
 * The table, for a message that was retried n times:
 *
 *   ack                       done
 *   retry, error              n < max_retries: the hold of tier min(n, last), n + 1 next time
 *                             else dead (max_retries_exceeded)
 *   defer                     the first hold, n next time
 *                             sequenced: as retry, with a warning
 *   reject                    dead (rejected)
 *   oversize, undecodable     dead (oversize, deserialize)
 *   timeout                   as the configured outcome says, but a reject is dead (timeout)
 *   crashed                   again at once, n next time
 *                             when its crashes reach max_crashes: dead (crashed)
 *   poisoned                  dead (sequence_poisoned)
 *
 * A hold where there is no hold topic, or on a sequenced topic, where a copy that travels could be
 * overtaken, or whose topic takes no record of that size, is a wait in place. Dead without a DLQ is
 * discarded; where the DLQ takes no record of that size, it stays dead and uncommitted: the only
 * copy. Nothing else in shove decides any of this.
 */
#include "core/outcome.h"

#include <stddef.h>

static struct shove_hop die(const struct shove_policy *policy, const struct shove_attempt *attempt,
                            enum shove_reason reason) {
    return (struct shove_hop){.kind = policy->has_dlq ? SHOVE_HOP_DEAD : SHOVE_HOP_DISCARD,
                              .reason = reason,
                              .poisons = policy->poisons && reason != SHOVE_REASON_POISONED,
                              .retry_count = attempt->retry_count};
}

/* Not now: in the hold of `tier`, or where it is. */
static struct shove_hop delay(const struct shove_policy *policy, uint32_t tier,
                              uint32_t next_retry_count) {
    bool has_holds = policy->hold_count > 0;
    return (struct shove_hop){
        .kind = has_holds && !policy->is_sequenced ? SHOVE_HOP_HOLD : SHOVE_HOP_WAIT,
        .tier = tier,
        .delay_ms = has_holds ? policy->holds_ms[tier] : SHOVE_RETRY_WITHOUT_HOLD_MS,
        .retry_count = next_retry_count};
}

static struct shove_hop retry(const struct shove_policy *policy,
                              const struct shove_attempt *attempt) {
    if (attempt->retry_count >= policy->max_retries)
        return die(policy, attempt, SHOVE_REASON_MAX_RETRIES);
    uint32_t last = policy->hold_count > 0 ? policy->hold_count - 1 : 0;
    uint32_t tier = attempt->retry_count < last ? attempt->retry_count : last;
    return delay(policy, tier, attempt->retry_count + 1);
}

static struct shove_hop defer(const struct shove_policy *policy,
                              const struct shove_attempt *attempt) {
    if (!policy->is_sequenced)
        return delay(policy, 0, attempt->retry_count);
    /* Deferring without end would block the key without end. */
    struct shove_hop hop = retry(policy, attempt);
    hop.warns_defer_sequenced = true;
    return hop;
}

static struct shove_hop time_out(const struct shove_policy *policy,
                                 const struct shove_attempt *attempt) {
    switch (policy->timeout_outcome) {
    case SHOVE_OUTCOME_ACK:
        return (struct shove_hop){.kind = SHOVE_HOP_DONE, .retry_count = attempt->retry_count};
    case SHOVE_OUTCOME_REJECT:
        return die(policy, attempt, SHOVE_REASON_TIMEOUT);
    case SHOVE_OUTCOME_DEFER:
        return defer(policy, attempt);
    default:
        return retry(policy, attempt);
    }
}

struct shove_hop shove_outcome_decide(const struct shove_policy *policy,
                                      const struct shove_attempt *attempt) {
    switch (attempt->outcome) {
    case SHOVE_OUTCOME_ACK:
        return (struct shove_hop){.kind = SHOVE_HOP_DONE, .retry_count = attempt->retry_count};
    case SHOVE_OUTCOME_REJECT:
        return die(policy, attempt, SHOVE_REASON_REJECTED);
    case SHOVE_OUTCOME_DEFER:
        return defer(policy, attempt);
    case SHOVE_OUTCOME_TIMEOUT:
        return time_out(policy, attempt);
    case SHOVE_OUTCOME_OVERSIZE:
        return die(policy, attempt, SHOVE_REASON_OVERSIZE);
    case SHOVE_OUTCOME_UNDECODABLE:
        return die(policy, attempt, SHOVE_REASON_UNDECODABLE);
    case SHOVE_OUTCOME_CRASHED:
        if (attempt->crashes >= policy->max_crashes)
            return die(policy, attempt, SHOVE_REASON_CRASHED);
        return (struct shove_hop){.kind = SHOVE_HOP_AGAIN, .retry_count = attempt->retry_count};
    case SHOVE_OUTCOME_POISONED:
        return die(policy, attempt, SHOVE_REASON_POISONED);
    case SHOVE_OUTCOME_RETRY:
    case SHOVE_OUTCOME_ERROR:
    default: /* a number that a worker made up: as anything that is no outcome, a retry */
        return retry(policy, attempt);
    }
}

struct shove_hop shove_outcome_refused(const struct shove_hop *refused) {
    struct shove_hop hop = *refused;
    if (hop.kind == SHOVE_HOP_HOLD)
        hop.kind = SHOVE_HOP_WAIT;
    return hop;
}

const char *shove_outcome_name(enum shove_outcome outcome) {
    static const char *const names[SHOVE_OUTCOME_COUNT_] = {
        [SHOVE_OUTCOME_ACK] = "ack",           [SHOVE_OUTCOME_RETRY] = "retry",
        [SHOVE_OUTCOME_REJECT] = "reject",     [SHOVE_OUTCOME_DEFER] = "defer",
        [SHOVE_OUTCOME_ERROR] = "error",       [SHOVE_OUTCOME_TIMEOUT] = "timeout",
        [SHOVE_OUTCOME_OVERSIZE] = "oversize", [SHOVE_OUTCOME_UNDECODABLE] = "undecodable",
        [SHOVE_OUTCOME_CRASHED] = "crashed",   [SHOVE_OUTCOME_POISONED] = "poisoned"};
    unsigned index = (unsigned)outcome;
    return index < SHOVE_OUTCOME_COUNT_ && names[index] != NULL ? names[index] : "unknown";
}

const char *shove_reason_name(enum shove_reason reason) {
    static const char *const names[SHOVE_REASON_COUNT_] = {
#define REASON_NAME(code, text) [code] = (text),
        SHOVE_REASON_TABLE(REASON_NAME)
#undef REASON_NAME
    };
    unsigned index = (unsigned)reason;
    return index < SHOVE_REASON_COUNT_ ? names[index] : "unknown";
}
