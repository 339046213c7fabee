/* publishing.c: see publishing.h. Worker only.
 *
 * A request is a place in a table; its number travels to control and back, and it is used again
 * only when the answer is there, so a late answer finds its own request and, by the serial, a task
 * that is over.
 */
#include "worker/publishing.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "core/hop_headers.h"
#include "worker/scheduler.h"

#define NO_REQUEST UINT32_MAX

void shove_publishing_begin(struct shove_task *task) {
    task->publishing = 0;
    task->published = 0;
    shove_buffer_clear(&task->failed);
}

static void fail(struct shove_task *task, uint32_t ordinal, int code) {
    struct shove_publish_failure failure = {.ordinal = ordinal, .code = code};
    shove_buffer_append(&task->failed, &failure, sizeof failure);
}

static uint32_t take_request(struct shove_host *host) {
    if (host->free_request != NO_REQUEST) {
        uint32_t index = host->free_request;
        host->free_request = host->requests[index].next_free;
        return index;
    }
    if (host->request_count == host->request_capacity) {
        uint32_t capacity = host->request_capacity == 0 ? 64 : host->request_capacity * 2;
        struct shove_publishing_entry *requests =
            realloc(host->requests, capacity * sizeof(*requests));
        if (requests == NULL) {
            return NO_REQUEST;
        }
        host->requests = requests;
        host->request_capacity = capacity;
    }
    return host->request_count++;
}

/* Puts shove's own block behind the user's headers. */
static bool add_message_id(struct shove_host *host) {
    char id[SHOVE_UUID_SIZE + 1];
    struct shove_hop_info info;
    shove_uuid_next(&host->ids, shove_clock_wall_ms(), id);
    shove_hop_info_init(&info);
    info.message_id = (struct shove_text){.data = id, .size = SHOVE_UUID_SIZE};
    shove_hop_headers_append(&host->scratch, &info);
    return !host->scratch.is_failed;
}

void shove_publishing_ask(struct shove_task *task, const char *topic, size_t topic_size,
                          const struct shove_record *record, int32_t partition, uint16_t broker) {
    struct shove_host *host = task->host;
    uint32_t ordinal = ++task->published;
    if (!add_message_id(host)) {
        fail(task, ordinal, SHOVE_ENOMEM);
        return;
    }
    size_t total = sizeof(struct shove_publish_note) + topic_size + record->key_size +
                   record->payload_size + host->scratch.size;
    if (total > SHOVE_CHANNEL_NOTE_MAX_BYTES) {
        fail(task, ordinal, SHOVE_ETOOLARGE);
        return;
    }
    uint32_t index = take_request(host);
    if (index == NO_REQUEST) {
        fail(task, ordinal, SHOVE_ENOMEM);
        return;
    }
    host->requests[index] = (struct shove_publishing_entry){
        .task = task->index, .serial = task->serial, .ordinal = ordinal};
    struct shove_publish_note head = {
        .topic_size = (uint32_t)topic_size,
        .key_size = (uint32_t)record->key_size,
        .payload_size = (uint32_t)record->payload_size,
        .headers_size = (uint32_t)host->scratch.size,
        .flags = (uint16_t)((record->key == NULL ? SHOVE_ENVELOPE_NULL_KEY : 0) |
                            (record->payload == NULL ? SHOVE_ENVELOPE_NULL_PAYLOAD : 0)),
        .broker = broker,
        .partition = partition,
        .timestamp_ms = record->timestamp_ms,
    };
    struct shove_note note = {.type = SHOVE_NOTE_PUBLISH, .slot = index};
    struct shove_part parts[] = {{&head, sizeof head},
                                 {topic, topic_size},
                                 {record->key, record->key_size},
                                 {record->payload, record->payload_size},
                                 {host->scratch.data, host->scratch.size}};
    shove_channel_note(host->channel, &note, parts, sizeof parts / sizeof *parts);
    task->publishing++;
}

void shove_publishing_answered(struct shove_host *host, uint32_t request, int code) {
    struct shove_publishing_entry *entry = &host->requests[request];
    struct shove_task *task = host->tasks[entry->task];
    bool is_wanted = task->state != SHOVE_TASK_FREE && task->serial == entry->serial;
    uint32_t ordinal = entry->ordinal;
    entry->next_free = host->free_request;
    host->free_request = request;
    if (!is_wanted) {
        return;
    }
    if (code != 0) {
        fail(task, ordinal, code);
    }
    task->publishing--;
    if (task->publishing == 0 && task->wait == SHOVE_WAIT_PUBLISH &&
        task->state == SHOVE_TASK_WAITING) {
        task->wait = SHOVE_WAIT_FOREIGN;
        shove_scheduler_resume(task, 0);
    }
}
