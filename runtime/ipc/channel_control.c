/* channel_control.c: control's side of a channel. Control only, loop thread.
 *
 * Every word read from `outbound` is loaded once into a local and checked before it is used; the
 * payload of a note is copied out of the ring before anybody looks at it. What fails a check marks
 * the channel corrupt, for good: the worker must be killed, and nothing it wrote later is believed.
 */
#include <string.h>

#include "ipc/channel_layout.h"

/* A joined payload above this is given back to the system with the next note. */
#define JOINED_KEEP_BYTES ((size_t)1024 * 1024)

uint8_t *shove_channel_arena(struct shove_channel *channel) {
    return channel->arena;
}

static uint64_t submit_capacity(const struct shove_channel *channel) {
    return channel->submit_mask + 1;
}

/* The worker may only have read what was published, and never unreads. */
static void look_at_released_submits(struct shove_channel *channel) {
    uint64_t released =
        atomic_load_explicit(&channel->outbound->submits_released, memory_order_acquire);
    if (released < channel->submit_released || released > channel->submit_seen) {
        channel->is_corrupt = true;
        return;
    }
    channel->submit_released = released;
}

uint32_t shove_channel_submit_room(const struct shove_channel *channel) {
    struct shove_channel *self = (struct shove_channel *)channel;
    look_at_released_submits(self);
    if (channel->is_corrupt) {
        return 0;
    }
    return (uint32_t)(submit_capacity(channel) - (channel->submit_at - channel->submit_released));
}

bool shove_channel_submit(struct shove_channel *channel, const struct shove_submit *entry) {
    if (channel->submit_at - channel->submit_released == submit_capacity(channel) &&
        shove_channel_submit_room(channel) == 0) {
        return false;
    }
    if (channel->is_corrupt) {
        return false;
    }
    channel->submits[channel->submit_at & channel->submit_mask] = *entry;
    channel->submit_at++;
    return true;
}

void shove_channel_flush(struct shove_channel *channel) {
    if (channel->submit_seen == channel->submit_at) {
        return;
    }
    channel->submit_seen = channel->submit_at;
    atomic_store_explicit(&channel->inbound->submits_published, channel->submit_at,
                          memory_order_seq_cst);
    uint32_t nap = atomic_load_explicit(&channel->outbound->worker_asleep, memory_order_seq_cst);
    if (nap != 0 && nap != channel->woken_nap) {
        channel->woken_nap = nap;
        shove_bell_ring(channel->worker_bell.ring_fd);
    }
}

static int break_off(struct shove_channel *channel) {
    channel->is_corrupt = true;
    shove_buffer_release(&channel->joined);
    shove_buffer_init(&channel->joined);
    return SHOVE_ECORRUPT;
}

/* Moves note_seen to `end` as the worker claims it. Returns 1 when there is something, 0, or
 * SHOVE_ECORRUPT. Counted from what was released, not from what was read: one that does not wait
 * for room could be read without end, and control would do nothing else. */
static int advance_seen(struct shove_channel *channel, uint64_t end) {
    const uint64_t released =
        atomic_load_explicit(&channel->inbound->notes_released, memory_order_relaxed);
    if (end - released > channel->note_mask + 1 || end % CHANNEL_RECORD_ALIGN != 0 ||
        end < channel->note_seen) {
        return break_off(channel);
    }
    channel->note_seen = end;
    return end != channel->note_at;
}

static int look_for_notes(struct shove_channel *channel) {
    if (channel->is_revealed) {
        return 0;
    }
    return advance_seen(
        channel, atomic_load_explicit(&channel->outbound->notes_published, memory_order_acquire));
}

static struct shove_note load_head(const struct shove_channel *channel) {
    _Atomic uint64_t *words =
        (_Atomic uint64_t *)(channel->notes + (channel->note_at & channel->note_mask));
    uint64_t copy[2] = {atomic_load_explicit(&words[0], memory_order_relaxed),
                        atomic_load_explicit(&words[1], memory_order_relaxed)};
    struct shove_note head;
    memcpy(&head, copy, sizeof head);
    return head;
}

static int append_payload(struct shove_channel *channel, uint32_t size) {
    if (size > channel->note_max_bytes - channel->joined.size) {
        return break_off(channel);
    }
    size_t ring_bytes = channel->note_mask + 1;
    size_t from = (channel->note_at + sizeof(struct shove_note)) & channel->note_mask;
    size_t first = size < ring_bytes - from ? size : ring_bytes - from;
    shove_buffer_append(&channel->joined, channel->notes + from, first);
    shove_buffer_append(&channel->joined, channel->notes, size - first);
    return channel->joined.is_failed ? SHOVE_ENOMEM : 0;
}

