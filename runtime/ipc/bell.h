/* bell.h: how one side wakes the other out of its poll. Both processes.
 *
 * A pipe, not an eventfd: the two ends of a pipe are two open files, each with flags of its own. An
 * eventfd is one open file for both sides, and a worker whose script clears O_NONBLOCK on it,
 * empties it at the wrong moment or fills it up would make control block in read or write, for
 * ever.
 *
 * Who makes the bell keeps both ends open, so a listener that closes its end, or dies, makes
 * ringing neither an error nor a SIGPIPE, and a ringer that does so is not heard as an endless
 * hang-up.
 */
#ifndef SHOVE_IPC_BELL_H
#define SHOVE_IPC_BELL_H

#include "base/error.h"

struct shove_bell {
    int listen_fd; /* to poll, and to silence */
    int ring_fd;
};

/* Both ends non-blocking, closed on exec. 0 or SHOVE_EIO; then both are -1. */
int shove_bell_init(struct shove_bell *bell, struct shove_error *error);
void shove_bell_release(struct shove_bell *bell);

/* Never blocks and never fails: a pipe that is full wakes as well as one that is not. */
void shove_bell_ring(int ring_fd);

/* Takes a portion of what was rung, without blocking. What is left keeps the descriptor readable,
 * so a side that is rung at without end still comes to its work between two portions. */
void shove_bell_silence(int listen_fd);

#endif
