/* kafka_jobs.h: threads for calls that wait for a broker, and the mailbox they answer to.
 *
 * Each job has a thread of its own, detached: they are rare (one per assignment, per partition
 * scanned, per topic looked up, per declaration, per handle destroyed), and one that hangs on a
 * frozen broker must hold up neither the others nor the end of the transport. The mailbox is
 * shared, by count, between the transport, its jobs and its librdkafka handles; it owns the
 * eventfd, so a thread left behind by close never writes to a descriptor that is something else by
 * now.
 */
#ifndef SHOVE_TRANSPORT_KAFKA_JOBS_H
#define SHOVE_TRANSPORT_KAFKA_JOBS_H

#include <stdbool.h>
#include <stdint.h>

struct shove_kafka;
struct shove_kafka_mailbox;

struct shove_kafka_job { /* first member of its owner */
    /* On the job's thread. Looks at shove_kafka_mailbox_is_closed between calls that wait. */
    void (*run)(struct shove_kafka_job *job);
    /* On the loop's thread, with the result; frees the job. */
    void (*done)(struct shove_kafka *kafka, struct shove_kafka_job *job);
    /* On any thread, when there is no transport any more to hear of it; frees the job. */
    void (*discard)(struct shove_kafka_job *job);
    struct shove_kafka_mailbox *mailbox;
    struct shove_kafka_job *next;
};

struct shove_kafka_mailbox *shove_kafka_mailbox_new(void); /* NULL: out of memory or descriptors */
struct shove_kafka_mailbox *shove_kafka_mailbox_keep(struct shove_kafka_mailbox *mailbox);
void shove_kafka_mailbox_release(struct shove_kafka_mailbox *mailbox);
int shove_kafka_mailbox_fd(const struct shove_kafka_mailbox *mailbox);
void shove_kafka_mailbox_poke(struct shove_kafka_mailbox *mailbox); /* any thread */

/* Jobs are told to stop; what comes back from now on is discarded. */
void shove_kafka_mailbox_close(struct shove_kafka_mailbox *mailbox);
bool shove_kafka_mailbox_is_closed(struct shove_kafka_mailbox *mailbox); /* any thread */
/* Waits until no job runs, at most timeout_ms. Returns whether that is so. */
bool shove_kafka_mailbox_wait(struct shove_kafka_mailbox *mailbox, int64_t timeout_ms);

/* takes `job`. Where no thread can be made it runs here and now. Any thread. */
void shove_kafka_job_start(struct shove_kafka_mailbox *mailbox, struct shove_kafka_job *job);
/* Delivers what has come back. Loop's thread. */
void shove_kafka_jobs_deliver(struct shove_kafka *kafka, struct shove_kafka_mailbox *mailbox);

#endif
