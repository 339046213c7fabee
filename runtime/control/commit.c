/* commit.c: see commit.h. Control only, loop's thread.
 *
 * At most one commit per partition is under way, so answers cannot overtake each other; what was
 * refused (a rebalance under way, a broker that is down) stays dirty and is offered again a little
 * later, as long as the partition is ours. A commit carries the frontier and, in its metadata,
 * what is still open beyond it (core/ledger.h): as much of it as the broker takes, which only its
 * refusals tell (offset.metadata.max.bytes).
 *
 * Building the text costs time in proportion to what is open. A retry in place is worth a commit at
 * once, unless that is so much that such commits would keep the loop busy: then the next round is
 * soon enough.
 */
#include "control/commit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/abort_point.h"
#include "control/cluster.h"
#include "control/delivery.h"
#include "control/feed.h"
#include "control/flow.h"

#define RETRY_MS 100
#define CUT_MS 1000
#define LINE_INTERVAL_MS 60000
#define REST_SHARE 20 /* of a flow's time at most one part in so many, for retries */

struct built { /* a commit being built, and the texts it borrows */
    struct shove_commit *commits;
    char **metadata; /* owned, of each commit */
    size_t count;
};

static int built_init(struct built *built, size_t capacity) {
    built->count = 0;
    built->commits = malloc(capacity * sizeof(*built->commits));
    built->metadata = malloc(capacity * sizeof(*built->metadata));
    return built->commits && built->metadata ? 0 : SHOVE_ENOMEM;
}

static void built_release(struct built *built) {
    for (size_t i = 0; i < built->count && built->metadata; i++)
        free(built->metadata[i]);
    free(built->commits);
    free(built->metadata);
}

/* Only when it goes on for a while: for half a second it is as promised. */
static void watch_coverage(struct shove_partition *partition) {
    struct shove_flow *flow = partition->flow;
    const int64_t now_ms = flow->control->now_ms;
    if (partition->cut_since_ms == 0 || now_ms < partition->cut_since_ms + CUT_MS ||
        now_ms < flow->cut_line_ms)
        return;
    flow->cut_line_ms = now_ms + LINE_INTERVAL_MS;
    char number[16];
    char open[24];
    char repeated[24];
    snprintf(number, sizeof(number), "%d", (int)partition->claim->partition);
    snprintf(open, sizeof(open), "%zu", partition->coverage.listed + partition->coverage.unlisted);
    snprintf(repeated, sizeof(repeated), "%" PRId64, partition->coverage.may_repeat);
    shove_log_fields(
        SHOVE_LOG_WARN,
        "more messages are open than a commit can list: whoever has the partition next "
        "handles some that are finished again, and forgets attempts",
        "topic", partition->topic, "partition", number, "group", flow->group->group_id, "open",
        open, "again", repeated, SHOVE_CLUSTER_FIELD(flow->cluster), NULL);
}

/* One was built. Those of several partitions add up; with the next round all is said anyway. */
static void rest(struct shove_flow *flow, int64_t took_us) {
    const int64_t now_ms = flow->control->now_ms;
    int64_t until_ms = flow->retry_commit_ms > now_ms ? flow->retry_commit_ms : now_ms;
    until_ms += took_us * REST_SHARE / 1000;
    const int64_t next_round_ms = now_ms + SHOVE_COMMIT_INTERVAL_MS;
    flow->retry_commit_ms = until_ms < next_round_ms ? until_ms : next_round_ms;
}

/* Without memory for its text a partition stays dirty, and is offered later. */
static void add(struct built *built, struct shove_partition *partition) {
    const struct shove_control *control = partition->flow->control;
    const size_t room =
        shove_ledger_metadata_room(&partition->ledger, partition->flow->cluster->metadata_max);
    char *metadata = malloc(room + 1);
    if (!metadata)
        return;
    built->metadata[built->count] = metadata;
    const int64_t began_us = shove_clock_mono_us();
    shove_ledger_metadata(&partition->ledger, metadata, room, &partition->coverage);
    rest(partition->flow, shove_clock_mono_us() - began_us);
    partition->metadata_size = strlen(metadata);
    if (partition->coverage.may_repeat == 0)
        partition->cut_since_ms = 0;
    else if (partition->cut_since_ms == 0)
        partition->cut_since_ms = control->now_ms;
    built->commits[built->count++] = (struct shove_commit){
        .claim = partition->claim,
        .offset = shove_ledger_frontier(&partition->ledger),
        .metadata = metadata,
    };
    partition->is_dirty = false;
    partition->is_committing = true;
    partition->commit_sequence++;
}

static void refused(struct shove_partition *partition, int code) {
    partition->is_dirty = true;
    partition->last_commit_code = code;
    partition->commit_after_ms = partition->flow->control->now_ms + RETRY_MS;
}

static void submit(struct shove_flow *flow, struct built *built) {
    const struct shove_cluster *cluster = flow->cluster;
    if (built->count == 0)
        return;
    int rc = cluster->ops->commit(cluster->transport, flow->subscription, built->commits,
                                  built->count, NULL);
    if (rc == 0) {
        shove_abort_point(SHOVE_STEP_COMMITTED);
        return;
    }
    for (size_t i = 0; i < built->count; i++) {
        struct shove_partition *partition = built->commits[i].claim->user;
        partition->is_committing = false;
        refused(partition, rc);
    }
}

