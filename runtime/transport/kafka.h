/* kafka.h: what the files of the Kafka transport share. Nobody else includes it.
 *
 * Control (and cli), loop's thread, unless a line says otherwise.
 *
 *   shove_kafka                 the transport: one address, one loop
 *     +- mailbox                the eventfd that librdkafka's queues and our jobs write to
 *     +- admin                  handle that is always there: metadata, declare, operator calls
 *     +- producer               idempotent; made at the first record, made anew after a fatal error
 *     +- topics                 what is known of topics that are produced to
 *     +- scans                  those that wait for their turn; one client reads them all
 *     +- subscriptions          one consumer handle each
 *          +- claims            one partition queue each
 *          +- rebalances        events of librdkafka's not yet answered, oldest first
 *          +- commits           one on its way, the others wait
 *
 * How events travel: librdkafka's threads put something into a queue and write to the eventfd; the
 * loop wakes, reads all queues in bounded portions (shove_kafka_pump), and calls the subscriber
 * from there. Operations that would have to call the subscriber only note it and write to the
 * eventfd themselves, so no event is ever delivered from inside an operation. A timer does the same
 * a few times a second, whatever happens: it is what resets librdkafka's poll deadline
 * (max.poll.interval.ms) of an idle member, besides every take.
 *
 * Calls of librdkafka's that wait for a broker are made on threads of their own (kafka_jobs.h),
 * never on the loop's.
 */
#ifndef SHOVE_TRANSPORT_KAFKA_H
#define SHOVE_TRANSPORT_KAFKA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>
#include <uv.h>

#include "base/buffer.h"
#include "transport/kafka_jobs.h"
#include "transport/transport.h"

#define SHOVE_KAFKA_TICK_MS 100
#define SHOVE_KAFKA_EVENTS_PER_PUMP 512 /* of one queue, before the others get their turn */
#define SHOVE_KAFKA_TOPIC_BUCKETS 64    /* a power of two */
/* Room for keys, headers and framing on top of the largest message. */
#define SHOVE_KAFKA_RECORD_SLACK_BYTES (64 * 1024)
#define SHOVE_KAFKA_ANY_RECORD_BYTES 1000000000 /* the most that librdkafka can send */

struct shove_kafka;
struct shove_kafka_subscription;

enum shove_kafka_role {
    SHOVE_KAFKA_ADMIN,
    SHOVE_KAFKA_PRODUCER,
    SHOVE_KAFKA_CONSUMER,
    SHOVE_KAFKA_READER
};

/* What a consumer's requests say of its group; in the newer group protocol, which has no such
 * requests, always the first. */
enum shove_kafka_membership {
    SHOVE_KAFKA_NO_MEMBER,
    SHOVE_KAFKA_JOINING, /* it asked to join and has not heard */
    SHOVE_KAFKA_MEMBER,
    SHOVE_KAFKA_REJOINS /* it gave up partitions in a rebalance, and will ask to join again */
};

/* A librdkafka handle, shared (by count, from any thread) between its owner, batches taken from it
 * and jobs that use it. */
struct shove_kafka_client {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue; /* where its events come */
    struct shove_kafka_mailbox *mailbox;
    atomic_uint references;
    atomic_int membership; /* CONSUMER: enum shove_kafka_membership; librdkafka's threads set it,
                              too (kafka_config.c) */
    bool is_leaving_group; /* destroying it leaves its group in order; otherwise at once */
};

struct shove_kafka_producer {
    struct shove_kafka_client *client;
    struct shove_kafka_producer *next; /* in kafka->retired */
    int retired_code;                  /* what its unacknowledged records are told */
};

struct shove_kafka_pending { /* a record that waits for its topic to be looked up; key, value and
                                headers follow */
    struct shove_kafka_pending *next;
    struct shove_produce produce;
    size_t size_bytes;
};

struct shove_kafka_topic {          /* a name that was produced to or declared */
    struct shove_kafka_topic *next; /* in its bucket */
    enum {
        SHOVE_KAFKA_TOPIC_UNKNOWN,
        SHOVE_KAFKA_TOPIC_ASKED,
        SHOVE_KAFKA_TOPIC_EXISTS,
        SHOVE_KAFKA_TOPIC_MISSING
    } state;
    rd_kafka_topic_t *rkt; /* of the current producer; NULL: not made yet */
    int64_t answered_ms;   /* MISSING: when it was found so */
    int64_t retention_ms;  /* as in shove_transport_ops */
    struct shove_kafka_pending *first;
    struct shove_kafka_pending *last;
    char name[];
};

