/* metrics.c: see metrics.h. Control only, loop's thread.
 *
 * One table of families, each with the function that writes its samples. A family of counters has
 * a sample for every outcome, reason and direction from the beginning, so that a rate sees the
 * first one; histograms, and errors of the broker, of which there are many kinds, have one as soon
 * as there is something to say.
 */
#include "control/metrics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/cluster.h"
#include "control/poisoning.h"
#include "control/scaling.h"

#define LABELS_MAX 4
#define OTHER "other" /* may be a topic's name; then its own series is called the same */

struct label {
    const char *name;
    const char *value;
};

struct writer { /* of one family */
    struct shove_buffer *out;
    const char *prefix;
    const char *name;
};

/* ---- the format ---- */

/* Names of topics need no escaping; a group id may be anything. */
static void write_label(struct shove_buffer *out, const char *name, const char *value,
                        bool is_first) {
    shove_buffer_printf(out, "%s%s=\"", is_first ? "{" : ",", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            shove_buffer_append(out, "\\", 1);
        if (*value == '\n')
            shove_buffer_append_text(out, "\\n");
        else
            shove_buffer_append(out, value, 1);
    }
    shove_buffer_append_text(out, "\"");
}

/* The name and the labels that have a value. `bound` NULL: none. */
static void write_head(const struct writer *writer, const char *suffix, const struct label *labels,
                       const char *bound) {
    struct shove_buffer *out = writer->out;
    shove_buffer_printf(out, "%s%s%s", writer->prefix, writer->name, suffix);
    size_t count = 0;
    for (size_t i = 0; i < LABELS_MAX; i++) {
        if (labels[i].value)
            write_label(out, labels[i].name, labels[i].value, count++ == 0);
    }
    if (bound)
        write_label(out, "le", bound, count++ == 0);
    shove_buffer_append_text(out, count > 0 ? "} " : " ");
}

static void write_count(const struct writer *writer, const struct label *labels, uint64_t count) {
    write_head(writer, "", labels, NULL);
    shove_buffer_printf(writer->out, "%" PRIu64 "\n", count);
}

static void write_histogram(const struct writer *writer, const struct label *labels,
                            const struct shove_histogram_scale *scale,
                            const struct shove_histogram *histogram) {
    struct shove_buffer *out = writer->out;
    uint64_t count = 0;
    for (uint32_t i = 0; i < scale->bound_count; i++) {
        char bound[32];
        snprintf(bound, sizeof(bound), "%.10g", (double)scale->bounds[i] / (double)scale->unit);
        count += histogram->counts[i];
        write_head(writer, "_bucket", labels, bound);
        shove_buffer_printf(out, "%" PRIu64 "\n", count);
    }
    count += histogram->counts[scale->bound_count];
    write_head(writer, "_bucket", labels, "+Inf");
    shove_buffer_printf(out, "%" PRIu64 "\n", count);
    write_head(writer, "_sum", labels, NULL);
    if (scale->unit == 1)
        shove_buffer_printf(out, "%" PRIu64 "\n", histogram->sum);
    else
        shove_buffer_printf(out, "%" PRIu64 ".%09" PRIu64 "\n", histogram->sum / scale->unit,
                            histogram->sum % scale->unit);
    write_head(writer, "_count", labels, NULL);
    shove_buffer_printf(out, "%" PRIu64 "\n", count);
}

/* Nothing while it is empty. */
static void write_durations(const struct writer *writer, const struct label *labels,
                            const struct shove_histogram *histogram) {
    if (shove_histogram_count(&shove_duration_scale, histogram) > 0)
        write_histogram(writer, labels, &shove_duration_scale, histogram);
}

/* ---- families of a group ---- */

/* The same group and topic may be there on another broker. */
#define BROKER_LABEL(cluster)                                                                      \
    { "broker", shove_cluster_label(cluster) }
