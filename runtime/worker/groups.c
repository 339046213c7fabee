/* groups.c: see groups.h. Worker only. */
#include "worker/groups.h"

#include "worker/scheduler.h"

static void send_question(struct shove_host *host) {
    struct shove_note note = {.type = SHOVE_NOTE_GROUPS};
    host->groups_asked++;
    shove_channel_note(host->channel, &note, NULL, 0);
}

void shove_groups_ask(struct shove_task *task) {
    struct shove_host *host = task->host;
    task->groups_question = host->groups_wanted = host->groups_asked + 1;
    task->wait = SHOVE_WAIT_GROUPS;
    if (host->groups_asked == host->groups_answered) {
        send_question(host);
    }
}

void shove_groups_answered(struct shove_host *host, const uint8_t *text, size_t size) {
    const uint32_t question = host->groups_asked;
    shove_buffer_clear(&host->groups_text);
    shove_buffer_append(&host->groups_text, text, size);
    host->groups_answered = question;
    for (uint32_t i = 0; i < host->task_count; i++) {
        struct shove_task *task = host->tasks[i];
        if (task->state == SHOVE_TASK_WAITING && task->wait == SHOVE_WAIT_GROUPS &&
            task->groups_question == question) {
            task->wait = SHOVE_WAIT_FOREIGN;
            shove_scheduler_resume(task, 0);
        }
    }
    if (host->groups_asked == question && host->groups_wanted != question) {
        send_question(host);
    }
}
