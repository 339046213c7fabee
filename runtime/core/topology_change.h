/* topology_change.h: what of an app may change while it runs. Pure; control only. */
#ifndef SHOVE_CORE_TOPOLOGY_CHANGE_H
#define SHOVE_CORE_TOPOLOGY_CHANGE_H

#include "core/topology.h"

/* 0 when `next` can take the place of `now` under way: code, new topics, groups that come and go,
 * and of those that stay whatever they say but messages larger than `largest_bytes`, which there is
 * memory for; holds, DLQs, the autoscaler's rule; more or fewer partitions where they are not
 * sequenced, of which the fewer change nothing, as at a start. SHOVE_ECONFIG with the user's line,
 * what differs, and that a restart is needed. */
int shove_topology_check_change(const struct shove_topology *now, const struct shove_topology *next,
                                int64_t largest_bytes, struct shove_error *error);

/* By queue and for_group. */
bool shove_topology_is_same_topic(const struct shove_topic *a, const struct shove_topic *b);

/* By group id, kind and topic. */
bool shove_topology_is_same_group(const struct shove_group *a, const struct shove_topic *topic_a,
                                  const struct shove_group *b, const struct shove_topic *topic_b);

/* Some that are to be declared on that broker, holds and DLQs among them, or get more partitions.
 */
bool shove_topology_has_new_topics(const struct shove_topology *now,
                                   const struct shove_topology *next, uint32_t broker);

/* The same group in both: must it leave and join again, because it is to read other topics, or to
 * write its dead letters to another, or begins elsewhere where it has committed nothing? */
bool shove_topology_must_rejoin(const struct shove_topology *now,
                                const struct shove_group *group_now,
                                const struct shove_topology *next,
                                const struct shove_group *group_next);

/* The number of the group of `topology` that is the same as `group` of another; -1: there is none.
 */
long shove_topology_find_group(const struct shove_topology *topology,
                               const struct shove_topology *other, const struct shove_group *group);

#endif
