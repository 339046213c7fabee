/* channel.c: making, mapping and closing the two segments. Both processes.
 *
 * Control creates both segments. `inbound` is sealed against every writable mapping but the one
 * control already has; both are sealed against changes of size, because a segment that shrinks
 * under a reader kills the reader with SIGBUS. The worker believes what `inbound` says of sizes
 * (control wrote it, nobody else can); control believes nothing in `outbound`.
 */
#include "ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel_layout.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* Of address space, unreadable: a multiple of every page size Linux has. */
#define GUARD_BYTES ((size_t)64 * 1024)

_Static_assert(sizeof(struct shove_note) == CHANNEL_RECORD_ALIGN,
               "a note's header is one record unit");
_Static_assert(sizeof(struct channel_inbound) <= CHANNEL_HEADER_BYTES, "inbound header fits");
_Static_assert(sizeof(struct channel_outbound) <= CHANNEL_HEADER_BYTES, "outbound header fits");

static bool is_power_of_two(uint64_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

static struct shove_channel *allocate(bool is_control) {
    struct shove_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) {
        return NULL;
    }
    channel->is_control = is_control;
    channel->inbound = MAP_FAILED;
    channel->outbound = MAP_FAILED;
    channel->inbound_fd = -1;
    channel->outbound_fd = -1;
    channel->worker_bell.listen_fd = channel->worker_bell.ring_fd = -1;
    channel->control_wake_fd = -1;
    shove_buffer_init(&channel->joined);
    return channel;
}

static void set_pointers(struct shove_channel *channel, uint32_t submit_entries, size_t arena_at,
                         size_t ring_bytes) {
    channel->submits = (struct shove_submit *)((uint8_t *)channel->inbound + CHANNEL_HEADER_BYTES);
    channel->arena = (uint8_t *)channel->inbound + arena_at;
    channel->notes = (uint8_t *)channel->outbound + CHANNEL_HEADER_BYTES;
    channel->submit_mask = submit_entries - 1;
    channel->note_mask = ring_bytes - 1;
}

static int make_segment(const char *name, size_t size, int *fd, struct shove_error *error) {
    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0) {
        return shove_error_set(error, SHOVE_EIO, "no shared memory for a worker: memfd_create: %s",
                               strerror(errno));
    }
    if (ftruncate(*fd, (off_t)size) != 0) {
        return shove_error_set(error, SHOVE_ENOMEM,
                               "no shared memory of %zu bytes for a worker: ftruncate: %s", size,
                               strerror(errno));
    }
    return 0;
}

/* Between two guards: a handler that writes past the end of its heap dies there, before it has
 * overwritten which message it was given. */
static int map_segment(int fd, size_t size, int protection, void **out, struct shove_error *error) {
    const size_t reserved_bytes = size + 2 * GUARD_BYTES;
    uint8_t *reserved = mmap(NULL, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *at = MAP_FAILED;
    if (reserved != MAP_FAILED)
        at = mmap(reserved + GUARD_BYTES, size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (at == MAP_FAILED) {
        int status =
            shove_error_set(error, SHOVE_ENOMEM, "cannot map %zu bytes of shared memory: %s", size,
                            strerror(errno));
        if (reserved != MAP_FAILED)
            munmap(reserved, reserved_bytes);
        return status;
    }
    *out = at;
    return 0;
}

static void unmap_segment(void *at, size_t size) {
    if (at != MAP_FAILED)
        munmap((uint8_t *)at - GUARD_BYTES, size + 2 * GUARD_BYTES);
}

static int seal_segment(int fd, int seals, struct shove_error *error) {
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | seals) != 0) {
        return shove_error_set(error, SHOVE_EUNSUPPORTED,
                               "cannot seal shared memory (Linux 5.1 or newer is needed): %s",
                               strerror(errno));
    }
    return 0;
}

static int check_options(const struct shove_channel_options *options, struct shove_error *error) {
    if (!is_power_of_two(options->submit_entries) || options->submit_entries > 1u << 24) {
        return shove_error_set(error, SHOVE_EINVAL,
                               "submit_entries is %u: a power of two up to 2^24",
                               options->submit_entries);
    }
    if (!is_power_of_two(options->outbound_bytes) || options->outbound_bytes < 4096) {
        return shove_error_set(error, SHOVE_EINVAL,
                               "outbound_bytes is %zu: a power of two, at least 4096",
                               options->outbound_bytes);
    }
    return 0;
}

static int open_control(const struct shove_channel_options *options, struct shove_channel *channel,
                        struct shove_error *error) {
    size_t arena_at = channel_round_up(CHANNEL_HEADER_BYTES +
                                           options->submit_entries * sizeof(struct shove_submit),
                                       CHANNEL_HEADER_BYTES);
    channel->arena_bytes = channel_round_up(options->arena_bytes, CHANNEL_HEADER_BYTES);
    channel->inbound_bytes = arena_at + channel->arena_bytes;
    channel->outbound_bytes = CHANNEL_HEADER_BYTES + options->outbound_bytes;

    int status = make_segment("shove inbound", channel->inbound_bytes, &channel->inbound_fd, error);
    if (status == 0) {
        status =
            make_segment("shove outbound", channel->outbound_bytes, &channel->outbound_fd, error);
    }
    void *inbound = MAP_FAILED;
    void *outbound = MAP_FAILED;
    if (status == 0) {
        status = map_segment(channel->inbound_fd, channel->inbound_bytes, PROT_READ | PROT_WRITE,
                             &inbound, error);
        channel->inbound = inbound;
    }
    if (status == 0) {
        status =
            map_segment(channel->outbound_fd, channel->outbound_bytes, PROT_READ, &outbound, error);
        channel->outbound = outbound;
    }
    if (status == 0) {
        status = seal_segment(channel->inbound_fd, F_SEAL_FUTURE_WRITE, error);
    }
    if (status == 0) {
        status = seal_segment(channel->outbound_fd, 0, error);
    }
    if (status != 0) {
        return status;
    }
    status = shove_bell_init(&channel->worker_bell, error);
    if (status != 0) {
        return status;
    }
    set_pointers(channel, options->submit_entries, arena_at, options->outbound_bytes);
    channel->inbound->version = CHANNEL_VERSION;
    channel->inbound->submit_entries = options->submit_entries;
    channel->inbound->arena_at = arena_at;
    channel->inbound->arena_bytes = channel->arena_bytes;
    channel->inbound->outbound_bytes = options->outbound_bytes;
    channel->inbound->magic = CHANNEL_MAGIC;
    return 0;
}

