/* bell.c: see bell.h. Both processes. */
#include "ipc/bell.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PORTION_BYTES 4096

int shove_bell_init(struct shove_bell *bell, struct shove_error *error) {
    int fds[2];
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0) {
        *bell = (struct shove_bell){.listen_fd = -1, .ring_fd = -1};
        return shove_error_set(
            error, SHOVE_EIO,
            "cannot make a pipe (%s): is the limit on open files (ulimit -n) too "
            "low?",
            strerror(errno));
    }
    *bell = (struct shove_bell){.listen_fd = fds[0], .ring_fd = fds[1]};
    return 0;
}

void shove_bell_release(struct shove_bell *bell) {
    if (bell->listen_fd >= 0) {
        close(bell->listen_fd);
        close(bell->ring_fd);
    }
    *bell = (struct shove_bell){.listen_fd = -1, .ring_fd = -1};
}

void shove_bell_ring(int ring_fd) {
    ssize_t written;
    do {
        written = write(ring_fd, "", 1);
    } while (written < 0 && errno == EINTR);
}

void shove_bell_silence(int listen_fd) {
    char portion[PORTION_BYTES];
    ssize_t taken;
    do {
        taken = read(listen_fd, portion, sizeof portion);
    } while (taken < 0 && errno == EINTR);
}
