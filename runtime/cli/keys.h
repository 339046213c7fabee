/* keys.h: the keys of messages that are about to be published, from the key function of their
 * topic. Cli; used by publish.c.
 *
 * The function is user code and runs in a process of its own (control/loader.h), on the client's
 * loop, so that answers of the broker and Ctrl-C are noticed while it is waited for. Bodies are
 * copied into the channel's arena and asked for in portions, while more are added; keys come back
 * one by one, in order. Nobody waits for room: bodies that find none are not taken, and keys are
 * read by who waits for them.
 */
#ifndef SHOVE_CLI_KEYS_H
#define SHOVE_CLI_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/app.h"
#include "cli/client.h"
#include "control/loader.h"

struct shove_keys_options { /* borrowed until shove_keys_close */
    const struct shove_app *app;
    const char *topic;
    const char *broker; /* --broker; NULL: what the script says */
    size_t most_bytes;  /* of a body */
    int64_t load_timeout_ms;
    int64_t timeout_ms; /* of one key */
};

struct shove_keyed { /* a body that was added, and its key */
    uint64_t number;
    const uint8_t *body;
    size_t body_size;
    const uint8_t *key; /* NULL: none; valid until the next call */
    size_t key_size;
};

struct shove_keys {
    struct shove_keys_options options;
    struct shove_client *client;
    struct shove_loader loader;
    struct shove_keys_body *bodies; /* owned; those that are in the arena */
    uint32_t count;
    uint32_t asked;
    uint32_t answered;
    size_t used; /* bytes of the arena */
    size_t capacity;
    bool is_loaded;
};

/* Starts the process; it loads while the first bodies are added. 0, SHOVE_EIO, SHOVE_ENOMEM.
 * shove_keys_close in any case (or of one that is zero), before the client's. */
int shove_keys_open(struct shove_keys *keys, struct shove_client *client,
                    const struct shove_keys_options *options, struct shove_error *error);
void shove_keys_close(struct shove_keys *keys);

/* Copies a body of at most most_bytes. False: there is no room, take those that are there first. */
bool shove_keys_add(struct shove_keys *keys, uint64_t number, const uint8_t *body, size_t size);

/* Waits for the key of the next body. 1; 0: there is no body any more. SHOVE_ECLOSED when
 * interrupted. SHOVE_ECONFIG when there is no key because of the script, SHOVE_EINVAL because of
 * the body: out->number says which, and nothing can be added any more. */
int shove_keys_next(struct shove_keys *keys, struct shove_keyed *out, struct shove_error *error);

#endif
