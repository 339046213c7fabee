/* delivery.c: see delivery.h. Control only, loop's thread.
 *
 * Deliveries come from slabs that are kept until the end of the run: their number follows the
 * largest number of messages open at once, and taking one is a pop from a free list.
 */
#include "control/delivery.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/abort_point.h"
#include "control/sequencing.h"

#define SLAB_DELIVERIES 256

void shove_delivery_list_push(struct shove_delivery_list *list, struct shove_delivery *delivery) {
    delivery->next = NULL;
    if (list->last)
        list->last->next = delivery;
    else
        list->first = delivery;
    list->last = delivery;
    list->count++;
}

struct shove_delivery *shove_delivery_list_pop(struct shove_delivery_list *list) {
    struct shove_delivery *delivery = list->first;
    if (!delivery)
        return NULL;
    list->first = delivery->next;
    if (!list->first)
        list->last = NULL;
    delivery->next = NULL;
    list->count--;
    return delivery;
}

struct shove_delivery *shove_delivery_of_wait(struct shove_due_entry *wait) {
    return (struct shove_delivery *)(void *)((char *)wait - offsetof(struct shove_delivery, wait));
}

static int grow_pool(struct shove_control *control) {
    struct shove_delivery **slabs =
        realloc(control->delivery_slabs,
                (control->delivery_slab_count + 1) * sizeof(struct shove_delivery *));
    if (!slabs)
        return SHOVE_ENOMEM;
    control->delivery_slabs = slabs;
    struct shove_delivery *slab = calloc(SLAB_DELIVERIES, sizeof(*slab));
    if (!slab)
        return SHOVE_ENOMEM;
    slabs[control->delivery_slab_count++] = slab;
    for (size_t i = 0; i < SLAB_DELIVERIES; i++) {
        slab[i].next = control->free_deliveries;
        control->free_deliveries = &slab[i];
    }
    return 0;
}

struct shove_delivery *shove_delivery_new(struct shove_control *control,
                                          struct shove_partition *partition) {
    if (!control->free_deliveries && grow_pool(control) != 0)
        return NULL;
    struct shove_delivery *delivery = control->free_deliveries;
    control->free_deliveries = delivery->next;
    *delivery = (struct shove_delivery){
        .ticket.kind = SHOVE_TICKET_DELIVERY,
        .state = SHOVE_DELIVERY_PENDING,
        .partition = partition,
        .flow = partition->flow,
        .first_seen_ms = control->wall_ms,
    };
    return delivery;
}

void shove_home_release_if_idle(struct shove_home *home) {
    if (!home->is_retired || shove_arena_block_count(home->arena) > 0)
        return;
    shove_channel_free(home->channel);
    shove_arena_free(home->arena);
    free(home);
}

void shove_delivery_drop_bytes(struct shove_delivery *delivery) {
    if (delivery->home) {
        struct shove_home *home = delivery->home;
        shove_arena_give(home->arena, delivery->arena_offset);
        delivery->home = NULL;
        if (home->is_retired)
            shove_home_release_if_idle(home);
    }
    free(delivery->heap);
    delivery->heap = NULL;
}

void shove_delivery_free(struct shove_control *control, struct shove_delivery *delivery) {
    shove_sequencing_leave(delivery);
    shove_delivery_drop_bytes(delivery);
    free(delivery->error);
    delivery->error = NULL;
    delivery->state = SHOVE_DELIVERY_FREE;
    delivery->next = control->free_deliveries;
    control->free_deliveries = delivery;
}

bool shove_delivery_shelve_if_revoking(struct shove_delivery *delivery) {
    if (!delivery->partition->is_revoking)
        return false;
    delivery->state = SHOVE_DELIVERY_SHELVED;
    return true;
}

void shove_delivery_close(struct shove_control *control, struct shove_delivery *delivery) {
    if (delivery->partition) {
        shove_ledger_close(&delivery->partition->ledger, &delivery->entry);
        delivery->partition->is_dirty = true;
        shove_abort_point(SHOVE_STEP_CLOSED);
    }
    shove_delivery_free(control, delivery);
}

size_t shove_delivery_size_bytes(const struct shove_incoming *incoming) {
    return sizeof(struct shove_envelope) + incoming->record->key_size +
           incoming->record->payload_size + incoming->original_headers_size +
           incoming->info.message_id.size + (incoming->death ? incoming->death->size : 0);
}

static uint8_t *put(uint8_t *out, const void *data, size_t size) {
    if (data && size > 0)
        memcpy(out, data, size);
    return out + size;
}

