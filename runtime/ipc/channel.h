/* channel.h: what control and one worker share. Both processes; the comments say which side may
 * call.
 *
 * Two memfd segments, each written by one side only:
 *
 *   inbound    control writes; sealed so that the worker can only map it read-only: header, submit
 *              ring, arena
 *   outbound   worker writes; control maps it read-only: header with the running word, byte ring
 *
 * So whatever a worker scribbles, the messages control still answers for are out of its reach, and
 * everything control reads from `outbound` is copied first and checked before use.
 *
 * Submit ring (control -> worker): fixed entries, single producer, single consumer.
 * Outbound ring (worker -> control): a byte stream of records, 16-byte aligned, each with a struct
 * shove_note header; a note whose payload is larger than a quarter of the ring travels in several
 * records marked SHOVE_NOTE_MORE.
 *
 * Wake-ups: each side has a bell (ipc/bell.h). A side that is about to block stores 1 in its own
 * `is_asleep` word, looks at the ring once more, and blocks; the other side rings only when it sees
 * the word set after publishing (sequentially consistent on both sides, the classic store-load
 * pairing). One wake-up per batch, none when busy. Who was woken silences its own bell.
 */
#ifndef SHOVE_IPC_CHANNEL_H
#define SHOVE_IPC_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum shove_submit_type {
    SHOVE_SUBMIT_MESSAGE = 1, /* slot, generation, offset of a struct shove_envelope in the arena */
    SHOVE_SUBMIT_PUBLISHED,   /* slot = request id, generation = -error code (0: acknowledged) */
    SHOVE_SUBMIT_START,       /* run app:on_start once */
    SHOVE_SUBMIT_CANCEL, /* slot, generation: stop caring for that message (its coroutine is not
                            resumed again) */
    SHOVE_SUBMIT_GROUPS, /* generation = bytes of JSON at arena_offset: the answer to
                            SHOVE_NOTE_GROUPS; they are there until the next one is asked for */
    SHOVE_SUBMIT_ADVISE, /* generation = number of the consultation: ask the strategy */
    SHOVE_SUBMIT_KEYS, /* generation = number of bodies at arena_offset, each a uint32_t and so many
                          bytes: their keys are wanted */
    SHOVE_SUBMIT_STOP  /* exit 0 when nothing is running any more */
};

/* Stands for app:on_start, in the running word and to cancel it: no message has this slot. */
#define SHOVE_START_SLOT (UINT32_MAX - 1)
/* Stands for the strategy of app:autoscale in the same way; generation: of the consultation. */
#define SHOVE_STRATEGY_SLOT (UINT32_MAX - 2)

struct shove_submit {
    uint32_t type;
    uint32_t slot;
    uint32_t generation;
    uint32_t reserved;
    uint64_t arena_offset; /* from the start of the arena */
};

/* A message in the arena: this header, then key, payload, headers block, id bytes, in that order,
 * unpadded. */
struct shove_envelope {
    int64_t offset; /* source position in the main topic: what msg.offset shows, also after holds */
    int64_t timestamp_ms; /* original */
    uint32_t group;       /* index in the topology */
    int32_t partition;
    uint32_t retry_count;
    uint32_t flags;
    uint32_t key_size;
    uint32_t payload_size;
    uint32_t headers_size; /* originals only: shove's own block is never shown */
    uint32_t id_size;      /* 0: derived from topic/partition/offset by the worker on first touch */
    uint32_t death_count;
    uint32_t death_size; /* JSON text after the id, for dead-letter handlers: reason,
                            original_queue, ...; else 0 */
};
#define SHOVE_ENVELOPE_NULL_KEY 1u
#define SHOVE_ENVELOPE_NULL_PAYLOAD 2u
#define SHOVE_ENVELOPE_REDELIVERED 4u

