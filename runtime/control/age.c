/* age.c: see age.h. Control only, loop's thread. */
#include "control/age.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "control/delivery.h"

#define LINE_INTERVAL_MS 60000

/* Kafka's default, where it does not tell what it keeps (a client without the right to ask) and the
 * script says nothing either. */
#define RETENTION_DEFAULT_MS (INT64_C(7) * 24 * 3600 * 1000)

/* -1: nothing is deleted while it is open. */
static int64_t retention_ms(const struct shove_flow *flow) {
    const struct shove_cluster *cluster = flow->cluster;
    int64_t known_ms = cluster->ops->retention_ms(cluster->transport, flow->source);
    if (known_ms != 0)
        return known_ms;
    return flow->topic->retention_ms > 0 ? flow->topic->retention_ms : RETENTION_DEFAULT_MS;
}

static int64_t age_ms(const struct shove_control *control, const struct shove_delivery *delivery) {
    int64_t since_ms = delivery->first_seen_ms;
    if (delivery->home || delivery->heap) {
        int64_t timestamp_ms = shove_delivery_envelope(delivery)->timestamp_ms;
        since_ms = timestamp_ms > 0 && timestamp_ms < since_ms ? timestamp_ms : since_ms;
    }
    return control->wall_ms - since_ms;
}

static void warn(const struct shove_partition *partition, int64_t age, int64_t retention) {
    char place[320];
    char age_text[32];
    char retention_text[32];
    snprintf(place, sizeof(place), "%s/%d@%" PRId64, partition->topic,
             (int)partition->claim->partition, partition->ledger.first->offset);
    snprintf(age_text, sizeof(age_text), "%" PRId64 " s", age / 1000);
    snprintf(retention_text, sizeof(retention_text), "%" PRId64 " s", retention / 1000);
    shove_log_fields(SHOVE_LOG_WARN,
                     "a message has been open for more than half of what its topic keeps: past "
                     "that the broker deletes "
                     "it; look at its handler, or raise the retention",
                     "message", place, "age", age_text, "retention", retention_text, NULL);
}

static void watch_flow(struct shove_control *control, struct shove_flow *flow) {
    const int64_t retention = retention_ms(flow);
    if (control->now_ms < flow->age_line_ms || retention < 0)
        return;
    for (struct shove_partition *p = flow->partitions; p; p = p->next) {
        const struct shove_ledger_entry *oldest = p->ledger.first;
        if (!oldest || p->is_hold)
            continue;
        int64_t age = age_ms(control, (const struct shove_delivery *)oldest);
        if (age > retention / 2) {
            warn(p, age, retention);
            flow->age_line_ms = control->now_ms + LINE_INTERVAL_MS;
            return;
        }
    }
}

void shove_age_watch(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++)
        watch_flow(control, &control->flows[i]);
}
