/* scheduler.c: see scheduler.h. Worker only.
 *
 * One lua_resume per message, of a coroutine that is used again and again; a message that is
 * handled without waiting costs no allocation outside of Lua and no system call. The coroutine's
 * body (lua/shove/run.lua) calls the handler in protected mode and then host.finish, so whoever
 * resumes a coroutine last, its outcome arrives; an error that gets past it (no memory even for the
 * call) comes back from lua_resume and is settled here.
 *
 * The running word names the message from before its coroutine gets the CPU until after it has left
 * it, also when coroutines are resumed from within each other: a mark restores the outer one.
 *
 * How long a handler took is measured where control asks for it. A clock is read once a message,
 * when it is settled or yields: the next one of the portion begins with that reading. The coarse
 * clock is then read once a millisecond, which pays for most of it.
 *
 * Notes become visible to control in portions, but never later than a tick of the coarse clock (a
 * few milliseconds) plus one stretch of one handler.
 */
#include "worker/scheduler.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "core/histogram.h"
#include "worker/audit.h"
#include "worker/groups.h"
#include "worker/keys.h"
#include "worker/memory.h"
#include "worker/publishing.h"
#include "worker/tasks.h"
#include "worker/timeouts.h"

#define PORTION 128
#define TICK_NS UINT64_C(1000000)

static void read_clock(struct shove_host *host) {
    if (!host->options->is_measuring) {
        return;
    }
    host->measured_ns = shove_fast_clock_ns(&host->clock);
    if (host->measured_ns >= host->tick_end_ns) {
        host->tick_end_ns = host->measured_ns + TICK_NS;
        host->now_mono_ms = shove_host_coarse_ms();
        shove_fast_clock_tune(&host->clock);
    }
}

static void show_running(struct shove_host *host, const struct shove_task *task) {
    if (task == NULL) {
        shove_channel_clear_running(host->channel);
    } else {
        shove_channel_set_begun(host->channel, task->begun_mono_ms);
        shove_channel_set_running(host->channel, task->slot, task->generation, host->now_mono_ms);
    }
}

void shove_scheduler_enter(struct shove_task *task, struct shove_cpu_mark *mark) {
    struct shove_host *host = task->host;
    mark->previous = host->current;
    if (!host->options->is_measuring) {
        host->now_mono_ms = shove_host_coarse_ms();
    }
    if (task->begun_mono_ms == 0) {
        task->begun_mono_ms = host->now_mono_ms;
    }
    host->current = task;
    task->state = SHOVE_TASK_ON_CPU;
    show_running(host, task);
}

void shove_scheduler_leave(struct shove_host *host, const struct shove_cpu_mark *mark) {
    host->current = mark->previous;
    show_running(host, mark->previous);
}

void shove_scheduler_flush(struct shove_host *host) {
    host->published_mono_ms = host->now_mono_ms;
    shove_channel_release_submits(host->channel);
    shove_channel_publish_notes(host->channel);
}

static const uint8_t ending_note[] = {
    [SHOVE_TASK_MESSAGE] = SHOVE_NOTE_SETTLED,
    [SHOVE_TASK_START] = SHOVE_NOTE_STARTED,
    [SHOVE_TASK_STRATEGY] = SHOVE_NOTE_ADVISED,
};

uint16_t shove_scheduler_duration(struct shove_task *task) {
    const struct shove_host *host = task->host;
    read_clock(task->host);
    return host->measured_ns > task->begun_ns
               ? shove_duration_pack(host->measured_ns - task->begun_ns)
               : 0;
}

void shove_scheduler_settle(struct shove_task *task, enum shove_outcome outcome, const char *text,
                            size_t size) {
    struct shove_note note = {.type = ending_note[task->kind],
                              .outcome = (uint8_t)outcome,
                              .slot = task->slot,
                              .generation = task->generation};
    struct shove_part part = {.data = text, .size = size};
    note.duration = shove_scheduler_duration(task);
    if (task->verdict != 0) {
        note.duration = task->duration; /* without its audit */
    }
    if (size > SHOVE_OUTCOME_TEXT_MAX) {
        part.size = shove_utf8_cut(text, size, SHOVE_OUTCOME_TEXT_MAX);
    }
    task->envelope = NULL;
    task->is_settled = true;
    shove_channel_note(task->host->channel, &note, &part, part.size != 0);
}

