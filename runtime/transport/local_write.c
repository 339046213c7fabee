/* local_write.c: the queue of what is to be written.
 *
 * Control, the loop's thread, but for `work`, which runs on libuv's thread pool and touches its
 * job's set and the store alone; libuv's queue hands both over and back.
 *
 * produce copies a record into the last block of its partition's run, commit adds to the list; both
 * go into the set that is filling. The pump gives that set to the store as soon as the store is
 * free: one transaction, whose outcome is that of every record and commit in it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "transport/local.h"

#define RESULTS_AT_ONCE 256
#define SPREAD_RECORDS 64 /* that stay in one partition before the next has its turn */
#define EARLY_START_BYTES                                                                          \
    (256u << 10) /* a burst longer than this does not wait for the loop's next turn */

/* ---- sets ---- */

static void set_clear(struct shove_local_set *set) {
    for (size_t i = 0; i < set->write.run_count; i++) {
        struct shove_store_run *run = &set->write.runs[i];
        for (size_t k = 0; k < run->block_count; k++)
            shove_chunk_drop(run->blocks[k]);
        free(run->blocks);
    }
    for (size_t i = 0; i < set->answer_count; i++)
        free((char *)set->commits[i].metadata);
    set->write.run_count = 0;
    set->write.commit_count = 0;
    set->write.wants_retention = false;
    set->write.has_more = false;
    set->write.code = 0;
    set->ack_count = 0;
    set->answer_count = 0;
    set->call_count = 0;
    set->bytes = 0;
}

static void set_free(struct shove_local_set *set) {
    if (!set)
        return;
    set_clear(set);
    free(set->write.runs);
    free(set->write.commits);
    free(set->acks);
    free(set->commits);
    free(set->calls);
    free(set);
}

struct shove_local_set *shove_local_filling(struct shove_local *local) {
    if (local->filling)
        return local->filling;
    struct shove_local_set *set = local->spare;
    local->spare = NULL;
    if (!set)
        set = calloc(1, sizeof(*set));
    if (!set)
        return NULL;
    if (++local->serial == 0) /* 0 is what fresh slots hold */
        local->serial = 1;
    set->serial = local->serial;
    local->filling = set;
    return set;
}

/* ---- produce ---- */

static int32_t choose_partition(struct shove_local_topic *topic, const struct shove_produce *what) {
    int32_t partitions = topic->info.partitions;
    if (what->partition >= 0)
        return what->partition < partitions ? what->partition : SHOVE_ENOPARTITION;
    if (what->record.key)
        return shove_transport_partition_for_key(what->record.key, what->record.key_size,
                                                 partitions);
    if (topic->spread_left == 0) {
        topic->spread_at = (topic->spread_at + 1) % partitions;
        topic->spread_left = SPREAD_RECORDS;
    }
    topic->spread_left--;
    return topic->spread_at;
}

/* The run of a partition in this set, made when it is the first record for it. */
static struct shove_store_run *find_run(struct shove_local_set *set,
                                        struct shove_local_topic *topic, int32_t partition) {
    struct shove_local_slot *slot = &topic->slots[partition];
    if (slot->serial == set->serial)
        return &set->write.runs[slot->run];
    if (shove_local_grow(&set->write.runs, &set->run_capacity, set->write.run_count,
                         sizeof(*set->write.runs)) < 0)
        return NULL;
    slot->serial = set->serial;
    slot->run = (uint32_t)set->write.run_count++;
    topic->spread_left = 0; /* single records, each written by itself, go round the partitions */
    struct shove_store_run *run = &set->write.runs[slot->run];
    *run = (struct shove_store_run){.topic_id = topic->info.id, .partition = partition};
    return run;
}

static int run_append(struct shove_store_run *run, const struct shove_record *record, size_t size) {
    if (run->block_count == 0 || run->open_bytes + size > SHOVE_BLOCK_TARGET_BYTES) {
        if (shove_local_grow(&run->blocks, &run->block_capacity, run->block_count,
                             sizeof(*run->blocks)) < 0)
            return SHOVE_ENOMEM;
        struct shove_chunk *chunk = shove_chunk_new(size + sizeof(struct shove_block_header));
        if (!chunk)
            return SHOVE_ENOMEM;
        run->blocks[run->block_count++] = chunk;
    }
    struct shove_chunk **block = &run->blocks[run->block_count - 1];
    int rc =
        shove_block_append(block, record, record->timestamp_ms < 0 ? shove_clock_wall_ms() : 0);
    run->open_bytes = (*block)->size;
    return rc;
}

