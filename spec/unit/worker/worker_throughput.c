/* worker_throughput: how fast one worker process is by itself.
 *
 *     worker_throughput SCRIPT [MESSAGES] [IN_FLIGHT] [SHOVE] [LUA_DIR]
 *
 * Plays control for `shove worker`: keeps IN_FLIGHT messages of 44 bytes of JSON in the arena,
 * takes the notes, prints messages per second, the worker's CPU time per message and its resident
 * memory. It prints and judges nothing: figures are for comparing two builds on one machine.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/arena.h"
#include "ipc/bell.h"
#include "ipc/channel.h"

#define ARENA_BYTES ((size_t)64 * 1024 * 1024)
#define OUTBOUND_BYTES ((size_t)1024 * 1024)
#define FIRST_CHANNEL_FD 3
#define TEXT_COUNT 16384u

static pid_t start_worker(const struct shove_channel *channel, const char *shove,
                          const char *script, const char *lua_dir) {
    int fds[SHOVE_CHANNEL_FD_COUNT];
    char parent[16];
    shove_channel_fds(channel, fds);
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    int high[SHOVE_CHANNEL_FD_COUNT];
    for (int i = 0; i < SHOVE_CHANNEL_FD_COUNT; i++) {
        high[i] = fcntl(fds[i], F_DUPFD, 100);
    }
    for (int i = 0; i < SHOVE_CHANNEL_FD_COUNT; i++) {
        dup2(high[i], FIRST_CHANNEL_FD + i);
    }
    execl(shove, shove, "worker", "--script", script, "--lua-dir", lua_dir, "--parent", parent,
          "--index", "0", (char *)NULL);
    perror(shove);
    _exit(127);
}

/* Written beforehand: this side must be the faster one. */
struct text {
    char bytes[64];
    uint32_t size;
};
static struct text texts[TEXT_COUNT];

static void write_texts(void) {
    for (unsigned i = 0; i < TEXT_COUNT; i++) {
        int size = snprintf(texts[i].bytes, sizeof texts[i].bytes,
                            "{\"id\":%u,\"user\":\"u%06u\",\"amount\":%u.25}", 1000000 + i * 137,
                            i * 61, 100 + i % 900);
        texts[i].size = (uint32_t)size;
    }
}

static void write_message(uint8_t *at, uint64_t number) {
    struct shove_envelope *envelope = (struct shove_envelope *)(void *)at;
    const struct text *text = &texts[number % TEXT_COUNT];
    *envelope = (struct shove_envelope){.offset = (int64_t)number,
                                        .partition = (int32_t)(number % 8),
                                        .flags = SHOVE_ENVELOPE_NULL_KEY,
                                        .payload_size = text->size};
    memcpy(envelope + 1, text->bytes, text->size);
}

struct run {
    struct shove_channel *channel;
    struct shove_arena *arena;
    struct shove_bell bell;
    uint64_t *offsets; /* by slot */
    uint32_t *free_slots;
    uint32_t free_count;
    uint64_t sent;
    uint64_t settled;
    bool is_ready;
};

static bool submit_some(struct run *run, uint64_t count) {
    uint64_t before = run->sent;
    while (run->sent < count && run->free_count != 0 && run->sent - before < 256) {
        uint64_t offset = shove_arena_take(run->arena, sizeof(struct shove_envelope) + 64);
        if (offset == SHOVE_ARENA_NONE) {
            break;
        }
        write_message(shove_channel_arena(run->channel) + offset, run->sent);
        uint32_t slot = run->free_slots[--run->free_count];
        run->offsets[slot] = offset;
        struct shove_submit entry = {
            .type = SHOVE_SUBMIT_MESSAGE, .slot = slot, .generation = 1, .arena_offset = offset};
        if (!shove_channel_submit(run->channel, &entry)) {
            run->free_slots[run->free_count++] = slot;
            shove_arena_give(run->arena, offset);
            break;
        }
        run->sent++;
    }
    shove_channel_flush(run->channel);
    return run->sent != before;
}

