/* ledger_codec.c: the unfinished offsets of a partition as the text that travels with a commit.
 * Pure; control, cli.
 *
 * Commit metadata is a string of at most 4,096 characters on Kafka, so: base64 over
 *
 *   'S' 'L' version(2)       the magic; in base64 every text begins with "U0wC"
 *   crc32, little endian     over all that follows it
 *   varint                   the frontier it was committed with
 *   token ...                each a varint: gap << 2 | kind
 *     SINGLE                 one open offset
 *     RUN     varint n       n + 2 open offsets in a row
 *     NOTED   byte ...       one offset of which there is more to say
 *     END     byte           last: the text speaks up to here, exclusive; 1: the text is keyed, and
 *                            what follows under the keys of all that is listed is open
 *
 * What there is to say, in the byte: bits 0 to 2 attempts, 3 to 4 crashes, of an open one; 5: they
 * are in two bytes of their own instead, which follow; 6: a varint follows, the wall second it is
 * due (of the first such one; of others the zigzag difference to the one before); 7: it is settled,
 * and something open follows under its key.
 *
 * The gap counts the offsets since the token before: finished, or implied by their keys. A
 * scattered open offset costs one byte while gaps are below 32, a burst of any size three or so.
 * The first token of a text that is not keyed has gap 0, because the frontier is open whenever
 * anything is. The frontier is there because a tool may carry a commit's metadata over to another
 * offset, where none of it is true.
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
#include "core/ledger_keys.h"

#define VERSION 2
#define MAGIC_SIZE 3
#define CRC_SIZE 4
#define HEAD_SIZE (MAGIC_SIZE + CRC_SIZE)
#define TOKEN_MAX (2 * SHOVE_VARINT_MAX + 3)
#define KIND_BITS 2
#define GAP_MAX (INT64_MAX >> KIND_BITS)
#define LISTED_MAX ((size_t)1 << 20) /* bounds the memory a text can ask for when it is read */
#define SECONDS_MAX (INT64_MAX / 1000 / 4)

static const uint8_t magic[MAGIC_SIZE] = {'S', 'L', VERSION};

enum token_kind { TOKEN_SINGLE, TOKEN_RUN, TOKEN_NOTED, TOKEN_END };

#define NOTE_ATTEMPTS 7U
#define NOTE_CRASHES_SHIFT 3U
#define NOTE_CRASHES 3U
#define NOTE_HAS_COUNTS 0x20U
#define NOTE_HAS_DUE 0x40U
#define NOTE_IS_SETTLED 0x80U

/* --- Writing */

/* Over all that is listed, ascending: the open entries that are not implied, among them what was
 * settled last of restored keys, then the remaining marks. */
struct cursor {
    const struct shove_ledger_entry *entry;
    const int64_t *settled;
    const int64_t *settled_end;
    const struct shove_ledger_mark *mark;
    const struct shove_ledger_mark *marks_end;
    bool is_keyed; /* something was implied */
};

/* Of which there is more to say than its key does. One that waits may have run: when what is before
 * it is only taken for open (a hash shared by two keys). */
static bool is_noted(const struct shove_ledger_entry *entry) {
    return entry->attempts != 0 || entry->crashes != 0 || entry->due_ms != 0;
}

static void skip_implied(struct cursor *cursor) {
    while (cursor->entry != NULL && cursor->entry->is_implied && !is_noted(cursor->entry)) {
        cursor->is_keyed = true;
        cursor->entry = cursor->entry->next;
    }
}

static bool is_settled_next(const struct cursor *cursor) {
    return cursor->settled != cursor->settled_end &&
           (cursor->entry == NULL || *cursor->settled < cursor->entry->offset);
}

static bool peek(const struct cursor *cursor, struct shove_ledger_mark *out) {
    if (is_settled_next(cursor)) {
        *out = (struct shove_ledger_mark){.offset = *cursor->settled, .is_settled = true};
        return true;
    }
    if (cursor->entry != NULL) {
        *out = (struct shove_ledger_mark){.offset = cursor->entry->offset,
                                          .due_ms = cursor->entry->due_ms,
                                          .attempts = cursor->entry->attempts,
                                          .crashes = cursor->entry->crashes};
        return true;
    }
    if (cursor->mark == cursor->marks_end)
        return false;
    *out = *cursor->mark;
    return true;
}