enum shove_kafka_claim_state {
    SHOVE_KAFKA_CLAIM_ACTIVE,
    SHOVE_KAFKA_CLAIM_REVOKING,
    SHOVE_KAFKA_CLAIM_LOST
};

struct shove_kafka_claim {
    struct shove_claim base; /* first */
    struct shove_kafka_claim *next;
    struct shove_kafka_claim *previous;
    rd_kafka_queue_t *queue;
    enum shove_kafka_claim_state state;
    struct shove_kafka_rebalance *rebalance; /* the one that takes it away; NULL: none does */
    int64_t next_offset;                     /* one past the last record given out */
    int64_t last_take_offset; /* next_offset before the last take that gave records */
    int32_t leader_epoch;     /* of the last record given out; -1: the broker does not say */
    bool may_go_back;         /* librdkafka reported an offset reset here */
    int code;                 /* not 0: take fails with it */
};

struct shove_kafka_rebalance {
    struct shove_kafka_rebalance *next;
    rd_kafka_topic_partition_list_t *partitions;
    bool is_assign;
    bool is_started;
    size_t unreleased; /* claims that keep a revocation from being answered */
    struct shove_kafka_lookup *lookup;
};

struct shove_kafka_commit {
    struct shove_kafka_commit *next;
    rd_kafka_topic_partition_list_t *offsets; /* same order as commits */
    void *opaque;
    size_t count;
    bool is_apart;                 /* one partition at a time */
    size_t sent;                   /* answered so far */
    struct shove_commit commits[]; /* claim is NULL once it was released; metadata is not kept */
};

struct shove_kafka_subscription {
    struct shove_subscription base; /* first */
    struct shove_kafka *kafka;
    struct shove_kafka_subscription *next;
    struct shove_kafka_client *client;
    rd_kafka_queue_t *commit_queue;
    rd_kafka_queue_t *log_queue;
    struct shove_kafka_line *lines; /* of the log, read by take and not told yet; oldest first */
    char **topics;
    size_t topic_count;
    size_t hold_count;       /* the last so many of them */
    rd_kafka_topic_t **held; /* handles of the holds, which have a reset policy of their own */
    enum shove_reset reset;  /* of the others */
    struct shove_kafka_begun *begun; /* under LATEST, until it is answered: assignments wait */
    int32_t *added_from; /* and then, for each of the others: partitions from this one on were not
                            there when the group began; NULL: no topic has such */
    struct shove_kafka_claim *claims;
    struct shove_kafka_rebalance *rebalance; /* oldest first */
    struct shove_kafka_commit *commit;       /* the first is on its way when is_committing */
    bool is_committing;
    bool is_leaving; /* unsubscribe was called */
    bool is_closing; /* librdkafka was told to leave the group */
    int64_t
        close_deadline_ms; /* leaving, not closing yet: how long a join under way is waited for */
    int64_t leave_deadline_ms; /* 0: not running; after it the handle is dropped without waiting for
                                  the broker */
    int failure;               /* not 0: it cannot go on */
    char failure_text[512];
};

struct shove_kafka_line {
    struct shove_kafka_line *next;
    rd_kafka_event_t *event;
};

struct shove_kafka_batch { /* what shove_batch.owner points to */
    struct shove_kafka_batch *next;
    struct shove_kafka_batch *previous;
    struct shove_kafka_client *client;
    rd_kafka_message_t **messages;
    struct shove_record *records;
    size_t capacity;
    size_t message_count;
    struct shove_buffer headers;
};

struct shove_kafka_notices { /* kafka_notice.c */
    bool is_down;
    bool is_probing;
    int64_t down_since_ms;
    int64_t last_ms; /* of the last notice about one broker */
    uint32_t suppressed;
    int later_code; /* 0: none */
    char later_words[512];
};

struct shove_kafka_scans {          /* kafka_scan.c */
    struct shove_kafka_scan *first; /* not begun yet, oldest first */
    struct shove_kafka_scan *last;
    struct shove_kafka_client *client; /* NULL: none is needed now */
    bool is_scanning;                  /* one is being read */
    int64_t answered_ms;               /* when the last one that succeeded did */
};

