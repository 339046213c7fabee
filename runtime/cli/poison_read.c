/* poison_read.c: which keys are poisoned: a partition of the poison topic is read from its
 * beginning to its end, and of each key the latest record is kept. Cli.
 *
 * What is kept is a search tree by key, and a list in the order of the records. A tombstone forgets
 * its key, so memory grows with the keys that are poisoned. A record that shove did not write says
 * nothing about its key.
 */
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/poison.h"

#define BATCH_RECORDS 500

struct fold {   /* one partition */
    void *tree; /* of struct shove_poisoned, by key */
    struct shove_poisoned *first;
    struct shove_poisoned *last;
};

struct strangers { /* records that shove did not write */
    uint64_t count;
    int32_t partition; /* of the first */
    int64_t offset;
};

static int by_key(const void *a, const void *b) {
    const struct shove_poisoned *left = a;
    const struct shove_poisoned *right = b;
    size_t shorter = left->key_size < right->key_size ? left->key_size : right->key_size;
    int order = shorter > 0 ? memcmp(left->key, right->key, shorter) : 0;
    return order != 0 ? order
                      : (left->key_size > right->key_size) - (left->key_size < right->key_size);
}

static void forget(struct fold *fold, struct shove_poisoned *key) {
    tdelete(key, &fold->tree, by_key);
    if (key->previous != NULL)
        key->previous->next = key->next;
    else
        fold->first = key->next;
    if (key->next != NULL)
        key->next->previous = key->previous;
    else
        fold->last = key->previous;
    free(key);
}

static int remember(struct fold *fold, const struct shove_poisoned *what) {
    struct shove_poisoned *key = malloc(sizeof *key + what->key_size);
    if (key == NULL)
        return SHOVE_ENOMEM;
    *key = *what;
    memcpy(key + 1, what->key, what->key_size);
    key->key = (const uint8_t *)(key + 1);
    key->previous = fold->last;
    if (tsearch(key, &fold->tree, by_key) == NULL) {
        free(key);
        return SHOVE_ENOMEM;
    }
    if (fold->last != NULL)
        fold->last->next = key;
    else
        fold->first = key;
    fold->last = key;
    return 0;
}

static bool is_meant(const struct shove_poison *poison, const struct shove_record *record) {
    return poison->key == NULL || (record->key_size == poison->key_size &&
                                   memcmp(record->key, poison->key, poison->key_size) == 0);
}

static int fold_record(const struct shove_poison *poison, struct fold *fold, int32_t partition,
                       const struct shove_record *record, struct strangers *strangers) {
    struct shove_poisoned what = {
        .partition = partition, .key = record->key, .key_size = record->key_size};
    const enum shove_poison_word word = shove_poison_record_read(record, &what.record);
    if (word == SHOVE_POISON_STRANGE) {
        if (strangers->count++ == 0) {
            strangers->partition = partition;
            strangers->offset = record->offset;
        }
        return 0;
    }
    if (!is_meant(poison, record))
        return 0;
    struct shove_poisoned **found = tfind(&what, &fold->tree, by_key);
    if (found != NULL)
        forget(fold, *found);
    return word == SHOVE_POISON_SET ? remember(fold, &what) : 0;
}

static int fold_batch(const struct shove_poison *poison, struct fold *fold, int32_t partition,
                      const struct shove_batch *batch, size_t count, struct strangers *strangers,
                      struct shove_error *error) {
    for (size_t i = 0; i < count; i++) {
        if (fold_record(poison, fold, partition, &batch->records[i], strangers) != 0)
            return shove_error_set(error, SHOVE_ENOMEM, "out of memory reading %s", poison->name);
    }
    return 0;
}

static int fold_partition(struct shove_poison *poison, struct fold *fold, int32_t partition,
                          struct strangers *strangers, struct shove_error *error) {
    struct shove_client *client = &poison->client;
    struct shove_batch batch;
    int64_t next;
    int64_t high;
    int code = client->ops->watermarks(client->transport, poison->name, partition, &next, &high,
                                       client->timeout_ms, error);
    while (code == 0) {
        shove_client_turn(client);
        if (client->is_interrupted)
            return shove_error_set(error, SHOVE_ECLOSED, "interrupted");
        long count = shove_client_read(client, poison->name, partition, &next, high, BATCH_RECORDS,
                                       &batch, error);
        if (count <= 0)
            return (int)count;
        code = fold_batch(poison, fold, partition, &batch, (size_t)count, strangers, error);
        client->ops->batch_release(client->transport, &batch);
    }
    return code;
}

static int walk_partition(struct shove_poison *poison, int32_t partition, shove_poison_each *each,
                          void *ctx, struct strangers *strangers, struct shove_error *error) {
    struct fold fold = {0};
    int code = fold_partition(poison, &fold, partition, strangers, error);
    if (code == 0 && fold.first != NULL)
        code = each(ctx, fold.first, error);
    while (fold.first != NULL)
        forget(&fold, fold.first);
    return code;
}

static void name_strangers(const struct shove_poison *poison, const struct strangers *strangers) {
    if (strangers->count > 0)
        shove_log(SHOVE_LOG_WARN,
                  "%" PRIu64 " record%s of %s, the first at %d:%lld, %s not written by shove: left "
                  "alone",
                  strangers->count, strangers->count == 1 ? "" : "s", poison->name,
                  strangers->partition, (long long)strangers->offset,
                  strangers->count == 1 ? "was" : "were");
}

int shove_poison_walk(struct shove_poison *poison, shove_poison_each *each, void *ctx,
                      struct shove_error *error) {
    struct strangers strangers = {0};
    struct shove_error here = {0};
    int code = 0;
    error->code = 0;
    for (int32_t i = 0; i < poison->partition_count && code == 0; i++) {
        code = walk_partition(poison, i, each, ctx, &strangers, &here);
        if (code != 0)
            code = shove_client_keep_first(error, &here);
    }
    name_strangers(poison, &strangers);
    return error->code;
}
