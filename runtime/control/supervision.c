/* supervision.c: see supervision.h. Control only, loop's thread. */
#include "control/supervision.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/abort_point.h"
#include "control/cluster.h"
#include "control/drain.h"
#include "control/flow.h"
#include "core/respawn.h"

static void report_end(const struct shove_flow *flow, int code, const char *text) {
    shove_log_fields(SHOVE_LOG_ERROR, "a consumer group stopped and consumes no more", "group",
                     flow->group->group_id, "topic", flow->source, "code", shove_error_name(code),
                     "error", text, SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

static void report_rest(const struct shove_flow *flow, int code, const char *text) {
    char wait[32];
    char failures[16];
    snprintf(wait, sizeof(wait), "%" PRId64 " s", shove_respawn_delay_ms(flow->failures) / 1000);
    snprintf(failures, sizeof(failures), "%" PRIu32, flow->failures);
    shove_log_fields(SHOVE_LOG_ERROR,
                     shove_respawn_is_open(flow->failures)
                         ? "a consumer group stopped again and again: it is only probed from now on"
                         : "a consumer group stopped and is started again",
                     "group", flow->group->group_id, "topic", flow->source, "code",
                     shove_error_name(code), "error", text, "failures", failures, "in", wait,
                     SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

void shove_supervision_failed(struct shove_flow *flow, int code, const char *text) {
    struct shove_control *control = flow->control;
    flow->failures = shove_respawn_count(flow->failures, flow->assigned_ms, control->now_ms);
    flow->assigned_ms = 0;
    flow->tally.is_failed = true;
    free(flow->failure);
    flow->failure = strdup(text);
    control->verdict.failed_groups++;
    if (control->phase != SHOVE_PHASE_RUNNING || flow->is_removed ||
        !shove_respawn_can_help(code)) {
        report_end(flow, code, text);
        return;
    }
    flow->state = SHOVE_FLOW_RESTING;
    flow->rested_ms = control->now_ms;
    report_rest(flow, code, text);
}

static int64_t rested_for_ms(const struct shove_flow *flow) {
    return flow->control->now_ms - flow->rested_ms;
}

int64_t shove_supervision_left_s(const struct shove_flow *flow) {
    return (shove_respawn_delay_ms(flow->failures) - rested_for_ms(flow) + 999) / 1000;
}

static void join_again(struct shove_flow *flow) {
    struct shove_error error;
    int rc = shove_flow_join(flow, &error);
    if (rc != 0) {
        flow->state = SHOVE_FLOW_ENDED;
        shove_supervision_failed(flow, rc, error.text);
        shove_drain_check(flow->control);
        return;
    }
    flow->tally.is_failed = false;
    free(flow->failure);
    flow->failure = NULL;
    shove_log_fields(SHOVE_LOG_INFO, "the consumer group is started again", "group",
                     flow->group->group_id, "topic", flow->source,
                     SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

static bool has_rested(const struct shove_flow *flow) {
    int64_t delay_ms = shove_respawn_delay_ms(flow->failures);
    return shove_hurried_ms(rested_for_ms(flow), delay_ms) >= delay_ms;
}

void shove_supervision_watch(struct shove_control *control) {
    for (uint32_t i = 0; control->phase == SHOVE_PHASE_RUNNING && i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (flow->state == SHOVE_FLOW_RESTING && has_rested(flow))
            join_again(flow);
    }
    /* One that a reload added, and that could not even be joined, has told nobody. */
    if (control->phase == SHOVE_PHASE_RUNNING)
        shove_drain_check(control);
}
