/* dead_letter.c: see dead_letter.h. Control only, loop's thread. */
#include "control/dead_letter.h"

#include <jansson.h>

/* Text that is not UTF-8 (a stranger may write to a DLQ) is left out rather than altered. */
static void set_text(json_t *object, const char *name, struct shove_text text) {
    if (text.data)
        json_object_set_new(object, name, json_stringn(text.data, text.size));
}

static void set_number(json_t *object, const char *name, int64_t value) {
    if (value >= 0)
        json_object_set_new(object, name, json_integer(value));
}

static int append(const char *text, size_t size, void *ctx) {
    shove_buffer_append(ctx, text, size);
    return 0;
}

struct shove_buffer *shove_dead_letter_describe(struct shove_control *control,
                                                const struct shove_incoming *incoming) {
    const struct shove_hop_info *info = &incoming->info;
    json_t *object = json_object();
    set_text(object, "reason", info->death_reason);
    set_text(object, "original_queue", info->original_queue);
    set_text(object, "group", info->group);
    set_text(object, "error", info->error);
    set_number(object, "death_count", info->death_count);
    set_number(object, "original_partition", info->original_partition);
    set_number(object, "original_offset", info->original_offset);
    set_number(object, "died_at", info->died_ms);
    shove_buffer_clear(&control->scratch);
    json_dump_callback(object, append, &control->scratch, JSON_COMPACT);
    json_decref(object);
    return &control->scratch;
}
