/* backlog.c: see backlog.h. Control only, loop's thread. */
#include "control/backlog.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "control/cluster.h"

#define PATIENCE_MS 1000
#define LINE_INTERVAL_MS 60000

static bool has_too_many_waiting(const struct shove_flow *flow) {
    return !flow->policy.is_sequenced && flow->waiting_count >= SHOVE_BACKLOG_MAX;
}

/* Those that hop before their turn are bounded by their key and their partition (sequencing.h). */
static bool has_too_many_hopping(const struct shove_flow *flow) {
    return flow->hopping_count - flow->ahead_count >= SHOVE_BACKLOG_MAX;
}

bool shove_backlog_is_full(const struct shove_flow *flow) {
    return has_too_many_waiting(flow) || has_too_many_hopping(flow) ||
           flow->suspects.count >= SHOVE_BACKLOG_SUSPECTS_MAX ||
           flow->aside_bytes >= flow->control->arena_bytes;
}

static const char *remedy(const struct shove_flow *flow) {
    if (flow->suspects.count >= SHOVE_BACKLOG_SUSPECTS_MAX)
        return "find out why the handler kills its workers: these are handled one at a time";
    if (has_too_many_hopping(flow) || flow->hopping_count > flow->waiting_count)
        return "find out why the broker does not store retries and dead letters; it goes on by "
               "itself when it does";
    if (flow->policy.is_sequenced)
        return "mend what makes so many keys be retried, or shorten the holds: retries of a "
               "sequenced topic wait here";
    return "declare a hold for the topic, so that retries wait in the broker";
}

static void warn(const struct shove_flow *flow) {
    char waiting[24];
    char hopping[24];
    char suspects[24];
    char bytes[48];
    snprintf(waiting, sizeof(waiting), "%zu", flow->waiting_count);
    snprintf(hopping, sizeof(hopping), "%" PRIu32, flow->hopping_count);
    snprintf(suspects, sizeof(suspects), "%zu", flow->suspects.count);
    snprintf(bytes, sizeof(bytes), "%zu of %zu", flow->aside_bytes, flow->control->arena_bytes);
    shove_log_fields(SHOVE_LOG_WARN, "nothing new of a group is handled: too much is set aside",
                     "group", flow->group->group_id, "topic", flow->source, "waiting in place",
                     waiting, "for the broker to store", hopping, "suspects", suspects, "bytes",
                     bytes, "what to do", remedy(flow), SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

static void watch_flow(struct shove_flow *flow) {
    const int64_t now_ms = flow->control->now_ms;
    if (flow->is_paused || flow->is_removed || flow->state != SHOVE_FLOW_JOINED ||
        !shove_backlog_is_full(flow)) {
        flow->full_since_ms = 0;
        return;
    }
    if (flow->full_since_ms == 0)
        flow->full_since_ms = now_ms;
    if (now_ms - flow->full_since_ms <= PATIENCE_MS || now_ms < flow->backlog_line_ms)
        return;
    flow->backlog_line_ms = now_ms + LINE_INTERVAL_MS;
    warn(flow);
}

void shove_backlog_watch(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++)
        watch_flow(&control->flows[i]);
}
