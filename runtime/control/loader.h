/* loader.h: a process that loads the script for somebody who runs no user code: its start, what it
 * says, its end. Control and cli, on the loop's thread.
 *
 * It is a worker process (spawn.h) with a channel of its own. The caller turns the loop, one round
 * at a time, while no note is there, so the loop may have other things to do as well.
 */
#ifndef SHOVE_CONTROL_LOADER_H
#define SHOVE_CONTROL_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "control/spawn.h"
#include "ipc/bell.h"
#include "ipc/channel.h"

/* Of a process that only loads a script, for a moment. */
#define SHOVE_LOADER_MEMORY_BYTES (INT64_C(2) << 30)

struct shove_loader { /* where it is it stays: the loop knows it */
    uv_loop_t *loop;  /* borrowed */
    struct shove_channel *channel;
    struct shove_child child;
    struct shove_bell bell;
    uv_poll_t wake;
    uv_timer_t timer;
    unsigned open_handles;
    bool is_running; /* the process */
    bool is_late;    /* it was killed because its time was over */
};

/* Starts it: `spawn` without a channel, `shape` without a bell. 0, SHOVE_EIO, SHOVE_ENOMEM.
 * shove_loader_end in any case. */
int shove_loader_start(struct shove_loader *loader, uv_loop_t *loop,
                       const struct shove_spawn_options *spawn,
                       const struct shove_channel_options *shape, struct shove_error *error);

/* The next note, as shove_channel_next_note: 1; 0: none, and none will follow once is_running is
 * false; SHOVE_ECORRUPT, SHOVE_ENOMEM. Does not wait. What a dead process had said is there. */
int shove_loader_next(struct shove_loader *loader, struct shove_note *note,
                      const uint8_t **payload);

/* One round of the loop. It waits until something happens, unless a note is there already. */
void shove_loader_turn(struct shove_loader *loader);

/* From now on it has that long, then it is killed and is_late; 0: as long as it likes. */
void shove_loader_limit(struct shove_loader *loader, int64_t timeout_ms);

/* It ended without a word while it loaded `script`, for which it had timeout_ms: SHOVE_ECONFIG. */
int shove_loader_explain(const struct shove_loader *loader, const char *script, int64_t timeout_ms,
                         struct shove_error *error);

/* Has it stop, or kills it when it does not soon: what the script printed may still be in its
 * buffers. It is gone when this returns. */
void shove_loader_end(struct shove_loader *loader);

#endif
