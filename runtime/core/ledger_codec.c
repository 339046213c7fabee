/* ledger_codec.c: the unfinished offsets of a partition as the text that travels with a commit.
 * Pure; control, cli.
 *
 * Commit metadata is a string of at most 4,096 characters on Kafka, so: base64 over
 *
 *   'S' 'L' version(1)       the magic; in base64 every text begins with "U0wB"
 *   crc32, little endian     over all that follows it
 *   varint                   the frontier it was committed with
 *   token ...                each a varint: gap << 2 | kind
 *     SINGLE                 one open offset
 *     RUN     varint n       n + 2 open offsets in a row
 *     COUNTED a, c           one open offset, with its attempts and crashes
 *     END                    last: the text speaks up to here, exclusive
 *
 * The gap counts the finished offsets since the token before. A scattered open offset costs one
 * byte while gaps are below 32, a burst of any size three or so. The first token has gap 0, because
 * the frontier is open whenever anything is. The frontier is there because a tool may carry a
 * commit's metadata over to another offset, where none of it is true.
 *
 * When it is full the far end is cut: END then stands at the first offset that was not listed, so
 * that every finished offset up to there is still known.
 */
#include "core/ledger_codec.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/encoding.h"

#define RAW_MAX (SHOVE_LEDGER_METADATA_MAX / 4 * 3)
#define VERSION 1
#define MAGIC_SIZE 3
#define CRC_SIZE 4
#define HEAD_SIZE (MAGIC_SIZE + CRC_SIZE)
#define TOKEN_MAX (2 * SHOVE_VARINT_MAX)
#define GAP_MAX (INT64_MAX >> 2)
#define LISTED_MAX ((size_t)1 << 20) /* bounds the memory a text can ask for when it is read */

static const uint8_t magic[MAGIC_SIZE] = {'S', 'L', VERSION};

enum token_kind { TOKEN_SINGLE, TOKEN_RUN, TOKEN_COUNTED, TOKEN_END };

/* --- Writing */

struct cursor { /* over all that is unfinished, ascending: the open list, then the remaining marks
                 */
    const struct shove_ledger_entry *entry;
    const struct shove_ledger_mark *mark;
    const struct shove_ledger_mark *marks_end;
};

static bool peek(const struct cursor *cursor, struct shove_ledger_mark *out) {
    if (cursor->entry != NULL) {
        *out = (struct shove_ledger_mark){cursor->entry->offset, cursor->entry->attempts,
                                          cursor->entry->crashes};
        return true;
    }
    if (cursor->mark == cursor->marks_end)
        return false;
    *out = *cursor->mark;
    return true;
}

static void advance(struct cursor *cursor) {
    if (cursor->entry != NULL)
        cursor->entry = cursor->entry->next;
    else
        cursor->mark++;
}

static bool is_counted(const struct shove_ledger_mark *mark) {
    return mark->attempts != 0 || mark->crashes != 0;
}

/* One token's worth of unfinished offsets: a counted one alone, or a run of uncounted ones.
 * Returns how many. */
static size_t next_run(struct cursor *cursor, struct shove_ledger_mark *first) {
    if (!peek(cursor, first))
        return 0;
    size_t length = 1;
    advance(cursor);
    struct shove_ledger_mark following;
    while (!is_counted(first) && length < LISTED_MAX && peek(cursor, &following) &&
           !is_counted(&following) && following.offset == first->offset + (int64_t)length) {
        advance(cursor);
        length++;
    }
    return length;
}

static size_t put_token(uint8_t *out, int64_t gap, const struct shove_ledger_mark *first,
                        size_t length) {
    enum token_kind kind = is_counted(first) ? TOKEN_COUNTED
                           : length > 1      ? TOKEN_RUN
                                             : TOKEN_SINGLE;
    size_t size = shove_varint_write(out, (uint64_t)gap << 2 | kind);
    if (kind == TOKEN_COUNTED) {
        out[size++] = first->attempts;
        out[size++] = first->crashes;
    } else if (kind == TOKEN_RUN) {
        size += shove_varint_write(out + size, length - 2);
    }
    return size;
}

/* Fills `raw` behind its head with frontier and tokens, and tells through `coverage` what they
 * cover. Returns the whole size, or 0 when not even the first token fits. */