enum shove_note_type {
    SHOVE_NOTE_SETTLED = 1, /* slot, generation, outcome, duration; payload: reason text (may be
                               empty) */
    SHOVE_NOTE_PUBLISH,     /* slot = request id; payload: struct shove_publish_note + its parts */
    SHOVE_NOTE_DESCRIPTION, /* payload: the app as JSON (contract: topology_json.h) */
    SHOVE_NOTE_LOAD_ERROR,  /* payload: why the script did not load, with file:line; outcome =
                               SHOVE_EXIT_* */
    SHOVE_NOTE_READY,       /* the script is loaded and handlers can run */
    SHOVE_NOTE_STARTED,    /* app:on_start returned; payload: error text or empty; outcome DEFER: it
                              was cancelled */
    SHOVE_NOTE_GROUPS,     /* asks for what control knows of the groups; one at a time */
    SHOVE_NOTE_ADVICE,     /* generation; payload: struct shove_advice_note + its parts */
    SHOVE_NOTE_ADVISED,    /* generation: the strategy has ended, once for each SUBMIT_ADVISE;
                              payload: error text or empty */
    SHOVE_NOTE_AUDIT_LATE, /* slot, generation, outcome: the audit of what is settled next had no
                              end in time; payload: why */
    SHOVE_NOTE_SPENT,      /* memory runs low: it takes nothing more and wants to be replaced */
    SHOVE_NOTE_RETURNED,   /* slot, generation: that message came after SPENT; nothing was done */
    SHOVE_NOTE_KEY,     /* outcome = enum shove_key_outcome; payload: the key of the next body, or
                           why there is none; one for each, in order */
    SHOVE_NOTE_STOPPING /* exiting by itself: nothing runs any more, or memory is used up */
};
/* Or'ed into type: the payload goes on in the next record of this type. */
#define SHOVE_NOTE_MORE 0x80u

struct shove_note {
    uint32_t size; /* payload bytes in this record */
    uint8_t type;
    uint8_t outcome;
    uint16_t duration; /* of SETTLED, while control measures: shove_duration_pack */
    uint32_t slot;
    uint32_t generation;
};

enum shove_key_outcome {
    SHOVE_KEY_GIVEN,
    SHOVE_KEY_NONE,       /* the function returned nil: a message without a key */
    SHOVE_KEY_FAILED,     /* the function did, or what it returned is no key */
    SHOVE_KEY_UNDECODABLE /* the topic's codec refuses the body */
};

struct shove_publish_note { /* then: topic, key, payload, headers block */
    uint32_t topic_size;
    uint32_t key_size;
    uint32_t payload_size;
    uint32_t headers_size;
    uint16_t flags;       /* SHOVE_ENVELOPE_NULL_KEY, SHOVE_ENVELOPE_NULL_PAYLOAD */
    uint16_t broker;      /* index: which one the topic is on */
    int32_t partition;    /* -1: by key */
    int64_t timestamp_ms; /* -1: now */
};

struct shove_advice_note { /* then: group id, its broker, what went wrong */
    int64_t consumers;     /* SHOVE_ADVICE_COUNT */
    uint32_t kind;         /* enum shove_advice_kind */
    uint32_t group_size;
    uint32_t broker_size;
    uint32_t reserved; /* 0 */
};

struct shove_channel;

/* ---- control ---- */

struct shove_channel_options {
    size_t arena_bytes;      /* e.g. 64 MiB, or more when max_message_size asks for it */
    uint32_t submit_entries; /* power of two */
    size_t outbound_bytes;   /* power of two, e.g. 1 MiB */
    int control_wake_fd;     /* borrowed: the ring end of control's bell, shared by all channels */
    size_t note_max_bytes;   /* payload of one note, joined; more is SHOVE_ECORRUPT. 0: 64 MiB */
};
#define SHOVE_CHANNEL_NOTE_MAX_BYTES ((size_t)64 * 1024 * 1024)

/* Creates segments and the worker's bell. gives *out. */
int shove_channel_new(const struct shove_channel_options *options, struct shove_channel **out,
                      struct shove_error *error);
void shove_channel_free(struct shove_channel *channel);

/* Descriptors to hand to the child, in the order shove_channel_attach expects: inbound, outbound,
 * worker wake, control wake. Borrowed. */
#define SHOVE_CHANNEL_FD_COUNT 4
void shove_channel_fds(const struct shove_channel *channel, int fds[SHOVE_CHANNEL_FD_COUNT]);

