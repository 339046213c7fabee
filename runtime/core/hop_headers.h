/* hop_headers.h: the headers shove adds when a record hops to a hold topic, to a DLQ, or back.
 * Pure; control, cli, and the worker's publish.
 *
 * The original headers stay first, byte for byte. shove's own block comes last and begins with
 * Shove-Message-Id: the block of a record starts at its last Shove-Message-Id header, provided
 * every later name begins with "Shove-" too (any other record has no block). A hop writes
 * originals and a fresh block, so blocks never pile up. Publishing refuses user headers that begin
 * with "Shove-". All values are text.
 *
 * What is believed depends on where the record was read: from a hold topic of the same group
 * everything; from a main topic only the message id and the death count (both informational); from
 * a DLQ everything is shown, nothing acted on.
 */
#ifndef SHOVE_CORE_HOP_HEADERS_H
#define SHOVE_CORE_HOP_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/record.h"

#define SHOVE_HEADER_PREFIX "Shove-"
/* Error text kept on a hop, bytes: it never grows from hop to hop. */
#define SHOVE_HEADER_ERROR_MAX 1024
#define SHOVE_MESSAGE_ID_MAX 300

/* X(field, header name); every field of struct shove_hop_info that travels. */
#define SHOVE_HOP_HEADER_TABLE(X)                                                                  \
    X(MESSAGE_ID, "Shove-Message-Id")                                                              \
    X(RETRY_COUNT, "Shove-Retry-Count")                                                            \
    X(CRASH_COUNT, "Shove-Crash-Count")                                                            \
    X(DEATH_REASON, "Shove-Death-Reason")                                                          \
    X(DEATH_COUNT, "Shove-Death-Count")                                                            \
    X(ORIGINAL_QUEUE, "Shove-Original-Queue")                                                      \
    X(ORIGINAL_PARTITION, "Shove-Original-Partition")                                              \
    X(ORIGINAL_OFFSET, "Shove-Original-Offset")                                                    \
    X(ORIGINAL_TIMESTAMP, "Shove-Original-Timestamp")                                              \
    X(GROUP, "Shove-Group")                                                                        \
    X(FIRST_SEEN, "Shove-First-Seen")                                                              \
    X(DUE, "Shove-Due")                                                                            \
    X(DIED, "Shove-Died")                                                                          \
    X(ERROR_TEXT, "Shove-Error")

struct shove_text { /* borrowed bytes, not NUL-terminated; data NULL: absent */
    const char *data;
    size_t size;
};

struct shove_hop_info {
    struct shove_text message_id;
    struct shove_text death_reason;
    struct shove_text original_queue;
    struct shove_text group;
    struct shove_text error;
    uint32_t retry_count;
    uint32_t crash_count;
    uint32_t death_count;
    int32_t original_partition; /* -1: absent, as for the int64 ones below */
    int64_t original_offset;
    int64_t original_timestamp_ms;
    int64_t first_seen_ms;
    int64_t due_ms;
    int64_t died_ms;
};

void shove_hop_info_init(struct shove_hop_info *info); /* everything absent */

/* Splits an encoded block into originals and shove's own part. Returns the size in bytes of the
 * originals (a prefix of the block, to be copied as it is), or SHOVE_ECORRUPT. `info` (may be
 * NULL) borrows from the block; numbers that do not parse are absent. */
long shove_hop_headers_parse(const void *headers, size_t size, struct shove_hop_info *info);

/* Appends shove's block to `out`, which holds the originals already. Absent fields are left out;
 * error text is cut to SHOVE_HEADER_ERROR_MAX at a UTF-8 boundary. message_id must be present. */
void shove_hop_headers_append(struct shove_buffer *out, const struct shove_hop_info *info);

/* "orders/3/1042": the id of a record that carries none. Returns its length; `out` holds
 * SHOVE_MESSAGE_ID_MAX bytes. */
size_t shove_message_id_derive(const char *topic, int32_t partition, int64_t offset, char *out);

#endif