#define GROUP_LABELS(flow)                                                                         \
    {"topic", (flow)->source}, {"consumer_group", (flow)->group->group_id},                        \
        BROKER_LABEL((flow)->cluster)

static void write_consumed(const struct writer *writer, const struct shove_flow *flow) {
    for (int outcome = SHOVE_OUTCOME_ACK; outcome < SHOVE_OUTCOME_COUNT_; outcome++) {
        const char *name = shove_outcome_name((enum shove_outcome)outcome);
        const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow), {"outcome", name}};
        write_count(writer, labels, flow->tally.consumed[outcome]);
    }
}

static void write_failed(const struct writer *writer, const struct shove_flow *flow) {
    for (int reason = SHOVE_REASON_NONE + 1; reason < SHOVE_REASON_COUNT_; reason++) {
        const char *name = shove_reason_name((enum shove_reason)reason);
        const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow), {"reason", name}};
        write_count(writer, labels, flow->tally.failed[reason]);
    }
}

static void write_processing(const struct writer *writer, const struct shove_flow *flow) {
    for (int outcome = SHOVE_OUTCOME_ACK; flow->metrics && outcome < SHOVE_OUTCOME_COUNT_;
         outcome++) {
        const char *name = shove_outcome_name((enum shove_outcome)outcome);
        const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow), {"outcome", name}};
        write_durations(writer, labels, &flow->metrics->processing[outcome]);
    }
}

static void write_sizes(const struct writer *writer, const struct shove_flow *flow) {
    const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow)};
    if (flow->metrics)
        write_histogram(writer, labels, &shove_size_scale, &flow->metrics->size);
}

static void write_in_flight(const struct writer *writer, const struct shove_flow *flow) {
    const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow)};
    write_count(writer, labels, flow->in_flight_total);
}

static void write_pending_full(const struct writer *writer, const struct shove_flow *flow) {
    const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow)};
    if (flow->policy.is_sequenced)
        write_count(writer, labels, flow->pending_full);
}

static void write_poisoned(const struct writer *writer, const struct shove_flow *flow) {
    const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow)};
    if (flow->policy.poisons)
        write_count(writer, labels, shove_poisoning_count(flow));
}

static void write_lag(const struct writer *writer, const struct shove_flow *flow) {
    for (const struct shove_partition *p = flow->partitions; p; p = p->next) {
        const int64_t lag = p->is_hold ? -1 : shove_scaling_partition_lag(p);
        if (lag < 0)
            continue;
        char partition[16];
        snprintf(partition, sizeof(partition), "%d", (int)p->claim->partition);
        const struct label labels[LABELS_MAX] = {GROUP_LABELS(flow), {"partition", partition}};
        write_count(writer, labels, (uint64_t)lag);
    }
}

static void write_consumers(const struct writer *writer, const struct shove_flow *flow) {
    const struct label labels[LABELS_MAX] = {{"consumer_group", flow->group->group_id},
                                             BROKER_LABEL(flow->cluster)};
    write_count(writer, labels, flow->consumers);
}

static void write_decisions(const struct writer *writer, const struct shove_flow *flow) {
    struct label labels[LABELS_MAX] = {{"consumer_group", flow->group->group_id},
                                       {"direction", "up"},
                                       BROKER_LABEL(flow->cluster)};
    write_count(writer, labels, flow->scaled_up);
    labels[1].value = "down";
    write_count(writer, labels, flow->scaled_down);
}

static void write_strategy_failures(const struct writer *writer, const struct shove_flow *flow) {
    const struct label labels[LABELS_MAX] = {{"consumer_group", flow->group->group_id},
                                             BROKER_LABEL(flow->cluster)};
    if (flow->control->topology.autoscale.has_strategy)
        write_count(writer, labels, flow->strategy_failures);
}

/* ---- families of the run ---- */