/* A type that exists, and, in the middle of a note, the same note as before. */
static bool is_head_sane(const struct shove_channel *channel, const struct shove_note *head) {
    uint8_t type = head->type & (uint8_t)~SHOVE_NOTE_MORE;
    if (type < SHOVE_NOTE_SETTLED || type > SHOVE_NOTE_STOPPING) {
        return false;
    }
    if ((head->type & SHOVE_NOTE_MORE) != 0 && head->size == 0) {
        return false;
    }
    if (!channel->is_joining) {
        return true;
    }
    const struct shove_note *first = &channel->joined_head;
    return type == first->type && head->slot == first->slot &&
           head->generation == first->generation && head->outcome == first->outcome;
}

static void forget_joined(struct shove_channel *channel) {
    if (channel->joined.capacity > JOINED_KEEP_BYTES) {
        shove_buffer_release(&channel->joined);
        shove_buffer_init(&channel->joined);
    }
    shove_buffer_clear(&channel->joined);
}

/* Takes one record. 1: it ends a note; 0: the note goes on; or an error. */
static int take_record(struct shove_channel *channel) {
    struct shove_note head = load_head(channel);
    uint64_t left = channel->note_seen - channel->note_at;
    uint64_t record = channel_round_up(sizeof head + (size_t)head.size, CHANNEL_RECORD_ALIGN);
    if (record > left || !is_head_sane(channel, &head)) {
        return break_off(channel);
    }
    if (head.size != 0) {
        int status = append_payload(channel, head.size);
        if (status != 0) {
            return status;
        }
    }
    channel->note_at += record;
    bool goes_on = (head.type & SHOVE_NOTE_MORE) != 0;
    head.type &= (uint8_t)~SHOVE_NOTE_MORE;
    channel->joined_head = head;
    channel->is_joining = goes_on;
    return !goes_on;
}

int shove_channel_next_note(struct shove_channel *channel, struct shove_note *note,
                            const uint8_t **payload) {
    if (channel->is_corrupt) {
        return SHOVE_ECORRUPT;
    }
    if (!channel->is_joining && channel->joined.size != 0) {
        forget_joined(channel);
    }
    for (;;) {
        if (channel->note_at == channel->note_seen) {
            int status = look_for_notes(channel);
            if (status <= 0) {
                return status;
            }
        }
        int status = take_record(channel);
        if (status < 0) {
            return status;
        }
        if (status == 1) {
            break;
        }
    }
    *note = channel->joined_head;
    note->size = (uint32_t)channel->joined.size;
    static const uint8_t nothing[1];
    *payload = channel->joined.size != 0 ? channel->joined.data : nothing;
    return 1;
}

bool shove_channel_release_notes(struct shove_channel *channel) {
    /* Control wrote it and the worker cannot: it needs no copy. */
    if (atomic_load_explicit(&channel->inbound->notes_released, memory_order_relaxed) ==
        channel->note_at)
        return false;
    atomic_store_explicit(&channel->inbound->notes_released, channel->note_at,
                          memory_order_release);
    return true;
}

void shove_channel_reveal(struct shove_channel *channel) {
    if (!channel->is_corrupt && !channel->is_revealed) {
        channel->is_revealed = true;
        advance_seen(channel,
                     atomic_load_explicit(&channel->outbound->notes_written, memory_order_acquire));
    }
}

bool shove_channel_running(const struct shove_channel *channel, uint32_t *slot,
                           uint32_t *generation, int64_t *since_mono_ms) {
    const struct channel_outbound *outbound = channel->outbound;
    uint64_t running = atomic_load_explicit(&outbound->running, memory_order_acquire);
    int64_t since = 0;
    for (int tries = 0; tries < 8; tries++) {
        since = atomic_load_explicit(&outbound->running_since_mono_ms, memory_order_acquire);
        uint64_t again = atomic_load_explicit(&outbound->running, memory_order_acquire);
        if (again == running) {
            break;
        }
        running = again;
    }
    *slot = (uint32_t)(running >> 32);
    *generation = (uint32_t)running;
    *since_mono_ms = since;
    return *slot != CHANNEL_NO_SLOT;
}

int64_t shove_channel_begun(const struct shove_channel *channel) {
    return atomic_load_explicit(&channel->outbound->begun_mono_ms, memory_order_relaxed);
}

bool shove_channel_control_sleeps(struct shove_channel *channel) {
    channel->nap = channel->nap == UINT32_MAX ? 1 : channel->nap + 1;
    atomic_store_explicit(&channel->inbound->control_asleep, channel->nap, memory_order_seq_cst);
    uint64_t published =
        atomic_load_explicit(&channel->outbound->notes_published, memory_order_seq_cst);
    return published != channel->note_at;
}

void shove_channel_control_wakes(struct shove_channel *channel) {
    atomic_store_explicit(&channel->inbound->control_asleep, 0, memory_order_relaxed);
}
