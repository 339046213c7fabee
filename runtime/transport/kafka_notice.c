/* kafka_notice.c: what librdkafka has to say besides records and results, told to a person
 * sparingly.
 *
 * Control and cli, loop's thread. Nothing of librdkafka's reaches standard error by itself: its log
 * lines become debug lines of shove's. A notice is given when all brokers are gone, and one when
 * they are back; librdkafka does not say the second by itself, so while it is down a job asks for
 * metadata. Trouble with one broker of several is told at most once in NOTICE_INTERVAL_MS, with the
 * number of what was left out.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/kafka.h"
#include "transport/kafka_errors.h"

#define NOTICE_INTERVAL_MS 10000
#define PROBE_TIMEOUT_MS 1000

void shove_kafka_notice(struct shove_kafka *kafka, int code, const char *format, ...) {
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (kafka->events->notice != NULL)
        kafka->events->notice(kafka->ctx, code, text);
}

static void tell_reached(struct shove_kafka *kafka) {
    if (kafka->events->reached != NULL)
        kafka->events->reached(kafka->ctx, !kafka->notices.is_down);
}

struct probe {
    struct shove_kafka_job job;
    struct shove_kafka_client *client;
    bool has_answer;
};

static void probe_run(struct shove_kafka_job *job) {
    struct probe *probe = (struct probe *)job;
    while (!probe->has_answer && !shove_kafka_mailbox_is_closed(job->mailbox)) {
        /* A topic nobody has: the question matters, not the answer. rd_kafka_metadata without a
         * topic may create some. */
        rd_kafka_topic_t *rkt = rd_kafka_topic_new(probe->client->rk, "__shove_probe", NULL);
        const struct rd_kafka_metadata *metadata = NULL;
        if (rkt == NULL)
            return;
        if (rd_kafka_metadata(probe->client->rk, 0, rkt, &metadata, PROBE_TIMEOUT_MS) ==
            RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_metadata_destroy(metadata);
            probe->has_answer = true;
        }
        rd_kafka_topic_destroy(rkt);
    }
}

static void probe_discard(struct shove_kafka_job *job) {
    shove_kafka_client_release(((struct probe *)job)->client);
    free(job);
}

static void probe_done(struct shove_kafka *kafka, struct shove_kafka_job *job) {
    bool has_answer = ((struct probe *)job)->has_answer;
    probe_discard(job);
    kafka->notices.is_probing = false;
    if (!has_answer || !kafka->notices.is_down)
        return;
    kafka->notices.is_down = false;
    tell_reached(kafka);
    int64_t down_ms = shove_kafka_now_ms(kafka) - kafka->notices.down_since_ms;
    shove_kafka_notice(kafka, 0, "Kafka at %s answers again after %.1f s", kafka->address,
                       (double)down_ms / 1000);
}

static void probe_start(struct shove_kafka *kafka) {
    struct probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL)
        return;
    probe->job =
        (struct shove_kafka_job){.run = probe_run, .done = probe_done, .discard = probe_discard};
    probe->client = shove_kafka_client_keep(kafka->admin);
    kafka->notices.is_probing = true;
    shove_kafka_job_start(kafka->mailbox, &probe->job);
}

void shove_kafka_notice_tick(struct shove_kafka *kafka) {
    if (kafka->notices.is_down && !kafka->notices.is_probing)
        probe_start(kafka);
}

static void all_down(struct shove_kafka *kafka, const char *words) {
    if (kafka->notices.is_down)
        return;
    kafka->notices.is_down = true;
    kafka->notices.down_since_ms = shove_kafka_now_ms(kafka);
    tell_reached(kafka);
    shove_kafka_notice(kafka, SHOVE_EUNREACHABLE, "no broker of %s can be reached, trying on: %s",
                       kafka->address, words);
}

static void one_down(struct shove_kafka *kafka, int code, const char *words) {
    struct shove_kafka_notices *notices = &kafka->notices;
    int64_t now_ms = shove_kafka_now_ms(kafka);
    if (notices->is_down ||
        (notices->last_ms != 0 && now_ms - notices->last_ms < NOTICE_INTERVAL_MS)) {
        notices->suppressed++;
        return;
    }
    notices->last_ms = now_ms;
    if (notices->suppressed > 0)
        shove_kafka_notice(kafka, code, "%s (and %" PRIu32 " like it before)", words,
                           notices->suppressed);
    else
        shove_kafka_notice(kafka, code, "%s", words);
    notices->suppressed = 0;
}

void shove_kafka_notice_later(struct shove_kafka *kafka, int code, const char *words) {
    snprintf(kafka->notices.later_words, sizeof kafka->notices.later_words, "%s", words);
    kafka->notices.later_code = code;
    shove_kafka_poke(kafka);
}

void shove_kafka_notice_due(struct shove_kafka *kafka) {
    int code = kafka->notices.later_code;
    kafka->notices.later_code = 0;
    if (code != 0)
        one_down(kafka, code, kafka->notices.later_words);
}

/* ---- the log ---- */