void shove_scheduler_end(struct shove_task *task, enum shove_outcome outcome, const char *text,
                         size_t size, bool is_coroutine_spent) {
    struct shove_task *audit = NULL;
    if (!task->is_settled && shove_audit_is_due(task)) {
        audit = shove_audit_move(task, outcome, text, size);
    } else if (!task->is_settled && task->verdict != 0) {
        shove_audit_fail(task, text, size);
    } else if (!task->is_settled) {
        shove_scheduler_settle(task, outcome, text, size);
    }
    shove_timeouts_remove(task);
    if (task->wait == SHOVE_WAIT_SLEEP) {
        uv_timer_stop(&task->sleep);
    }
    task->host->beside_count -= task->kind != SHOVE_TASK_MESSAGE;
    shove_task_give(task, is_coroutine_spent);
    if (audit != NULL) {
        shove_scheduler_call(audit, audit->host->conclude_ref, audit->host->audit_ref);
    }
}

void shove_scheduler_yielded(struct shove_task *task) {
    task->state = SHOVE_TASK_WAITING;
    if (task->wait == SHOVE_WAIT_FOREIGN) {
        task->has_foreign_yield = true;
    }
    shove_timeouts_add(task);
    read_clock(task->host);
}

/* LuaJIT has one hook for all coroutines: what one handler has set must not run in the next. One
 * that was there when the script had been loaded (a profiler, a measure of coverage) stays. */
static void drop_hook(const struct shove_host *host, lua_State *thread) {
    if (lua_gethook(thread) != NULL && !host->has_hook) {
        lua_sethook(thread, NULL, 0, 0);
    }
}

static void run(struct shove_task *task, int argument_count) {
    struct shove_host *host = task->host;
    lua_State *thread = task->thread;
    struct shove_cpu_mark mark;
    shove_scheduler_enter(task, &mark);
    if (host->now_mono_ms != host->published_mono_ms) {
        shove_scheduler_flush(host);
    }
    drop_hook(host, thread);
    int status = lua_resume(thread, argument_count);
    shove_scheduler_leave(host, &mark);
    if (status == LUA_YIELD) {
        lua_settop(thread, 0);
        shove_scheduler_yielded(task);
        return;
    }
    size_t size = 0;
    const char *text = NULL;
    if (status != 0) {
        /* An error got past the body: no memory for the call itself, or a broken stack. */
        text = lua_tolstring(thread, -1, &size);
    } else {
        lua_settop(thread, 0);
    }
    shove_scheduler_end(task, SHOVE_OUTCOME_ERROR, text, size, status != 0);
    if (status == LUA_ERRMEM || host->is_out_of_memory) {
        shove_memory_recover(host);
        read_clock(host);
    }
}

void shove_scheduler_resume(struct shove_task *task, int result_count) {
    if (!task->host->is_exhausted) {
        run(task, result_count);
    }
}

void shove_scheduler_call(struct shove_task *task, int body_ref, int function_ref) {
    lua_State *thread = task->thread;
    lua_rawgeti(thread, LUA_REGISTRYINDEX, body_ref);
    lua_rawgeti(thread, LUA_REGISTRYINDEX, function_ref);
    lua_pushnumber(thread, shove_task_id(task));
    run(task, 2);
}

static void refuse_message(struct shove_host *host, const struct shove_submit *entry) {
    static const char text[] = "the worker has no memory for another coroutine";
    struct shove_note note = {.type = SHOVE_NOTE_SETTLED,
                              .outcome = SHOVE_OUTCOME_ERROR,
                              .slot = entry->slot,
                              .generation = entry->generation};
    struct shove_part part = {.data = text, .size = sizeof text - 1};
    shove_channel_note(host->channel, &note, &part, 1);
}

static int run_ref_of(const struct shove_host *host, struct shove_handler_group *group) {
    if (group->is_audited) {
        return host->run_audited_ref;
    }
    if (group->bodies_ahead == 0) {
        return host->run_ref;
    }
    group->bodies_ahead--;
    return host->run_ahead_ref;
}

static void begin_message(struct shove_host *host, const struct shove_submit *entry) {
    const struct shove_envelope *envelope =
        shove_channel_envelope(host->channel, entry->arena_offset);
    struct shove_task *task = shove_task_take(host);
    if (task == NULL) {
        refuse_message(host, entry);
        return;
    }
    struct shove_handler_group *group = &host->groups[envelope->group];
    task->envelope = envelope;
    task->slot = entry->slot;
    task->generation = entry->generation;
    task->group = envelope->group;
    task->begun_ns = host->measured_ns;
    if (group->is_audited) {
        task->called_ns = shove_clock_mono_ns();
    }
    shove_scheduler_call(task, run_ref_of(host, group), group->handler_ref);
}

