/* cluster.c: see cluster.h. Control only, loop's thread. */
#include "control/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/commit.h"
#include "control/declare.h"
#include "control/flow.h"
#include "control/hop.h"
#include "control/metrics.h"
#include "control/partition.h"
#include "control/poisoning.h"
#include "control/publish.h"
#include "control/reload.h"
#include "core/topology_change.h"

#define CLOSE_TIMEOUT_MS 3000

/* ---- what the transport says ---- */

static void count_error(struct shove_cluster *cluster, int code) {
    if (code < 0 && code > -SHOVE_BACKEND_ERROR_KINDS)
        cluster->errors[-code]++;
}

/* Adds which broker it is about. */
static int explain(const struct shove_cluster *cluster, int rc, struct shove_error *error) {
    if (rc < 0 && shove_cluster_label(cluster))
        shove_error_prefix(error, "broker '%s'", cluster->url);
    return rc;
}

static void on_assigned(void *ctx, struct shove_subscription *subscription,
                        struct shove_claim **claims, size_t count) {
    (void)ctx;
    shove_partitions_assigned(subscription->user, claims, count);
}

static void on_revoking(void *ctx, struct shove_subscription *subscription,
                        struct shove_claim **claims, size_t count) {
    (void)ctx;
    shove_partitions_revoking(subscription->user, claims, count);
}

static void on_lost(void *ctx, struct shove_subscription *subscription, struct shove_claim **claims,
                    size_t count) {
    (void)ctx;
    shove_partitions_lost(subscription->user, claims, count);
}

static void on_readable(void *ctx) {
    const struct shove_cluster *cluster = ctx;
    const struct shove_control *control = cluster->control;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        if (control->flows[i].cluster != cluster)
            continue;
        for (struct shove_partition *p = control->flows[i].partitions; p; p = p->next)
            p->is_dry = false;
    }
}

static void on_produced(void *ctx, const struct shove_produced *results, size_t count) {
    struct shove_cluster *cluster = ctx;
    struct shove_control *control = cluster->control;
    shove_metrics_tick(control);
    for (size_t i = 0; i < count; i++) {
        struct shove_ticket *ticket = results[i].opaque;
        count_error(cluster, results[i].code);
        if (ticket->kind == SHOVE_TICKET_PUBLISH) {
            shove_publish_answered(control, (struct shove_publish_request *)(void *)ticket,
                                   results[i].code);
        } else {
            char *start = (char *)ticket - offsetof(struct shove_delivery, ticket);
            shove_hop_answered(control, (struct shove_delivery *)(void *)start, &results[i]);
        }
    }
}

static void on_committed(void *ctx, struct shove_subscription *subscription,
                         const struct shove_commit *commits, size_t count, void *opaque) {
    (void)opaque;
    for (size_t i = 0; i < count; i++)
        count_error(ctx, commits[i].code);
    shove_commit_answered(subscription->user, commits, count);
}

static void on_scanned(void *ctx, const struct shove_scanned *result) {
    const struct shove_cluster *cluster = ctx;
    count_error(ctx, result->code);
    shove_poisoning_scanned(cluster->control, result);
}

static void on_ended(void *ctx, struct shove_subscription *subscription, int code,
                     const char *text) {
    count_error(ctx, code);
    shove_flow_ended(subscription->user, code, text);
}

static void on_reached(void *ctx, bool is_reached) {
    struct shove_cluster *cluster = ctx;
    cluster->is_away = !is_reached;
}

static void on_notice(void *ctx, int code, const char *text) {
    struct shove_cluster *cluster = ctx;
    count_error(cluster, code);
    shove_log_fields(code ? SHOVE_LOG_WARN : SHOVE_LOG_INFO, text, "code",
                     code ? shove_error_name(code) : "recovered", SHOVE_CLUSTER_FIELD(cluster),
                     NULL);
}

static void on_declared(void *ctx, void *opaque, int code, const char *text) {
    const struct shove_cluster *cluster = ctx;
    struct shove_error error = {.code = 0};
    if (code != 0)
        shove_error_set(&error, code, "%s", text);
    shove_reload_declared(cluster->control, (uint32_t)(uintptr_t)opaque,
                          explain(cluster, code, &error), error.text);
}