static void write_discarded(const struct writer *writer, const struct shove_control *control) {
    uint64_t discarded = 0;
    for (uint32_t i = 0; i < control->flow_count; i++)
        discarded += control->flows[i].is_succeeded ? 0 : control->flows[i].tally.discarded;
    write_count(writer, (struct label[LABELS_MAX]){{0}}, discarded);
}

/* The i-th of all there are; after the last, NULL. */
static const struct shove_publish_metrics *published_at(const struct shove_metrics *metrics,
                                                        size_t i) {
    if (i < metrics->published_count)
        return metrics->published[i];
    return i == metrics->published_count ? &metrics->other : NULL;
}

/* Each topic's, those acknowledged and those that failed, with `write`. */
static void write_each_published(const struct writer *writer, const struct shove_control *control,
                                 void (*write)(const struct writer *writer,
                                               const struct label *labels,
                                               const struct shove_histogram *histogram)) {
    const struct shove_publish_metrics *published;
    for (size_t i = 0; (published = published_at(control->metrics, i)); i++) {
        struct label labels[LABELS_MAX] = {{"topic", published->topic ? published->topic : OTHER},
                                           {"outcome", "acknowledged"}};
        write(writer, labels, &published->acknowledged);
        labels[1].value = "failed";
        write(writer, labels, &published->failed);
    }
}

static void write_number(const struct writer *writer, const struct label *labels,
                         const struct shove_histogram *histogram) {
    write_count(writer, labels, shove_histogram_count(&shove_duration_scale, histogram));
}

static void write_published(const struct writer *writer, const struct shove_control *control) {
    write_each_published(writer, control, write_number);
}

static void write_publishing(const struct writer *writer, const struct shove_control *control) {
    write_each_published(writer, control, write_durations);
}

static void write_lateness(const struct writer *writer, const struct shove_control *control) {
    write_histogram(writer, (struct label[LABELS_MAX]){{0}}, &shove_duration_scale,
                    &control->metrics->hold_lateness);
}

static void write_cluster_errors(const struct writer *writer, const struct shove_cluster *cluster) {
    for (int i = 1; i < SHOVE_BACKEND_ERROR_KINDS; i++) {
        const struct label labels[LABELS_MAX] = {{"backend", cluster->ops->scheme},
                                                 {"kind", shove_error_name(-i)},
                                                 BROKER_LABEL(cluster)};
        if (cluster->errors[i] > 0)
            write_count(writer, labels, cluster->errors[i]);
    }
}

static void write_backend_errors(const struct writer *writer, const struct shove_control *control) {
    for (uint32_t i = 0; i < control->cluster_count; i++)
        write_cluster_errors(writer, &control->clusters[i]);
}

static void write_deaths(const struct writer *writer, const struct shove_control *control) {
    for (int death = 0; death < SHOVE_DEATH_COUNT_; death++) {
        const struct label labels[LABELS_MAX] = {
            {"reason", shove_death_name((enum shove_death)death)}};
        write_count(writer, labels, control->deaths[death]);
    }
}

static void write_reloads(const struct writer *writer, const struct shove_control *control) {
    struct label labels[LABELS_MAX] = {{"result", "success"}};
    write_count(writer, labels, control->reload.succeeded_count);
    labels[0].value = "failure";
    write_count(writer, labels, control->reload.failed_count);
}

static void write_generation(const struct writer *writer, const struct shove_control *control) {
    write_count(writer, (struct label[LABELS_MAX]){{0}}, control->generation);
}

/* ---- all of them ---- */

