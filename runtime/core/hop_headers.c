/* hop_headers.c: shove's own headers behind the original ones. Pure; control, cli, the worker's
 * publish.
 *
 * The originals are never decoded and encoded again: they are a prefix of the block, copied as
 * bytes, so binary values, duplicates, order and null values survive by construction. A hop
 * replaces the block behind them, so headers do not pile up from hop to hop, and every text in it
 * has a bound, so the whole block has one (about 3 KiB).
 *
 * Counts that are 0 and absent fields are left out. What is read may have been written by any
 * producer: numbers are decimal digits that fit, or absent; a message id that is empty or longer
 * than shove would make it is absent.
 */
#include "core/hop_headers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define PREFIX_SIZE (sizeof SHOVE_HEADER_PREFIX - 1)

enum field {
#define FIELD_ENUM(field, name) FIELD_##field,
    SHOVE_HOP_HEADER_TABLE(FIELD_ENUM)
#undef FIELD_ENUM
        FIELD_COUNT
};

static const char *const field_names[FIELD_COUNT] = {
#define FIELD_NAME(field, name) name,
    SHOVE_HOP_HEADER_TABLE(FIELD_NAME)
#undef FIELD_NAME
};

enum kind { KIND_TEXT, KIND_COUNT, KIND_PARTITION, KIND_NUMBER };

#define MEMBER(member) offsetof(struct shove_hop_info, member)
static const struct {
    enum kind kind;
    size_t offset;
} members[FIELD_COUNT] = {
    [FIELD_MESSAGE_ID] = {KIND_TEXT, MEMBER(message_id)},
    [FIELD_RETRY_COUNT] = {KIND_COUNT, MEMBER(retry_count)},
    [FIELD_CRASH_COUNT] = {KIND_COUNT, MEMBER(crash_count)},
    [FIELD_DEATH_REASON] = {KIND_TEXT, MEMBER(death_reason)},
    [FIELD_DEATH_COUNT] = {KIND_COUNT, MEMBER(death_count)},
    [FIELD_ORIGINAL_QUEUE] = {KIND_TEXT, MEMBER(original_queue)},
    [FIELD_ORIGINAL_PARTITION] = {KIND_PARTITION, MEMBER(original_partition)},
    [FIELD_ORIGINAL_OFFSET] = {KIND_NUMBER, MEMBER(original_offset)},
    [FIELD_ORIGINAL_TIMESTAMP] = {KIND_NUMBER, MEMBER(original_timestamp_ms)},
    [FIELD_GROUP] = {KIND_TEXT, MEMBER(group)},
    [FIELD_FIRST_SEEN] = {KIND_NUMBER, MEMBER(first_seen_ms)},
    [FIELD_DUE] = {KIND_NUMBER, MEMBER(due_ms)},
    [FIELD_DIED] = {KIND_NUMBER, MEMBER(died_ms)},
    [FIELD_ERROR_TEXT] = {KIND_TEXT, MEMBER(error)},
};
#undef MEMBER

void shove_hop_info_init(struct shove_hop_info *info) {
    *info = (struct shove_hop_info){.original_partition = -1,
                                    .original_offset = -1,
                                    .original_timestamp_ms = -1,
                                    .first_seen_ms = -1,
                                    .due_ms = -1,
                                    .died_ms = -1};
}

/* --- Reading */

static bool is_named(const struct shove_header *header, const char *name) {
    return header->name_size == strlen(name) && memcmp(header->name, name, header->name_size) == 0;
}

static bool is_own(const struct shove_header *header) {
    return header->name_size >= PREFIX_SIZE &&
           memcmp(header->name, SHOVE_HEADER_PREFIX, PREFIX_SIZE) == 0;
}

