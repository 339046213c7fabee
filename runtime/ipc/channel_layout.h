/* channel_layout.h: how the two segments are laid out, and the mapped channel. Private to
 * channel*.c.
 *
 * Positions are free-running 64-bit counts (entries for the submit ring, bytes for the outbound
 * ring), masked only when memory is touched, so full and empty cannot be confused. Each word that
 * one side polls while the other writes has a cache line to itself.
 *
 * An `asleep` word is 0 while its side is awake and the ordinal of its nap while it blocks, so that
 * the other side wakes it once per nap and not once per portion.
 */
#ifndef SHOVE_IPC_CHANNEL_LAYOUT_H
#define SHOVE_IPC_CHANNEL_LAYOUT_H

#include <stdalign.h>

#include "ipc/bell.h"
#include "ipc/channel.h"

#define CHANNEL_MAGIC UINT64_C(0x6c6e6e6168637673) /* "svchannl" in memory */
#define CHANNEL_VERSION 1u
#define CHANNEL_LINE_BYTES 64
#define CHANNEL_HEADER_BYTES 4096u /* of each segment; rings begin here */

/* A record's alignment is its header's size, so a header never wraps round the end of the ring. */
#define CHANNEL_RECORD_ALIGN 16u

#define CHANNEL_NO_SLOT UINT32_MAX

struct channel_inbound { /* written by control */
    uint64_t magic;
    uint32_t version;
    uint32_t submit_entries;
    uint64_t arena_at;
    uint64_t arena_bytes;
    uint64_t outbound_bytes;
    alignas(CHANNEL_LINE_BYTES) _Atomic uint64_t submits_published;
    alignas(CHANNEL_LINE_BYTES) _Atomic uint64_t notes_released;
    alignas(CHANNEL_LINE_BYTES) _Atomic uint32_t control_asleep;
};

struct channel_outbound { /* written by the worker */
    alignas(CHANNEL_LINE_BYTES) _Atomic uint64_t notes_published;
    alignas(CHANNEL_LINE_BYTES) _Atomic uint64_t submits_released;
    alignas(CHANNEL_LINE_BYTES) _Atomic uint32_t worker_asleep;
    /* What control looks at only when it watches or mourns: written per message. */
    alignas(CHANNEL_LINE_BYTES) _Atomic uint64_t running; /* slot << 32 | generation */
    _Atomic int64_t running_since_mono_ms;
    _Atomic int64_t begun_mono_ms;
    _Atomic uint64_t notes_written; /* complete records, published or not */
};

struct shove_channel {
    struct channel_inbound *inbound;
    struct channel_outbound *outbound;
    struct shove_submit *submits;
    uint8_t *arena;
    uint8_t *notes;        /* the outbound ring */
    size_t inbound_bytes;  /* of the whole segment */
    size_t outbound_bytes; /* of the whole segment */
    size_t arena_bytes;
    uint64_t submit_mask;
    uint64_t note_mask;

    uint64_t submit_at;   /* control: appended so far. worker: read so far */
    uint64_t submit_seen; /* control: published so far. worker: end of what is known to be there */
    uint64_t note_at;     /* control: read so far. worker: written so far */
    uint64_t note_seen;   /* control: end of what is known to be there. worker: what control
                             released */
    uint64_t note_published;  /* worker */
    uint64_t submit_released; /* control: the worker's last sane word */

    uint32_t nap;       /* how often this side has slept */
    uint32_t woken_nap; /* the other side's nap that was last ended by ringing its bell */
    bool is_control;
    bool is_corrupt;  /* control: the worker broke the ring */
    bool is_revealed; /* control: the worker is dead and all it wrote is seen */

    /* control: a note on its way in */
    struct shove_buffer joined;
    struct shove_note joined_head;
    bool is_joining;
    size_t note_max_bytes;

    int inbound_fd;
    int outbound_fd;
    struct shove_bell worker_bell; /* worker: the end to listen at only */
    int control_wake_fd;
};

static inline size_t channel_round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

#endif