/* Begins what runs beside messages. */
static void begin_beside(struct shove_host *host, enum shove_task_kind kind, int function_ref,
                         const struct shove_submit *entry) {
    struct shove_task *task = function_ref == LUA_NOREF ? NULL : shove_task_take(host);
    const uint32_t slot = kind == SHOVE_TASK_START ? SHOVE_START_SLOT : SHOVE_STRATEGY_SLOT;
    if (task == NULL) {
        static const char text[] = "the worker has no memory for another coroutine";
        struct shove_note note = {
            .type = ending_note[kind], .slot = slot, .generation = entry->generation};
        struct shove_part part = {.data = text, .size = sizeof text - 1};
        shove_channel_note(host->channel, &note, &part, function_ref != LUA_NOREF);
        return;
    }
    task->kind = (uint8_t)kind;
    task->slot = slot;
    task->generation = entry->generation;
    task->begun_ns = host->measured_ns;
    host->beside_count++;
    shove_scheduler_call(task, host->beside_ref, function_ref);
}

/* A message, of which control expects no word any more, or what runs beside messages. */
static void cancel(struct shove_host *host, const struct shove_submit *entry) {
    static const char text[] = "it was cancelled";
    for (uint32_t i = 0; i < host->task_count; i++) {
        struct shove_task *task = host->tasks[i];
        if (task->state == SHOVE_TASK_WAITING && task->slot == entry->slot &&
            task->generation == entry->generation) {
            task->is_settled |= task->kind == SHOVE_TASK_MESSAGE;
            shove_scheduler_end(task, SHOVE_OUTCOME_DEFER, text, sizeof text - 1, true);
            return;
        }
    }
}

void shove_scheduler_tell_spent(struct shove_host *host) {
    const struct shove_note note = {.type = SHOVE_NOTE_SPENT};
    if (host->is_spent && !host->has_told_spent)
        shove_channel_note(host->channel, &note, NULL, 0);
    host->has_told_spent = host->is_spent;
}

/* A spent worker begins nothing: control gives the message to another. */
static void give_back(struct shove_host *host, const struct shove_submit *entry) {
    shove_scheduler_tell_spent(host); /* it may have become so in this very portion */
    struct shove_note note = {
        .type = SHOVE_NOTE_RETURNED, .slot = entry->slot, .generation = entry->generation};
    shove_channel_note(host->channel, &note, NULL, 0);
}

static void handle(struct shove_host *host, const struct shove_submit *entry) {
    switch (entry->type) {
    case SHOVE_SUBMIT_MESSAGE:
        if (host->is_spent) {
            give_back(host, entry);
        } else {
            begin_message(host, entry);
        }
        break;
    case SHOVE_SUBMIT_PUBLISHED:
        shove_publishing_answered(host, entry->slot, -(int)entry->generation);
        break;
    case SHOVE_SUBMIT_START:
        if (!host->is_spent) {
            begin_beside(host, SHOVE_TASK_START, host->start_handler_ref, entry);
        }
        break;
    case SHOVE_SUBMIT_ADVISE:
        begin_beside(host, SHOVE_TASK_STRATEGY, host->strategy_ref, entry);
        break;
    case SHOVE_SUBMIT_GROUPS:
        shove_groups_answered(host, shove_channel_bytes(host->channel, entry->arena_offset),
                              entry->generation);
        break;
    case SHOVE_SUBMIT_KEYS:
        shove_keys_answer(host, entry);
        break;
    case SHOVE_SUBMIT_CANCEL:
        cancel(host, entry);
        break;
    case SHOVE_SUBMIT_STOP:
        host->is_stopping = true;
        break;
    default:
        shove_log(SHOVE_LOG_ERROR, "control submitted something unknown (%u)", entry->type);
        break;
    }
}

bool shove_scheduler_portion(struct shove_host *host) {
    struct shove_submit entry;
    unsigned count = 0;
    while (count < PORTION && !host->is_exhausted &&
           shove_channel_next_submit(host->channel, &entry)) {
        if (count == 0) {
            read_clock(host);
        }
        handle(host, &entry);
        count++;
    }
    if (count != 0) {
        shove_scheduler_flush(host);
    }
    return count != 0;
}
