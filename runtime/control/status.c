/* status.c: see status.h. Control only, loop's thread. */
#include "control/status.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/utf8.h"
#include "control/poisoning.h"
#include "control/pool.h"
#include "control/replacement.h"
#include "control/scaling.h"

static const char *phase_name(enum shove_phase phase) {
    static const char *const names[] = {
        [SHOVE_PHASE_STARTING] = "starting", [SHOVE_PHASE_RUNNING] = "running",
        [SHOVE_PHASE_DRAINING] = "draining", [SHOVE_PHASE_LEAVING] = "leaving",
        [SHOVE_PHASE_STOPPING] = "leaving",  [SHOVE_PHASE_DONE] = "leaving",
    };
    return names[phase];
}

static json_t *worker_status(const struct shove_worker *worker) {
    static const char *const states[] = {
        [SHOVE_WORKER_ABSENT] = "waiting to be started",
        [SHOVE_WORKER_LOADING] = "loading",
        [SHOVE_WORKER_LOADED] = "loaded",
        [SHOVE_WORKER_READY] = "ready",
        [SHOVE_WORKER_RETIRING] = "finishing",
        [SHOVE_WORKER_STOPPING] = "stopping",
    };
    json_t *pid = worker->has_child ? json_integer(worker->child.pid) : json_null();
    return json_pack("{s:i, s:o, s:s, s:i}", "worker", (int)worker->index, "pid", pid, "state",
                     states[worker->state], "in_flight", (int)worker->in_flight);
}

static const char *flow_state(const struct shove_flow *flow) {
    if (flow->is_removed)
        return "leaving";
    if (flow->state == SHOVE_FLOW_RESTING)
        return "resting";
    if (flow->tally.is_failed)
        return "failed";
    return flow->state == SHOVE_FLOW_JOINED ? "joined" : "left";
}

static json_t *known(int64_t count) {
    return count < 0 ? json_null() : json_integer(count);
}

/* None, too, where it is no text that JSON could say. */
static json_t *text_or_null(const char *words) {
    json_t *text = words ? json_string(words) : NULL;
    return text ? text : json_null();
}

/* Why nothing is handled at all. */
static json_t *plight_of(const struct shove_control *control) {
    const bool is_staffed = !control->replacement.is_told || shove_replacement_is_staffed(control);
    json_t *text = is_staffed ? NULL
                   : control->replacement.why
                       ? json_sprintf("no worker is ready: %s", control->replacement.why)
                       : json_string("no worker is ready: they end while they load the script");
    return text ? text : json_null();
}

static size_t partition_count(const struct shove_flow *flow) {
    size_t count = 0;
    for (const struct shove_partition *p = flow->partitions; p; p = p->next)
        count += !p->is_hold;
    return count;
}

/* Null where keys cannot be. */
static json_t *poisoned_keys(const struct shove_flow *flow) {
    return flow->policy.poisons ? json_integer((json_int_t)shove_poisoning_count(flow))
                                : json_null();
}

static json_t *flow_status(const struct shove_flow *flow) {
    const struct shove_group *group = flow->group;
    const struct shove_tally *tally = &flow->tally;
    const uint64_t capacity = shove_group_capacity(group, flow->consumers);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:b, s:i, s:i, s:i, s:I, s:i, s:I, s:o, s:o, s:I, s:i, s:I, "
        "s:I, s:I, s:I, s:o}",
        "group", group->group_id, "topic", flow->source, "broker", flow->cluster->url, "state",
        flow_state(flow), "error", text_or_null(flow->failure), "paused", flow->is_paused,
        "consumers", (int)flow->consumers, "min", (int)group->consumers_min, "max",
        (int)group->consumers_max, "capacity", (json_int_t)capacity, "in_flight",
        (int)flow->in_flight_total, "partitions", (json_int_t)partition_count(flow), "ready",
        known(shove_scaling_ready(flow)), "lag", known(shove_scaling_lag(flow)), "waiting",
        (json_int_t)flow->waiting_count, "storing", (int)flow->hopping_count, "acked",
        (json_int_t)tally->done, "delayed", (json_int_t)tally->delayed, "dead_letters",
        (json_int_t)tally->dead, "discarded", (json_int_t)tally->discarded, "poisoned_keys",
        poisoned_keys(flow));
}

json_t *shove_status_groups(const struct shove_control *control) {
    json_t *groups = json_array();
    for (uint32_t i = 0; i < control->flow_count; i++)
        if (!control->flows[i].is_removed || control->flows[i].state != SHOVE_FLOW_ENDED)
            json_array_append_new(groups, flow_status(&control->flows[i]));
    return groups;
}

static json_t *cluster_status(const struct shove_cluster *cluster) {
    return json_pack("{s:s, s:b}", "broker", cluster->url, "reached", !cluster->is_away);
}

/* Who asks goes by where the script's path leads now; links may have changed since the start. */
static const char *app_of(const struct shove_control *control, char path[PATH_MAX]) {
    if (realpath(control->options->script, path) != NULL)
        return path;
    return control->app_path != NULL ? control->app_path : control->options->script;
}

json_t *shove_status(const struct shove_control *control) {
    char path[PATH_MAX];
    char app[SHOVE_UTF8_PATH_SIZE]; /* JSON has no other bytes */
    json_t *workers = json_array();
    json_t *brokers = json_array();
    for (uint32_t i = 0; i < control->cluster_count; i++)
        json_array_append_new(brokers, cluster_status(&control->clusters[i]));
    for (uint32_t i = 0; control->workers && i < control->worker_count; i++) {
        const struct shove_worker *worker = &control->workers[i];
        if (shove_pool_set_of(worker) == control->set || worker->has_child)
            json_array_append_new(workers, worker_status(worker));
    }
    shove_utf8_escape(app_of(control, path), app, sizeof app);
    return json_pack("{s:i, s:s, s:s, s:o, s:s, s:o, s:i, s:I, s:o, s:o}", "pid", (int)getpid(),
                     "app", app, "broker", control->clusters[0].url, "brokers", brokers, "phase",
                     phase_name(control->phase), "error", plight_of(control), "generation",
                     (int)control->generation, "uptime_ms",
                     (json_int_t)(control->now_ms - control->started_ms), "workers", workers,
                     "groups", shove_status_groups(control));
}
