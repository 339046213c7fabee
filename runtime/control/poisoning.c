/* poisoning.c: see poisoning.h. Control only, loop's thread. */
#include "control/poisoning.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "control/cluster.h"
#include "control/delivery.h"
#include "control/flow.h"
#include "control/hop.h"
#include "control/poison_record.h"
#include "control/sequencing.h"

#define RETRY_MS 1000
/* While there is something to clear. On Kafka each look is a client of its own. */
#define LOOK_MS 5000
/* What the owner before had on its way when it lost the partition may be stored later. */
#define LATE_LOOKS 2
#define LATE_LOOK_MS 15000

/* A reading under way. It outlives the partition, if that goes. */
struct shove_poison_scan {
    struct shove_partition *partition; /* NULL: gone */
    struct shove_poison_scan *next;    /* in control->scans */
};

/* ---- reading ---- */

/* NULL: it comes right by itself, or the detail says it. */
static const char *remedy(int code) {
    switch (code) {
    case SHOVE_ENOTOPIC:
    case SHOVE_ENOPARTITION:
        return "create the topic with as many partitions as its queue and cleanup.policy=compact; "
               "shove run does at its start, unless the queue is external";
    case SHOVE_EDENIED:
        return "grant this user Read and Describe on the topic";
    default:
        return NULL;
    }
}

static void report_unread(const struct shove_partition *partition, int code, const char *detail) {
    struct shove_flow *flow = partition->flow;
    if (!shove_flow_may_log(flow))
        return;
    char number[16];
    snprintf(number, sizeof(number), "%d", (int)partition->claim->partition);
    shove_log_fields(SHOVE_LOG_WARN,
                     partition->is_learning
                         ? "the poisoned keys of a partition cannot be read: nothing of it is "
                           "handled before; it is tried again"
                         : "whether poisoned keys were cleared cannot be read; it is tried again",
                     "topic", flow->topic->poison, "partition", number, "code",
                     shove_error_name(code), "error", detail ? detail : shove_error_sentence(code),
                     "group", flow->group->group_id, remedy(code) ? "what to do" : NULL,
                     remedy(code), NULL);
}

static void failed(struct shove_partition *partition, int code, const char *detail) {
    report_unread(partition, code, detail);
    partition->look_at_ms = partition->flow->control->now_ms + RETRY_MS;
}

static void scan(struct shove_partition *partition) {
    struct shove_flow *flow = partition->flow;
    struct shove_control *control = flow->control;
    const struct shove_cluster *cluster = flow->cluster;
    struct shove_poison_scan *scan = calloc(1, sizeof(*scan));
    int rc = SHOVE_ENOMEM;
    if (scan)
        rc = cluster->ops->scan(cluster->transport, flow->topic->poison,
                                partition->claim->partition, partition->poison_next_offset, scan);
    if (rc != 0) {
        free(scan);
        failed(partition, rc, NULL);
        return;
    }
    scan->partition = partition;
    partition->scan = scan;
    scan->next = control->scans;
    control->scans = scan;
}

void shove_poisoning_learn(struct shove_partition *partition) {
    if (!partition->flow->policy.poisons)
        return;
    partition->is_learning = true;
    partition->late_looks = LATE_LOOKS;
    partition->poison_next_offset = -1;
    scan(partition);
}

void shove_poisoning_forget(struct shove_partition *partition) {
    if (partition->scan)
        partition->scan->partition = NULL;
    shove_poison_release(&partition->poison);
}

static void report_stranger(const struct shove_partition *partition, int64_t offset) {
    if (!shove_flow_may_log(partition->flow))
        return;
    char place[SHOVE_PLACE_SIZE];
    snprintf(place, sizeof(place), "%s/%d@%" PRId64, partition->flow->topic->poison,
             (int)partition->claim->partition, offset);
    shove_log_fields(SHOVE_LOG_WARN,
                     "a record among the poisoned keys was not written by shove and is passed over",
                     "record", place, NULL);
}

static int apply(struct shove_partition *partition, const struct shove_record *record) {
    struct shove_poisoned_keys *poison = &partition->poison;
    struct shove_poison_record parsed;
    switch (shove_poison_record_read(record, &parsed)) {
    case SHOVE_POISON_SET:
        return shove_poison_add(poison, record->key, record->key_size, parsed.offset,
                                record->offset);
    case SHOVE_POISON_CLEARED:
        shove_poison_clear(poison, record->key, record->key_size, record->offset);
        break;
    case SHOVE_POISON_STRANGE:
        report_stranger(partition, record->offset);
        break;
    }
    return 0;
}

/* 0, or SHOVE_ENOMEM: it is read again from the record that found none. */
static int apply_all(struct shove_partition *partition, const struct shove_scanned *result) {
    for (size_t i = 0; i < result->count; i++) {
        if (apply(partition, &result->records[i]) != 0) {
            partition->poison_next_offset = result->records[i].offset;
            return SHOVE_ENOMEM;
        }
    }
    partition->poison_next_offset = result->next_offset;
    return 0;
}

