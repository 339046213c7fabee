/* flow.h: a group being consumed, and how much of it each worker may have in flight. Control only.
 *
 * A consumer of a group is a lane of `prefetch` in-flight slots. Lane i of group g lives on the
 * (i + g)-th of the workers that are ready, so that groups with few lanes do not all land on the
 * first worker.
 */
#ifndef SHOVE_CONTROL_FLOW_H
#define SHOVE_CONTROL_FLOW_H

#include "control/state.h"

/* One flow per group of the topology; nothing is joined yet. */
int shove_flows_init(struct shove_control *control, struct shove_error *error);
void shove_flows_release(struct shove_control *control);

/* A group of control->topology that is new; shove_flows_join_added joins it. There must be a place
 * for it. 0, or SHOVE_ENOMEM: then nothing has changed. */
int shove_flow_add(struct shove_control *control, uint32_t number);
/* Joins those that were added, with their holds of earlier runs (former_holds.h): waits for each
 * broker once. */
void shove_flows_join_added(struct shove_control *control);
/* For how many groups more. Those that have left, and came again as another flow, make room. */
uint32_t shove_flow_free_places(const struct shove_control *control);

/* It is given nothing more; shove_flows_part, called a few times a second, has it leave when it has
 * finished what it has. `returns`: another flow of the same group follows. */
void shove_flow_remove(struct shove_flow *flow, bool returns);
void shove_flows_part(struct shove_control *control);

/* Whether it is of that group, and consumes that topic there: the same one in another generation,
 * too. */
bool shove_flow_is_of(const struct shove_flow *flow, const struct shove_cluster *cluster,
                      const char *group_id, const char *source);

/* Messages in workers, or retries and dead letters on their way. */
static inline bool shove_flow_has_work(const struct shove_flow *flow) {
    return flow->in_flight_total > 0 || flow->hopping_count > 0;
}

/* Gives up its subscription; shove_flow_ended follows. It is joined. */
void shove_flow_leave(struct shove_flow *flow);

int shove_flow_join(struct shove_flow *flow, struct shove_error *error);

/* Takes over what another description of the same group says, that of the workers of `set`; its
 * topics are the same. */
void shove_flow_adopt(struct shove_flow *flow, const struct shove_topology *topology,
                      uint32_t number, uint32_t set);

/* Joins all groups. The first failure ends it. */
int shove_flows_join(struct shove_control *control, struct shove_error *error);

/* Spreads all lanes over the workers that are ready now. Call when a worker becomes ready or goes,
 * or a flow's number of consumers has changed. */
void shove_flows_spread(struct shove_control *control);

static inline bool shove_flow_has_room(const struct shove_flow *flow, uint32_t worker) {
    return flow->in_flight[worker] < flow->capacity[worker] &&
           flow->in_flight_total <
               flow->capacity_total; /* others may still finish what they have */
}

/* The subscription ended by itself or because we left. */
void shove_flow_ended(struct shove_flow *flow, int code, const char *text);

/* True when a line about the flow's messages may be written now; the others are counted, and
 * shove_flow_log_left_out says how many they were: by itself before the next line of a later
 * second, else when it is called, every second and at the end of the run. */
bool shove_flow_may_log(struct shove_flow *flow);
void shove_flow_log_left_out(struct shove_flow *flow);

#endif
