/* cluster.h: the brokers of an app: opened and declared at the start, listened to, closed at the
 * end. Control only, loop's thread.
 *
 * A flow, and a publish, belongs to one of them for its whole life; none of them waits for another:
 * what is refused, too large, or away is so on its own broker.
 */
#ifndef SHOVE_CONTROL_CLUSTER_H
#define SHOVE_CONTROL_CLUSTER_H

#include "control/state.h"

/* One for each broker of the topology, none of them open. 0, SHOVE_ENOMEM. */
int shove_clusters_init(struct shove_control *control, struct shove_error *error);

/* Opens them one after the other, each bounded by connect_timeout_ms, and declares their topics.
 * What open and declare return; the text says which broker. */
int shove_clusters_open(struct shove_control *control, struct shove_error *error);

/* Begins to declare the topics of those brokers where `next` has some that the app has not. Returns
 * how many of them have yet to answer, each by shove_reload_declared with `number`; 0: all is done.
 * Negative: what declare returns, and the text says which broker; some may answer all the same. */
int shove_clusters_declare_new(struct shove_control *control, const struct shove_topology *next,
                               uint32_t number, struct shove_error *error);

/* Closes what is open; it may not be used any more, but is there until the release. */
void shove_clusters_close(struct shove_control *control);
void shove_clusters_release(struct shove_control *control);

/* Where a group of control->topology consumes. */
struct shove_cluster *shove_cluster_of(const struct shove_control *control,
                                       const struct shove_group *group);

/* What tells it from the others: its address, NULL where it is the only one. Borrows. */
const char *shove_cluster_label(const struct shove_cluster *cluster);

/* The last field of a log line (base/log.h), before its NULL: the same. */
#define SHOVE_CLUSTER_FIELD(cluster) shove_cluster_label(cluster) ? "broker" : NULL, (cluster)->url

/* "kafka://a, embedded:./b.db". Borrows `out`. */
const char *shove_clusters_list(const struct shove_control *control, char *out, size_t size);

#endif
