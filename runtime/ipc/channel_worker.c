/* channel_worker.c: the worker's side of a channel. Worker only, loop thread.
 *
 * `inbound` is mapped read-only and believed: control wrote it. Notes are appended to the ring and
 * become visible a portion at a time; `notes_written` follows each complete record, for the case
 * that the process dies between the two.
 */
#include <string.h>
#include <time.h>

#include "ipc/channel_layout.h"

/* How long to wait between two looks at a full ring. Control empties it within a turn of its loop.
 */
#define FULL_RING_WAIT_NS 20000

int shove_channel_worker_wake_fd(const struct shove_channel *channel) {
    return channel->worker_bell.listen_fd;
}

bool shove_channel_next_submit(struct shove_channel *channel, struct shove_submit *entry) {
    if (channel->submit_at == channel->submit_seen) {
        channel->submit_seen =
            atomic_load_explicit(&channel->inbound->submits_published, memory_order_acquire);
        if (channel->submit_at == channel->submit_seen) {
            return false;
        }
    }
    *entry = channel->submits[channel->submit_at & channel->submit_mask];
    channel->submit_at++;
    return true;
}

void shove_channel_release_submits(struct shove_channel *channel) {
    atomic_store_explicit(&channel->outbound->submits_released, channel->submit_at,
                          memory_order_release);
}

const uint8_t *shove_channel_bytes(const struct shove_channel *channel, uint64_t arena_offset) {
    return channel->arena + arena_offset;
}

const struct shove_envelope *shove_channel_envelope(const struct shove_channel *channel,
                                                    uint64_t arena_offset) {
    return (const struct shove_envelope *)(const void *)shove_channel_bytes(channel, arena_offset);
}

void shove_channel_publish_notes(struct shove_channel *channel) {
    if (channel->note_published == channel->note_at) {
        return;
    }
    channel->note_published = channel->note_at;
    atomic_store_explicit(&channel->outbound->notes_published, channel->note_at,
                          memory_order_seq_cst);
    uint32_t nap = atomic_load_explicit(&channel->inbound->control_asleep, memory_order_seq_cst);
    if (nap != 0 && nap != channel->woken_nap) {
        channel->woken_nap = nap;
        shove_bell_ring(channel->control_wake_fd);
    }
}

static bool has_room(struct shove_channel *channel, uint64_t record) {
    uint64_t ring_bytes = channel->note_mask + 1;
    if (ring_bytes - (channel->note_at - channel->note_seen) >= record) {
        return true;
    }
    channel->note_seen =
        atomic_load_explicit(&channel->inbound->notes_released, memory_order_acquire);
    return ring_bytes - (channel->note_at - channel->note_seen) >= record;
}

static void wait_for_room(struct shove_channel *channel, uint64_t record) {
    while (!has_room(channel, record)) {
        shove_channel_publish_notes(channel);
        struct timespec wait = {.tv_sec = 0, .tv_nsec = FULL_RING_WAIT_NS};
        nanosleep(&wait, NULL);
    }
}

static void copy_in(struct shove_channel *channel, uint64_t at, const uint8_t *data, size_t size) {
    if (size == 0) {
        return;
    }
    size_t ring_bytes = channel->note_mask + 1;
    size_t from = at & channel->note_mask;
    size_t first = size < ring_bytes - from ? size : ring_bytes - from;
    memcpy(channel->notes + from, data, first);
    memcpy(channel->notes, data + first, size - first);
}

static void write_head(struct shove_channel *channel, const struct shove_note *head) {
    memcpy(channel->notes + (channel->note_at & channel->note_mask), head, sizeof *head);
}

static void complete_record(struct shove_channel *channel, uint64_t record) {
    channel->note_at += record;
    atomic_store_explicit(&channel->outbound->notes_written, channel->note_at,
                          memory_order_release);
}

struct part_cursor { /* where the next byte of a note's payload comes from */
    const struct shove_part *part;
    size_t done; /* bytes of *part already taken */
};

static void write_fragment(struct shove_channel *channel, const struct shove_note *head,
                           struct part_cursor *cursor) {
    uint64_t record = channel_round_up(sizeof *head + (size_t)head->size, CHANNEL_RECORD_ALIGN);
    wait_for_room(channel, record);
    write_head(channel, head);
    uint64_t at = channel->note_at + sizeof *head;
    size_t left = head->size;
    while (left != 0) {
        size_t available = cursor->part->size - cursor->done;
        size_t size = available < left ? available : left;
        copy_in(channel, at, (const uint8_t *)cursor->part->data + cursor->done, size);
        at += size;
        left -= size;
        cursor->done += size;
        if (cursor->done == cursor->part->size) {
            cursor->part++;
            cursor->done = 0;
        }
    }
    complete_record(channel, record);
}

void shove_channel_note(struct shove_channel *channel, const struct shove_note *head,
                        const struct shove_part *parts, unsigned part_count) {
    if (part_count == 0) {
        wait_for_room(channel, sizeof *head);
        write_head(channel, head);
        complete_record(channel, sizeof *head);
        return;
    }
    size_t total = 0;
    for (unsigned i = 0; i < part_count; i++) {
        total += parts[i].size;
    }
    struct shove_note record_head = *head;
    size_t fragment_max = (channel->note_mask + 1) / 4;
    struct part_cursor cursor = {.part = parts, .done = 0};
    while (total > fragment_max) {
        record_head.size = (uint32_t)fragment_max;
        record_head.type = head->type | SHOVE_NOTE_MORE;
        write_fragment(channel, &record_head, &cursor);
        total -= fragment_max;
    }
    record_head.size = (uint32_t)total;
    record_head.type = head->type;
    write_fragment(channel, &record_head, &cursor);
}

void shove_channel_set_begun(struct shove_channel *channel, int64_t mono_ms) {
    atomic_store_explicit(&channel->outbound->begun_mono_ms, mono_ms, memory_order_relaxed);
}

void shove_channel_set_running(struct shove_channel *channel, uint32_t slot, uint32_t generation,
                               int64_t since_mono_ms) {
    struct channel_outbound *outbound = channel->outbound;
    atomic_store_explicit(&outbound->running_since_mono_ms, since_mono_ms, memory_order_release);
    atomic_store_explicit(&outbound->running, (uint64_t)slot << 32 | generation,
                          memory_order_release);
}

void shove_channel_clear_running(struct shove_channel *channel) {
    atomic_store_explicit(&channel->outbound->running, (uint64_t)CHANNEL_NO_SLOT << 32,
                          memory_order_release);
}

bool shove_channel_worker_sleeps(struct shove_channel *channel) {
    channel->nap = channel->nap == UINT32_MAX ? 1 : channel->nap + 1;
    atomic_store_explicit(&channel->outbound->worker_asleep, channel->nap, memory_order_seq_cst);
    uint64_t published =
        atomic_load_explicit(&channel->inbound->submits_published, memory_order_seq_cst);
    return published != channel->submit_at;
}

void shove_channel_worker_wakes(struct shove_channel *channel) {
    atomic_store_explicit(&channel->outbound->worker_asleep, 0, memory_order_relaxed);
}
