/* arena.h: an allocator of blocks inside a shared segment, with all its books kept outside of it.
 *
 * Control only, one per channel. Hands out offsets into a byte range; the range itself is never
 * read or written here, so nothing that happens to the segment can confuse it. Slabs of 64 KiB
 * serve one size class each (four classes per doubling from 64 bytes to 32 KiB); larger blocks take
 * whole runs of slabs, first fit. Allocation and freeing are O(1) for classes, and the lowest, most
 * recently used slabs are preferred so that resident memory follows what is in use.
 */
#ifndef SHOVE_IPC_ARENA_H
#define SHOVE_IPC_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct shove_arena;

#define SHOVE_ARENA_SLAB_BYTES 65536u
#define SHOVE_ARENA_NONE UINT64_MAX

/* `size_bytes` is rounded down to whole slabs (at least 1). gives; NULL when out of memory. */
struct shove_arena *shove_arena_new(size_t size_bytes);
void shove_arena_free(struct shove_arena *arena);

/* Returns the offset of a block of at least `size_bytes`, 64-byte aligned, or SHOVE_ARENA_NONE when
 * there is no room (back-pressure, not an error). */
uint64_t shove_arena_take(struct shove_arena *arena, size_t size_bytes);
void shove_arena_give(struct shove_arena *arena, uint64_t offset);

size_t shove_arena_used_bytes(
    const struct shove_arena *arena); /* of blocks handed out, rounded to their class */
size_t shove_arena_block_count(const struct shove_arena *arena);

#endif
