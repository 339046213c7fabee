/* poison_record.c: see poison_record.h. Pure. */
#include "control/poison_record.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/buffer.h"
#include "base/record.h"

void shove_poison_record_write(const struct shove_poison_record *record,
                               struct shove_buffer *payload) {
    shove_buffer_printf(payload,
                        "{\"offset\":%" PRId64 ",\"reason\":\"%s\",\"poisoned_at\":%" PRId64 "}",
                        record->offset, shove_reason_name(record->reason), record->poisoned_ms);
}

static enum shove_reason reason_of(const char *name) {
    for (int reason = SHOVE_REASON_NONE; name && reason < SHOVE_REASON_COUNT_; reason++) {
        if (strcmp(name, shove_reason_name((enum shove_reason)reason)) == 0)
            return (enum shove_reason)reason;
    }
    return SHOVE_REASON_NONE;
}

enum shove_poison_word shove_poison_record_read(const struct shove_record *record,
                                                struct shove_poison_record *out) {
    if (!record->key) /* messages without a key are never poisoned by another one */
        return SHOVE_POISON_STRANGE;
    if (!record->payload)
        return SHOVE_POISON_CLEARED;
    json_error_t error;
    json_t *object = json_loadb(record->payload, record->payload_size, 0, &error);
    const json_t *offset = json_object_get(object, "offset");
    const json_t *poisoned = json_object_get(object, "poisoned_at");
    if (!json_is_integer(offset) || json_integer_value(offset) < 0) {
        json_decref(object);
        return SHOVE_POISON_STRANGE;
    }
    out->offset = json_integer_value(offset);
    out->reason = reason_of(json_string_value(json_object_get(object, "reason")));
    out->poisoned_ms = json_is_integer(poisoned) ? json_integer_value(poisoned) : -1;
    json_decref(object);
    return SHOVE_POISON_SET;
}