static bool take_some(struct run *run) {
    struct shove_note note;
    const uint8_t *payload;
    unsigned count = 0;
    while (count < 1024 && shove_channel_next_note(run->channel, &note, &payload) == 1) {
        count++;
        if (note.type == SHOVE_NOTE_READY) {
            run->is_ready = true;
        } else if (note.type == SHOVE_NOTE_LOAD_ERROR) {
            fprintf(stderr, "%.*s\n", (int)note.size, (const char *)payload);
            exit(1);
        } else if (note.type == SHOVE_NOTE_SETTLED) {
            shove_arena_give(run->arena, run->offsets[note.slot]);
            run->free_slots[run->free_count++] = note.slot;
            run->settled++;
        }
    }
    shove_channel_release_notes(run->channel);
    return count != 0;
}

static void wait_for_notes(struct run *run) {
    if (!shove_channel_control_sleeps(run->channel)) {
        struct pollfd wait = {.fd = run->bell.listen_fd, .events = POLLIN};
        poll(&wait, 1, 1000);
        shove_bell_silence(run->bell.listen_fd);
    }
    shove_channel_control_wakes(run->channel);
}

static void print_worker(pid_t pid, uint64_t count) {
    char path[64];
    char line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    unsigned long user = 0;
    unsigned long system = 0;
    if (file != NULL && fgets(line, sizeof line, file) != NULL) {
        /* utime and stime are the 12th and 13th field behind the name; proc(5). */
        char *rest = strrchr(line, ')');
        for (int field = 0; rest != NULL && field < 12; field++) {
            rest = strchr(rest + 1, ' ');
        }
        if (rest != NULL) {
            user = strtoul(rest, &rest, 10);
            system = strtoul(rest, NULL, 10);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    double ns_per_tick = 1e9 / (double)sysconf(_SC_CLK_TCK);
    printf("worker: %.0f ns user and %.0f ns system per message (%.2f M/s of CPU)\n",
           (double)user * ns_per_tick / (double)count, (double)system * ns_per_tick / (double)count,
           (double)count * 1e3 / ((double)(user + system) * ns_per_tick));
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmRSS", 5) == 0 || strncmp(line, "RssAnon", 7) == 0 ||
            strncmp(line, "RssShmem", 8) == 0) {
            printf("  %s", line);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr,
                "usage: worker_throughput SCRIPT [MESSAGES] [IN_FLIGHT] [SHOVE] [LUA_DIR]\n");
        return 64;
    }
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 5000000;
    uint32_t in_flight = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1000;
    uint32_t entries = 1024;
    while (entries < in_flight * 2) {
        entries *= 2;
    }
    struct shove_error error;
    struct run run = {.arena = shove_arena_new(ARENA_BYTES)};
    if (shove_bell_init(&run.bell, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    struct shove_channel_options options = {.arena_bytes = ARENA_BYTES,
                                            .submit_entries = entries,
                                            .outbound_bytes = OUTBOUND_BYTES,
                                            .control_wake_fd = run.bell.ring_fd};
    if (shove_channel_new(&options, &run.channel, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    run.offsets = calloc(in_flight, sizeof *run.offsets);
    run.free_slots = calloc(in_flight, sizeof *run.free_slots);
    while (run.free_count < in_flight) {
        run.free_slots[run.free_count] = run.free_count;
        run.free_count++;
    }
    pid_t pid = start_worker(run.channel, argc > 4 ? argv[4] : "build/shove", argv[1],
                             argc > 5 ? argv[5] : "lua");
    while (!run.is_ready) {
        if (!take_some(&run)) {
            wait_for_notes(&run);
        }
    }
    write_texts();
    int64_t begun_us = shove_clock_mono_us();
    while (run.settled < count) {
        bool did_submit = submit_some(&run, count);
        bool did_take = take_some(&run);
        if (!did_submit && !did_take) {
            wait_for_notes(&run);
        }
    }
    double seconds = (double)(shove_clock_mono_us() - begun_us) / 1e6;
    printf("%" PRIu64 " messages in %.2f s: %.2f M/s\n", count, seconds,
           (double)count / seconds / 1e6);
    print_worker(pid, count);
    struct shove_submit stop = {.type = SHOVE_SUBMIT_STOP};
    shove_channel_submit(run.channel, &stop);
    shove_channel_flush(run.channel);
    waitpid(pid, NULL, 0);
    shove_channel_free(run.channel);
    shove_bell_release(&run.bell);
    free(run.offsets);
    free(run.free_slots);
    return 0;
}
