/* kafka_consumer.c: a subscription, from joining the group to having left it.
 *
 * Control, loop's thread.
 *
 * It ends after its claims are released, and then `ended` is delivered, exactly once:
 *
 * After unsubscribe, librdkafka revokes what is owned, leaves the group and says it is closed. A
 * join under way or about to follow is waited for first, a while: librdkafka would not take its
 * answer any more, and the last commits would be refused for their old generation. What librdkafka
 * has asked is answered first, too: it would ask for all partitions behind that, the answer to the
 * first would give all of them up, and the second, where it came as the group ended, would be
 * waited for without an end. Where the broker does not answer it is dropped all the same,
 * LEAVE_TIMEOUT_MS after the last release; the group notices by its session timeout.
 *
 * After a failure (no permission, no offset, a fatal error), claims are declared lost, and then it
 * leaves in the same way, with less patience.
 *
 * When the transport is closed nothing is said; kafka_transport.c frees it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

/* The other members' heartbeats, 3 s apart, tell them to join too. */
#define JOIN_PATIENCE_MS 4000
#define LEAVE_TIMEOUT_MS 7000
#define FAILED_LEAVE_TIMEOUT_MS 2000
#define EXIST_TIMEOUT_MS 30000
#define EXIST_PATIENCE_MS 2000

void shove_kafka_subscription_fail(struct shove_kafka_subscription *subscription, int code,
                                   const char *format, ...) {
    if (subscription->failure != 0 || subscription->is_leaving)
        return;
    subscription->failure = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(subscription->failure_text, sizeof subscription->failure_text, format, arguments);
    va_end(arguments);
    shove_kafka_poke(subscription->kafka);
}

/* ---- whether the topics exist ---- */

struct check { /* asks for each topic of a new subscription: librdkafka would wait for a missing one
                  for ever. Not for holds: that one is not there is a notice, as when it goes later
                */
    struct shove_kafka_job job;
    struct shove_kafka_client *client;
    struct shove_kafka_subscription *subscription; /* only compared */
    struct shove_error error;
    int code;
    size_t topic_count;
    char **topics;
};

/* A topic that was just created may not have reached every broker. */
static int check_topic(struct check *check, const char *topic) {
    int64_t began_ms = shove_clock_mono_ms();
    for (;;) {
        long count = shove_kafka_ask_partition_count(check->client->rk, topic, 1000, NULL, NULL,
                                                     &check->error);
        if (count >= 0)
            return 0;
        int64_t spent_ms = shove_clock_mono_ms() - began_ms;
        bool may_change = count == SHOVE_EUNREACHABLE || count == SHOVE_ETIMEOUT
                              ? spent_ms < EXIST_TIMEOUT_MS
                          : count == SHOVE_ENOTOPIC ? spent_ms < EXIST_PATIENCE_MS
                                                    : false;
        if (!may_change || shove_kafka_mailbox_is_closed(check->job.mailbox))
            return (int)count;
        uv_sleep(50);
    }
}

static void check_run(struct shove_kafka_job *job) {
    struct check *check = (struct check *)job;
    for (size_t i = 0; i < check->topic_count && check->code == 0; i++)
        check->code = check_topic(check, check->topics[i]);
}

static void free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static void check_discard(struct shove_kafka_job *job) {
    struct check *check = (struct check *)job;
    shove_kafka_client_release(check->client);
    free_names(check->topics, check->topic_count);
    free(check);
}

static void check_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    struct check *check = (struct check *)job;
    struct shove_kafka_subscription *subscription = kafka->subscriptions;
    while (subscription != NULL && subscription != check->subscription)
        subscription = subscription->next;
    if (subscription != NULL && (check->code == SHOVE_ENOTOPIC || check->code == SHOVE_EDENIED))
        shove_kafka_subscription_fail(subscription, check->code, "%s", check->error.text);
    check_discard(job);
}

static char **copy_names(const char *const *names, size_t count) {
    char **copies = calloc(count > 0 ? count : 1, sizeof *copies);
    for (size_t i = 0; copies != NULL && i < count; i++) {
        if ((copies[i] = strdup(names[i])) == NULL) {
            free_names(copies, i);
            return NULL;
        }
    }
    return copies;
}