static const struct family {
    const char *name;
    const char *type;
    const char *help;
    void (*write)(const struct writer *writer, const struct shove_control *control);
    void (*write_group)(const struct writer *writer, const struct shove_flow *flow);
    bool has_no_topic; /* among its labels: the name of a removed group may be another's by now */
} FAMILIES[] = {
    {"messages_consumed_total", "counter",
     "Messages that were settled, by what their handler said.", .write_group = write_consumed},
    {"messages_failed_total", "counter",
     "Messages that were given up: a dead letter is stored, or there is no DLQ.",
     .write_group = write_failed},
    {"messages_discarded_total", "counter", "Messages that are gone: no DLQ has a copy.",
     .write = write_discarded},
    {"messages_published_total", "counter", "Messages that handlers published.",
     .write = write_published},
    {"message_processing_duration_seconds", "histogram", "How long handlers took, waits included.",
     .write_group = write_processing},
    {"message_publish_duration_seconds", "histogram",
     "From the request of a handler to the broker's answer.", .write = write_publishing},
    {"message_size_bytes", "histogram", "Payloads of the messages taken from the topic.",
     .write_group = write_sizes},
    {"messages_inflight", "gauge", "Messages that handlers have now.",
     .write_group = write_in_flight},
    {"consumer_lag", "gauge",
     "Messages behind the committed offset that are not finished, on partitions of this process.",
     .write_group = write_lag},
    {"pending_full_total", "counter",
     "Messages of sequenced topics that found max_pending_per_key before them.",
     .write_group = write_pending_full},
    {"poisoned_keys", "gauge",
     "Keys of fail_all topics whose messages are dead letters, on partitions of this process.",
     .write_group = write_poisoned},
    {"consumers", "gauge", "Consumers the group has now.", .write_group = write_consumers,
     .has_no_topic = true},
    {"hold_lateness_seconds", "histogram", "From when a retry was due to when a handler got it.",
     .write = write_lateness},
    {"autoscaler_decisions_total", "counter", "Consumers the autoscaler added and took away.",
     .write_group = write_decisions, .has_no_topic = true},
    {"autoscaler_strategy_failures_total", "counter",
     "Polls at which the strategy of app:autoscale failed and the rule decided.",
     .write_group = write_strategy_failures, .has_no_topic = true},
    {"backend_errors_total", "counter", "What the broker refused, or could not be reached for.",
     .write = write_backend_errors},
    {"worker_deaths_total", "counter", "Worker processes that died.", .write = write_deaths},
    {"reloads_total", "counter", "Reloads of the app, by how they ended.", .write = write_reloads},
    {"generation", "gauge", "Which code runs: 1, and one more with each reload.",
     .write = write_generation},
};

bool shove_metrics_write(const struct shove_control *control, struct shove_buffer *out) {
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
        const struct family *family = &FAMILIES[i];
        const struct writer writer = {out, control->options->metrics_prefix, family->name};
        shove_buffer_printf(out, "# HELP %s%s %s\n# TYPE %s%s %s\n", writer.prefix, family->name,
                            family->help, writer.prefix, family->name, family->type);
        if (family->write)
            family->write(&writer, control);
        for (uint32_t f = 0; family->write_group && f < control->flow_count; f++) {
            const struct shove_flow *flow = &control->flows[f];
            if (!(family->has_no_topic ? flow->is_removed : flow->is_succeeded))
                family->write_group(&writer, flow);
        }
    }
    return !out->is_failed;
}

/* ---- measuring ---- */

static int compare_published(const void *a, const void *b) {
    const struct shove_publish_metrics *const *left = a;
    const struct shove_publish_metrics *const *right = b;
    return strcmp((*left)->topic, (*right)->topic);
}

static int compare_name(const void *name, const void *published) {
    return strcmp(name, (*(struct shove_publish_metrics *const *)published)->topic);
}

static struct shove_publish_metrics *find_topic(const struct shove_metrics *metrics,
                                                const char *topic) {
    struct shove_publish_metrics **found =
        metrics->published_count == 0
            ? NULL
            : bsearch(topic, metrics->published, metrics->published_count,
                      sizeof(struct shove_publish_metrics *), compare_name);
    return found ? *found : NULL;
}

