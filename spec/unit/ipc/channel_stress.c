/* channel_stress: control and a worker as two threads on one channel.
 *
 *     channel_stress MESSAGES SEED
 *
 * Control submits MESSAGES numbered entries through a small ring, the worker answers each with a
 * note whose payload (0 to 3,000 bytes, now and then larger than the ring) follows from the number,
 * both block on their bells whenever there is nothing to do. Control checks order, sizes and
 * every byte. Prints one line and exits 0, or says what differed and exits 1. A lost wake-up is
 * noticed by a poll that times out.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/bell.h"
#include "ipc/channel.h"

#define OUTBOUND_BYTES 8192
#define PAYLOAD_MAX_BYTES 40000
#define POLL_TIMEOUT_MS 20000

static uint64_t seed;
static uint8_t pattern[PAYLOAD_MAX_BYTES + 256];

static uint64_t mix(uint64_t value) {
    value += seed * UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

static size_t payload_size(uint64_t number) {
    uint64_t random = mix(number);
    if (random % 1000 == 0) {
        return PAYLOAD_MAX_BYTES - random % 77;
    }
    return random % 3 == 0 ? random / 8 % 3000 : 0;
}

static void fail(const char *what, uint64_t number) {
    printf("channel_stress: %s at %" PRIu64 " (seed %" PRIu64 ")\n", what, number, seed);
    exit(1);
}

static void wait_for_bell(int fd, const char *who, uint64_t number) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, POLL_TIMEOUT_MS) != 1) {
        fail(who, number);
    }
    shove_bell_silence(fd);
}

static void answer(struct shove_channel *channel, const struct shove_submit *entry) {
    uint64_t number = entry->arena_offset;
    size_t size = payload_size(number);
    struct shove_note head = {.type = SHOVE_NOTE_SETTLED,
                              .outcome = 1,
                              .slot = entry->slot,
                              .generation = (uint32_t)number};
    struct shove_part parts[2] = {
        {.data = pattern + number % 256, .size = size / 3},
        {.data = pattern + number % 256 + size / 3, .size = size - size / 3}};
    shove_channel_set_running(channel, entry->slot, (uint32_t)number, (int64_t)number);
    shove_channel_note(channel, &head, parts, 2);
    shove_channel_clear_running(channel);
}

static void *run_worker(void *argument) {
    struct shove_channel *channel = argument;
    struct shove_submit entry;
    for (uint64_t number = 0;;) {
        int portion = 0;
        while (portion < 64 && shove_channel_next_submit(channel, &entry)) {
            if (entry.type == SHOVE_SUBMIT_STOP) {
                return NULL;
            }
            if (entry.arena_offset != number) {
                fail("the worker read another entry than the next", number);
            }
            answer(channel, &entry);
            number++;
            portion++;
        }
        shove_channel_release_submits(channel);
        shove_channel_publish_notes(channel);
        if (portion == 0) {
            if (!shove_channel_worker_sleeps(channel)) {
                wait_for_bell(shove_channel_worker_wake_fd(channel), "the worker was not woken",
                              number);
            }
            shove_channel_worker_wakes(channel);
        }
    }
}

static bool submit_some(struct shove_channel *channel, uint64_t *sent, uint64_t count) {
    uint64_t before = *sent;
    while (*sent < count) {
        struct shove_submit entry = {
            .type = SHOVE_SUBMIT_MESSAGE, .slot = (uint32_t)(*sent % 97), .arena_offset = *sent};
        if (!shove_channel_submit(channel, &entry)) {
            break;
        }
        (*sent)++;
        if (mix(*sent) % 32 == 0) {
            break;
        }
    }
    shove_channel_flush(channel);
    return *sent != before;
}

static bool check_some(struct shove_channel *channel, uint64_t *received) {
    struct shove_note note;
    const uint8_t *payload;
    uint64_t before = *received;
    int status = 0;
    while (*received - before < 50 &&
           (status = shove_channel_next_note(channel, &note, &payload)) == 1) {
        uint64_t number = *received;
        if (note.slot != number % 97 || note.generation != (uint32_t)number) {
            fail("a note is out of order", number);
        }
        if (note.size != payload_size(number) ||
            memcmp(payload, pattern + number % 256, note.size) != 0) {
            fail("a payload differs", number);
        }
        (*received)++;
    }
    if (status < 0) {
        fail("the channel says it is corrupt", *received);
    }
    shove_channel_release_notes(channel);
    uint32_t slot;
    uint32_t generation;
    int64_t since;
    if (shove_channel_running(channel, &slot, &generation, &since) && slot != generation % 97) {
        fail("the running word is torn", *received);
    }
    return *received != before;
}

int main(int argc, char **argv) {
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (uint8_t)(i % 251);
    }
    struct shove_bell bell;
    struct shove_error error;
    if (shove_bell_init(&bell, &error) != 0) {
        printf("channel_stress: %s\n", error.text);
        return 1;
    }
    struct shove_channel_options options = {.arena_bytes = 65536,
                                            .submit_entries = 32,
                                            .outbound_bytes = OUTBOUND_BYTES,
                                            .control_wake_fd = bell.ring_fd};
    struct shove_channel *control = NULL;
    struct shove_channel *worker = NULL;
    int fds[SHOVE_CHANNEL_FD_COUNT];
    if (shove_channel_new(&options, &control, &error) != 0) {
        printf("channel_stress: %s\n", error.text);
        return 1;
    }
    shove_channel_fds(control, fds);
    if (shove_channel_attach(fds, &worker, &error) != 0) {
        printf("channel_stress: %s\n", error.text);
        return 1;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_worker, worker) != 0) {
        return 1;
    }
    uint64_t sent = 0;
    uint64_t received = 0;
    uint64_t naps = 0;
    while (received < count) {
        bool did_submit = submit_some(control, &sent, count);
        bool did_receive = check_some(control, &received);
        if (did_submit || did_receive) {
            continue;
        }
        if (!shove_channel_control_sleeps(control)) {
            naps++;
            wait_for_bell(bell.listen_fd, "control was not woken", received);
        }
        shove_channel_control_wakes(control);
    }
    struct shove_submit stop = {.type = SHOVE_SUBMIT_STOP};
    shove_channel_submit(control, &stop);
    shove_channel_flush(control);
    pthread_join(thread, NULL);
    shove_channel_free(worker);
    shove_channel_free(control);
    shove_bell_release(&bell);
    printf("channel_stress: %" PRIu64 " messages, %" PRIu64 " naps of control\n", received, naps);
    return 0;
}
