/* keys.c: the keys of messages that are about to be published. Cli. */
#include "cli/keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define BODIES_MAX 8192u
#define PORTION 128u /* bodies asked for at once */
#define ARENA_BYTES ((size_t)1 << 20)
#define SUBMIT_ENTRIES (2 * BODIES_MAX / PORTION)
#define OUTBOUND_BYTES ((size_t)1 << 20)
#define WHY_BYTES_MAX ((size_t)512) /* of a reason: what follows it must be seen, too */
#define MENDING "correct it in the script, or give --key"

struct shove_keys_body {
    uint64_t number;
    size_t at; /* of its size, in the arena */
};

/* --- Asking */

int shove_keys_open(struct shove_keys *keys, struct shove_client *client,
                    const struct shove_keys_options *options, struct shove_error *error) {
    size_t largest = sizeof(uint32_t) + options->most_bytes;
    *keys = (struct shove_keys){
        .options = *options,
        .client = client,
        .capacity = largest > ARENA_BYTES ? largest : ARENA_BYTES,
        .bodies = malloc(BODIES_MAX * sizeof *keys->bodies),
    };
    if (keys->bodies == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory computing keys");
    const struct shove_spawn_options spawn = {
        .script = options->app->script,
        .lua_dir = options->app->lua_dir,
        .broker = options->broker,
        .memory_limit_bytes = SHOVE_LOADER_MEMORY_BYTES,
        .keys_topic = options->topic,
    };
    const struct shove_channel_options shape = {
        .arena_bytes = keys->capacity,
        .submit_entries = SUBMIT_ENTRIES,
        .outbound_bytes = OUTBOUND_BYTES,
        .note_max_bytes = SHOVE_CHANNEL_NOTE_MAX_BYTES + options->most_bytes,
    };
    return shove_loader_start(&keys->loader, &client->loop, &spawn, &shape, error);
}

void shove_keys_close(struct shove_keys *keys) {
    shove_loader_end(&keys->loader);
    free(keys->bodies);
    keys->bodies = NULL;
}

/* What was added since it was last called. */
static void ask(struct shove_keys *keys) {
    if (keys->asked == keys->count)
        return;
    const struct shove_submit entry = {
        .type = SHOVE_SUBMIT_KEYS,
        .generation = keys->count - keys->asked,
        .arena_offset = keys->bodies[keys->asked].at,
    };
    shove_channel_submit(keys->loader.channel, &entry); /* there is an entry for each portion */
    shove_channel_flush(keys->loader.channel);
    keys->asked = keys->count;
}

bool shove_keys_add(struct shove_keys *keys, uint64_t number, const uint8_t *body, size_t size) {
    uint32_t prefix = (uint32_t)size;
    if (keys->count == BODIES_MAX || keys->capacity - keys->used < sizeof prefix + size)
        return false;
    uint8_t *at = shove_channel_arena(keys->loader.channel) + keys->used;
    memcpy(at, &prefix, sizeof prefix);
    memcpy(at + sizeof prefix, body, size);
    keys->bodies[keys->count++] = (struct shove_keys_body){number, keys->used};
    keys->used += sizeof prefix + size;
    if (keys->count - keys->asked == PORTION)
        ask(keys);
    return true;
}

/* --- Keys */

/* The process ended without a word. */
static int explain_end(const struct shove_keys *keys, struct shove_error *error) {
    const struct shove_keys_options *options = &keys->options;
    if (!keys->is_loaded)
        return shove_loader_explain(&keys->loader, options->app->script, options->load_timeout_ms,
                                    error);
    if (keys->loader.is_late)
        return shove_error_set(error, SHOVE_ECONFIG,
                               "no key for '%s': the topic's key function did not return within "
                               "%g s (" MENDING ")",
                               options->topic, (double)options->timeout_ms / 1000.0);
    char how[64];
    shove_child_describe_end(&keys->loader.child, how, sizeof how);
    return shove_error_set(error, SHOVE_ECONFIG,
                           "no key for '%s': the process that ran the topic's key function ended "
                           "by itself, with %s (" MENDING ")",
                           options->topic, how);
}

static int explain_note(const struct shove_keys *keys, const struct shove_note *note,
                        const uint8_t *why, struct shove_error *error) {
    bool is_body = note->outcome == SHOVE_KEY_UNDECODABLE;
    size_t size = note->size;
    if (size > WHY_BYTES_MAX)
        size = shove_utf8_cut((const char *)why, size, WHY_BYTES_MAX);
    return shove_error_set(
        error, is_body ? SHOVE_EINVAL : SHOVE_ECONFIG, "no key for '%s': %.*s (%s)",
        keys->options.topic, (int)size, (const char *)why,
        is_body ? "send a body that the topic's codec takes, or give --key" : MENDING);
}

/* 1: *out has a key; 0: it was another note; or an error. */
static int read_note(struct shove_keys *keys, const struct shove_note *note, const uint8_t *payload,
                     struct shove_keyed *out, struct shove_error *error) {
    if (note->type == SHOVE_NOTE_LOAD_ERROR)
        return shove_error_set(error, SHOVE_ECONFIG, "%.*s", (int)note->size,
                               (const char *)payload);
    keys->is_loaded |= note->type == SHOVE_NOTE_READY;
    if (note->type != SHOVE_NOTE_KEY)
        return 0;
    if (note->outcome > SHOVE_KEY_NONE)
        return explain_note(keys, note, payload, error);
    bool has_key = note->outcome == SHOVE_KEY_GIVEN;
    out->key = has_key ? payload : NULL;
    out->key_size = has_key ? note->size : 0;
    keys->answered++;
    return 1;
}

/* One round of waiting. What it may take begins anew with each word of the process. */
static int wait_note(struct shove_keys *keys, struct shove_error *error) {
    const struct shove_keys_options *options = &keys->options;
    if (keys->client->is_interrupted)
        return shove_error_set(error, SHOVE_ECLOSED, "interrupted");
    if (!uv_is_active((const uv_handle_t *)&keys->loader.timer))
        shove_loader_limit(&keys->loader,
                           keys->is_loaded ? options->timeout_ms : options->load_timeout_ms);
    shove_loader_turn(&keys->loader);
    return 0;
}

static int explain_break(const struct shove_keys *keys, int code, struct shove_error *error) {
    if (code == SHOVE_ENOMEM)
        return shove_error_set(error, code,
                               "no key for '%s': out of memory for what its process said",
                               keys->options.topic);
    return shove_error_set(error, SHOVE_ECONFIG,
                           "no key for '%s': the process that ran the topic's key function broke "
                           "its channel",
                           keys->options.topic);
}

static int find_key(struct shove_keys *keys, struct shove_keyed *out, struct shove_error *error) {
    struct shove_note note;
    const uint8_t *payload;
    for (;;) {
        bool was_running = keys->loader.is_running;
        int found = shove_loader_next(&keys->loader, &note, &payload);
        if (found < 0)
            return explain_break(keys, found, error);
        if (found == 0 && !was_running)
            return explain_end(keys, error);
        int code = 0;
        if (found == 1) {
            shove_loader_limit(&keys->loader, 0);
            code = read_note(keys, &note, payload, out, error);
        } else {
            code = wait_note(keys, error);
        }
        if (code != 0)
            return code;
    }
}

int shove_keys_next(struct shove_keys *keys, struct shove_keyed *out, struct shove_error *error) {
    if (keys->answered == keys->count) {
        keys->count = keys->asked = keys->answered = 0;
        keys->used = 0;
        return 0;
    }
    ask(keys);
    const struct shove_keys_body *body = &keys->bodies[keys->answered];
    const uint8_t *at = shove_channel_arena(keys->loader.channel) + body->at;
    uint32_t size;
    memcpy(&size, at, sizeof size);
    *out =
        (struct shove_keyed){.number = body->number, .body = at + sizeof size, .body_size = size};
    return find_key(keys, out, error);
}
