/* embedded_locks.h: PATH-groups, through which processes that share an embedded broker know of each
 * other.
 *
 * Control and cli. Its bytes mean nothing; they are locked and touched (POSIX record locks, which
 * the kernel drops when their process ends, however it ends):
 *
 *   byte 0         touched after every commit, so that whoever watches the file wakes up
 *   byte 1         shared by every process that has the broker open; exclusive while one creates or
 *                  checks the file
 *   2^20 + group   exclusive for the group's only consumer
 *
 * A process loses all its locks on a file when it closes any descriptor of it, so a process has one
 * descriptor, and one transport, per broker.
 */
#ifndef SHOVE_TRANSPORT_EMBEDDED_LOCKS_H
#define SHOVE_TRANSPORT_EMBEDDED_LOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct shove_embedded_locks;

/* Opens PATH-groups, making it when it is not there. EBUSY when this process has it open already;
 * EREADONLY. gives *out. */
int shove_embedded_locks_open(const char *path, struct shove_embedded_locks **out,
                              struct shove_error *error);
void shove_embedded_locks_close(struct shove_embedded_locks *locks);

/* Takes the broker for itself when nobody else has it open: *is_alone true. Else shares it, waiting
 * until timeout_ms for one who is alone with it. */
int shove_embedded_locks_enter(struct shove_embedded_locks *locks, int64_t timeout_ms,
                               bool *is_alone, struct shove_error *error);
/* From alone to shared. */
int shove_embedded_locks_share(struct shove_embedded_locks *locks, struct shove_error *error);

/* EBUSY with the pid of the consumer that has the group. */
int shove_embedded_locks_group(struct shove_embedded_locks *locks, uint32_t group_id,
                               const char *name, struct shove_error *error);
void shove_embedded_locks_ungroup(struct shove_embedded_locks *locks, uint32_t group_id);

/* Wakes the other processes, if there are any. Any thread. */
void shove_embedded_locks_poke(struct shove_embedded_locks *locks);

/* The file's name, and whether that name still means the file that is open. */
const char *shove_embedded_locks_path(const struct shove_embedded_locks *locks);
bool shove_embedded_locks_are_there(const struct shove_embedded_locks *locks);

#endif
