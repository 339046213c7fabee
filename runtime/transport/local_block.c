/* local_block.c: see local_block.h. Control; knows bytes, neither topics nor files. */
#include "transport/local_block.h"

#include <stdlib.h>
#include <string.h>

#include "base/encoding.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blocks are stored as they lie in memory: little endian machines only"
#endif

#define NULL_SIZE UINT32_MAX
#define SMALLEST_CHUNK_BYTES 512

struct record_head {
    uint32_t key_size;
    uint32_t payload_size;
    uint32_t headers_size;
    int64_t timestamp_ms;
} __attribute__((packed));

struct shove_chunk *shove_chunk_new(size_t capacity) {
    struct shove_chunk *chunk = malloc(sizeof(*chunk) + capacity);
    if (!chunk)
        return NULL;
    chunk->references = 1;
    chunk->size = 0;
    chunk->capacity = capacity;
    return chunk;
}

struct shove_chunk *shove_chunk_share(struct shove_chunk *chunk) {
    chunk->references++;
    return chunk;
}

void shove_chunk_drop(struct shove_chunk *chunk) {
    if (chunk && --chunk->references == 0)
        free(chunk);
}

int shove_chunk_reserve(struct shove_chunk **chunk, size_t size) {
    struct shove_chunk *old = *chunk;
    if (size <= old->capacity - old->size)
        return 0;
    size_t capacity = old->capacity < SMALLEST_CHUNK_BYTES ? SMALLEST_CHUNK_BYTES : old->capacity;
    while (capacity - old->size < size)
        capacity *= 2;
    struct shove_chunk *grown = realloc(old, sizeof(*grown) + capacity);
    if (!grown)
        return SHOVE_ENOMEM;
    grown->capacity = capacity;
    *chunk = grown;
    return 0;
}

size_t shove_block_record_size(const struct shove_record *record) {
    return sizeof(struct record_head) + record->key_size + record->payload_size +
           record->headers_size;
}

static uint8_t *put_bytes(uint8_t *at, const void *data, size_t size) {
    if (size > 0)
        memcpy(at, data, size);
    return at + size;
}

int shove_block_append(struct shove_chunk **chunk, const struct shove_record *record,
                       int64_t now_ms) {
    struct shove_block_header header = {0};
    size_t size = shove_block_record_size(record);
    bool is_first = (*chunk)->size == 0;
    int rc = shove_chunk_reserve(chunk, size + (is_first ? sizeof(header) : 0));
    if (rc < 0)
        return rc;
    struct shove_chunk *block = *chunk;
    if (is_first)
        block->size = sizeof(header);
    else
        memcpy(&header, block->data, sizeof(header));
    int64_t timestamp_ms = record->timestamp_ms < 0 ? now_ms : record->timestamp_ms;
    if (is_first || timestamp_ms > header.newest_ms)
        header.newest_ms = timestamp_ms;
    header.count++;
    memcpy(block->data, &header, sizeof(header));

    struct record_head head = {
        .key_size = record->key ? (uint32_t)record->key_size : NULL_SIZE,
        .payload_size = record->payload ? (uint32_t)record->payload_size : NULL_SIZE,
        .headers_size = record->headers_size > 0 ? (uint32_t)record->headers_size : NULL_SIZE,
        .timestamp_ms = timestamp_ms,
    };
    uint8_t *at = put_bytes(block->data + block->size, &head, sizeof(head));
    at = put_bytes(at, record->key, record->key ? record->key_size : 0);
    at = put_bytes(at, record->payload, record->payload ? record->payload_size : 0);
    at = put_bytes(at, record->headers, record->headers_size);
    block->size = (size_t)(at - block->data);
    return 0;
}

static uint32_t checksum(const uint8_t *block, size_t size) {
    const size_t skip = sizeof(((struct shove_block_header *)0)->crc);
    return shove_crc32(0, block + skip, size - skip);
}

void shove_block_seal(struct shove_chunk *chunk, int64_t base_offset, bool has_crc) {
    struct shove_block_header header;
    memcpy(&header, chunk->data, sizeof(header));
    header.size_bytes = (uint32_t)chunk->size;
    header.base_offset = base_offset;
    memcpy(chunk->data, &header, sizeof(header));
    if (has_crc) {
        header.crc = checksum(chunk->data, chunk->size);
        memcpy(chunk->data, &header, sizeof(header));
    }
}

int shove_block_header_read(const void *data, size_t size, struct shove_block_header *out) {
    if (size < sizeof(*out))
        return SHOVE_ECORRUPT;
    memcpy(out, data, sizeof(*out));
    size_t least = sizeof(*out) + (size_t)out->count * sizeof(struct record_head);
    if (out->count == 0 || out->reserved != 0 || out->base_offset < 0 || out->size_bytes < least)
        return SHOVE_ECORRUPT;
    return 0;
}

void shove_block_reader_init(struct shove_block_reader *reader, const void *data, size_t size,
                             bool has_crc) {
    *reader = (struct shove_block_reader){
        .at = data, .end = (const uint8_t *)data + size, .has_crc = has_crc};
}

static int enter_block(struct shove_block_reader *reader) {
    struct shove_block_header header;
    size_t size = (size_t)(reader->end - reader->at);
    if (shove_block_header_read(reader->at, size, &header) < 0 || header.size_bytes > size)
        return SHOVE_ECORRUPT;
    reader->next_offset = header.base_offset;
    if (reader->has_crc && checksum(reader->at, header.size_bytes) != header.crc)
        return SHOVE_ECORRUPT;
    reader->left = header.count;
    reader->block_end = reader->at + header.size_bytes;
    reader->at += sizeof(header);
    return 0;
}

/* The field at `at`, whose stored size may mean null; *at moves past it. */
static const void *get_bytes(const uint8_t **at, uint32_t stored_size, size_t *size) {
    const uint8_t *data = *at;
    *size = 0;
    if (stored_size == NULL_SIZE)
        return NULL;
    *size = stored_size;
    *at += stored_size;
    return data;
}

int shove_block_next(struct shove_block_reader *reader, struct shove_record *out) {
    if (reader->left == 0) {
        if (reader->at == reader->end)
            return 0;
        int rc = enter_block(reader);
        if (rc < 0)
            return rc;
    }
    struct record_head head;
    if ((size_t)(reader->block_end - reader->at) < sizeof(head))
        return SHOVE_ECORRUPT;
    memcpy(&head, reader->at, sizeof(head));
    const uint8_t *at = reader->at + sizeof(head);
    uint64_t body = (uint64_t)(head.key_size == NULL_SIZE ? 0 : head.key_size) +
                    (head.payload_size == NULL_SIZE ? 0 : head.payload_size) +
                    (head.headers_size == NULL_SIZE ? 0 : head.headers_size);
    if (body > (uint64_t)(reader->block_end - at))
        return SHOVE_ECORRUPT;
    out->key = get_bytes(&at, head.key_size, &out->key_size);
    out->payload = get_bytes(&at, head.payload_size, &out->payload_size);
    out->headers = get_bytes(&at, head.headers_size, &out->headers_size);
    out->timestamp_ms = head.timestamp_ms;
    out->offset = reader->next_offset++;
    reader->at = at;
    if (--reader->left == 0 && reader->at != reader->block_end)
        return SHOVE_ECORRUPT;
    return 1;
}
