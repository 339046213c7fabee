/* lines.h: a descriptor read in big blocks and cut into lines, without a copy or an allocation per
 * line. Cli. The caller waits for the descriptor; see client.h.
 */
#ifndef SHOVE_CLI_LINES_H
#define SHOVE_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct shove_lines {
    int fd;
    size_t most;   /* bytes of the longest line */
    uint8_t *data; /* owned */
    size_t capacity;
    size_t begin;   /* of the next line */
    size_t scanned; /* no line end before it */
    size_t end;
    uint64_t number; /* of the last line given, from 1 */
    bool is_at_end;  /* the descriptor has no more */
};

/* SHOVE_ENOMEM. */
int shove_lines_init(struct shove_lines *lines, int fd, size_t most, struct shove_error *error);
void shove_lines_release(struct shove_lines *lines);

/* 1: the next line, without its end, valid until the next fill; 0: fill first, or with is_at_end
 * all was given; SHOVE_ETOOLARGE: it is longer than `most` (lines->number is that line's). A last
 * line without an end counts. */
int shove_lines_next(struct shove_lines *lines, const uint8_t **line, size_t *size);

/* Reads one block, waiting if nothing is there. 0, SHOVE_EIO, SHOVE_ENOMEM. */
int shove_lines_fill(struct shove_lines *lines, struct shove_error *error);

#endif