static bool is_due(const struct shove_partition *partition) {
    return partition->is_dirty && !partition->is_committing &&
           partition->flow->control->now_ms >= partition->commit_after_ms;
}

void shove_commit_round(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_flow *flow = &control->flows[i];
        size_t due = 0;
        for (struct shove_partition *p = flow->partitions; p; p = p->next) {
            due += is_due(p);
            watch_coverage(p);
        }
        if (due == 0 || !flow->subscription)
            continue;
        struct built built;
        if (built_init(&built, due) == 0) {
            for (struct shove_partition *p = flow->partitions; p; p = p->next) {
                if (is_due(p))
                    add(&built, p);
            }
            submit(flow, &built);
        }
        built_release(&built);
    }
}

bool shove_commit_is_under_way(const struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        for (const struct shove_partition *p = control->flows[i].partitions; p; p = p->next) {
            if (p->is_committing)
                return true;
        }
    }
    return false;
}

void shove_commit_partition(struct shove_partition *partition) {
    if (!is_due(partition) || !partition->flow->subscription)
        return;
    struct built built;
    if (built_init(&built, 1) == 0) {
        add(&built, partition);
        submit(partition->flow, &built);
    }
    built_release(&built);
}

void shove_commit_retry(struct shove_partition *partition) {
    if (partition->flow->control->now_ms >= partition->flow->retry_commit_ms)
        shove_commit_partition(partition);
}

static void report(const struct shove_partition *partition, const struct shove_commit *commit,
                   enum shove_log_level level, const char *words) {
    char offset[32];
    char number[16];
    snprintf(offset, sizeof(offset), "%" PRId64, commit->offset);
    snprintf(number, sizeof(number), "%d", (int)partition->claim->partition);
    shove_log_fields(level, words, "topic", partition->topic, "partition", number, "offset", offset,
                     commit->code != 0 ? "code" : NULL, shove_error_name(commit->code), NULL);
}

static void report_refused(const struct shove_partition *partition,
                           const struct shove_commit *commit) {
    if (shove_flow_may_log(partition->flow))
        report(partition, commit, SHOVE_LOG_WARN,
               "a commit was not accepted and will be offered again");
}

/* A smaller text is offered at once. What was refused decides, not what is the limit now: of
 * several refusals in one answer each would halve it. */
static void shrink_metadata(struct shove_partition *partition) {
    struct shove_cluster *cluster = partition->flow->cluster;
    const size_t half = partition->metadata_size / 2;
    partition->commit_after_ms = 0;
    if (cluster->metadata_max <= half)
        return;
    cluster->metadata_max = half;
    char size[24];
    snprintf(size, sizeof(size), "%zu", half);
    shove_log_fields(SHOVE_LOG_WARN,
                     "the broker takes less metadata with a commit than shove would give it: after "
                     "a crash more messages are handled again, and attempts that are not in a hold "
                     "may be forgotten; raise its offset.metadata.max.bytes to 4096",
                     "characters from now on", size, SHOVE_CLUSTER_FIELD(cluster), NULL);
}

/* Crash counts that are on the broker now: their messages may run again. */
static void release_recorded(struct shove_flow *flow) {
    struct shove_delivery_list rest = {0};
    struct shove_delivery *delivery;
    while ((delivery = shove_delivery_list_pop(&flow->recording))) {
        if (delivery->commit_sequence <= delivery->partition->commit_acknowledged)
            shove_feed_again(delivery);
        else
            shove_delivery_list_push(&rest, delivery);
    }
    flow->recording = rest;
}

void shove_commit_answered(struct shove_flow *flow, const struct shove_commit *commits,
                           size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct shove_partition *partition = commits[i].claim->user;
        partition->is_committing = false;
        if (commits[i].code == 0) {
            partition->last_commit_code = 0;
            partition->commit_acknowledged = partition->commit_sequence;
            report(partition, &commits[i], SHOVE_LOG_DEBUG, "a position was committed");
        } else {
            refused(partition, commits[i].code);
            if (commits[i].code == SHOVE_ETOOLARGE && partition->metadata_size > 0)
                shrink_metadata(partition);
            else
                report_refused(partition, &commits[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (commits[i].code == SHOVE_ETOOLARGE)
            shove_commit_partition(commits[i].claim->user);
    }
    if (flow->recording.first)
        release_recorded(flow);
    for (struct shove_delivery *d = flow->recording.first; d; d = d->next)
        shove_commit_partition(d->partition);
    flow->control->has_progress = true;
}

void shove_commit_record_crash(struct shove_delivery *delivery) {
    struct shove_partition *partition = delivery->partition;
    partition->is_dirty = true;
    if (!shove_delivery_shelve_if_revoking(delivery)) {
        delivery->state = SHOVE_DELIVERY_RECORDING;
        delivery->commit_sequence = partition->commit_sequence + 1;
        shove_delivery_list_push(&delivery->flow->recording, delivery);
    }
    shove_commit_partition(partition);
}