static int queue_record(struct shove_local *local, struct shove_local_topic *topic,
                        int32_t partition, const struct shove_produce *what) {
    struct shove_local_set *set = shove_local_filling(local);
    if (!set ||
        shove_local_grow(&set->acks, &set->ack_capacity, set->ack_count, sizeof(*set->acks)) < 0)
        return SHOVE_ENOMEM;
    struct shove_store_run *run = find_run(set, topic, partition);
    if (!run)
        return SHOVE_ENOMEM;
    size_t size = shove_block_record_size(&what->record);
    int rc = run_append(run, &what->record, size);
    if (rc < 0)
        return rc;
    set->acks[set->ack_count++] = (struct shove_local_ack){
        .opaque = what->opaque, .run = topic->slots[partition].run, .index = run->count++};
    set->bytes += size;
    local->queued_bytes += size;
    return 0;
}

int shove_local_produce(struct shove_transport *transport, const struct shove_produce *what) {
    struct shove_local *local = (struct shove_local *)transport;
    const struct shove_record *record = &what->record;
    if (local->gone_code != 0)
        return local->gone_code;
    if (local->queued_bytes >= SHOVE_LOCAL_QUEUE_BYTES) {
        local->is_room_wanted = true;
        return SHOVE_EAGAIN;
    }
    struct shove_local_topic *topic;
    int rc = shove_local_topic_find(local, what->topic, &topic, NULL);
    if (rc < 0)
        return rc;
    if (!what->is_hop &&
        record->key_size + record->payload_size + record->headers_size > local->record_limit_bytes)
        return SHOVE_ETOOLARGE;
    int32_t partition = choose_partition(topic, what);
    if (partition < 0)
        return partition;
    bool is_first = !local->filling;
    rc = queue_record(local, topic, partition, what);
    if (rc < 0)
        return rc;
    if (is_first)
        shove_local_wake(local);
    else if (local->ops->is_blocking && !local->job && local->filling->bytes >= EARLY_START_BYTES)
        shove_local_write_start(local);
    return 0;
}

/* ---- hand over ---- */

static void work(uv_work_t *request) {
    struct shove_local_job *job = request->data;
    struct shove_store_write *write = &job->set->write;
    write->code = job->ops->write(job->store, write);
    uv_mutex_lock(&job->mutex);
    job->is_finished = true;
    uv_cond_signal(&job->finished);
    uv_mutex_unlock(&job->mutex);
}

static void job_free(struct shove_local_job *job) {
    uv_mutex_destroy(&job->mutex);
    uv_cond_destroy(&job->finished);
    free(job);
}

static void after_work(uv_work_t *request, int status) {
    struct shove_local_job *job = request->data;
    struct shove_local *local = job->local;
    if (!local) {
        set_free(job->set);
        if (job->owns_store)
            job->ops->free(job->store);
        job_free(job);
        return;
    }
    if (status < 0)
        job->set->write.code = SHOVE_ECLOSED;
    local->finished = job->set;
    local->job = NULL;
    job_free(job);
    shove_local_wake(local);
}

static void job_start(struct shove_local *local, struct shove_local_set *set) {
    struct shove_local_job *job = calloc(1, sizeof(*job));
    if (!job) {
        set->write.code = shove_error_set(&set->write.error, SHOVE_ENOMEM, "out of memory");
        local->finished = set;
        shove_local_wake(local);
        return;
    }
    uv_mutex_init(&job->mutex);
    uv_cond_init(&job->finished);
    job->request.data = job;
    job->local = local;
    job->ops = local->ops;
    job->store = local->store;
    job->set = set;
    local->job = job;
    uv_queue_work(local->loop, &job->request, work, after_work);
}

void shove_local_write_start(struct shove_local *local) {
    if (local->job || local->finished || !(local->filling || local->is_retention_due))
        return;
    struct shove_local_set *set = shove_local_filling(local);
    if (!set)
        return;
    local->filling = NULL;
    set->write.wants_retention = local->is_retention_due;
    set->write.now_ms = shove_clock_wall_ms();
    local->is_retention_due = false;
    if (local->gone_code != 0) {
        set->write.code = shove_error_set(&set->write.error, local->gone_code,
                                          "the broker's file was taken away while in use");
        local->finished = set;
        shove_local_wake(local);
    } else if (local->ops->is_blocking) {
        job_start(local, set);
    } else {
        set->write.code = local->ops->write(local->store, &set->write);
        local->finished = set;
    }
}

/* ---- results ---- */

