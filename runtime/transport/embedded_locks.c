/* embedded_locks.c: see embedded_locks.h. Control and cli; poke on any thread, the rest on the
 * loop's. */
#include "transport/embedded_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define TOUCHED_BYTE 0
#define OPEN_BYTE 1
#define GROUP_BYTES (1 << 20)
#define RETRY_MS 2

struct shove_embedded_locks {
    struct shove_embedded_locks *next; /* all of this process */
    int fd;
    dev_t device;
    ino_t inode;
    char path[];
};

static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct shove_embedded_locks *all;

static bool is_open_here(const struct stat *info) {
    bool is_here = false;
    pthread_mutex_lock(&all_mutex);
    for (const struct shove_embedded_locks *at = all; at && !is_here; at = at->next)
        is_here = at->device == info->st_dev && at->inode == info->st_ino;
    pthread_mutex_unlock(&all_mutex);
    return is_here;
}

static int say_open_failed(const char *path, int code, struct shove_error *error) {
    if (code == EACCES || code == EPERM || code == EROFS)
        return shove_error_set(
            error, SHOVE_EREADONLY,
            "cannot write %s: %s; the embedded broker needs to write there: give this user the "
            "right to, or choose another place",
            path, strerror(code));
    if (code == ENOENT || code == ENOTDIR)
        return shove_error_set(error, SHOVE_EUNREACHABLE,
                               "cannot create %s: the folder does not exist: create it first",
                               path);
    if (code == ENOSPC || code == EDQUOT)
        return shove_error_set(error, SHOVE_ENOSPACE, "cannot create %s: %s", path, strerror(code));
    return shove_error_set(error, SHOVE_EIO, "cannot open %s: %s", path, strerror(code));
}

/* So that touching it later never needs space. */
static int touch_first(int fd, const struct stat *info) {
    if (info->st_size > 0)
        return 0;
    return pwrite(fd, "", 1, TOUCHED_BYTE) == 1 ? 0 : -1;
}

int shove_embedded_locks_open(const char *path, struct shove_embedded_locks **out,
                              struct shove_error *error) {
    struct stat info;
    struct shove_embedded_locks *locks = malloc(sizeof(*locks) + strlen(path) + sizeof("-groups"));
    if (!locks)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    sprintf(locks->path, "%s-groups", path);
    /* Before a second descriptor exists: closing it would drop the locks held through the first. */
    if (stat(locks->path, &info) == 0 && is_open_here(&info)) {
        free(locks);
        return shove_error_set(error, SHOVE_EBUSY,
                               "%s is already open in this process: use one broker for it", path);
    }
    locks->fd = open(locks->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (locks->fd < 0 || fstat(locks->fd, &info) < 0 || touch_first(locks->fd, &info) < 0) {
        int rc = say_open_failed(locks->path, errno, error);
        if (locks->fd >= 0)
            close(locks->fd);
        free(locks);
        return rc;
    }
    locks->device = info.st_dev;
    locks->inode = info.st_ino;
    pthread_mutex_lock(&all_mutex);
    locks->next = all;
    all = locks;
    pthread_mutex_unlock(&all_mutex);
    *out = locks;
    return 0;
}

void shove_embedded_locks_close(struct shove_embedded_locks *locks) {
    pthread_mutex_lock(&all_mutex);
    struct shove_embedded_locks **link = &all;
    while (*link != locks)
        link = &(*link)->next;
    *link = locks->next;
    pthread_mutex_unlock(&all_mutex);
    close(locks->fd);
    free(locks);
}

/* 0, or -1 with errno: EAGAIN or EACCES when another process has it. */
static int lock(const struct shove_embedded_locks *locks, int command, short type, off_t byte,
                struct flock *out) {
    *out = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int rc;
    do
        rc = fcntl(locks->fd, command, out);
    while (rc < 0 && errno == EINTR);
    return rc;
}

static bool is_held_elsewhere(int code) {
    return code == EAGAIN || code == EACCES;
}

static int say_lock_failed(const struct shove_embedded_locks *locks, struct shove_error *error) {
    return shove_error_set(error, SHOVE_EIO,
                           "cannot lock %s: %s; the embedded broker needs a file system with locks",
                           locks->path, strerror(errno));
}

int shove_embedded_locks_enter(struct shove_embedded_locks *locks, int64_t timeout_ms,
                               bool *is_alone, struct shove_error *error) {
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    int64_t deadline_ms = shove_clock_mono_ms() + timeout_ms;
    struct flock state;
    for (;;) {
        *is_alone = true;
        if (lock(locks, F_SETLK, F_WRLCK, OPEN_BYTE, &state) == 0)
            return 0;
        if (!is_held_elsewhere(errno))
            return say_lock_failed(locks, error);
        *is_alone = false;
        if (lock(locks, F_SETLK, F_RDLCK, OPEN_BYTE, &state) == 0)
            return 0;
        if (!is_held_elsewhere(errno))
            return say_lock_failed(locks, error);
        if (shove_clock_mono_ms() >= deadline_ms)
            return shove_error_set(
                error, SHOVE_ETIMEOUT,
                "another process is still checking or creating the broker's file (%s is locked)",
                locks->path);
        nanosleep(&pause, NULL); /* record locks have no wait with a limit */
    }
}

int shove_embedded_locks_share(struct shove_embedded_locks *locks, struct shove_error *error) {
    struct flock state;
    if (lock(locks, F_SETLK, F_RDLCK, OPEN_BYTE, &state) < 0)
        return say_lock_failed(locks, error);
    return 0;
}

int shove_embedded_locks_group(struct shove_embedded_locks *locks, uint32_t group_id,
                               const char *name, struct shove_error *error) {
    struct flock state;
    off_t byte = (off_t)GROUP_BYTES + group_id;
    for (;;) {
        if (lock(locks, F_SETLK, F_WRLCK, byte, &state) == 0)
            return 0;
        if (!is_held_elsewhere(errno) || lock(locks, F_GETLK, F_WRLCK, byte, &state) < 0)
            return say_lock_failed(locks, error);
        if (state.l_type != F_UNLCK)
            return shove_error_set(error, SHOVE_EBUSY,
                                   "group '%s' is being consumed by another process, pid %d: an "
                                   "embedded broker has one consumer per "
                                   "group; stop that process, or use another group",
                                   name, (int)state.l_pid);
    }
}

void shove_embedded_locks_ungroup(struct shove_embedded_locks *locks, uint32_t group_id) {
    struct flock state;
    lock(locks, F_SETLK, F_UNLCK, (off_t)GROUP_BYTES + group_id, &state);
}

/* Who comes after the question reads after our commit, so it need not be woken. */
void shove_embedded_locks_poke(struct shove_embedded_locks *locks) {
    struct flock state;
    if (lock(locks, F_GETLK, F_WRLCK, OPEN_BYTE, &state) == 0 && state.l_type == F_UNLCK)
        return;
    ssize_t written = pwrite(locks->fd, "", 1, TOUCHED_BYTE);
    (void)written; /* if it fails, the other's tick finds the records */
}

const char *shove_embedded_locks_path(const struct shove_embedded_locks *locks) {
    return locks->path;
}

bool shove_embedded_locks_are_there(const struct shove_embedded_locks *locks) {
    struct stat info;
    return stat(locks->path, &info) == 0 && info.st_dev == locks->device &&
           info.st_ino == locks->inode;
}