struct shove_kafka_loop { /* libuv's handles, freed by libuv's close callbacks */
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned open_count;
};

struct shove_kafka {
    struct shove_transport base; /* first */
    const struct shove_transport_events *events;
    void *ctx;
    struct shove_kafka_loop *loop;
    struct shove_kafka_mailbox *mailbox;
    char *address;
    char *client_id;
    struct shove_property *properties;
    uint32_t property_count;
    int64_t timeout_ms;
    int64_t max_message_size_bytes;
    long widest_topic; /* partitions of the widest topic that was declared; 0: none was */

    struct shove_kafka_client *admin;
    struct shove_kafka_producer *producer; /* NULL: none now */
    struct shove_kafka_producer *retired;
    int64_t producer_made_ms;
    struct shove_kafka_topic *topics[SHOVE_KAFKA_TOPIC_BUCKETS];
    size_t pending_bytes; /* of all records that wait for a look-up */
    struct shove_kafka_subscription *subscriptions;
    struct shove_kafka_batch *live_batches;
    struct shove_kafka_batch *free_batches;
    size_t free_batch_count;

    struct shove_kafka_client *reader; /* operator reads */
    rd_kafka_topic_t *reader_topic;
    int32_t reader_partition;
    int64_t reader_offset;
    struct shove_kafka_client *asker; /* of the offsets of asker_group */
    char *asker_group;

    struct shove_kafka_scans scans;
    struct shove_kafka_notices notices;
    bool has_warned_of_replication;
    bool is_readable_due;
};

/* ---- kafka_transport.c ---- */

/* Reads every queue once and delivers what is due. */
void shove_kafka_pump(struct shove_kafka *kafka);
/* The pump runs again soon. Any thread. */
void shove_kafka_poke(struct shove_kafka *kafka);
int64_t shove_kafka_now_ms(const struct shove_kafka *kafka);

/* ---- kafka_config.c ---- */

/* ECONFIG, by name, for a property that shove owns or librdkafka does not know. */
int shove_kafka_check_properties(const struct shove_property *properties, uint32_t count,
                                 struct shove_error *error);
/* max.poll.interval.ms. */
int64_t shove_kafka_rebalance_ms(const struct shove_property *properties, uint32_t count);
/* gives *out. `group_id` and `reset` for consumers only. */
int shove_kafka_client_new(struct shove_kafka *kafka, enum shove_kafka_role role,
                           const char *group_id, enum shove_reset reset,
                           struct shove_kafka_client **out, struct shove_error *error);
struct shove_kafka_client *shove_kafka_client_keep(struct shove_kafka_client *client);
/* Any thread. The last one destroys the handle, on a thread of its own. */
void shove_kafka_client_release(struct shove_kafka_client *client);

/* ---- kafka_notice.c ---- */

/* Takes in what librdkafka says besides records and results; true when the event was of that kind.
 */
bool shove_kafka_notice_event(struct shove_kafka *kafka,
                              struct shove_kafka_subscription *subscription,
                              rd_kafka_event_t *event);
/* Reads the log of a consumer for offsets that were reset, and notes that in the claims. Told is
 * nothing of it before the next pump: may be called inside an operation. */
void shove_kafka_notice_resets(struct shove_kafka_subscription *subscription);
/* Reads the log of a consumer, and tells of it what there is to tell. */
void shove_kafka_notice_log(struct shove_kafka_subscription *subscription);
void shove_kafka_lines_free(struct shove_kafka_subscription *subscription);
/* As shove_kafka_notice_event, of what waits in the queue of a client that gives nothing else
 * there. */