static void deliver_acks(struct shove_local *local, const struct shove_local_set *set) {
    struct shove_produced results[RESULTS_AT_ONCE];
    int code = set->write.code;
    for (size_t at = 0; at < set->ack_count;) {
        size_t count = 0;
        for (; count < RESULTS_AT_ONCE && at < set->ack_count; count++, at++) {
            const struct shove_local_ack *ack = &set->acks[at];
            const struct shove_store_run *run = &set->write.runs[ack->run];
            results[count] = (struct shove_produced){
                .opaque = ack->opaque,
                .code = code,
                .partition = run->partition,
                .offset = code == 0 ? run->base_offset + ack->index : -1,
                .detail = code == 0 ? NULL : set->write.error.text,
            };
        }
        if (local->events->produced)
            local->events->produced(local->ctx, results, count);
    }
}

/* The commits of claims that were released meanwhile are left out: their subscriber has forgotten
 * them. */
static void deliver_call(struct shove_local *local, struct shove_local_set *set,
                         const struct shove_local_call *call) {
    struct shove_commit *commits = set->commits + call->first, told;
    size_t kept = 0;
    for (size_t k = 0; k < call->count; k++) {
        struct shove_local_claim *claim = (struct shove_local_claim *)commits[k].claim;
        if (commits[k].code == 0)
            commits[k].code = set->write.code;
        if (!claim->is_released) { /* swapped, not copied: the set frees the metadata of all */
            told = commits[k];
            commits[k] = commits[kept];
            commits[kept++] = told;
        }
        shove_local_claim_drop(claim);
    }
    if (kept > 0 && local->events->committed)
        local->events->committed(local->ctx, &call->subscription->head, commits, kept,
                                 call->opaque);
    call->subscription->calls_under_way--;
}

static void deliver_commits(struct shove_local *local, struct shove_local_set *set) {
    for (size_t i = 0; i < set->call_count; i++)
        deliver_call(local, set, &set->calls[i]);
}

void shove_local_write_deliver(struct shove_local *local) {
    struct shove_local_set *set = local->finished;
    if (!set)
        return;
    local->finished = NULL;
    local->queued_bytes -= set->bytes;
    shove_local_write_start(local); /* the disk is busy while we talk */
    bool was_retention_alone = set->ack_count == 0 && set->call_count == 0;
    if (set->write.code < 0)
        shove_local_notice(local, set->write.code, set->write.error.text);
    else if (!was_retention_alone)
        shove_local_notice(local, 0, "the broker's file can be written again");
    if (set->write.code == 0 && set->ack_count > 0)
        local->is_stale = true;
    if (set->write.has_more)
        local->is_retention_due = true;
    deliver_acks(local, set);
    deliver_commits(local, set);
    if (local->is_room_wanted && local->queued_bytes < SHOVE_LOCAL_QUEUE_BYTES / 2) {
        local->is_room_wanted = false;
        local->is_readable = true;
    }
    set_clear(set);
    if (local->spare)
        set_free(set);
    else
        local->spare = set;
}

/* ---- close ---- */

/* Returns whether the job is over, after at most timeout_ms. */
static bool job_wait(struct shove_local_job *job, int64_t timeout_ms) {
    int64_t deadline_ms = shove_clock_mono_ms() + timeout_ms;
    uv_mutex_lock(&job->mutex);
    while (!job->is_finished) {
        int64_t left_ms = deadline_ms - shove_clock_mono_ms();
        if (left_ms <= 0 ||
            uv_cond_timedwait(&job->finished, &job->mutex, (uint64_t)left_ms * 1000000) < 0)
            break;
    }
    bool is_finished = job->is_finished;
    uv_mutex_unlock(&job->mutex);
    return is_finished;
}

bool shove_local_write_close(struct shove_local *local, int64_t timeout_ms) {
    bool is_free = true;
    struct shove_local_job *job = local->job;
    if (job) {
        job->local = NULL;
        if (uv_cancel((uv_req_t *)&job->request) < 0)
            is_free = job_wait(job, timeout_ms);
        job->owns_store = !is_free;
        for (size_t i = 0; i < job->set->answer_count; i++)
            shove_local_claim_drop((struct shove_local_claim *)job->set->commits[i].claim);
    }
    struct shove_local_set *sets[] = {local->filling, local->finished, local->spare};
    for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
        if (!sets[i])
            continue;
        for (size_t k = 0; k < sets[i]->answer_count; k++)
            shove_local_claim_drop((struct shove_local_claim *)sets[i]->commits[k].claim);
        set_free(sets[i]);
    }
    return is_free;
}
