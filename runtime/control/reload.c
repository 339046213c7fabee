/* reload.c: see reload.h. Control only, loop's thread.
 *
 * Workers have several sets of places, of which one is current; another may be of the workers that
 * are being loaded, and the rest are of those that finish, or empty.
 */
#include "control/reload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/file_watch.h"
#include "control/flow.h"
#include "control/metrics.h"
#include "control/on_start.h"
#include "control/pool.h"
#include "control/remote.h"
#include "control/scaling.h"
#include "control/supervision.h"
#include "control/topology_json.h"
#include "core/topology_change.h"

bool shove_reload_owns(const struct shove_control *control, const struct shove_worker *worker) {
    return control->reload.is_loading && shove_pool_set_of(worker) == control->reload.set;
}

static bool is_set_empty(const struct shove_control *control, uint32_t set) {
    for (uint32_t i = 0; i < control->set_size; i++) {
        if (shove_pool_worker(control, set, i)->has_child)
            return false;
    }
    return true;
}

/* ---- its end ---- */

static void forget(struct shove_reload *reload) {
    free(reload->description);
    reload->description = NULL;
    shove_topology_release(&reload->next);
    reload->is_loading = false;
}

static void fail(struct shove_control *control, const char *text) {
    char generation[16];
    snprintf(generation, sizeof(generation), "%" PRIu32, control->generation);
    if (control->reload.is_loading)
        shove_pool_kill_set(control, control->reload.set);
    forget(&control->reload);
    control->reload.has_failed = true;
    control->reload.failed_count++;
    shove_log_fields(SHOVE_LOG_ERROR, "the reload failed, and the app goes on as it was",
                     "generation", generation, "why", text, NULL);
    shove_remote_reloaded(control, SHOVE_ECONFIG, text);
}

void shove_reload_release(struct shove_control *control) {
    forget(&control->reload);
    while (control->formers != NULL) {
        struct shove_former *former = control->formers;
        control->formers = former->next;
        shove_topology_release(&former->topology);
        free(former);
    }
}

/* ---- the switch ---- */

/* Live flow of a group, by what it is called; NULL: none. */
static struct shove_flow *flow_of(struct shove_control *control,
                                  const struct shove_topology *topology,
                                  const struct shove_group *group) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (!flow->is_removed && shove_topology_is_same_group(flow->group, flow->topic, group,
                                                              &topology->topics[group->topic]))
            return flow;
    }
    return NULL;
}

/* What groups that go still speak of stays (release_formers). */
static void let_go(struct shove_control *control) {
    struct shove_former *former = calloc(1, sizeof *former);
    if (former == NULL)
        return; /* lost, not freed: no memory, and it may still be borrowed */
    former->topology = control->topology;
    former->next = control->formers;
    control->formers = former;
}

static bool is_spoken_of_by_flow(const struct shove_control *control,
                                 const struct shove_topology *topology) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const struct shove_group *group = control->flows[i].group;
        for (uint32_t g = 0; g < topology->group_count; g++) {
            if (group == &topology->groups[g])
                return true;
        }
    }
    return false;
}

/* Of the topologies that were kept, those that no flow speaks of any more. */
static void release_formers(struct shove_control *control) {
    struct shove_former **link = &control->formers;
    while (*link != NULL) {
        struct shove_former *former = *link;
        if (is_spoken_of_by_flow(control, &former->topology)) {
            link = &former->next;
            continue;
        }
        *link = former->next;
        shove_topology_release(&former->topology);
        free(former);
    }
}

/* Whether the flow of a group goes on with what `next` says of it. */
static bool stays(const struct shove_control *control, const struct shove_flow *flow,
                  const struct shove_topology *next, long number) {
    return number >= 0 && !shove_topology_must_rejoin(&control->topology, flow->group, next,
                                                      &next->groups[number]);
}

/* Everything borrowed from the topology is borrowed from the new one. */
static void take_over(struct shove_control *control, struct shove_topology *next) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        if (flow->is_removed)
            continue;
        const long number = shove_topology_find_group(next, &control->topology, flow->group);
        if (stays(control, flow, next, number))
            shove_flow_adopt(flow, next, (uint32_t)number, control->reload.set);
        else
            shove_flow_remove(flow, number >= 0);
    }
    let_go(control);
    control->topology = *next;
    *next = (struct shove_topology){0};
    release_formers(control);
    free(control->description);
    control->description = control->reload.description;
    control->description_size = control->reload.description_size;
    control->reload.description = NULL;
}