void shove_kafka_notice_client(struct shove_kafka *kafka, const struct shove_kafka_client *client);
void shove_kafka_notice(struct shove_kafka *kafka, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Trouble that librdkafka goes on trying about, met inside an operation: told by the next pump, if
 * none was told a short while ago. */
void shove_kafka_notice_later(struct shove_kafka *kafka, int code, const char *words);
void shove_kafka_notice_due(struct shove_kafka *kafka);
void shove_kafka_notice_tick(struct shove_kafka *kafka);

/* ---- kafka_topics.c ---- */

/* NULL: out of memory. */
struct shove_kafka_topic *shove_kafka_topic_get(struct shove_kafka *kafka, const char *name);
void shove_kafka_topic_ask(struct shove_kafka *kafka, struct shove_kafka_topic *topic);
void shove_kafka_topics_forget_handles(
    struct shove_kafka *kafka); /* the producer they belong to goes away */
void shove_kafka_topics_free(struct shove_kafka *kafka);
/* Blocks up to timeout_ms. Partitions of a topic, or ENOTOPIC, EDENIED, ETIMEOUT, ... `brokers` and
 * `is_led` (every partition has a leader) may be NULL. Any thread. */
long shove_kafka_ask_partition_count(rd_kafka_t *rk, const char *topic, int64_t timeout_ms,
                                     int *brokers, bool *is_led, struct shove_error *error);

/* ---- kafka_producer.c ---- */

int shove_kafka_produce(struct shove_transport *transport, const struct shove_produce *what);
void shove_kafka_producer_pump(struct shove_kafka *kafka);
/* Sends what waited for the topic, or reports it failed with `code`. */
void shove_kafka_producer_settle(struct shove_kafka *kafka, struct shove_kafka_topic *topic,
                                 int code, const char *detail);
void shove_kafka_producer_close(struct shove_kafka *kafka);

/* ---- kafka_consumer.c ---- */

int shove_kafka_subscribe(struct shove_transport *transport, const struct shove_subscribe *what,
                          struct shove_subscription **out, struct shove_error *error);
void shove_kafka_unsubscribe(struct shove_transport *transport, struct shove_subscription *base);
void shove_kafka_consumer_pump(struct shove_kafka *kafka);
void shove_kafka_subscription_fail(struct shove_kafka_subscription *subscription, int code,
                                   const char *format, ...) __attribute__((format(printf, 3, 4)));
/* What is done about a partition of it where nothing is committed. */
enum shove_reset shove_kafka_subscription_reset(const struct shove_kafka_subscription *subscription,
                                                const char *topic, int32_t partition);
/* Frees it with everything it has left, without a word to the subscriber. */
void shove_kafka_subscription_free(struct shove_kafka_subscription *subscription);

/* ---- kafka_assignment.c ---- */

/* takes `partitions`. */
void shove_kafka_rebalance_add(struct shove_kafka_subscription *subscription, bool is_assign,
                               rd_kafka_topic_partition_list_t *partitions);
/* The answer of the look-up of the oldest rebalance: `code` with `text`, or offsets and which of
 * them were committed. */
void shove_kafka_rebalance_begin(struct shove_kafka_subscription *subscription, int code,
                                 const char *text, rd_kafka_topic_partition_list_t *partitions,
                                 const bool *has_committed);
/* Goes on with the oldest rebalance as far as it can without waiting. */
void shove_kafka_rebalance_step(struct shove_kafka_subscription *subscription);
void shove_kafka_rebalances_free(struct shove_kafka_subscription *subscription);
/* Declares all claims lost that were not already. */
void shove_kafka_claims_lose(struct shove_kafka_subscription *subscription);
void shove_kafka_release(struct shove_transport *transport, struct shove_claim **claims,
                         size_t count);
struct shove_kafka_claim *shove_kafka_claim_find(struct shove_kafka_subscription *subscription,
                                                 const char *topic, int32_t partition);

/* ---- kafka_begun.c ---- */

/* Sets subscription->begun, which becomes subscription->added_from. SHOVE_ENOMEM. */
int shove_kafka_begun_start(struct shove_kafka_subscription *subscription);
/* No answer is wanted any more. */
void shove_kafka_begun_forget(struct shove_kafka_begun *begun);

/* ---- kafka_lookup.c ---- */

/* Sets rebalance->lookup; shove_kafka_rebalance_begin follows. SHOVE_ENOMEM. */
int shove_kafka_lookup_start(struct shove_kafka_subscription *subscription,
                             struct shove_kafka_rebalance *rebalance);
/* The answer may be that it was cut short. */
void shove_kafka_lookup_hurry(struct shove_kafka_lookup *lookup);
/* No answer is wanted any more. */
void shove_kafka_lookup_forget(struct shove_kafka_lookup *lookup);

/* ---- kafka_take.c ---- */

long shove_kafka_take(struct shove_transport *transport, struct shove_claim *base, size_t max,
                      struct shove_batch *out);
void shove_kafka_batch_release(struct shove_transport *transport, struct shove_batch *batch);
struct shove_kafka_batch *shove_kafka_batch_new(struct shove_kafka *kafka,
                                                struct shove_kafka_client *client, size_t max);
/* Makes records of messages[0..message_count). */
int shove_kafka_batch_fill(struct shove_kafka_batch *batch);
void shove_kafka_batch_free(struct shove_kafka *kafka, struct shove_kafka_batch *batch);
void shove_kafka_batches_free(struct shove_kafka *kafka);
/* Makes librdkafka go on there, and forget which offset it takes for the last one that was taken;
 * what it has fetched is fetched again. */
void shove_kafka_claim_seek(const struct shove_kafka_claim *claim, int64_t offset,
                            int32_t leader_epoch);
int64_t shove_kafka_backlog(struct shove_transport *transport, const struct shove_claim *base,
                            int64_t *end);

/* ---- kafka_reading.c ---- */

/* Begins to fetch; NULL with an error. shove_kafka_reading_stop. */
rd_kafka_topic_t *shove_kafka_reading_start(rd_kafka_t *rk, const char *topic, int32_t partition,
                                            int64_t offset, struct shove_error *error);
void shove_kafka_reading_stop(rd_kafka_topic_t *rkt, int32_t partition);
/* Appends messages to the batch, which has room for `max`; waits for the first. Returns where they
 * begin. */
size_t shove_kafka_reading_take(rd_kafka_topic_t *rkt, int32_t partition,
                                struct shove_kafka_batch *batch, size_t max, int wait_ms);

/* ---- kafka_scan.c ---- */

int shove_kafka_scan(struct shove_transport *transport, const char *topic, int32_t partition,
                     int64_t offset, void *opaque);
/* Takes in what the scans' client says besides records. */
void shove_kafka_scans_pump(struct shove_kafka *kafka);
/* Those that wait are dropped without a word. */
void shove_kafka_scans_close(struct shove_kafka *kafka);

/* ---- kafka_commit.c ---- */

int shove_kafka_commit(struct shove_transport *transport, struct shove_subscription *base,
                       const struct shove_commit *commits, size_t count, void *opaque);
void shove_kafka_commit_pump(struct shove_kafka_subscription *subscription);
void shove_kafka_commits_fail(struct shove_kafka_subscription *subscription, int code);
void shove_kafka_commits_forget(struct shove_kafka_subscription *subscription,
                                const struct shove_claim *claim);

/* ---- kafka_admin.c ---- */

int shove_kafka_declare(struct shove_transport *transport, const struct shove_topic_spec *specs,
                        size_t count, struct shove_error *error);
int shove_kafka_declare_start(struct shove_transport *transport,
                              const struct shove_topic_spec *specs, size_t count, void *opaque);

/* ---- kafka_retention.c, kafka_operator.c ---- */

int64_t shove_kafka_retention_ms(struct shove_transport *transport, const char *topic);
long shove_kafka_partition_count(struct shove_transport *transport, const char *topic,
                                 int64_t timeout_ms, struct shove_error *error);
int shove_kafka_topic_names(struct shove_transport *transport, const char *prefix,
                            struct shove_buffer *names, int64_t timeout_ms,
                            struct shove_error *error);
int shove_kafka_watermarks(struct shove_transport *transport, const char *topic, int32_t partition,
                           int64_t *low, int64_t *high, int64_t timeout_ms,
                           struct shove_error *error);
long shove_kafka_read(struct shove_transport *transport, const char *topic, int32_t partition,
                      int64_t offset, size_t max, int64_t timeout_ms, struct shove_batch *out,
                      struct shove_error *error);
int shove_kafka_committed_get(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t *offset,
                              char **metadata, int64_t timeout_ms, struct shove_error *error);
int shove_kafka_committed_set(struct shove_transport *transport, const char *group_id,
                              const char *topic, int32_t partition, int64_t offset,
                              const char *metadata, int64_t timeout_ms, struct shove_error *error);
int shove_kafka_delete_before(struct shove_transport *transport, const char *topic,
                              int32_t partition, int64_t offset, int64_t timeout_ms,
                              struct shove_error *error);
void shove_kafka_reader_close(struct shove_kafka *kafka);

#endif
