/* client.h: a broker and a loop for a command that runs once: open, look into a topic, produce with
 * back-pressure, wait for acknowledgements until a deadline, close. Cli; one thread.
 *
 * Every wait ends: with what was waited for, with SIGINT or SIGTERM, or when the broker has
 * acknowledged nothing for timeout_ms.
 */
#ifndef SHOVE_CLI_CLIENT_H
#define SHOVE_CLI_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "cli/app.h"
#include "transport/transport.h"

/* One result; called from within the functions below. */
typedef void shove_client_produced(void *ctx, const struct shove_produced *result);

struct shove_client_options { /* borrowed for the call */
    int64_t timeout_ms;
    int64_t max_message_size_bytes;
    bool must_exist;     /* the storage: it is not made here */
    uint32_t broker;     /* index: which of the app's */
    const char *purpose; /* "publish": for errors */
};

struct shove_client {
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t sigint;
    uv_signal_t sigterm;
    struct shove_transport *transport;
    const struct shove_transport_ops *ops;
    shove_client_produced *produced;
    void *ctx;
    int64_t timeout_ms;
    int64_t progress_mono_ms; /* when something was last acknowledged, or first waited for */
    uint64_t in_flight;
    bool has_loop;
    bool is_interrupted;
    bool is_readable;
};

/* Opens a broker of the app. 0; SHOVE_ECONFIG for a broker that no other process can reach
 * (memory:); what transport->open returns. shove_client_close in any case. `produced` may be NULL.
 */
int shove_client_open(struct shove_client *client, const struct shove_app *app,
                      const struct shove_client_options *options, shove_client_produced *produced,
                      void *ctx, struct shove_error *error);
void shove_client_close(struct shove_client *client);

/* From here on SIGINT and SIGTERM set is_interrupted instead of ending the program; a second one
 * ends it. Called once nothing blocks any more without running the loop. */
void shove_client_catch_signals(struct shove_client *client);

/* Partitions of a topic that is only looked into; 0: it does not exist (yet). 0 or an error. */
int shove_client_count_partitions(const struct shove_client *client, const char *topic,
                                  int32_t *out, struct shove_error *error);

/* The records of a partition from *next on and below `high`, at most `max`: their number, to be
 * given back with ops->batch_release when > 0, and *next is behind them; 0 at the end. Negative: an
 * error. */
long shove_client_read(const struct shove_client *client, const char *topic, int32_t partition,
                       int64_t *next, int64_t high, size_t max, struct shove_batch *batch,
                       struct shove_error *error);

/* Whether to go on after `error` in one partition: 0 when it is that partition's alone (it is
 * damaged), else its code. Keeps the first in `first`, whose code is 0 before. */
int shove_client_keep_first(struct shove_error *first, const struct shove_error *error);

/* Why a record was not acknowledged: the broker's words, if it had any. Borrows the result. */
const char *shove_client_refusal(const struct shove_produced *result);

/* Queues one record, waiting while the queue is full. 0; SHOVE_ECLOSED when interrupted while
 * waiting, SHOVE_ETIMEOUT when the broker stopped acknowledging, what produce returns. */
int shove_client_produce(struct shove_client *client, const struct shove_produce *what,
                         struct shove_error *error);

/* Handles what is there without waiting. */
void shove_client_turn(struct shove_client *client);

/* Waits until at most `most` records are unacknowledged. 0, SHOVE_ETIMEOUT; an interrupt does not
 * end this wait: what was sent deserves its answer, within the timeout. */
int shove_client_settle(struct shove_client *client, uint64_t most, struct shove_error *error);

/* Waits until `fd` can be read (or is at its end). 0, SHOVE_ECLOSED when interrupted, SHOVE_EIO. */
int shove_client_wait_input(struct shove_client *client, int fd, struct shove_error *error);

#endif