static size_t put_tokens(const struct shove_ledger *ledger, uint8_t *raw, size_t capacity,
                         struct shove_ledger_coverage *coverage) {
    struct cursor cursor = {ledger->first, NULL, NULL};
    if (ledger->mark_next < ledger->mark_count) {
        cursor.mark = ledger->marks + ledger->mark_next;
        cursor.marks_end = ledger->marks + ledger->mark_count;
    }
    int64_t position = coverage->speaks_to; /* the frontier */
    int64_t end = shove_ledger_known_end(ledger);
    int64_t widest = end - position < GAP_MAX ? end - position : GAP_MAX;
    uint8_t token[TOKEN_MAX];
    size_t end_max = shove_varint_write(token, (uint64_t)widest << 2 | TOKEN_END);
    if (capacity < HEAD_SIZE + SHOVE_VARINT_MAX)
        return 0;
    size_t size = HEAD_SIZE + shove_varint_write(raw + HEAD_SIZE, (uint64_t)position);
    struct shove_ledger_mark first;
    size_t length;
    while ((length = next_run(&cursor, &first)) > 0) {
        int64_t gap = first.offset - position;
        size_t token_size = gap <= GAP_MAX ? put_token(token, gap, &first, length) : 0;
        if (token_size == 0 || coverage->listed + length > LISTED_MAX ||
            size + token_size + end_max > capacity) {
            end = first.offset;
            break;
        }
        memcpy(raw + size, token, token_size);
        size += token_size;
        position = first.offset + (int64_t)length;
        coverage->listed += length;
    }
    if (coverage->listed == 0)
        return 0;
    int64_t gap = end - position < GAP_MAX ? end - position : GAP_MAX;
    coverage->speaks_to = position + gap;
    return size + shove_varint_write(raw + size, (uint64_t)gap << 2 | TOKEN_END);
}

static void put_head(uint8_t *raw, size_t size) {
    uint32_t crc = shove_crc32(0, raw + HEAD_SIZE, size - HEAD_SIZE);
    memcpy(raw, magic, MAGIC_SIZE);
    for (size_t i = 0; i < CRC_SIZE; i++)
        raw[MAGIC_SIZE + i] = (uint8_t)(crc >> (8 * i));
}

void shove_ledger_metadata(const struct shove_ledger *ledger, char *out, size_t max_chars,
                           struct shove_ledger_coverage *coverage) {
    uint8_t raw[RAW_MAX];
    size_t capacity = max_chars < SHOVE_LEDGER_METADATA_MAX ? max_chars / 4 * 3 : RAW_MAX;
    size_t unfinished = ledger->open_count + (ledger->mark_count - ledger->mark_next);
    struct shove_ledger_coverage covered = {.speaks_to = shove_ledger_frontier(ledger)};
    size_t size = put_tokens(ledger, raw, capacity, &covered);
    if (size > 0) {
        put_head(raw, size);
        shove_base64_encode(raw, size, out);
    } else {
        out[0] = '\0';
    }
    covered.unlisted = unfinished - covered.listed;
    covered.may_repeat =
        shove_ledger_known_end(ledger) - covered.speaks_to - (int64_t)covered.unlisted;
    if (coverage != NULL)
        *coverage = covered;
}

/* --- Reading */

struct reading {
    int64_t position;
    size_t count;
    struct shove_ledger_mark *marks; /* NULL while only counting */
};

/* `length` open offsets, `gap` after the ones before. */
static int add_marks(struct reading *reading, uint64_t gap, uint64_t length, uint8_t attempts,
                     uint8_t crashes) {
    uint64_t room = (uint64_t)(INT64_MAX - 1 - reading->position);
    if (gap > room || length > LISTED_MAX - reading->count || length > room - gap ||
        (reading->count == 0 && gap != 0))
        return SHOVE_ECORRUPT;
    int64_t offset = reading->position + (int64_t)gap;
    for (uint64_t i = 0; reading->marks != NULL && i < length; i++)
        reading->marks[reading->count + i] =
            (struct shove_ledger_mark){offset + (int64_t)i, attempts, crashes};
    reading->count += length;
    reading->position = offset + (int64_t)length;
    return 0;
}