/* Decimal digits up to `max`, nothing else. */
static bool read_number(const struct shove_header *header, uint64_t max, uint64_t *out) {
    const char *digits = header->value;
    uint64_t number = 0;
    if (digits == NULL || header->value_size == 0)
        return false;
    for (uint32_t i = 0; i < header->value_size; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(digits[i] - '0');
        if (number > (max - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *out = number;
    return true;
}

static void read_field(const struct shove_header *header, enum field field,
                       struct shove_hop_info *info) {
    void *member = (char *)info + members[field].offset;
    uint64_t number;
    switch (members[field].kind) {
    case KIND_TEXT:
        if (header->value == NULL)
            return;
        if (field == FIELD_MESSAGE_ID &&
            (header->value_size == 0 || header->value_size >= SHOVE_MESSAGE_ID_MAX))
            return;
        *(struct shove_text *)member = (struct shove_text){header->value, header->value_size};
        return;
    case KIND_COUNT:
        if (read_number(header, UINT32_MAX, &number))
            *(uint32_t *)member = (uint32_t)number;
        return;
    case KIND_PARTITION:
        if (read_number(header, INT32_MAX, &number))
            *(int32_t *)member = (int32_t)number;
        return;
    case KIND_NUMBER:
        if (read_number(header, INT64_MAX, &number))
            *(int64_t *)member = (int64_t)number;
        return;
    }
}

/* `at` begins shove's own part, which was walked before. */
static void read_block(const uint8_t *at, const uint8_t *end, struct shove_hop_info *info) {
    struct shove_header header;
    while (shove_headers_next(&at, end, &header) == 1) {
        for (int field = 0; field < FIELD_COUNT; field++) {
            if (is_named(&header, field_names[field])) {
                read_field(&header, (enum field)field, info);
                break;
            }
        }
    }
}

long shove_hop_headers_parse(const void *headers, size_t size, struct shove_hop_info *info) {
    if (info != NULL)
        shove_hop_info_init(info);
    if (size == 0)
        return 0;
    const uint8_t *start = headers;
    const uint8_t *end = start + size;
    const uint8_t *at = start;
    const uint8_t *block = NULL;
    struct shove_header header;
    for (;;) {
        const uint8_t *here = at;
        int rc = shove_headers_next(&at, end, &header);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        if (!is_own(&header))
            block = NULL;
        else if (is_named(&header, field_names[FIELD_MESSAGE_ID]))
            block = here;
    }
    if (block == NULL)
        return (long)size;
    if (info != NULL)
        read_block(block, end, info);
    return (long)(block - start);
}

/* --- Writing */

static void append_text(struct shove_buffer *out, enum field field, struct shove_text text) {
    if (text.data == NULL)
        return;
    size_t max = field == FIELD_ERROR_TEXT ? SHOVE_HEADER_ERROR_MAX : SHOVE_MESSAGE_ID_MAX - 1;
    size_t size = shove_utf8_cut(text.data, text.size, max);
    shove_headers_append(out, field_names[field], strlen(field_names[field]), text.data, size);
}

static void append_number(struct shove_buffer *out, enum field field, int64_t number) {
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%" PRId64, number);
    shove_headers_append(out, field_names[field], strlen(field_names[field]), digits, (size_t)size);
}

static void append_field(struct shove_buffer *out, enum field field,
                         const struct shove_hop_info *info) {
    const void *member = (const char *)info + members[field].offset;
    int64_t number = -1;
    switch (members[field].kind) {
    case KIND_TEXT:
        append_text(out, field, *(const struct shove_text *)member);
        return;
    case KIND_COUNT:
        number = *(const uint32_t *)member;
        if (number == 0)
            return;
        break;
    case KIND_PARTITION:
        number = *(const int32_t *)member;
        break;
    case KIND_NUMBER:
        number = *(const int64_t *)member;
        break;
    }
    if (number >= 0)
        append_number(out, field, number);
}

void shove_hop_headers_append(struct shove_buffer *out, const struct shove_hop_info *info) {
    if (info->message_id.data == NULL || info->message_id.size == 0) {
        out->is_failed =
            true; /* a block without its first header could not be told from the originals */
        return;
    }
    for (int field = 0; field < FIELD_COUNT; field++)
        append_field(out, (enum field)field, info);
}

size_t shove_message_id_derive(const char *topic, int32_t partition, int64_t offset, char *out) {
    int size =
        snprintf(out, SHOVE_MESSAGE_ID_MAX, "%s/%" PRId32 "/%" PRId64, topic, partition, offset);
    return size < SHOVE_MESSAGE_ID_MAX ? (size_t)size : SHOVE_MESSAGE_ID_MAX - 1;
}