static void advance(struct cursor *cursor) {
    if (is_settled_next(cursor)) {
        cursor->settled++;
    } else if (cursor->entry != NULL) {
        cursor->entry = cursor->entry->next;
        skip_implied(cursor);
    } else {
        cursor->mark++;
    }
}

static bool is_plain(const struct shove_ledger_mark *mark) {
    return mark->attempts == 0 && mark->crashes == 0 && mark->due_ms == 0 && !mark->is_settled;
}

/* One token's worth of offsets: a run of those of which there is nothing more to say, or one of the
 * others alone. Returns how many. */
static size_t next_run(struct cursor *cursor, struct shove_ledger_mark *first) {
    if (!peek(cursor, first))
        return 0;
    size_t length = 1;
    advance(cursor);
    struct shove_ledger_mark following;
    while (is_plain(first) && length < LISTED_MAX && peek(cursor, &following) &&
           is_plain(&following) && following.offset == first->offset + (int64_t)length) {
        advance(cursor);
        length++;
    }
    return length;
}

static uint64_t zigzag(int64_t value) {
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

struct writing {
    uint8_t *raw;
    size_t size;
    size_t capacity; /* END always has room behind it */
    int64_t position;
    int64_t due_s; /* of the last WAITING; 0: there was none */
};

static size_t put_note(uint8_t *out, struct writing *writing,
                       const struct shove_ledger_mark *mark) {
    const bool is_small = mark->attempts <= NOTE_ATTEMPTS && mark->crashes <= NOTE_CRASHES;
    size_t size = 1;
    out[0] = is_small ? (uint8_t)(mark->attempts | mark->crashes << NOTE_CRASHES_SHIFT)
                      : NOTE_HAS_COUNTS;
    if (mark->is_settled)
        out[0] |= NOTE_IS_SETTLED;
    if (!is_small) {
        out[size++] = mark->attempts;
        out[size++] = mark->crashes;
    }
    if (mark->due_ms != 0) {
        const int64_t due_s = mark->due_ms / 1000 + (mark->due_ms % 1000 != 0);
        out[0] |= NOTE_HAS_DUE;
        size += shove_varint_write(
            out + size, writing->due_s == 0 ? (uint64_t)due_s : zigzag(due_s - writing->due_s));
        writing->due_s = due_s;
    }
    return size;
}

/* False: it does not fit, and nothing was written. */
static bool put_token(struct writing *writing, const struct shove_ledger_mark *first,
                      size_t length) {
    const int64_t gap = first->offset - writing->position;
    const enum token_kind kind = length > 1        ? TOKEN_RUN
                                 : is_plain(first) ? TOKEN_SINGLE
                                                   : TOKEN_NOTED;
    uint8_t token[TOKEN_MAX];
    if (gap > GAP_MAX)
        return false;
    size_t size = shove_varint_write(token, (uint64_t)gap << KIND_BITS | kind);
    if (kind == TOKEN_RUN)
        size += shove_varint_write(token + size, length - 2);
    else if (kind == TOKEN_NOTED)
        size += put_note(token + size, writing, first);
    if (writing->size + size > writing->capacity)
        return false; /* it ends here, whatever it noted last */
    memcpy(writing->raw + writing->size, token, size);
    writing->size += size;
    writing->position = first->offset + (int64_t)length;
    return true;
}

/* Room for one is always left. */
static size_t put_end(uint8_t *out, int64_t gap, bool is_keyed) {
    const size_t size = shove_varint_write(out, (uint64_t)gap << KIND_BITS | TOKEN_END);
    out[size] = is_keyed;
    return size + 1;
}

/* Fills `raw` behind its head with frontier and tokens. Returns the whole size, or 0 when nothing
 * is listed or not even the first token fits. *speaks_to: the frontier before, and after what the
 * text says. */
static size_t put_tokens(struct cursor *cursor, int64_t known_end, uint8_t *raw, size_t capacity,
                         int64_t *speaks_to) {
    const int64_t frontier = *speaks_to;
    const int64_t widest = known_end - frontier < GAP_MAX ? known_end - frontier : GAP_MAX;
    uint8_t ending[SHOVE_VARINT_MAX + 1];
    const size_t ending_max = put_end(ending, widest, true);
    if (capacity < HEAD_SIZE + SHOVE_VARINT_MAX + ending_max)
        return 0;
    struct writing writing = {.raw = raw, .capacity = capacity - ending_max, .position = frontier};
    writing.size = HEAD_SIZE + shove_varint_write(raw + HEAD_SIZE, (uint64_t)frontier);
    const size_t empty_size = writing.size;
    size_t listed = 0;
    int64_t end = known_end;
    struct shove_ledger_mark first;
    size_t length;
    while ((length = next_run(cursor, &first)) > 0) {
        if (listed + length > LISTED_MAX || !put_token(&writing, &first, length)) {
            end = first.offset;
            break;
        }
        listed += length;
    }
    if (writing.size == empty_size)
        return 0;
    const int64_t gap = end - writing.position < GAP_MAX ? end - writing.position : GAP_MAX;
    *speaks_to = writing.position + gap;
    return writing.size + put_end(raw + writing.size, gap, cursor->is_keyed);
}

static void put_head(uint8_t *raw, size_t size) {
    uint32_t crc = shove_crc32(0, raw + HEAD_SIZE, size - HEAD_SIZE);
    memcpy(raw, magic, MAGIC_SIZE);
    for (size_t i = 0; i < CRC_SIZE; i++)
        raw[MAGIC_SIZE + i] = (uint8_t)(crc >> (8 * i));
}

/* Open at or past `offset`. */
static size_t count_entries_from(const struct shove_ledger *ledger, int64_t offset) {
    size_t count = 0;
    for (const struct shove_ledger_entry *e = ledger->last; e && e->offset >= offset;
         e = e->previous)
        count++;
    return count;
}

static size_t count_marks_from(const struct shove_ledger *ledger, int64_t offset) {
    const struct shove_ledger_mark *marks = ledger->marks + ledger->mark_next;
    size_t count = 0;
    for (size_t i = 0; i < shove_ledger_marks_left(ledger); i++)
        count += marks[i].offset >= offset && !marks[i].is_settled;
    return count;
}

size_t shove_ledger_metadata_room(const struct shove_ledger *ledger, size_t max_chars) {
    size_t count = ledger->open_count + shove_ledger_marks_left(ledger);
    if (ledger->keys != NULL)
        count += shove_ledger_keys_settled_count(ledger->keys);
    const size_t raw_max = HEAD_SIZE + 2 * SHOVE_VARINT_MAX + count * TOKEN_MAX;
    return raw_max < max_chars / 4 * 3 ? (raw_max + 2) / 3 * 4 : max_chars;
}

/* The bytes are put together at the start of `out`, moved to its end, and encoded towards it: what
 * is written never gets past what is still to be read, because there is room for the whole text. */
static void encode(uint8_t *raw, size_t size, char *out, size_t chars) {
    uint8_t *source = raw + chars - size;
    memmove(source, raw, size);
    shove_base64_encode(source, size, out);
}

void shove_ledger_metadata(const struct shove_ledger *ledger, char *out, size_t max_chars,
                           struct shove_ledger_coverage *coverage) {
    int64_t *settled = NULL;
    size_t settled_count = 0;
    const size_t chars = max_chars / 4 * 4;
    const int64_t end = shove_ledger_known_end(ledger);
    struct shove_ledger_coverage covered = {.speaks_to = shove_ledger_frontier(ledger)};
    size_t size = 0;
    if (ledger->keys == NULL ||
        shove_ledger_keys_settled(ledger->keys, &settled, &settled_count) == 0) {
        struct cursor cursor = {.entry = ledger->first, .is_keyed = ledger->keys != NULL};
        if (settled_count > 0) {
            cursor.settled = settled;
            cursor.settled_end = settled + settled_count;
        }
        if (shove_ledger_marks_left(ledger) > 0) {
            cursor.mark = ledger->marks + ledger->mark_next;
            cursor.marks_end = ledger->marks + ledger->mark_count;
        }
        skip_implied(&cursor);
        size = put_tokens(&cursor, end, (uint8_t *)out, chars / 4 * 3, &covered.speaks_to);
    }
    free(settled);
    if (size > 0) {
        put_head((uint8_t *)out, size);
        encode((uint8_t *)out, size, out, chars);
    } else {
        out[0] = '\0';
    }
    if (coverage == NULL)
        return;
    if (covered.speaks_to < end)
        covered.unlisted = count_entries_from(ledger, covered.speaks_to) +
                           count_marks_from(ledger, covered.speaks_to);
    covered.listed = ledger->open_count + count_marks_from(ledger, INT64_MIN) - covered.unlisted;
    covered.may_repeat = end - covered.speaks_to - (int64_t)covered.unlisted;
    *coverage = covered;
}

/* --- Reading */

struct reading {
    int64_t frontier;
    int64_t position;
    int64_t due_s; /* of the last WAITING; 0: there was none */
    int64_t first; /* offset listed first; -1: none yet */
    size_t count;
    struct shove_ledger_mark *marks; /* NULL while only counting */
    bool is_keyed;
};

/* `length` offsets like `mark`, `gap` after the ones before. */
static int add_marks(struct reading *reading, uint64_t gap, uint64_t length,
                     struct shove_ledger_mark mark) {
    uint64_t room = (uint64_t)(INT64_MAX - 1 - reading->position);
    if (gap > room || length > LISTED_MAX - reading->count || length > room - gap)
        return SHOVE_ECORRUPT;
    int64_t offset = reading->position + (int64_t)gap;
    if (reading->first < 0)
        reading->first = offset;
    for (uint64_t i = 0; reading->marks != NULL && i < length; i++) {
        mark.offset = offset + (int64_t)i;
        reading->marks[reading->count + i] = mark;
    }
    reading->count += length;
    reading->position = offset + (int64_t)length;
    return 0;
}

static int read_due(struct reading *reading, const uint8_t **at, const uint8_t *end) {
    uint64_t value;
    if (shove_varint_read(at, end, &value) < 0 || value >= (uint64_t)SECONDS_MAX)
        return SHOVE_ECORRUPT;
    if (reading->due_s == 0)
        reading->due_s = (int64_t)value;
    else
        reading->due_s += (value & 1) != 0 ? -(int64_t)(value >> 1) - 1 : (int64_t)(value >> 1);
    return reading->due_s > 0 && reading->due_s < SECONDS_MAX ? 0 : SHOVE_ECORRUPT;
}

static int read_end(struct reading *reading, uint64_t gap, bool is_keyed) {
    if (reading->count == 0 || gap > (uint64_t)(INT64_MAX - 1 - reading->position) ||
        (!is_keyed && reading->first != reading->frontier))
        return SHOVE_ECORRUPT;
    reading->position += (int64_t)gap;
    reading->is_keyed = is_keyed;
    return 0;
}

static int read_note(struct reading *reading, const uint8_t **at, const uint8_t *end,
                     struct shove_ledger_mark *mark) {
    if (*at == end)
        return SHOVE_ECORRUPT;
    const unsigned note = *(*at)++;
    mark->is_settled = (note & NOTE_IS_SETTLED) != 0;
    mark->attempts = (uint8_t)(note & NOTE_ATTEMPTS);
    mark->crashes = (uint8_t)(note >> NOTE_CRASHES_SHIFT & NOTE_CRASHES);
    if ((note & NOTE_HAS_COUNTS) != 0) {
        if (end - *at < 2)
            return SHOVE_ECORRUPT;
        mark->attempts = (*at)[0];
        mark->crashes = (*at)[1];
        *at += 2;
    }
    if ((note & NOTE_HAS_DUE) == 0)
        return 0;
    if (read_due(reading, at, end) < 0)
        return SHOVE_ECORRUPT;
    mark->due_ms = reading->due_s * 1000;
    return 0;
}

/* 1: that was the last. */
static int read_token(struct reading *reading, const uint8_t **at, const uint8_t *end) {
    uint64_t token, more = 0;
    struct shove_ledger_mark mark = {0};
    if (shove_varint_read(at, end, &token) < 0)
        return SHOVE_ECORRUPT;
    const uint64_t gap = token >> KIND_BITS;
    switch ((enum token_kind)(token & ((1U << KIND_BITS) - 1))) {
    case TOKEN_SINGLE:
        return add_marks(reading, gap, 1, mark);
    case TOKEN_RUN:
        if (shove_varint_read(at, end, &more) < 0 || more > LISTED_MAX)
            return SHOVE_ECORRUPT;
        return add_marks(reading, gap, more + 2, mark);
    case TOKEN_NOTED:
        if (read_note(reading, at, end, &mark) < 0)
            return SHOVE_ECORRUPT;
        return add_marks(reading, gap, 1, mark);
    case TOKEN_END:
        return *at + 1 == end && **at <= 1 && read_end(reading, gap, **at == 1) == 0
                   ? 1
                   : SHOVE_ECORRUPT;
    }
    return SHOVE_ECORRUPT;
}

static int read_tokens(struct reading *reading, const uint8_t *at, const uint8_t *end) {
    int rc = 0;
    while (rc == 0)
        rc = read_token(reading, &at, end);
    return rc < 0 ? rc : 0;
}

/* Everything before the tokens. *at is left at the first one. */
static int read_head(const uint8_t *raw, size_t size, int64_t frontier, const uint8_t **at,
                     struct shove_error *error) {
    if (size <= HEAD_SIZE || memcmp(raw, magic, MAGIC_SIZE - 1) != 0)
        return shove_error_set(error, SHOVE_ECORRUPT, "the commit's metadata is not shove's");
    if (raw[MAGIC_SIZE - 1] != VERSION)
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the commit's metadata was written by another version of shove (it "
                               "has format %u, this one reads %d)",
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

static int decode_raw(const uint8_t *raw, size_t size, int64_t frontier,
                      struct shove_ledger_text *out, struct shove_error *error) {
    const uint8_t *tokens = raw;
    int rc = read_head(raw, size, frontier, &tokens, error);
    if (rc < 0)
        return rc;
    struct reading counted = {.frontier = frontier, .position = frontier, .first = -1};
    if (read_tokens(&counted, tokens, raw + size) < 0)
        return shove_error_set(error, SHOVE_ECORRUPT, "the commit's metadata is malformed");
    struct reading filled = {.frontier = frontier, .position = frontier, .first = -1};
    filled.marks = malloc(counted.count * sizeof *filled.marks);
    if (filled.marks == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for %zu unfinished messages",
                               counted.count);
    (void)read_tokens(&filled, tokens, raw + size); /* passed once, passes again */
    *out = (struct shove_ledger_text){.marks = filled.marks,
                                      .mark_count = filled.count,
                                      .speaks_to = filled.position,
                                      .is_keyed = filled.is_keyed};
    return 0;
}

int shove_ledger_decode(const char *text, size_t text_size, int64_t frontier,
                        struct shove_ledger_text *out, struct shove_error *error) {
    if (text_size > SHOVE_LEDGER_METADATA_MOST)
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the commit's metadata is not shove's: it has %zu characters",
                               text_size);
    uint8_t *raw = malloc(text_size / 4 * 3 + 3);
    if (raw == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for a commit's metadata");
    const long size = shove_base64_decode(text, text_size, raw);
    int rc = size < 0 ? shove_error_set(error, SHOVE_ECORRUPT,
                                        "the commit's metadata is not shove's: it is not base64")
                      : decode_raw(raw, (size_t)size, frontier, out, error);
    free(raw);
    return rc;
}