static int read_token(struct reading *reading, const uint8_t **at, const uint8_t *end,
                      bool *is_end) {
    uint64_t token, more = 0;
    if (shove_varint_read(at, end, &token) < 0)
        return SHOVE_ECORRUPT;
    switch ((enum token_kind)(token & 3)) {
    case TOKEN_SINGLE:
        return add_marks(reading, token >> 2, 1, 0, 0);
    case TOKEN_RUN:
        if (shove_varint_read(at, end, &more) < 0 || more > LISTED_MAX)
            return SHOVE_ECORRUPT;
        return add_marks(reading, token >> 2, more + 2, 0, 0);
    case TOKEN_COUNTED:
        if (end - *at < 2)
            return SHOVE_ECORRUPT;
        *at += 2;
        return add_marks(reading, token >> 2, 1, (*at)[-2], (*at)[-1]);
    case TOKEN_END:
        *is_end = true;
        if (reading->count == 0 || *at != end ||
            token >> 2 > (uint64_t)(INT64_MAX - 1 - reading->position))
            return SHOVE_ECORRUPT;
        reading->position += (int64_t)(token >> 2);
        return 0;
    }
    return SHOVE_ECORRUPT;
}

static int read_tokens(struct reading *reading, const uint8_t *at, const uint8_t *end) {
    bool is_end = false;
    while (!is_end) {
        int rc = read_token(reading, &at, end, &is_end);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Everything before the tokens. *at is left at the first one. */
static int read_head(const uint8_t *raw, size_t size, int64_t frontier, const uint8_t **at,
                     struct shove_error *error) {
    if (size <= HEAD_SIZE || memcmp(raw, magic, MAGIC_SIZE - 1) != 0)
        return shove_error_set(error, SHOVE_ECORRUPT, "the commit's metadata is not shove's");
    if (raw[MAGIC_SIZE - 1] != VERSION)
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the commit's metadata has version %u, this shove reads version %d",
                               raw[MAGIC_SIZE - 1], VERSION);
    uint32_t crc = 0;
    for (size_t i = 0; i < CRC_SIZE; i++)
        crc |= (uint32_t)raw[MAGIC_SIZE + i] << (8 * i);
    if (crc != shove_crc32(0, raw + HEAD_SIZE, size - HEAD_SIZE))
        return shove_error_set(error, SHOVE_ECORRUPT, "the commit's metadata fails its checksum");
    uint64_t committed;
    *at = raw + HEAD_SIZE;
    if (shove_varint_read(at, raw + size, &committed) < 0 || committed > INT64_MAX)
        return shove_error_set(error, SHOVE_ECORRUPT, "the commit's metadata is malformed");
    if ((int64_t)committed != frontier)
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the commit's metadata belongs to offset %" PRIu64
                               ", not to %" PRId64,
                               committed, frontier);
    return 0;
}

int shove_ledger_decode(const char *text, size_t text_size, int64_t frontier,
                        struct shove_ledger_mark **marks, size_t *mark_count, int64_t *speaks_to,
                        struct shove_error *error) {
    uint8_t raw[RAW_MAX];
    if (text_size > SHOVE_LEDGER_METADATA_MAX)
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the commit's metadata is not shove's: it has %zu characters",
                               text_size);
    long size = shove_base64_decode(text, text_size, raw);
    if (size < 0)
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the commit's metadata is not shove's: it is not base64");
    const uint8_t *tokens = raw;
    int rc = read_head(raw, (size_t)size, frontier, &tokens, error);
    if (rc < 0)
        return rc;
    struct reading counted = {.position = frontier};
    if (read_tokens(&counted, tokens, raw + size) < 0)
        return shove_error_set(error, SHOVE_ECORRUPT, "the commit's metadata is malformed");
    struct reading filled = {.position = frontier};
    filled.marks = malloc(counted.count * sizeof *filled.marks);
    if (filled.marks == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for %zu unfinished messages",
                               counted.count);
    (void)read_tokens(&filled, tokens, raw + size); /* passed once, passes again */
    *marks = filled.marks;
    *mark_count = filled.count;
    *speaks_to = filled.position;
    return 0;
}
