/* local_block.h: records packed into blocks, the unit in which the embedded and memory transports
 * store a partition.
 *
 * Control. Chunks are counted without atomics: they belong to the loop's thread; while a write
 * runs, the writer has its set's chunks to itself.
 *
 * A block holds consecutive offsets of one partition: a header, then its records. It is what is
 * appended, read, checked (one CRC) and deleted as a whole, so storage costs are per block, not per
 * record. A chunk is a counted piece of memory that holds whole blocks one after another; batches
 * and claims share chunks and records point into them.
 *
 * Layout, little endian, unaligned: header as struct shove_block_header, then per record u32 key
 * size, u32 payload size, u32 headers size (UINT32_MAX: null), i64 timestamp, key, payload, header
 * block.
 */
#ifndef SHOVE_TRANSPORT_LOCAL_BLOCK_H
#define SHOVE_TRANSPORT_LOCAL_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/record.h"

/* A block takes records until the next would make it larger than this; a larger record has one to
 * itself. Eight overflow pages of LMDB's usual size, exactly. */
#define SHOVE_BLOCK_TARGET_BYTES (8 * 4080)

struct shove_block_header {
    uint32_t crc;        /* of everything after this field */
    uint32_t size_bytes; /* this header included */
    uint32_t count;
    uint32_t reserved; /* 0 */
    int64_t base_offset;
    int64_t newest_ms; /* the newest timestamp inside, for retention */
};

struct shove_chunk {
    uint32_t references;
    size_t size;
    size_t capacity;
    uint8_t data[];
};

/* gives a chunk with one reference and room for `capacity` bytes; NULL when out of memory. */
struct shove_chunk *shove_chunk_new(size_t capacity);
struct shove_chunk *shove_chunk_share(struct shove_chunk *chunk);
void shove_chunk_drop(struct shove_chunk *chunk); /* NULL is fine */

/* Makes room for `size` more bytes; *chunk may move, so it must have one reference. 0 or ENOMEM. */
int shove_chunk_reserve(struct shove_chunk **chunk, size_t size);

/* Bytes a record takes inside a block. */
size_t shove_block_record_size(const struct shove_record *record);

/* Appends a record to the one block in *chunk, which is begun when the chunk is empty. A timestamp
 * of -1 becomes now_ms. The chunk may move. 0 or ENOMEM. */
int shove_block_append(struct shove_chunk **chunk, const struct shove_record *record,
                       int64_t now_ms);

/* Gives the block its place in the partition, and its checksum when it will leave this process's
 * memory. */
void shove_block_seal(struct shove_chunk *chunk, int64_t base_offset, bool has_crc);

/* Copies the header out of the first bytes of a block (they may be unaligned); `size` is what is
 * there of the block. 0 or ECORRUPT when no block can look like this. */
int shove_block_header_read(const void *data, size_t size, struct shove_block_header *out);

/* Walks the records of all blocks of a chunk, or of any bytes laid out alike. */
struct shove_block_reader {
    const uint8_t *at; /* next record, or next block when left is 0 */
    const uint8_t *block_end;
    const uint8_t *end;
    int64_t next_offset;
    uint32_t left; /* records left in the block at hand */
    bool has_crc;  /* checksums are there, and are checked when a block is entered */
};

void shove_block_reader_init(struct shove_block_reader *reader, const void *data, size_t size,
                             bool has_crc);

/* Fills `out` (borrows the chunk). 1, 0 at the end, or ECORRUPT; reader->next_offset then says
 * where. */
int shove_block_next(struct shove_block_reader *reader, struct shove_record *out);

#endif
