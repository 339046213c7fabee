/* settle.c: see settle.h. Control only, loop's thread. Every outcome, wherever it comes from (a
 * completion, a timeout, an oversize record, a worker's death), goes through shove_outcome_decide
 * and one switch.
 */
#include "control/settle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/abort_point.h"
#include "control/commit.h"
#include "control/delivery.h"
#include "control/feed.h"
#include "control/flow.h"
#include "control/hop.h"

void shove_settle_leave_worker(struct shove_delivery *delivery) {
    struct shove_worker *worker = delivery->worker;
    struct shove_flow *flow = delivery->flow;
    worker->slots[delivery->slot] = NULL;
    worker->free_slots[worker->free_count++] = delivery->slot;
    worker->in_flight--;
    worker->has_suspect &= worker->in_flight > 0;
    flow->in_flight[worker->index]--;
    flow->in_flight_total--;
    if (delivery->partition)
        delivery->partition->running_count--;
    delivery->worker = NULL;
}

static void keep_error(struct shove_delivery *delivery, const char *text, size_t size) {
    free(delivery->error);
    delivery->error = size > 0 ? strndup(text, size) : NULL;
}

static const char *describe_hop(const struct shove_hop *hop, char *out, size_t size) {
    switch (hop->kind) {
    case SHOVE_HOP_HOLD:
    case SHOVE_HOP_WAIT:
        snprintf(out, size, "again in %" PRId64 " ms", hop->delay_ms);
        break;
    case SHOVE_HOP_DEAD:
        snprintf(out, size, "dead letter: %s", shove_reason_name(hop->reason));
        break;
    case SHOVE_HOP_DISCARD:
        snprintf(out, size, "discarded (no DLQ): %s", shove_reason_name(hop->reason));
        break;
    case SHOVE_HOP_AGAIN:
        snprintf(out, size, "again at once");
        break;
    case SHOVE_HOP_DONE:
        snprintf(out, size, "done");
        break;
    }
    return out;
}

/* Handlers that say retry, reject or defer speak for themselves; what went wrong is worth a line.
 */
static bool is_worth_a_line(enum shove_outcome outcome, const struct shove_hop *hop) {
    if (outcome == SHOVE_OUTCOME_POISONED)
        return hop->kind == SHOVE_HOP_DISCARD;
    return outcome >= SHOVE_OUTCOME_ERROR || hop->kind == SHOVE_HOP_DISCARD ||
           hop->warns_defer_sequenced ||
           (hop->kind == SHOVE_HOP_DEAD && outcome != SHOVE_OUTCOME_REJECT);
}

struct place { /* of a message, in a line */
    char partition[16];
    char offset[32];
};

static struct place place_of(const struct shove_delivery *delivery) {
    const struct shove_envelope *envelope = shove_delivery_envelope(delivery);
    struct place place;
    snprintf(place.partition, sizeof(place.partition), "%d", (int)envelope->partition);
    snprintf(place.offset, sizeof(place.offset), "%" PRId64, envelope->offset);
    return place;
}

void shove_settle_report_audit(const struct shove_delivery *delivery, enum shove_outcome outcome,
                               const char *text, size_t size) {
    struct shove_flow *flow = delivery->flow;
    if (!shove_flow_may_log(flow))
        return;
    const struct place place = place_of(delivery);
    char why[256];
    snprintf(why, sizeof(why), "%.*s", (int)size, text);
    shove_log_fields(SHOVE_LOG_WARN, "audit not finished in time: the outcome stands", "outcome",
                     shove_outcome_name(outcome), "topic", flow->source, "partition",
                     place.partition, "offset", place.offset, "why", why, NULL);
}

static void report(const struct shove_delivery *delivery, enum shove_outcome outcome,
                   const struct shove_hop *hop) {
    struct shove_flow *flow = delivery->flow;
    if (!shove_flow_may_log(flow))
        return;
    const struct place place = place_of(delivery);
    char attempt[32];
    char then[96];
    snprintf(attempt, sizeof(attempt), "%" PRIu32 " of %" PRIu32, delivery->retry_count + 1,
             flow->group->max_retries + 1);
    shove_log_fields(SHOVE_LOG_WARN, "message not handled", "outcome", shove_outcome_name(outcome),
                     "topic", flow->source, "partition", place.partition, "offset", place.offset,
                     "attempt", attempt, "then", describe_hop(hop, then, sizeof(then)), "error",
                     delivery->error ? delivery->error : "-", NULL);
}

void shove_settle_discard(struct shove_control *control, struct shove_delivery *delivery,
                          enum shove_reason reason) {
    struct shove_tally *tally = &delivery->flow->tally;
    /* A dead letter stays in its DLQ whatever becomes of its handling: nothing is gone. */
    if (delivery->flow->group->kind != SHOVE_GROUP_DEAD_LETTERS)
        tally->discarded++;
    tally->failed[reason]++;
    shove_delivery_close(control, delivery);
}

static void apply(struct shove_control *control, struct shove_delivery *delivery,
                  const struct shove_hop *hop) {
    struct shove_tally *tally = &delivery->flow->tally;
    switch (hop->kind) {
    case SHOVE_HOP_DONE:
        tally->done++;
        shove_delivery_close(control, delivery);
        break;
    case SHOVE_HOP_HOLD:
    case SHOVE_HOP_DEAD:
        shove_hop_start(control, delivery, hop);
        break;
    case SHOVE_HOP_WAIT:
        shove_hop_wait(delivery, hop);
        if (delivery->flow->policy.is_sequenced) /* the count is what a restart knows of it */
            shove_commit_retry(delivery->partition);
        break;
    case SHOVE_HOP_AGAIN:
        delivery->is_redelivered = true;
        shove_commit_record_crash(delivery);
        break;
    case SHOVE_HOP_DISCARD:
        if (hop->poisons)
            shove_hop_start(control, delivery, hop);
        else
            shove_settle_discard(control, delivery, hop->reason);
        break;
    }
}

static bool has_key(const struct shove_delivery *delivery) {
    return (shove_delivery_envelope(delivery)->flags & SHOVE_ENVELOPE_NULL_KEY) == 0;
}

void shove_settle(struct shove_control *control, struct shove_delivery *delivery,
                  enum shove_outcome outcome, const char *text, size_t text_size) {
    if (!delivery->partition) {
        shove_delivery_free(control, delivery);
        return;
    }
    struct shove_flow *flow = delivery->flow;
    if (outcome == SHOVE_OUTCOME_CRASHED) {
        delivery->crashes++;
        delivery->entry.crashes += delivery->entry.crashes < UINT8_MAX;
    }
    flow->tally.consumed[outcome]++;
    struct shove_attempt attempt = {outcome, delivery->retry_count, delivery->crashes};
    struct shove_hop hop = shove_outcome_decide(&flow->policy, &attempt);
    hop.poisons = hop.poisons && has_key(delivery);
    shove_abort_point(SHOVE_STEP_DECIDED);
    if (outcome != SHOVE_OUTCOME_ACK) {
        keep_error(delivery, text, text_size);
        if (is_worth_a_line(outcome, &hop))
            report(delivery, outcome, &hop);
    }
    apply(control, delivery, &hop);
}