static int check_start(struct shove_kafka *kafka, struct shove_kafka_subscription *subscription) {
    struct check *check = calloc(1, sizeof *check);
    if (check == NULL)
        return SHOVE_ENOMEM;
    check->topic_count = subscription->topic_count - subscription->hold_count;
    check->topics = copy_names((const char *const *)subscription->topics, check->topic_count);
    if (check->topics == NULL) {
        free(check);
        return SHOVE_ENOMEM;
    }
    check->job =
        (struct shove_kafka_job){.run = check_run, .done = check_done, .discard = check_discard};
    check->client = shove_kafka_client_keep(kafka->admin);
    check->subscription = subscription;
    shove_kafka_job_start(kafka->mailbox, &check->job);
    return 0;
}

/* ---- beginning ---- */

static int join(struct shove_kafka_subscription *subscription, struct shove_error *error) {
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)subscription->topic_count);
    for (size_t i = 0; i < subscription->topic_count; i++)
        rd_kafka_topic_partition_list_add(list, subscription->topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t err = rd_kafka_subscribe(subscription->client->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    return shove_error_set(error, shove_kafka_code(err), "joining group '%s': %s",
                           subscription->base.group_id, rd_kafka_err2str(err));
}

static void release_holds(struct shove_kafka_subscription *subscription) {
    for (size_t i = 0; subscription->held != NULL && subscription->held[i] != NULL; i++)
        rd_kafka_topic_destroy(subscription->held[i]);
    free(subscription->held);
}

void shove_kafka_subscription_free(struct shove_kafka_subscription *subscription) {
    shove_kafka_rebalances_free(subscription);
    while (subscription->commit != NULL) {
        struct shove_kafka_commit *commit = subscription->commit;
        subscription->commit = commit->next;
        rd_kafka_topic_partition_list_destroy(commit->offsets);
        free(commit);
    }
    while (subscription->claims != NULL) {
        struct shove_claim *claim = &subscription->claims->base;
        shove_kafka_release(&subscription->kafka->base, &claim, 1);
    }
    if (subscription->commit_queue != NULL)
        rd_kafka_queue_destroy(subscription->commit_queue);
    if (subscription->log_queue != NULL) {
        rd_kafka_set_log_queue(subscription->client->rk, NULL);
        rd_kafka_queue_destroy(subscription->log_queue);
        shove_kafka_lines_free(subscription);
    }
    release_holds(subscription);
    if (subscription->begun != NULL)
        shove_kafka_begun_forget(subscription->begun);
    free(subscription->added_from);
    shove_kafka_client_release(subscription->client);
    free_names(subscription->topics, subscription->topic_count);
    free(subscription->base.group_id);
    free(subscription);
}

enum shove_reset shove_kafka_subscription_reset(const struct shove_kafka_subscription *subscription,
                                                const char *topic, int32_t partition) {
    size_t at = 0;
    while (at < subscription->topic_count && strcmp(subscription->topics[at], topic) != 0)
        at++;
    bool is_hold = at >= subscription->topic_count - subscription->hold_count;
    bool is_added =
        !is_hold && subscription->added_from != NULL && partition >= subscription->added_from[at];
    return is_hold || is_added ? SHOVE_RESET_EARLIEST : subscription->reset;
}

/* For librdkafka, too, which resets by itself when an offset is not in the log any more: the first
 * handle of a topic decides how it is configured. */
static int keep_holds(struct shove_kafka_subscription *subscription, struct shove_error *error) {
    rd_kafka_t *rk = subscription->client->rk;
    subscription->held = calloc(subscription->hold_count + 1, sizeof(rd_kafka_topic_t *));
    for (size_t i = 0; subscription->held != NULL && i < subscription->hold_count; i++) {
        size_t at = subscription->topic_count - subscription->hold_count + i;
        rd_kafka_topic_conf_t *conf = rd_kafka_default_topic_conf_dup(rk);
        rd_kafka_topic_conf_set(conf, "auto.offset.reset", "earliest", NULL, 0);
        subscription->held[i] = rd_kafka_topic_new(rk, subscription->topics[at], conf);
        if (subscription->held[i] == NULL) {
            rd_kafka_topic_conf_destroy(conf);
            return shove_error_set(error, SHOVE_EINVAL, "'%s' cannot be the name of a topic",
                                   subscription->topics[at]);
        }
    }
    return subscription->held != NULL
               ? 0
               : shove_error_set(error, SHOVE_ENOMEM, "out of memory for a subscription");
}

static rd_kafka_queue_t *new_queue(const struct shove_kafka_subscription *subscription) {
    uint64_t one = 1;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(subscription->client->rk);
    int fd = shove_kafka_mailbox_fd(subscription->kafka->mailbox);
    rd_kafka_queue_io_event_enable(queue, fd, &one, sizeof one);
    return queue;
}

static int start(struct shove_kafka *kafka, const struct shove_subscribe *what,
                 struct shove_kafka_subscription *subscription, struct shove_error *error) {
    subscription->base.group_id = strdup(what->group_id);
    subscription->topics = copy_names(what->topics, what->topic_count);
    if (subscription->base.group_id == NULL || subscription->topics == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for a subscription");
    subscription->topic_count = what->topic_count;
    subscription->hold_count = what->hold_count;
    int code = shove_kafka_client_new(kafka, SHOVE_KAFKA_CONSUMER, what->group_id, what->reset,
                                      &subscription->client, error);
    if (code != 0)
        return code;
    subscription->commit_queue = new_queue(subscription);
    subscription->log_queue = new_queue(subscription);
    rd_kafka_set_log_queue(subscription->client->rk, subscription->log_queue);
    code = keep_holds(subscription, error);
    if (code == 0 && what->reset == SHOVE_RESET_LATEST &&
        (code = shove_kafka_begun_start(subscription)) != 0)
        shove_error_set(error, code, "out of memory for a subscription");
    if (code == 0)
        code = join(subscription, error);
    if (code == 0 && (code = check_start(kafka, subscription)) != 0)
        shove_error_set(error, code, "out of memory for a subscription");
    return code;
}

int shove_kafka_subscribe(struct shove_transport *transport, const struct shove_subscribe *what,
                          struct shove_subscription **out, struct shove_error *error) {
    struct shove_kafka *kafka = (struct shove_kafka *)transport;
    struct shove_kafka_subscription *subscription = calloc(1, sizeof *subscription);
    if (subscription == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for a subscription");
    subscription->base.transport = transport;
    subscription->base.user = what->user;
    subscription->kafka = kafka;
    subscription->reset = what->reset;
    shove_kafka_reader_close(kafka); /* it would go on fetching ahead what nobody takes */
    int code = start(kafka, what, subscription, error);
    if (code != 0) {
        shove_kafka_subscription_free(subscription);
        return code;
    }
    subscription->next = kafka->subscriptions;
    kafka->subscriptions = subscription;
    *out = &subscription->base;
    return 0;
}

/* librdkafka revokes what is owned, leaves the group, and says so; all of that needs the pump. */
static void begin_close(struct shove_kafka_subscription *subscription) {
    subscription->is_closing = true;
    rd_kafka_error_t *error =
        rd_kafka_consumer_close_queue(subscription->client->rk, subscription->client->queue);
    if (error == NULL)
        return;
    /* Fatal: there is nothing to leave in order. */
    if (subscription->failure == 0) {
        subscription->failure = shove_kafka_code(rd_kafka_error_code(error));
        snprintf(subscription->failure_text, sizeof subscription->failure_text, "%s",
                 rd_kafka_error_string(error));
    }
    subscription->leave_deadline_ms = shove_kafka_now_ms(subscription->kafka);
    rd_kafka_error_destroy(error);
}

void shove_kafka_unsubscribe(struct shove_transport *transport, struct shove_subscription *base) {
    struct shove_kafka_subscription *subscription = (struct shove_kafka_subscription *)base;
    if (subscription->is_leaving || subscription->failure != 0)
        return; /* `ended` comes in any case */
    subscription->is_leaving = true;
    subscription->close_deadline_ms = shove_kafka_now_ms(subscription->kafka) + JOIN_PATIENCE_MS;
    shove_kafka_poke((struct shove_kafka *)transport);
}

/* ---- events ---- */

static void take_event(struct shove_kafka_subscription *subscription, rd_kafka_event_t *event) {
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) {
        rd_kafka_topic_partition_list_t *partitions = rd_kafka_event_topic_partition_list(event);
        shove_kafka_rebalance_add(
            subscription, rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS,
            rd_kafka_topic_partition_list_copy(partitions));
    } else {
        shove_kafka_notice_event(subscription->kafka, subscription, event);
    }
}

static void read_events(struct shove_kafka_subscription *subscription) {
    rd_kafka_event_t *event;
    int handled = 0;
    while (handled < SHOVE_KAFKA_EVENTS_PER_PUMP &&
           (event = rd_kafka_queue_poll(subscription->client->queue, 0)) != NULL) {
        take_event(subscription, event);
        rd_kafka_event_destroy(event);
        handled++;
    }
    if (handled == SHOVE_KAFKA_EVENTS_PER_PUMP)
        shove_kafka_poke(subscription->kafka);
}

/* ---- end ---- */

static void end(struct shove_kafka_subscription *subscription, int code, const char *text) {
    struct shove_kafka *kafka = subscription->kafka;
    struct shove_kafka_subscription **link = &kafka->subscriptions;
    while (*link != subscription)
        link = &(*link)->next;
    *link = subscription->next;
    shove_kafka_commits_fail(subscription, SHOVE_ECLOSED);
    if (kafka->events->ended != NULL)
        kafka->events->ended(kafka->ctx, &subscription->base, code, text);
    shove_kafka_subscription_free(subscription);
}

static void close_in_time(struct shove_kafka_subscription *subscription) {
    if (subscription->is_closing || !subscription->is_leaving)
        return;
    if (subscription->rebalance != NULL) { /* the join that follows has its own time */
        subscription->close_deadline_ms =
            shove_kafka_now_ms(subscription->kafka) + JOIN_PATIENCE_MS;
        return;
    }
    int membership = atomic_load(&subscription->client->membership);
    bool is_moving = membership == SHOVE_KAFKA_JOINING || membership == SHOVE_KAFKA_REJOINS;
    if (!is_moving || shove_kafka_now_ms(subscription->kafka) >= subscription->close_deadline_ms)
        begin_close(subscription);
}

static void step_end(struct shove_kafka_subscription *subscription) {
    close_in_time(subscription);
    bool is_closed = rd_kafka_consumer_closed(subscription->client->rk) != 0;
    /* After a failure nothing of it can be used any more; and librdkafka may close on its own. */
    if (subscription->failure != 0 || is_closed)
        shove_kafka_claims_lose(subscription);
    if (subscription->claims != NULL)
        return;
    if (!subscription->is_closing && subscription->rebalance == NULL)
        begin_close(subscription);
    int64_t now_ms = shove_kafka_now_ms(subscription->kafka);
    if (subscription->leave_deadline_ms == 0)
        subscription->leave_deadline_ms =
            now_ms + (subscription->failure != 0 ? FAILED_LEAVE_TIMEOUT_MS : LEAVE_TIMEOUT_MS);
    if (!is_closed && now_ms < subscription->leave_deadline_ms)
        return;
    if (subscription->failure != 0)
        end(subscription, subscription->failure, subscription->failure_text);
    else
        end(subscription, 0, is_closed ? "left the group" : "the broker did not answer in time");
}

static void step(struct shove_kafka_subscription *subscription) {
    read_events(subscription);
    shove_kafka_notice_log(subscription); /* behind the rebalances that were read: of what was reset
                                             before one it is known then */
    shove_kafka_commit_pump(subscription);
    shove_kafka_rebalance_step(subscription);
    if (subscription->is_leaving || subscription->failure != 0)
        step_end(subscription);
}

void shove_kafka_consumer_pump(struct shove_kafka *kafka) {
    struct shove_kafka_subscription *subscription = kafka->subscriptions;
    while (subscription != NULL) {
        struct shove_kafka_subscription *next = subscription->next;
        step(subscription);
        subscription = next;
    }
}