void shove_delivery_write(const struct shove_delivery *delivery,
                          const struct shove_incoming *incoming, uint8_t *out) {
    const struct shove_record *record = incoming->record;
    const struct shove_hop_info *info = &incoming->info;
    const bool is_hold = delivery->partition->is_hold;
    struct shove_envelope envelope = {
        .offset = is_hold ? info->original_offset : record->offset,
        .timestamp_ms = is_hold ? info->original_timestamp_ms : record->timestamp_ms,
        .group = delivery->flow->group_number,
        .partition = is_hold ? info->original_partition : delivery->partition->claim->partition,
        .retry_count = delivery->retry_count,
        .flags = (record->key ? 0 : SHOVE_ENVELOPE_NULL_KEY) |
                 (record->payload ? 0 : SHOVE_ENVELOPE_NULL_PAYLOAD) |
                 (delivery->is_redelivered ? SHOVE_ENVELOPE_REDELIVERED : 0),
        .key_size = (uint32_t)record->key_size,
        .payload_size = (uint32_t)record->payload_size,
        .headers_size = (uint32_t)incoming->original_headers_size,
        .id_size = (uint32_t)info->message_id.size,
        .death_count = info->death_count,
        .death_size = incoming->death ? (uint32_t)incoming->death->size : 0,
    };
    out = put(out, &envelope, sizeof(envelope));
    out = put(out, record->key, record->key_size);
    out = put(out, record->payload, record->payload_size);
    out = put(out, record->headers, incoming->original_headers_size);
    out = put(out, info->message_id.data, info->message_id.size);
    if (incoming->death)
        put(out, incoming->death->data, incoming->death->size);
}

int shove_delivery_keep(struct shove_delivery *delivery, const struct shove_incoming *incoming) {
    delivery->heap = malloc(shove_delivery_size_bytes(incoming));
    if (!delivery->heap)
        return SHOVE_ENOMEM;
    shove_delivery_write(delivery, incoming, delivery->heap);
    return 0;
}

const struct shove_envelope *shove_delivery_envelope(const struct shove_delivery *delivery) {
    const uint8_t *bytes =
        delivery->home ? delivery->home->bytes + delivery->arena_offset : delivery->heap;
    return (const struct shove_envelope *)(const void *)bytes;
}

void shove_envelope_parts(const struct shove_envelope *envelope, struct shove_record *record,
                          struct shove_text *id) {
    const uint8_t *key = (const uint8_t *)(envelope + 1);
    const uint8_t *payload = key + envelope->key_size;
    const uint8_t *headers = payload + envelope->payload_size;
    *record = (struct shove_record){
        .key = envelope->flags & SHOVE_ENVELOPE_NULL_KEY ? NULL : key,
        .payload = envelope->flags & SHOVE_ENVELOPE_NULL_PAYLOAD ? NULL : payload,
        .headers = envelope->headers_size ? headers : NULL,
        .key_size = envelope->key_size,
        .payload_size = envelope->payload_size,
        .headers_size = envelope->headers_size,
        .timestamp_ms = envelope->timestamp_ms,
        .offset = -1,
    };
    *id = (struct shove_text){(const char *)(headers + envelope->headers_size), envelope->id_size};
}

struct shove_record shove_delivery_record(const struct shove_delivery *delivery) {
    const struct shove_envelope *envelope = shove_delivery_envelope(delivery);
    struct shove_record record;
    struct shove_text id;
    shove_envelope_parts(envelope, &record, &id);
    record.offset = envelope->offset;
    return record;
}

size_t shove_envelope_size_bytes(const struct shove_envelope *envelope) {
    return sizeof(*envelope) + envelope->key_size + envelope->payload_size +
           envelope->headers_size + envelope->id_size + envelope->death_size;
}

size_t shove_delivery_held_bytes(const struct shove_delivery *delivery) {
    return sizeof(*delivery) + shove_envelope_size_bytes(shove_delivery_envelope(delivery));
}

const char *shove_delivery_place(const struct shove_delivery *delivery,
                                 char out[SHOVE_PLACE_SIZE]) {
    const struct shove_envelope *envelope = shove_delivery_envelope(delivery);
    snprintf(out, SHOVE_PLACE_SIZE, "%s/%d@%" PRId64, delivery->flow->source,
             (int)envelope->partition, envelope->offset);
    return out;
}

int shove_delivery_detach(struct shove_delivery *delivery) {
    if (!delivery->home)
        return 0;
    const struct shove_envelope *envelope = shove_delivery_envelope(delivery);
    size_t size = shove_envelope_size_bytes(envelope);
    uint8_t *copy = malloc(size);
    if (!copy)
        return SHOVE_ENOMEM;
    memcpy(copy, envelope, size);
    shove_delivery_drop_bytes(delivery);
    delivery->heap = copy;
    return 0;
}

void shove_delivery_pool_release(struct shove_control *control) {
    for (size_t i = 0; i < control->delivery_slab_count; i++) {
        for (size_t j = 0; j < SLAB_DELIVERIES; j++) {
            struct shove_delivery *delivery = &control->delivery_slabs[i][j];
            if (delivery->state != SHOVE_DELIVERY_FREE) {
                shove_delivery_drop_bytes(delivery);
                free(delivery->error);
            }
        }
        free(control->delivery_slabs[i]);
    }
    free(control->delivery_slabs);
    control->delivery_slabs = NULL;
    control->delivery_slab_count = 0;
    control->free_deliveries = NULL;
}