/* Where the arena begins in control's mapping; blocks of the arena are at arena + offset. */
uint8_t *shove_channel_arena(struct shove_channel *channel);

/* Appends to the submit ring without publishing. false: the ring is full (flush and try later). */
bool shove_channel_submit(struct shove_channel *channel, const struct shove_submit *entry);
uint32_t shove_channel_submit_room(const struct shove_channel *channel);
/* Publishes what was appended and wakes the worker if it sleeps. Cheap when nothing was appended.
 */
void shove_channel_flush(struct shove_channel *channel);

/* Takes the next note. 1: *note is a checked copy and *payload points at its note->size payload
 * bytes (whole, joined from several records if need be), valid until the next call on this channel;
 * 0: none; SHOVE_ECORRUPT: the worker broke the ring (it must be killed; the channel yields no
 * more); SHOVE_ENOMEM. */
int shove_channel_next_note(struct shove_channel *channel, struct shove_note *note,
                            const uint8_t **payload);
/* Tells the worker how far control has read, so that it may write on. Call once per portion, not
 * per note, and also when there was no note: the worker may wait for room in the middle of one.
 * False when nothing was read since the last call. */
bool shove_channel_release_notes(struct shove_channel *channel);

/* The slot whose coroutine is on the worker's CPU, with its generation; false when none. For the
 * culprit after a death and for the watchdog; values are the worker's word, to be checked against
 * control's own tables. */
bool shove_channel_running(const struct shove_channel *channel, uint32_t *slot,
                           uint32_t *generation, int64_t *since_mono_ms);

/* When the handler that is running was called, as the worker says: before its waits. */
int64_t shove_channel_begun(const struct shove_channel *channel);

/* Once the worker is dead: next_note goes on to what it had appended but not published, so that
 * what was settled before the death is not handled again. */
void shove_channel_reveal(struct shove_channel *channel);

/* Before control blocks: marks it asleep on this channel; true when a note is already there (do not
 * block). */
bool shove_channel_control_sleeps(struct shove_channel *channel);
void shove_channel_control_wakes(struct shove_channel *channel);

/* ---- worker ---- */

/* Maps what was inherited in `fds`, and keeps the worker's own children from inheriting them. gives
 * *out. */
int shove_channel_attach(const int fds[SHOVE_CHANNEL_FD_COUNT], struct shove_channel **out,
                         struct shove_error *error);
/* The listen end of the worker's bell. */
int shove_channel_worker_wake_fd(const struct shove_channel *channel);

/* Copies the next submit entry; false when there is none. */
bool shove_channel_next_submit(struct shove_channel *channel, struct shove_submit *entry);
/* Lets control reuse the ring entries read so far. Once per portion. */
void shove_channel_release_submits(struct shove_channel *channel);
const uint8_t *shove_channel_bytes(const struct shove_channel *channel, uint64_t arena_offset);
const struct shove_envelope *shove_channel_envelope(const struct shove_channel *channel,
                                                    uint64_t arena_offset);

/* Appends a note made of `part_count` parts; head->size is 0 and is filled in. When the ring is
 * full: publishes, wakes control, and waits (control never waits for a worker, so this ends). Does
 * not publish otherwise. */
struct shove_part {
    const void *data;
    size_t size;
};
void shove_channel_note(struct shove_channel *channel, const struct shove_note *head,
                        const struct shove_part *parts, unsigned part_count);
/* And wakes control if it sleeps. */
void shove_channel_publish_notes(struct shove_channel *channel);

/* When the handler was called, told before set_running. */
void shove_channel_set_begun(struct shove_channel *channel, int64_t mono_ms);
void shove_channel_set_running(struct shove_channel *channel, uint32_t slot, uint32_t generation,
                               int64_t since_mono_ms);
void shove_channel_clear_running(struct shove_channel *channel);

/* Before the worker blocks: true when an entry is already there (do not block). */
bool shove_channel_worker_sleeps(struct shove_channel *channel);
void shove_channel_worker_wakes(struct shove_channel *channel);

#endif