static void unlink_scan(struct shove_control *control, struct shove_poison_scan *scan) {
    struct shove_poison_scan **link = &control->scans;
    while (*link != scan)
        link = &(*link)->next;
    *link = scan->next;
}

/* The topic was truncated, or made anew. */
static void begin_anew(struct shove_partition *partition) {
    shove_poison_release(&partition->poison);
    shove_poisoning_learn(partition);
}

void shove_poisoning_scanned(struct shove_control *control, const struct shove_scanned *result) {
    struct shove_poison_scan *ended = result->opaque;
    struct shove_partition *partition = ended->partition;
    unlink_scan(control, ended);
    free(ended);
    if (!partition)
        return;
    partition->scan = NULL;
    if (partition->must_read_all) {
        partition->must_read_all = false;
        scan(partition);
        return;
    }
    if (result->code == 0 && result->next_offset < partition->poison_next_offset) {
        begin_anew(partition);
        return;
    }
    const int code = result->code != 0 ? result->code : apply_all(partition, result);
    if (code != 0) {
        failed(partition, code, result->detail);
        return;
    }
    if (!result->is_end) {
        scan(partition);
        return;
    }
    shove_poison_read_all(&partition->poison);
    partition->late_looks -= !partition->is_learning && partition->late_looks > 0;
    partition->look_at_ms =
        control->now_ms + (partition->poison.count > 0 ? LOOK_MS : LATE_LOOK_MS);
    partition->is_learning = false;
    control->has_progress = true;
}

void shove_poisoning_watch(struct shove_control *control) {
    for (uint32_t i = 0; i < control->flow_count; i++) {
        struct shove_partition *p =
            control->flows[i].policy.poisons ? control->flows[i].partitions : NULL;
        for (; p; p = p->next) {
            const bool is_wanted = p->is_learning || p->poison.count > 0 || p->late_looks > 0;
            if (is_wanted && !p->is_revoking && !p->scan && p->look_at_ms <= control->now_ms)
                scan(p);
        }
    }
}

void shove_poisoning_release(struct shove_control *control) {
    while (control->scans) {
        struct shove_poison_scan *scan = control->scans;
        control->scans = scan->next;
        free(scan);
    }
}

/* ---- asking ---- */

bool shove_poisoning_covers(const struct shove_partition *partition,
                            const struct shove_record *record) {
    return partition->poison.count > 0 && record->key &&
           shove_poison_covers(&partition->poison, record->key, record->key_size, record->offset);
}

size_t shove_poisoning_count(const struct shove_flow *flow) {
    size_t count = 0;
    for (const struct shove_partition *p = flow->partitions; p; p = p->next)
        count += p->poison.count;
    return count;
}

/* ---- writing ---- */

int shove_poisoning_describe(struct shove_control *control, const struct shove_delivery *delivery,
                             struct shove_produce *produce) {
    const struct shove_record message = shove_delivery_record(delivery);
    const struct shove_poison_record poison = {
        .offset = message.offset, .reason = delivery->hop.reason, .poisoned_ms = control->wall_ms};
    shove_buffer_clear(&control->scratch);
    shove_poison_record_write(&poison, &control->scratch);
    produce->topic = shove_hop_target(delivery);
    produce->partition = shove_delivery_envelope(delivery)->partition;
    produce->record = (struct shove_record){.key = message.key,
                                            .key_size = message.key_size,
                                            .payload = control->scratch.data,
                                            .payload_size = control->scratch.size,
                                            .timestamp_ms = -1,
                                            .offset = -1};
    return control->scratch.is_failed ? SHOVE_ENOMEM : 0;
}

void shove_poisoning_orphaned(const struct shove_delivery *delivery) {
    const int32_t number = shove_delivery_envelope(delivery)->partition;
    for (struct shove_partition *p = delivery->flow->partitions; p; p = p->next) {
        if (p->claim->partition != number)
            continue;
        p->late_looks = LATE_LOOKS;
        p->look_at_ms = 0;
    }
}

int shove_poisoning_stored(const struct shove_delivery *delivery, int64_t at) {
    struct shove_partition *partition = delivery->partition;
    const struct shove_record message = shove_delivery_record(delivery);
    if (at >= 0 && at < partition->poison_next_offset) {
        if (shove_poison_covers(&partition->poison, message.key, message.key_size,
                                message.offset + 1))
            return 0; /* it was read before it was acknowledged, and so was what came after it */
        at = -1;      /* cleared at once, or the topic was made anew: then offsets say nothing */
    }
    if (at < 0) { /* not known where: everything is read again, after what is being read now */
        partition->poison_next_offset = -1;
        partition->must_read_all = partition->scan != NULL;
    }
    const int64_t look_at_ms = partition->flow->control->now_ms + LOOK_MS;
    if (partition->look_at_ms > look_at_ms) /* now there is something to clear */
        partition->look_at_ms = look_at_ms;
    int rc =
        shove_poison_add(&partition->poison, message.key, message.key_size, message.offset, at);
    if (rc == 0)
        shove_sequencing_report(delivery, &message,
                                "the key is poisoned: what follows under it is a dead letter until "
                                "'shove poison clear' is told otherwise",
                                delivery->hop.reason);
    return rc;
}