static int add_topic(struct shove_metrics *metrics, const char *topic) {
    const size_t size = (metrics->published_count + 1) * sizeof(struct shove_publish_metrics *);
    struct shove_publish_metrics **published = realloc(metrics->published, size);
    if (!published)
        return SHOVE_ENOMEM;
    metrics->published = published;
    struct shove_publish_metrics *added = calloc(1, sizeof(*added));
    if (!added || !(added->topic = strdup(topic))) {
        free(added);
        return SHOVE_ENOMEM;
    }
    published[metrics->published_count++] = added;
    qsort(published, metrics->published_count, sizeof(struct shove_publish_metrics *),
          compare_published);
    return 0;
}

/* One for each name: a queue may be declared for several groups. */
static int add_topics(struct shove_metrics *metrics, const struct shove_topology *topology) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < topology->topic_count; i++) {
        if (!find_topic(metrics, topology->topics[i].name))
            rc = add_topic(metrics, topology->topics[i].name);
    }
    return rc;
}

void shove_metrics_learn_topics(struct shove_control *control) {
    if (control->metrics)
        (void)add_topics(control->metrics, &control->topology);
}

int shove_metrics_start_flow(struct shove_flow *flow) {
    if (!flow->control->metrics || flow->metrics)
        return 0;
    flow->metrics = calloc(1, sizeof(struct shove_flow_metrics));
    return flow->metrics ? 0 : SHOVE_ENOMEM;
}

int shove_metrics_start(struct shove_control *control, struct shove_error *error) {
    struct shove_metrics *metrics = calloc(1, sizeof(*metrics));
    if (!metrics)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    control->metrics = metrics;
    int rc = add_topics(metrics, &control->topology);
    for (uint32_t i = 0; rc == 0 && i < control->flow_count; i++)
        rc = shove_metrics_start_flow(&control->flows[i]);
    return rc == 0 ? 0 : shove_error_set(error, SHOVE_ENOMEM, "out of memory");
}

void shove_metrics_release(struct shove_control *control) {
    struct shove_metrics *metrics = control->metrics;
    if (!metrics)
        return;
    for (size_t i = 0; i < metrics->published_count; i++) {
        free(metrics->published[i]->topic);
        free(metrics->published[i]);
    }
    free(metrics->published);
    free(metrics);
    control->metrics = NULL;
}

void shove_metrics_tick(struct shove_control *control) {
    if (control->metrics)
        control->metrics->now_ns = shove_clock_mono_ns();
}

/* Since it was given to its worker. Loop time stands still within a round, hence the slack. */
static uint64_t longest_ns(const struct shove_delivery *delivery) {
    const int64_t longest_ms = delivery->flow->control->now_ms - delivery->submitted_ms;
    return (uint64_t)(longest_ms + 2) * 1000000;
}

void shove_metrics_handled(const struct shove_delivery *delivery, enum shove_outcome outcome,
                           uint16_t packed) {
    struct shove_flow_metrics *metrics = delivery->flow->metrics;
    if (!metrics)
        return;
    const uint64_t said_ns = shove_duration_unpack(packed);
    const uint64_t limit_ns = longest_ns(delivery);
    shove_histogram_add(&shove_duration_scale, &metrics->processing[outcome],
                        said_ns < limit_ns ? said_ns : limit_ns);
}

struct shove_publish_metrics *shove_metrics_publish_to(const struct shove_control *control,
                                                       const char *topic) {
    struct shove_metrics *metrics = control->metrics;
    if (!metrics)
        return NULL;
    struct shove_publish_metrics *found = find_topic(metrics, topic);
    return found ? found : &metrics->other;
}

void shove_metrics_published(const struct shove_publish_request *request) {
    struct shove_publish_metrics *published = request->metrics;
    if (!published)
        return;
    shove_histogram_add(&shove_duration_scale,
                        request->code == 0 ? &published->acknowledged : &published->failed,
                        request->worker->control->metrics->now_ns - request->asked_ns);
}