static const struct shove_transport_events EVENTS = {
    .assigned = on_assigned,
    .revoking = on_revoking,
    .lost = on_lost,
    .readable = on_readable,
    .produced = on_produced,
    .committed = on_committed,
    .scanned = on_scanned,
    .declared = on_declared,
    .ended = on_ended,
    .reached = on_reached,
    .notice = on_notice,
};

/* ---- from the start to the end ---- */

int shove_clusters_init(struct shove_control *control, struct shove_error *error) {
    const struct shove_topology *topology = &control->topology;
    control->clusters = calloc(topology->broker_count, sizeof(*control->clusters));
    if (!control->clusters)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    control->cluster_count = topology->broker_count;
    for (uint32_t i = 0; i < control->cluster_count; i++) {
        struct shove_cluster *cluster = &control->clusters[i];
        cluster->control = control;
        cluster->url = strdup(topology->brokers[i].url);
        if (!cluster->url)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    }
    return 0;
}

static int open_one(struct shove_cluster *cluster, const struct shove_broker *broker,
                    struct shove_error *error) {
    struct shove_control *control = cluster->control;
    const char *address;
    int rc = shove_transport_find(cluster->url, &cluster->ops, &address, error);
    if (rc != 0)
        return rc;
    cluster->metadata_max = cluster->ops->metadata_max;
    const struct shove_transport_config config = {
        .address = address,
        .properties = broker->properties,
        .property_count = broker->property_count,
        .loop = &control->loop,
        .events = &EVENTS,
        .ctx = cluster,
        .timeout_ms = control->options->connect_timeout_ms,
        .max_message_size_bytes = control->largest_message_bytes,
        .instance = "shove",
    };
    return cluster->ops->open(&config, &cluster->transport, error);
}

int shove_clusters_open(struct shove_control *control, struct shove_error *error) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < control->cluster_count; i++) {
        struct shove_cluster *cluster = &control->clusters[i];
        rc = open_one(cluster, &control->topology.brokers[i], error);
        if (rc == 0)
            rc = shove_declare_topology(cluster->transport, &control->topology, i, error);
        explain(cluster, rc, error);
    }
    return rc;
}

/* One that is known to be away is not waited for: whoever asked for the reload would wait, too. */
static int declare_new(struct shove_cluster *cluster, const struct shove_topology *next,
                       uint32_t broker, uint32_t number, struct shove_error *error) {
    if (cluster->is_away)
        return shove_error_set(
            error, SHOVE_EUNREACHABLE,
            "the broker cannot be reached, and the app has new topics there: reload "
            "again when it is back");
    return shove_declare_topology_start(cluster->transport, next, broker, (void *)(uintptr_t)number,
                                        error);
}

int shove_clusters_declare_new(struct shove_control *control, const struct shove_topology *next,
                               uint32_t number, struct shove_error *error) {
    int unanswered = 0;
    for (uint32_t i = 0; i < control->cluster_count; i++) {
        struct shove_cluster *cluster = &control->clusters[i];
        if (!shove_topology_has_new_topics(&control->topology, next, i))
            continue;
        const int rc = explain(cluster, declare_new(cluster, next, i, number, error), error);
        if (rc < 0)
            return rc;
        unanswered += rc;
    }
    return unanswered;
}

void shove_clusters_close(struct shove_control *control) {
    for (uint32_t i = 0; i < control->cluster_count; i++) {
        struct shove_cluster *cluster = &control->clusters[i];
        if (cluster->transport)
            cluster->ops->close(cluster->transport, CLOSE_TIMEOUT_MS);
        cluster->transport = NULL;
    }
}

void shove_clusters_release(struct shove_control *control) {
    shove_poisoning_release(control);
    for (uint32_t i = 0; i < control->cluster_count; i++)
        free(control->clusters[i].url);
    free(control->clusters);
    control->clusters = NULL;
    control->cluster_count = 0;
}

struct shove_cluster *shove_cluster_of(const struct shove_control *control,
                                       const struct shove_group *group) {
    return &control->clusters[shove_topology_broker_of(&control->topology, group)];
}

/* ---- words ---- */

const char *shove_cluster_label(const struct shove_cluster *cluster) {
    return cluster->control->cluster_count > 1 ? cluster->url : NULL;
}

const char *shove_clusters_list(const struct shove_control *control, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < control->cluster_count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? ", " : "",
                                 control->clusters[i].url);
    return out;
}