/* Gives the text of a line without "[thrd:NAME]: ", which librdkafka puts in front. */
static const char *text_of(rd_kafka_event_t *event, const char **facility, int *level) {
    const char *text = NULL;
    if (rd_kafka_event_log(event, facility, &text, level) != 0)
        return NULL;
    const char *bare = strncmp(text, "[thrd:", 6) == 0 ? strstr(text, "]: ") : NULL;
    return bare != NULL ? bare + 3 : text;
}

/* "TOPIC [N]: offset reset (...) to ...": the only way librdkafka tells of it. */
static bool is_reset(const char *facility, int level) {
    return strcmp(facility, "OFFSET") == 0 && level <= 4;
}

static void note_reset(struct shove_kafka_subscription *subscription, rd_kafka_event_t *event) {
    const char *facility = NULL;
    int level = 0;
    const char *text = text_of(event, &facility, &level);
    const char *bracket = text != NULL && is_reset(facility, level) ? strstr(text, " [") : NULL;
    if (bracket == NULL)
        return;
    char topic[SHOVE_NAME_SIZE];
    snprintf(topic, sizeof topic, "%.*s", (int)(bracket - text), text);
    struct shove_kafka_claim *claim =
        shove_kafka_claim_find(subscription, topic, (int32_t)strtol(bracket + 2, NULL, 10));
    /* Where none was given there is nothing to go back from, and no jump to end this with. */
    if (claim != NULL && claim->next_offset > 0)
        claim->may_go_back = true;
}

static void tell_line(struct shove_kafka *kafka, bool is_consumer, rd_kafka_event_t *event) {
    const char *facility = NULL;
    int level = 0;
    const char *text = text_of(event, &facility, &level);
    if (text == NULL)
        return;
    if (is_consumer && is_reset(facility, level))
        shove_kafka_notice(kafka, SHOVE_EOFFSET,
                           "the offset to read from is not in the log any more: %s", text);
    shove_log(SHOVE_LOG_DEBUG, "librdkafka: %s: %s", facility, text);
}

void shove_kafka_notice_resets(struct shove_kafka_subscription *subscription) {
    struct shove_kafka_line **last = &subscription->lines;
    while (*last != NULL)
        last = &(*last)->next;
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(subscription->log_queue, 0)) != NULL) {
        note_reset(subscription, event);
        if ((*last = calloc(1, sizeof **last)) == NULL) {
            rd_kafka_event_destroy(event); /* out of memory: noted, and not told */
            continue;
        }
        (*last)->event = event;
        last = &(*last)->next;
    }
}

static rd_kafka_event_t *pop_line(struct shove_kafka_subscription *subscription) {
    struct shove_kafka_line *line = subscription->lines;
    rd_kafka_event_t *event = line->event;
    subscription->lines = line->next;
    free(line);
    return event;
}

void shove_kafka_notice_log(struct shove_kafka_subscription *subscription) {
    shove_kafka_notice_resets(subscription);
    while (subscription->lines != NULL) {
        rd_kafka_event_t *event = pop_line(subscription);
        tell_line(subscription->kafka, true, event);
        rd_kafka_event_destroy(event);
    }
}

void shove_kafka_lines_free(struct shove_kafka_subscription *subscription) {
    while (subscription->lines != NULL)
        rd_kafka_event_destroy(pop_line(subscription));
}

/* ---- errors ---- */

static void take_error(struct shove_kafka *kafka, struct shove_kafka_subscription *subscription,
                       rd_kafka_event_t *event) {
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    const char *words = rd_kafka_event_error_string(event);
    int code = shove_kafka_told_code(err, words);
    bool is_fatal = rd_kafka_event_error_is_fatal(event) != 0;
    if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        all_down(kafka, words);
    else if (subscription != NULL && (is_fatal || code == SHOVE_EDENIED || code == SHOVE_EAUTH ||
                                      code == SHOVE_EOFFSET || code == SHOVE_ECONFIG))
        shove_kafka_subscription_fail(subscription, is_fatal ? SHOVE_EFATAL : code, "%s", words);
    else if (err == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED)
        shove_kafka_notice(kafka, SHOVE_EREVOKED, "%s", words);
    else if (code == SHOVE_ENOTOPIC)
        shove_kafka_notice(kafka, code, "%s", words);
    else if (!is_fatal) /* of a producer: kafka_producer.c looks for that itself */
        one_down(kafka, code, words);
}

bool shove_kafka_notice_event(struct shove_kafka *kafka,
                              struct shove_kafka_subscription *subscription,
                              rd_kafka_event_t *event) {
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_LOG:
        tell_line(kafka, subscription != NULL, event);
        return true;
    case RD_KAFKA_EVENT_ERROR:
        take_error(kafka, subscription, event);
        return true;
    default:
        return false;
    }
}

void shove_kafka_notice_client(struct shove_kafka *kafka, const struct shove_kafka_client *client) {
    rd_kafka_event_t *event;
    int handled = 0;
    while (handled++ < SHOVE_KAFKA_EVENTS_PER_PUMP &&
           (event = rd_kafka_queue_poll(client->queue, 0)) != NULL) {
        shove_kafka_notice_event(kafka, NULL, event);
        rd_kafka_event_destroy(event);
    }
}
