/* publish.h: a stream of messages on its way to one topic, and what became of it. Cli; used by
 * publish_command.c.
 *
 * Messages are numbered as the user sees them (arguments from 1, lines from 1, skipped ones
 * included); the number travels with each record through the transport as its opaque, so an answer
 * names its line without any table. Where keys are computed, a message goes when its key has come,
 * in the order of the input, and none waits for input that is not there yet. Whatever stops the
 * input (a line that is no JSON, a message that the broker refuses, Ctrl-C, a silent broker), what
 * was sent before is waited for and reported.
 */
#ifndef SHOVE_CLI_PUBLISH_H
#define SHOVE_CLI_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/uuid.h"
#include "cli/client.h"
#include "cli/keys.h"

#define SHOVE_PUBLISH_FEW 10 /* this many acknowledgements are listed one by one */

struct shove_acknowledgement {
    uint64_t number;
    int32_t partition;
    int64_t offset;
};

struct shove_publishing {
    /* set by the command */
    struct shove_client client;
    const char *topic;
    const char *key;         /* of every message; NULL: none */
    struct shove_keys *keys; /* borrowed: computes a key for each; NULL: it does not */
    const char *word;        /* "line" or "message": what is numbered */
    int32_t partition;       /* -1: by key */
    size_t most_bytes;       /* of one message */
    bool checks_json;
    bool skips_empty;
    bool is_quiet;
    struct shove_uuid_source ids;
    struct shove_buffer headers; /* owned: the user's, then shove's of the message at hand */
    size_t user_headers_size;
    int64_t started_ms; /* monotonic */
    /* what became of it */
    uint64_t sent;
    uint64_t acknowledged;
    uint64_t skipped;
    uint64_t refused;        /* answers that were failures */
    uint64_t refused_number; /* the first of them */
    struct shove_acknowledgement few[SHOVE_PUBLISH_FEW];
    int64_t progress_ms;
    bool has_progress_line;
    struct shove_error stop; /* why it stopped early; code 0: it did not */
};

/* The client's `produced`; ctx is the publishing. */
void shove_publish_produced(void *ctx, const struct shove_produced *result);

/* Sends one message for each of `bodies`, or for each line of standard input, until the end or
 * until something stops it (publishing->stop). */
void shove_publish_arguments(struct shove_publishing *publishing, char **bodies, int count);
void shove_publish_input(struct shove_publishing *publishing);

/* Waits for the answers, prints what was acknowledged and why it stopped; returns the exit code. */
int shove_publish_finish(struct shove_publishing *publishing);

#endif