/* One of that group that finishes what it has, or leaves. */
static bool is_leaving(const struct shove_control *control, const struct shove_group *group) {
    const struct shove_cluster *cluster = shove_cluster_of(control, group);
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const struct shove_flow *flow = &control->flows[i];
        const bool is_done = flow->state == SHOVE_FLOW_ENDED && !shove_flow_has_work(flow);
        if (flow->is_removed && !is_done && flow->cluster == cluster &&
            strcmp(flow->group->group_id, group->group_id) == 0)
            return true;
    }
    return false;
}

/* Groups that are not there yet join, once one of the same name has left. */
static void join_added(struct shove_control *control) {
    bool has_added = false;
    for (uint32_t i = 0; i < control->topology.group_count; i++) {
        const struct shove_group *group = &control->topology.groups[i];
        if (flow_of(control, &control->topology, group) == NULL && !is_leaving(control, group))
            has_added |= shove_flow_add(control, i) == 0; /* without memory: the next time */
    }
    if (!has_added)
        return;
    shove_flows_join_added(control);
    shove_flows_spread(control);
    release_formers(control);
}

bool shove_reload_awaits_group(struct shove_control *control) {
    for (uint32_t i = 0; i < control->topology.group_count; i++) {
        if (flow_of(control, &control->topology, &control->topology.groups[i]) == NULL)
            return true;
    }
    return false;
}

/* How many of its groups are new, or leave and join again. */
static uint32_t count_joining(const struct shove_control *control,
                              const struct shove_topology *next) {
    uint32_t staying = 0;
    for (uint32_t i = 0; i < control->flow_count; i++) {
        const struct shove_flow *flow = &control->flows[i];
        staying += !flow->is_removed &&
                   stays(control, flow, next,
                         shove_topology_find_group(next, &control->topology, flow->group));
    }
    return next->group_count - staying;
}

/* What only control knows of: is there room? */
static int check_room(const struct shove_control *control, struct shove_error *error) {
    const struct shove_topology *next = &control->reload.next;
    if (shove_topology_peak(next) > control->slot_count &&
        shove_topology_peak(next) > shove_topology_peak(&control->topology))
        return shove_error_set(error, SHOVE_ECONFIG,
                               "consumers.max and prefetch of all groups let %" PRIu64
                               " messages be in flight, and memory was laid out for %" PRIu32
                               ": restart shove",
                               shove_topology_peak(next), control->slot_count);
    const uint32_t needed = count_joining(control, next);
    const uint32_t free_places = shove_flow_free_places(control);
    if (needed > free_places)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "%" PRIu32 " groups would join, and after all that came and went in "
                               "this run there is room for %" PRIu32 ": restart shove",
                               needed, free_places);
    return 0;
}

static void switch_over(struct shove_control *control) {
    char generation[16];
    for (uint32_t i = 0; i < control->worker_count; i++)
        shove_on_start_move(&control->workers[i]);
    take_over(control, &control->reload.next);
    shove_metrics_learn_topics(control);
    for (uint32_t i = 0; i < control->set_size; i++)
        shove_pool_worker(control, control->reload.set, i)->state = SHOVE_WORKER_READY;
    shove_pool_retire_set(control, control->set);
    control->set = control->reload.set;
    control->generation++;
    forget(&control->reload);
    control->reload.has_failed = false;
    control->reload.succeeded_count++;
    shove_flows_spread(control);
    join_added(control);
    shove_scaling_start(control);
    if (control->options->watches)
        shove_file_watch_start(control);
    for (uint32_t i = 0; i < control->topology.warning_count; i++)
        shove_log(SHOVE_LOG_WARN, "%s", control->topology.warnings[i]);
    snprintf(generation, sizeof(generation), "%" PRIu32, control->generation);
    shove_log_fields(SHOVE_LOG_INFO, "reloaded: new messages go to the new code", "generation",
                     generation, "why", control->reload.why, NULL);
    shove_remote_reloaded(control, 0, NULL);
    control->has_progress = true;
}

