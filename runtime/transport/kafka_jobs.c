/* kafka_jobs.c: see kafka_jobs.h. Any thread; the mutex guards everything but the atomics. */
#include "transport/kafka_jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct shove_kafka_mailbox {
    atomic_uint references;
    atomic_bool is_closed;
    int fd;
    pthread_mutex_t mutex;
    pthread_cond_t idle; /* running became 0 */
    unsigned running;
    struct shove_kafka_job *first;
    struct shove_kafka_job *last;
};

static bool init_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    bool is_made = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                   pthread_cond_init(condition, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return is_made;
}

struct shove_kafka_mailbox *shove_kafka_mailbox_new(void) {
    struct shove_kafka_mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (mailbox == NULL)
        return NULL;
    mailbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (mailbox->fd < 0 || pthread_mutex_init(&mailbox->mutex, NULL) != 0)
        goto out;
    if (!init_condition(&mailbox->idle)) {
        pthread_mutex_destroy(&mailbox->mutex);
        goto out;
    }
    atomic_init(&mailbox->references, 1);
    atomic_init(&mailbox->is_closed, false);
    return mailbox;
out:
    if (mailbox->fd >= 0)
        close(mailbox->fd);
    free(mailbox);
    return NULL;
}

struct shove_kafka_mailbox *shove_kafka_mailbox_keep(struct shove_kafka_mailbox *mailbox) {
    atomic_fetch_add(&mailbox->references, 1);
    return mailbox;
}

void shove_kafka_mailbox_release(struct shove_kafka_mailbox *mailbox) {
    if (atomic_fetch_sub(&mailbox->references, 1) != 1)
        return;
    close(mailbox->fd);
    pthread_cond_destroy(&mailbox->idle);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}

int shove_kafka_mailbox_fd(const struct shove_kafka_mailbox *mailbox) {
    return mailbox->fd;
}

void shove_kafka_mailbox_poke(struct shove_kafka_mailbox *mailbox) {
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the loop is about to wake anyway. */
    ssize_t written = write(mailbox->fd, &one, sizeof one);
    (void)written;
}

static struct shove_kafka_job *take_results(struct shove_kafka_mailbox *mailbox) {
    pthread_mutex_lock(&mailbox->mutex);
    struct shove_kafka_job *first = mailbox->first;
    mailbox->first = mailbox->last = NULL;
    pthread_mutex_unlock(&mailbox->mutex);
    return first;
}

void shove_kafka_mailbox_close(struct shove_kafka_mailbox *mailbox) {
    pthread_mutex_lock(&mailbox->mutex);
    atomic_store(&mailbox->is_closed, true);
    pthread_mutex_unlock(&mailbox->mutex);
    struct shove_kafka_job *job = take_results(mailbox);
    while (job != NULL) {
        struct shove_kafka_job *next = job->next;
        job->discard(job);
        job = next;
    }
}

bool shove_kafka_mailbox_is_closed(struct shove_kafka_mailbox *mailbox) {
    return atomic_load(&mailbox->is_closed);
}

bool shove_kafka_mailbox_wait(struct shove_kafka_mailbox *mailbox, int64_t timeout_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&mailbox->mutex);
    while (mailbox->running > 0) {
        if (pthread_cond_timedwait(&mailbox->idle, &mailbox->mutex, &until) != 0)
            break;
    }
    bool is_idle = mailbox->running == 0;
    pthread_mutex_unlock(&mailbox->mutex);
    return is_idle;
}

/* The result is handed over under the mutex, so that close either sees it or has said before that
 * nobody wants it. */
static void hand_over(struct shove_kafka_mailbox *mailbox, struct shove_kafka_job *job) {
    pthread_mutex_lock(&mailbox->mutex);
    bool is_wanted = !atomic_load(&mailbox->is_closed);
    if (is_wanted) {
        job->next = NULL;
        if (mailbox->last != NULL)
            mailbox->last->next = job;
        else
            mailbox->first = job;
        mailbox->last = job;
    }
    pthread_mutex_unlock(&mailbox->mutex);
    if (is_wanted)
        shove_kafka_mailbox_poke(mailbox);
    else
        job->discard(job);
}

static void run(struct shove_kafka_mailbox *mailbox, struct shove_kafka_job *job) {
    job->run(job);
    hand_over(mailbox, job);
    pthread_mutex_lock(&mailbox->mutex);
    if (--mailbox->running == 0)
        pthread_cond_broadcast(&mailbox->idle);
    pthread_mutex_unlock(&mailbox->mutex);
    shove_kafka_mailbox_release(mailbox);
}

static void *thread_main(void *argument) {
    struct shove_kafka_job *job = argument;
    run(job->mailbox, job);
    return NULL;
}

void shove_kafka_job_start(struct shove_kafka_mailbox *mailbox, struct shove_kafka_job *job) {
    job->mailbox = shove_kafka_mailbox_keep(mailbox);
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->running++;
    pthread_mutex_unlock(&mailbox->mutex);
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, job) == 0)
        pthread_detach(thread);
    else
        run(mailbox, job);
}

void shove_kafka_jobs_deliver(struct shove_kafka *kafka, struct shove_kafka_mailbox *mailbox) {
    struct shove_kafka_job *job = take_results(mailbox);
    while (job != NULL) {
        struct shove_kafka_job *next = job->next;
        job->done(kafka, job);
        job = next;
    }
}
