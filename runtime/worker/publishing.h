/* publishing.h: messages that handlers asked control to publish, until the answers are there.
 * Worker only.
 */
#ifndef SHOVE_WORKER_PUBLISHING_H
#define SHOVE_WORKER_PUBLISHING_H

#include "base/record.h"
#include "worker/host.h"

/* Forgets the answers of the task's last call; a call is any number of _ask followed by a wait. */
void shove_publishing_begin(struct shove_task *task);

/* Asks control to publish a record whose headers are in host->scratch; adds the message id.
 * partition -1: by key; broker: index of the one the topic is on. What cannot be asked is kept as a
 * failure of the call. */
void shove_publishing_ask(struct shove_task *task, const char *topic, size_t topic_size,
                          const struct shove_record *record, int32_t partition, uint16_t broker);

/* Control's answer to a request: 0 or a negative SHOVE_E*. Resumes the task after the last one of
 * its call. Answers to a task that is over reach nobody. */
void shove_publishing_answered(struct shove_host *host, uint32_t request, int code);

#endif
