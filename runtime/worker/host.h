/* host.h: what a worker process keeps: its loop, its Lua state, its tasks. Worker only, one thread.
 *
 * A *task* is a coroutine and the message that it handles, or app:on_start or the autoscaler's
 * strategy, which run beside the messages. The task owns the coroutine and both are used again for
 * later messages; the serial number tells one message from the next. Lua code never sees a task,
 * only an *id* (serial and index in one number), so whatever it keeps from an earlier message is
 * noticed and reaches nothing.
 *
 * A task is FREE, or ON_CPU (between lua_resume and its return), or WAITING (its coroutine has
 * yielded). What it waits for says who may resume it: the runtime after a sleep or a publication,
 * the script's own luv callback otherwise.
 */
#ifndef SHOVE_WORKER_HOST_H
#define SHOVE_WORKER_HOST_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/fast_clock.h"
#include "base/uuid.h"
#include "core/outcome.h"
#include "ipc/channel.h"
#include "worker/worker.h"

enum shove_task_state { SHOVE_TASK_FREE, SHOVE_TASK_ON_CPU, SHOVE_TASK_WAITING };

enum shove_task_wait {
    SHOVE_WAIT_FOREIGN, /* the handler yielded by itself: somebody in the script resumes it */
    SHOVE_WAIT_SLEEP,
    SHOVE_WAIT_PUBLISH,
    SHOVE_WAIT_GROUPS
};

enum shove_task_kind {
    SHOVE_TASK_MESSAGE,
    SHOVE_TASK_START,   /* app:on_start */
    SHOVE_TASK_STRATEGY /* of app:autoscale */
};

struct shove_host;

struct shove_task {
    struct shove_host *host;
    lua_State *thread;
    int thread_ref;
    const struct shove_envelope *envelope; /* in the arena; NULL: none, or it is settled */
    uint32_t index;
    uint32_t serial;
    uint32_t slot; /* control's */
    uint32_t generation;
    uint32_t group;
    uint8_t state;
    uint8_t wait;
    uint8_t kind;
    bool is_settled;   /* control has been told */
    char *undecodable; /* why the codec refused the payload: decides over whatever the handler says;
                          else NULL */
    bool has_foreign_yield; /* somebody else may hold the coroutine: it is not used again */
    int64_t begun_mono_ms;  /* when its handler was called, by the coarse clock; 0: not yet */
    uint64_t begun_ns;      /* while measuring: the same */
    struct shove_deadlines *deadlines; /* the list it is a member of; NULL: none */
    int64_t deadline_mono_ms;
    struct shove_task *previous; /* in the list of deadlines */
    struct shove_task *next;     /* there, or in the list of free tasks */
    uv_timer_t sleep;            /* data: the task */

    uint8_t verdict;     /* audit.h: the outcome that is kept while the audit runs; else 0 */
    uint16_t duration;   /* of the handler, while measuring: what the note will say */
    uint64_t called_ns;  /* of an audited message, monotonic: when its handler was called */
    uint64_t handler_ns; /* how long it took */
    struct shove_buffer verdict_text;

    uint32_t publishing;        /* answers that are still to come */
    uint32_t published;         /* messages asked for in this call */
    uint32_t groups_question;   /* GROUPS: the answer to which it waits for */
    struct shove_buffer failed; /* struct shove_publish_failure of each refused message */
};

struct shove_publish_failure {
    uint32_t ordinal; /* from 1, in the batch */
    int code;
};

/* Waiting tasks that may take equally long, in the order of their deadlines. */
struct shove_deadlines {
    int64_t timeout_ms;
    struct shove_task *first;
    struct shove_task *last;
};

struct shove_handler_group { /* one registration of the script, under control's group index */
    struct shove_deadlines deadlines;
    int handler_ref;
    int decode_ref;
    bool is_json;         /* decode_ref is that of the codec "json" */
    uint8_t bodies_ahead; /* so many messages more have theirs read before it is touched */
    char *topic;          /* what it consumes: the queue, or the DLQ for dead letters */
    bool is_dead_letters;
    bool is_audited;
};

struct shove_publishing_entry { /* one message control was asked to publish */
    uint32_t task;              /* index */
    uint32_t serial;
    uint32_t ordinal;
    uint32_t next_free;
};

struct shove_host {
    const struct shove_worker_options *options;
    struct shove_channel *channel;
    uv_loop_t loop;
    uv_poll_t wake;
    uv_prepare_t about_to_block;
    uv_timer_t timeout;         /* for the earliest deadline of all */
    int64_t timeout_at_mono_ms; /* what it is set to; INT64_MAX: not set */
    lua_State *L;
    int run_ref;         /* Lua: function(handler, id), the body of every message's coroutine */
    int run_ahead_ref;   /* Lua: the same, with the body read before it is touched */
    int run_audited_ref; /* Lua: that of run with the audit behind it */
    int conclude_ref;    /* Lua: function(audit, id), that of an audit alone */
    int audit_ref;       /* Lua: function(id) */
    struct shove_deadlines audits; /* of all groups */
    int beside_ref;        /* Lua: function(function, id), that of what runs beside messages */
    int start_handler_ref; /* LUA_NOREF: the app has none */
    int strategy_ref;      /* the same */
    int json_decode_ref;
    int key_reader_ref;      /* Lua: function(payload), of the topic of --keys; else LUA_NOREF */
    struct shove_json *json; /* NULL: json_decode_ref does all */
    int collect_ref;         /* C: a full garbage collection */
    int lanes_ref;           /* Lua: weak table coroutine -> id */
    const void *outcomes[SHOVE_OUTCOME_DEFER + 1]; /* identity of shove.ack etc. by code */
    int outcome_metatable_ref;

    struct shove_handler_group *groups;
    uint32_t group_count;

    struct shove_task **tasks;
    uint32_t task_count;
    uint32_t task_capacity;
    uint32_t busy_count;   /* tasks that are not free */
    uint32_t beside_count; /* of these, such that have no message */
    struct shove_task *free_tasks;
    struct shove_task *current; /* whose coroutine is on the CPU */

    uint32_t groups_asked;           /* questions to control for the state of the groups */
    uint32_t groups_answered;        /* at most one is under way */
    uint32_t groups_wanted;          /* the highest that a task waits for */
    struct shove_buffer groups_text; /* the last answer */

    struct shove_publishing_entry *requests;
    uint32_t request_count;
    uint32_t request_capacity;
    uint32_t free_request; /* UINT32_MAX: none */

    struct shove_buffer scratch;
    struct shove_uuid_source ids;
    int64_t now_mono_ms;           /* coarse, when the current task came on the CPU */
    int64_t published_mono_ms;     /* when notes were last published */
    struct shove_fast_clock clock; /* while measuring */
    uint64_t measured_ns;          /* the clock, as it was last read */
    uint64_t tick_end_ns;          /* by it, when the coarse clock is read again */
    bool is_out_of_memory;         /* a handler was: collect before the next message */
    int64_t look_ms;               /* coarse clock: when memory is looked at next, */
    int look_kib;                  /* or when Lua has so much */
    int64_t collect_ms;            /* before it, nothing is collected for a look */
    bool has_told_spent;
    bool is_spent;     /* what the script keeps leaves too little memory: take nothing more */
    bool is_exhausted; /* not even enough for what runs: end at once */
    bool has_hook;     /* set by the script while it was loaded (debug.sethook) */
    bool is_stopping;
};

/* The kernel's tick (1 to 4 ms old): read for every message, where the exact clock would cost a
 * tenth of the time. */
static inline int64_t shove_host_coarse_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