int shove_channel_new(const struct shove_channel_options *options, struct shove_channel **out,
                      struct shove_error *error) {
    int status = check_options(options, error);
    if (status != 0) {
        return status;
    }
    struct shove_channel *channel = allocate(true);
    if (channel == NULL) {
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for a worker's channel");
    }
    channel->control_wake_fd = options->control_wake_fd;
    channel->note_max_bytes =
        options->note_max_bytes != 0 ? options->note_max_bytes : SHOVE_CHANNEL_NOTE_MAX_BYTES;
    status = open_control(options, channel, error);
    if (status != 0) {
        shove_channel_free(channel);
        return status;
    }
    *out = channel;
    return 0;
}

static void close_descriptor(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

/* The worker's descriptors were inherited and stay its process's. */
void shove_channel_free(struct shove_channel *channel) {
    if (channel == NULL) {
        return;
    }
    unmap_segment(channel->inbound, channel->inbound_bytes);
    unmap_segment(channel->outbound, channel->outbound_bytes);
    if (channel->is_control) {
        close_descriptor(channel->inbound_fd);
        close_descriptor(channel->outbound_fd);
        shove_bell_release(&channel->worker_bell);
    }
    shove_buffer_release(&channel->joined);
    free(channel);
}

void shove_channel_fds(const struct shove_channel *channel, int fds[SHOVE_CHANNEL_FD_COUNT]) {
    fds[0] = channel->inbound_fd;
    fds[1] = channel->outbound_fd;
    fds[2] = channel->worker_bell.listen_fd;
    fds[3] = channel->control_wake_fd;
}

static int segment_size(int fd, const char *name, size_t *out, struct shove_error *error) {
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return shove_error_set(error, SHOVE_EUSAGE,
                               "descriptor %d is not the %s segment (%s): a worker is started by "
                               "'shove run', not by hand",
                               fd, name, strerror(errno));
    }
    if (status.st_size < (off_t)CHANNEL_HEADER_BYTES) {
        return shove_error_set(error, SHOVE_EUSAGE, "descriptor %d is not the %s segment", fd,
                               name);
    }
    *out = (size_t)status.st_size;
    return 0;
}

static bool is_inbound_ours(const struct shove_channel *channel) {
    const struct channel_inbound *inbound = channel->inbound;
    return inbound->magic == CHANNEL_MAGIC && inbound->version == CHANNEL_VERSION &&
           is_power_of_two(inbound->submit_entries) && is_power_of_two(inbound->outbound_bytes) &&
           inbound->arena_at + inbound->arena_bytes == channel->inbound_bytes &&
           CHANNEL_HEADER_BYTES + inbound->outbound_bytes == channel->outbound_bytes;
}

static int open_worker(struct shove_channel *channel, struct shove_error *error) {
    int status = segment_size(channel->inbound_fd, "inbound", &channel->inbound_bytes, error);
    if (status == 0) {
        status = segment_size(channel->outbound_fd, "outbound", &channel->outbound_bytes, error);
    }
    void *at = MAP_FAILED;
    if (status == 0) {
        status = map_segment(channel->inbound_fd, channel->inbound_bytes, PROT_READ, &at, error);
    }
    if (status != 0) {
        return status;
    }
    channel->inbound = at;
    if (!is_inbound_ours(channel)) {
        return shove_error_set(error, SHOVE_ECORRUPT,
                               "the channel was made by another version of shove; restart it");
    }
    status = map_segment(channel->outbound_fd, channel->outbound_bytes, PROT_READ | PROT_WRITE, &at,
                         error);
    if (status != 0) {
        return status;
    }
    channel->outbound = at;
    channel->arena_bytes = channel->inbound->arena_bytes;
    set_pointers(channel, channel->inbound->submit_entries, channel->inbound->arena_at,
                 channel->inbound->outbound_bytes);
    shove_channel_clear_running(channel);
    return 0;
}

int shove_channel_attach(const int fds[SHOVE_CHANNEL_FD_COUNT], struct shove_channel **out,
                         struct shove_error *error) {
    struct shove_channel *channel = allocate(false);
    if (channel == NULL) {
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory for the channel to control");
    }
    channel->inbound_fd = fds[0];
    channel->outbound_fd = fds[1];
    channel->worker_bell.listen_fd = fds[2];
    channel->control_wake_fd = fds[3];
    int status = open_worker(channel, error);
    if (status != 0) {
        shove_channel_free(channel);
        return status;
    }
    for (int i = 0; i < SHOVE_CHANNEL_FD_COUNT; i++) {
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    }
    /* A script that forks gets a child in which all of the worker goes on. Without the segments it
     * ends at its first step into the runtime, instead of being a second writer of the ring. */
    madvise(channel->inbound, channel->inbound_bytes, MADV_DONTFORK);
    madvise(channel->outbound, channel->outbound_bytes, MADV_DONTFORK);
    *out = channel;
    return 0;
}