/* Its workers have loaded. */
static void check(struct shove_control *control) {
    struct shove_reload *reload = &control->reload;
    struct shove_error error;
    if (control->phase != SHOVE_PHASE_RUNNING)
        return; /* it is ended at the next look (shove_reload_watch) */
    int rc =
        shove_topology_parse(reload->description, reload->description_size, &reload->next, &error);
    if (rc == 0)
        rc = shove_topology_check_change(&control->topology, &reload->next,
                                         control->largest_message_bytes, &error);
    if (rc == 0)
        rc = check_room(control, &error);
    if (rc == 0)
        rc = shove_clusters_declare_new(control, &reload->next, reload->begun, &error);
    if (rc < 0)
        fail(control, error.text);
    else if (rc == 0)
        switch_over(control);
    else
        reload->unanswered_count = (uint32_t)rc;
}

/* Answers to one that has ended meanwhile are nobody's any more. */
void shove_reload_declared(struct shove_control *control, uint32_t number, int code,
                           const char *text) {
    struct shove_reload *reload = &control->reload;
    struct shove_error error;
    if (!reload->is_loading || number != reload->begun || control->phase != SHOVE_PHASE_RUNNING)
        return;
    control->now_ms = (int64_t)uv_now(&control->loop);
    if (code != 0) {
        fail(control, text);
        return;
    }
    if (--reload->unanswered_count > 0)
        return;
    if (check_room(control, &error) == 0) /* groups may have come while the broker was waited for */
        switch_over(control);
    else
        fail(control, error.text);
}

/* ---- its beginning ---- */

static void begin(struct shove_control *control, uint32_t set) {
    struct shove_error error;
    control->reload.set = set;
    control->reload.is_wanted = false;
    control->reload.is_loading = true;
    control->reload.ready_count = 0;
    control->reload.begun++;
    shove_log_fields(SHOVE_LOG_INFO, "reloading the app", "why", control->reload.why, NULL);
    if (shove_pool_start_set(control, set, &error) != 0)
        fail(control, error.text);
}

int shove_reload_ask(struct shove_control *control, const char *why, struct shove_error *error) {
    if (control->phase != SHOVE_PHASE_RUNNING)
        return shove_error_set(error, SHOVE_ECLOSED, "it is not running (any more)");
    control->reload.is_wanted = true;
    control->reload.why = why;
    shove_reload_watch(control);
    if (control->reload.is_wanted)
        shove_log_fields(SHOVE_LOG_INFO,
                         "the reload waits for one before it, or for older code to finish what it "
                         "has",
                         "why", why, NULL);
    return 0;
}

void shove_reload_watch(struct shove_control *control) {
    if (control->phase == SHOVE_PHASE_RUNNING) {
        shove_flows_part(control);
        join_added(control);
    }
    if (control->phase != SHOVE_PHASE_RUNNING &&
        (control->reload.is_wanted || control->reload.is_loading)) {
        control->reload.is_wanted = false;
        fail(control, "the app ends");
    }
    for (uint32_t set = 0; set < SHOVE_WORKER_SETS && control->reload.is_wanted &&
                           !control->reload.is_loading && control->phase == SHOVE_PHASE_RUNNING;
         set++) {
        if (set != control->set && is_set_empty(control, set))
            begin(control, set);
    }
}

/* ---- what its workers say ---- */

void shove_reload_described(struct shove_worker *worker, const char *description, size_t size) {
    struct shove_control *control = worker->control;
    struct shove_reload *reload = &control->reload;
    if (reload->description == NULL) {
        reload->description = malloc(size + 1);
        if (reload->description == NULL) {
            fail(control, "out of memory for what the script describes");
            return;
        }
        memcpy(reload->description, description, size);
        reload->description[size] = '\0';
        reload->description_size = size;
    } else if (reload->description_size != size ||
               memcmp(reload->description, description, size) != 0) {
        fail(control, "the script describes another app each time it is loaded (did it change once "
                      "more, or does it depend on time or chance?)");
    }
}

void shove_reload_worker_ready(struct shove_worker *worker) {
    struct shove_control *control = worker->control;
    worker->state = SHOVE_WORKER_LOADED;
    if (++control->reload.ready_count == control->set_size)
        check(control);
}

void shove_reload_worker_failed(struct shove_worker *worker, const char *text, size_t size) {
    struct shove_error error;
    shove_error_set(&error, SHOVE_ECONFIG, "%.*s", (int)size, text);
    fail(worker->control, error.text);
}
