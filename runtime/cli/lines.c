/* lines.c: a descriptor cut into lines. Cli. */
#include "cli/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES ((size_t)256 << 10)

int shove_lines_init(struct shove_lines *lines, int fd, size_t most, struct shove_error *error) {
    memset(lines, 0, sizeof *lines);
    lines->fd = fd;
    lines->most = most;
    lines->capacity = BLOCK_BYTES;
    lines->data = malloc(lines->capacity);
    if (lines->data == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory reading lines");
    return 0;
}

void shove_lines_release(struct shove_lines *lines) {
    free(lines->data);
    lines->data = NULL;
}

int shove_lines_next(struct shove_lines *lines, const uint8_t **line, size_t *size) {
    const uint8_t *begin = lines->data + lines->begin;
    const uint8_t *from = lines->data + lines->scanned;
    const uint8_t *found = memchr(from, '\n', lines->end - lines->scanned);
    size_t length = found != NULL ? (size_t)(found - begin) : lines->end - lines->begin;
    if (length > lines->most) {
        lines->number++;
        return SHOVE_ETOOLARGE;
    }
    if (found == NULL) {
        lines->scanned = lines->end;
        if (!lines->is_at_end || length == 0)
            return 0;
    }
    *line = begin;
    *size = length;
    lines->begin += length + (found != NULL ? 1 : 0);
    lines->scanned = lines->begin;
    lines->number++;
    return 1;
}

/* Makes room for one more block behind the unfinished line. */
static int make_room(struct shove_lines *lines, struct shove_error *error) {
    size_t kept = lines->end - lines->begin;
    memmove(lines->data, lines->data + lines->begin, kept);
    lines->scanned -= lines->begin;
    lines->begin = 0;
    lines->end = kept;
    if (lines->capacity - lines->end >= BLOCK_BYTES / 2)
        return 0;
    uint8_t *grown = realloc(lines->data, 2 * lines->capacity);
    if (grown == NULL)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory reading line %llu",
                               (unsigned long long)lines->number + 1);
    lines->data = grown;
    lines->capacity *= 2;
    return 0;
}

int shove_lines_fill(struct shove_lines *lines, struct shove_error *error) {
    int code = make_room(lines, error);
    if (code != 0)
        return code;
    ssize_t count;
    do {
        count = read(lines->fd, lines->data + lines->end, lines->capacity - lines->end);
    } while (count < 0 && errno == EINTR);
    if (count < 0 && errno == EAGAIN)
        return 0; /* somebody made it non-blocking: it is waited for again */
    if (count < 0)
        return shove_error_set(error, SHOVE_EIO, "cannot read standard input: %s", strerror(errno));
    lines->is_at_end = count == 0;
    lines->end += (size_t)count;
    return 0;
}
