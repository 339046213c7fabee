/* metrics.h: what /metrics says (Prometheus' text format), and what is measured for it alone.
 * Control only, loop's thread.
 *
 * Counters that other parts of control keep anyway (core/tally.h, state.h) are read where they are.
 * What has a price, histograms and clocks, exists only with --listen: without it control->metrics
 * is NULL and the functions here do nothing. Memory is bounded by what the app declares: no label
 * ever comes from a message or a script.
 */
#ifndef SHOVE_CONTROL_METRICS_H
#define SHOVE_CONTROL_METRICS_H

#include "control/state.h"
#include "core/histogram.h"

struct shove_flow_metrics { /* of one group */
    struct shove_histogram processing[SHOVE_OUTCOME_COUNT_];
    struct shove_histogram size;
};

struct shove_publish_metrics { /* of what handlers publish to one topic */
    char *topic;               /* owned; NULL: all that the app does not declare */
    struct shove_histogram acknowledged;
    struct shove_histogram failed;
};

struct shove_metrics {
    struct shove_histogram hold_lateness;
    struct shove_publish_metrics **published; /* by topic, sorted; none is ever taken away */
    size_t published_count;
    struct shove_publish_metrics other;
    uint64_t now_ns; /* of this round, or of the answers being read */
};

/* Begins to measure. The topology and the flows must be there. */
int shove_metrics_start(struct shove_control *control, struct shove_error *error);
/* Topics that a reload has brought; what cannot be kept counts as "other". */
void shove_metrics_learn_topics(struct shove_control *control);
/* Of a flow that joins later; nothing without --listen, or when it has taken over another's. */
int shove_metrics_start_flow(struct shove_flow *flow);
void shove_metrics_release(struct shove_control *control);

/* The text of /metrics. False: out of memory. */
bool shove_metrics_write(const struct shove_control *control, struct shove_buffer *out);

/* Reads the clock that publishes are measured by: once per round, and per portion of answers. */
void shove_metrics_tick(struct shove_control *control);

/* A handler returned, or was ended, after so long (packed, core/histogram.h); that is a worker's
 * word, and cut to what control has seen: UINT16_MAX stands for that alone. */
void shove_metrics_handled(const struct shove_delivery *delivery, enum shove_outcome outcome,
                           uint16_t packed);

/* What publish_to gives belongs to the request until it is answered; NULL without --listen. */
struct shove_publish_metrics *shove_metrics_publish_to(const struct shove_control *control,
                                                       const char *topic);
void shove_metrics_published(const struct shove_publish_request *request);

static inline void shove_metrics_sized(const struct shove_flow *flow, uint64_t size_bytes) {
    if (flow->metrics)
        shove_histogram_add(&shove_size_scale, &flow->metrics->size, size_bytes);
}

static inline void shove_metrics_late(const struct shove_control *control, int64_t late_ms) {
    struct shove_metrics *metrics = control->metrics;
    if (metrics)
        shove_histogram_add(&shove_duration_scale, &metrics->hold_lateness,
                            late_ms > 0 ? (uint64_t)late_ms * 1000000 : 0);
}

#endif
