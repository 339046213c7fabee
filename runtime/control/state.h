/* state.h: what the control process keeps, seen by the files of control/ only.
 *
 * Everything here lives on the loop's thread. The picture:
 *
 *   shove_control
 *     +- clusters[]            one per broker of the app: a transport each
 *     +- workers[]             processes; each with a channel, an arena and a table of slots
 *     +- flows[]               one per group of the app: a subscription and its partitions
 *          +- partitions       one per claim (= epoch): ledger, the batch being fed, what waits
 *               +- deliveries  one per open message: ledger entry, where its bytes are, its state
 *
 * A delivery belongs to its partition while the epoch lasts. When the epoch ends before the
 * delivery does, it becomes an orphan (`partition` is NULL): whatever is said of it later completes
 * nothing and only frees it.
 */
#ifndef SHOVE_CONTROL_STATE_H
#define SHOVE_CONTROL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buffer.h"
#include "control/control.h"
#include "control/run_dir.h"
#include "control/spawn.h"
#include "core/autoscale.h"
#include "core/due_heap.h"
#include "core/ledger.h"
#include "core/poison.h"
#include "core/sequence.h"
#include "core/tally.h"
#include "core/topology.h"
#include "ipc/arena.h"
#include "ipc/bell.h"
#include "ipc/channel.h"
#include "transport/transport.h"

#define SHOVE_WORKER_SETS 4u /* codes of so many generations can run at once (reload.h) */

struct shove_admin;
struct shove_cluster;
struct shove_control;
struct shove_flow;
struct shove_flow_metrics;
struct shove_folder_watch;
struct shove_metrics;
struct shove_partition;
struct shove_publish_metrics;
struct shove_remote_client;
struct shove_worker;

/* What a record given to the transport stands for; comes back in `produced`. First member of its
 * owner. */
struct shove_ticket {
    enum shove_ticket_kind { SHOVE_TICKET_DELIVERY = 1, SHOVE_TICKET_PUBLISH } kind;
};

/* A channel with its arena. Outlives its worker while deliveries still keep their bytes in the
 * arena. */
struct shove_home {
    struct shove_channel *channel;
    struct shove_arena *arena;
    uint8_t *bytes; /* where the arena begins */
    bool is_retired;
};

enum shove_delivery_state {
    SHOVE_DELIVERY_FREE,
    SHOVE_DELIVERY_PENDING, /* open, its bytes still in the partition's batch: no worker had room */
    SHOVE_DELIVERY_QUEUED,  /* open, behind others of its key: in flow->sequence only */
    SHOVE_DELIVERY_RUNNING, /* in a worker */
    SHOVE_DELIVERY_HOPPING, /* retry or dead letter on its way; in control->hops while not with the
                               transport, or laid aside */
    SHOVE_DELIVERY_WAITING, /* retry in place: in flow->waiting until due */
    SHOVE_DELIVERY_AGAIN,   /* to be handed to a worker again: in flow->again, or flow->suspects */
    SHOVE_DELIVERY_RECORDING, /* crashed: in flow->recording until its crash count is committed,
                                 then AGAIN */
    SHOVE_DELIVERY_SHELVED    /* open, for the next owner: its partition is being given up */
};

struct shove_delivery {
    struct shove_ledger_entry entry; /* first: the ledger hands back entries */
    struct shove_ticket ticket;
    struct shove_sequence_entry turn; /* sequenced topics: among those of its key */
    struct shove_due_entry wait;      /* WAITING */
    enum shove_delivery_state state;
    uint32_t slot; /* RUNNING: in worker->slots */
    uint32_t retry_count;
    uint32_t crashes;
    uint32_t hop_failures;
    uint8_t suspicions;    /* deaths of its worker that no message was to blame for (isolation.h) */
    bool needs_fresh;      /* it killed a worker that others had been in (isolation.h) */
    bool has_found_full;   /* max_pending_per_key before it: counted once */
    uint8_t size_refusals; /* of the hop: 1: offered alone, 2: without the error text, too */
    bool is_redelivered;
    bool is_laid_aside; /* HOPPING, in order: not with the transport, in no list (hop.c) */
    bool is_ahead;      /* HOPPING before its turn (sequencing.h) */
    struct shove_partition *partition; /* NULL: orphan */
    struct shove_flow *flow;
    struct shove_worker *worker; /* RUNNING */
    struct shove_home *home;     /* where the bytes are; NULL: `heap` */
    uint8_t *heap;
    uint64_t arena_offset;
    int64_t submitted_ms;  /* loop time: to the worker; HOPPING: since when */
    int64_t first_seen_ms; /* wall */
    int64_t due_ms; /* loop time. WAITING, HOPPING after a failure, and until it is submitted, when
                       it comes from a hold or from WAITING; 0: at once */
    uint64_t commit_sequence;    /* RECORDING: released when a commit of at least this number
                                 succeeded */
    struct shove_hop hop;        /* HOPPING */
    char *error;                 /* what the handler said, owned; NULL: nothing */
    struct shove_delivery *next; /* in the list its state names */
};

struct shove_delivery_list { /* singly linked, first in first out */
    struct shove_delivery *first;
    struct shove_delivery *last;
    size_t count;
};

struct shove_partition {
    struct shove_flow *flow;
    struct shove_claim *claim;
    const char *topic; /* borrowed from the topology */
    struct shove_partition *next;
    struct shove_ledger ledger;
    struct shove_batch batch;
    size_t cursor;                  /* next record of the batch */
    struct shove_delivery *pending; /* of the record under the cursor */
    bool has_batch;
    bool is_clipped; /* the restored ledger was held against the end of the log */
    bool is_hold;
    bool is_dry; /* nothing to take until the transport says readable */
    bool is_revoking;
    bool is_blocked;        /* the record under the cursor waits until another's turn ends */
    bool is_broken;         /* take failed: nothing more is fed, its flow ends */
    bool is_dirty;          /* something was closed since the last commit was built */
    bool is_final_sent;     /* revoking: the last commit is on its way */
    uint32_t running_count; /* deliveries in workers */
    uint32_t hopping_count;
    uint32_t ordered_in_flight; /* dead letters of poisoned keys that are with the transport */
    uint32_t laid_aside_count;  /* and those that are to be offered after them (hop.c) */
    bool has_stumbled;          /* one of them has failed, and none was stored since */
    int64_t stumbled_until_ms;  /* loop time before which those laid aside are not offered */
    size_t queued_bytes;        /* of those that wait for their turn, or hop before it */
    bool is_crowded;            /* they were too many bytes, and half of that is not through yet */
    struct shove_poisoned_keys poison; /* fail_all: what is known of its keys (poisoning.h) */
    struct shove_poison_scan *scan;    /* they are being read; NULL: not now */
    int64_t poison_next_offset;        /* from where on they have not been read; -1: all */
    bool must_read_all;   /* when the scan that is under way ends: it began too early */
    int64_t look_at_ms;   /* loop time before which they are not read again */
    uint32_t late_looks;  /* still to come, for what others may have stored meanwhile */
    bool is_learning;     /* they have not been read: nothing is fed */
    bool is_committing;   /* a commit is unanswered; at most one is under way */
    size_t metadata_size; /* of the last commit, and what it could say: */
    struct shove_ledger_coverage coverage;
    int64_t cut_since_ms; /* loop time since when that is not all there was to say; 0: it is */
    int64_t next_due_ms;  /* hold: wall time before which the record under the cursor is not due; 0:
                             none */
    int64_t revoke_deadline_ms;   /* loop time */
    int64_t commit_after_ms;      /* loop time: one was refused, none is offered before */
    uint64_t commit_sequence;     /* of the last commit sent */
    uint64_t commit_acknowledged; /* of the last one that succeeded */
    int last_commit_code;
};

struct shove_log_limit { /* lets the first few lines of each second through and counts the rest */
    int64_t window_ms;
    uint32_t count;
    uint32_t suppressed;
};

struct shove_rare_line { /* one at most in a while */
    int64_t next_ms;     /* loop time before which no other is written */
    uint32_t unsaid;     /* times one was left out since */
};

enum shove_flow_state {
    SHOVE_FLOW_IDLE,
    SHOVE_FLOW_JOINED,
    SHOVE_FLOW_RESTING, /* it failed, and is joined again */
    SHOVE_FLOW_LEAVING,
    SHOVE_FLOW_ENDED
};

struct shove_flow { /* a group that is consumed */
    struct shove_control *control;
    struct shove_cluster *cluster; /* where its topics are */
    const struct shove_group *group;
    const struct shove_topic *topic;
    const char *source;  /* the topic its group consumes */
    const char **topics; /* source and holds, borrowed names; then former_holds.h, owned */
    size_t topic_count;
    uint32_t index;
    uint32_t group_number;                  /* of its group in the topology that workers have now */
    int64_t timeouts_ms[SHOVE_WORKER_SETS]; /* of a handler with its audit, as each set was told */
    enum shove_flow_state state;
    bool was_assigned;   /* at least once */
    bool is_paused;      /* by command: nothing is fed */
    bool is_removed;     /* by a reload: it finishes what it has, and leaves */
    bool is_succeeded;   /* and another has taken over its counts */
    uint32_t failures;   /* in a row (supervision.h) */
    char *failure;       /* what the last one was; owned; NULL: it goes on, or never failed */
    int64_t assigned_ms; /* loop time since when it has partitions, or stands by; 0: not since it
                            was joined */
    int64_t rested_ms;   /* RESTING: since when, loop time */
    struct shove_policy policy;
    struct shove_subscription *subscription;
    struct shove_partition *partitions;
    struct shove_partition *next_partition; /* where the next round of feeding begins */
    uint32_t turn_count;                    /* messages it was given of that one in a row */
    uint32_t consumers;                     /* lanes it has now */
    struct shove_autoscale autoscale;
    bool awaits_advice; /* of the strategy, which was asked */
    uint64_t scaled_up; /* by the autoscaler */
    uint64_t scaled_down;
    uint64_t strategy_failures;
    uint32_t *capacity; /* per worker: lanes there x effective prefetch */
    uint32_t capacity_total;
    uint32_t *in_flight; /* per worker */
    uint32_t in_flight_total;
    uint32_t current_worker;
    uint32_t streak;               /* messages given to current_worker in a row */
    struct shove_due_heap waiting; /* by loop time. They come in any order: restored ones begin anew
                                      with each partition, and holds differ in their delays */
    size_t waiting_count;
    uint32_t hopping_count;  /* retries and dead letters that are not yet stored */
    uint32_t ahead_count;    /* those of them that hop before their turn */
    size_t aside_bytes;      /* of messages that wait in place, or hop and are not ahead */
    int64_t full_since_ms;   /* loop time since when they are too many; 0: they are not */
    int64_t backlog_line_ms; /* loop time before which no other line says so */
    struct shove_delivery_list again;
    struct shove_delivery_list suspects; /* the same, each alone in a worker (isolation.h) */
    struct shove_delivery_list recording;
    struct shove_sequence sequence;      /* of a sequenced topic */
    uint64_t pending_full;               /* times a message found max_pending_per_key before it */
    struct shove_rare_line full_line;    /* about keys that have so many */
    struct shove_rare_line crowded_line; /* about partitions where too many bytes wait */
    struct shove_tally tally;
    struct shove_flow_metrics *metrics; /* owned; NULL: nothing is measured */
    struct shove_log_limit log_limit;
    int64_t age_line_ms;     /* loop time before which no line about old messages is written */
    int64_t cut_line_ms;     /* the same of lines about metadata that is too small */
    int64_t retry_commit_ms; /* loop time before which retries make no commits of their own */
};

enum shove_worker_state {
    SHOVE_WORKER_ABSENT, /* waiting for its turn to be started */
    SHOVE_WORKER_LOADING,
    SHOVE_WORKER_LOADED, /* of a reload: waits for the others (reload.h) */
    SHOVE_WORKER_READY,
    SHOVE_WORKER_RETIRING, /* reloaded, or spent: finishes what it has, is given nothing more */
    SHOVE_WORKER_STOPPING
};

struct shove_worker {
    struct shove_control *control;
    uint32_t index;
    enum shove_worker_state state;
    struct shove_child child;
    bool has_child;
    struct shove_home *home;
    struct shove_delivery **slots;
    uint32_t *generations;
    uint32_t *free_slots;
    uint32_t free_count;
    uint32_t in_flight;
    uint32_t incarnation;     /* one more for each process started */
    uint32_t failures;        /* deaths in a row without a second of work */
    bool has_failed_to_start; /* its last process did not come as far as READY */
    int64_t started_ms;       /* loop time */
    int64_t start_at_ms;      /* ABSENT: when to start it */
    int64_t stopping_since_ms;
    int64_t last_progress_ms; /* a note came, or none could */
    int64_t last_running_ms;  /* watchdog: a handler was on the CPU */
    uint32_t watched_slot;    /* watchdog: what was running at its last look */
    uint32_t watched_generation;
    int64_t watched_stretch_ms; /* since when, as the worker says */
    int64_t watched_since_ms;   /* 0: nothing */
    int64_t excused_ms;         /* of that stretch: control itself stood still */
    uint32_t consultation;      /* the strategy was given to it and has not ended; 0: none */
    bool wants_groups;          /* it asked for their state (groups.h) */
    uint64_t groups_block;      /* in its arena: the last answer; or SHOVE_ARENA_NONE */
    bool runs_start;            /* app:on_start was given to it and has not returned */
    bool moves_start;           /* it was told to stop it, so that another worker runs it */
    bool is_killed_for_timeout;
    bool is_condemned;      /* a kill was sent */
    enum shove_death death; /* what it dies of, when it does, as far as is known before */
    bool is_distrusted;     /* it said what cannot be: nothing more is read from it */
    bool is_spent;          /* the script keeps too much memory: it is replaced */
    bool has_handled;       /* this process was given a message */
    bool has_refused;       /* a replacement that cannot load the script, and ends by itself */
    bool has_suspect;       /* a suspected message runs there, alone */
    bool was_fresh;         /* it is the first that this process was given */
    bool is_reserved;       /* nothing is given to it but a suspect */
    struct shove_publish_request *answers_first; /* the submit ring had no room for them */
    struct shove_publish_request *answers_last;
};

struct shove_publish_request { /* a publish of a handler, on its way */
    struct shove_ticket ticket;
    struct shove_worker *worker;
    struct shove_cluster *cluster;
    uint32_t incarnation; /* of the worker that asked: an answer goes to nobody else */
    uint32_t request;
    int code;
    struct shove_publish_metrics *metrics; /* NULL: not measured */
    uint64_t asked_ns;
    struct shove_publish_request *next;
    uint8_t *copy; /* the note's payload while the transport has no room for it; owned */
    size_t copy_size;
};

enum shove_phase {
    SHOVE_PHASE_STARTING,
    SHOVE_PHASE_RUNNING,
    SHOVE_PHASE_DRAINING, /* nothing new is fed; waiting for what is in flight */
    SHOVE_PHASE_LEAVING,  /* last commits, groups are left */
    SHOVE_PHASE_STOPPING, /* workers are told to go */
    SHOVE_PHASE_DONE
};

struct shove_reload { /* reload.h */
    bool is_wanted;
    bool is_loading;
    bool has_failed; /* the last one */
    uint32_t set;    /* where its workers are */
    uint64_t succeeded_count;
    uint64_t failed_count;
    uint32_t ready_count;
    uint32_t unanswered_count;  /* brokers that still declare topics of `next` */
    struct shove_topology next; /* once its workers have loaded, until the switch; else empty */
    uint32_t begun;             /* how many; the number of the last one */
    const char *why;            /* literal */
    char *description;          /* what its workers say; owned */
    size_t description_size;
};

struct shove_isolation { /* isolation.h */
    uint32_t turn;       /* index of the flow whose suspects are looked at first */
    bool is_used;        /* a suspect runs */
    int64_t since_ms;    /* loop time since when a worker is kept for one; 0: none is */
    int64_t rest_until_ms;
};

struct shove_replacement { /* replacement.h: while no worker is ready */
    int64_t since_ms;      /* loop time; 0: one is, as far as was looked */
    uint32_t failures;     /* in a row: those that ended before they were */
    bool is_told;
    char *why; /* what the last one said, owned; NULL: nothing */
};

struct shove_former { /* a topology that groups which are gone still speak of */
    struct shove_topology topology;
    struct shove_former *next;
};

struct shove_strategy {          /* strategy.h */
    struct shove_worker *worker; /* that is asked now; NULL: none */
    uint32_t number;             /* of the last consultation, from 1 */
    int64_t asked_ms;            /* loop time */
    int64_t rests_until_ms;      /* it has cost a worker its life: it is not asked before */
};

#define SHOVE_BACKEND_ERROR_KINDS 64

struct shove_cluster { /* cluster.h */
    struct shove_control *control;
    char *url; /* owned */
    const struct shove_transport_ops *ops;
    struct shove_transport *transport; /* NULL: not open */
    bool is_away;                      /* it cannot be reached at the moment */
    size_t metadata_max; /* characters it takes with a commit, as far as it has refused any */
    const struct shove_delivery *lone_hop; /* on its way, with none beside it that was too large */
    struct shove_publish_request *publishes_first; /* refused by the transport for now */
    struct shove_publish_request *publishes_last;
    size_t publish_bytes;     /* of all requests there are, copies included */
    int64_t publish_moved_ms; /* loop time when the transport last took one that had waited */
    uint64_t errors[SHOVE_BACKEND_ERROR_KINDS]; /* by -SHOVE_E* */
};

struct shove_control {
    const struct shove_run_options *options;
    uv_loop_t loop;
    enum shove_phase phase;
    int exit_code;         /* of a start-up that failed; else 0 and the verdict decides */
    bool is_stopped_early; /* by a signal, before anything was consumed */

    struct shove_topology topology;
    char *description; /* JSON the topology came from: what each worker must describe again */
    size_t description_size;
    struct shove_cluster *clusters; /* as topology.brokers, in all generations */
    uint32_t cluster_count;

    struct shove_worker *workers; /* sets of set_size, one of them current */
    uint32_t worker_count;        /* of all sets: places, not processes */
    uint32_t set_size;
    uint32_t set;        /* the current one */
    uint32_t generation; /* of the code, from 1 */
    struct shove_reload reload;
    struct shove_isolation isolation;
    struct shove_replacement replacement;
    uint32_t slot_count; /* per worker, a power of two */
    size_t arena_bytes;
    int64_t largest_message_bytes; /* that the arenas and the brokers' clients were laid out for */
    struct shove_bell bell;        /* rung by all workers */

    struct shove_flow *flows;
    uint32_t flow_count;
    uint32_t flow_places; /* flows do not move: how many there can be */
    struct shove_former *formers;
    struct shove_strategy strategy;
    char *groups_text; /* JSON for workers that ask (groups.h); owned; NULL: none yet */
    size_t groups_text_size;
    int64_t groups_text_ms; /* loop time it is of */
    struct shove_delivery *free_deliveries;
    struct shove_delivery **delivery_slabs;
    size_t delivery_slab_count;
    struct shove_delivery_list hops; /* HOPPING, refused by the transport for now */
    uint32_t laid_aside_count;       /* HOPPING and is_laid_aside, of all partitions */
    uint32_t publishes_in_flight;
    uint32_t hops_in_flight;

    struct shove_buffer scratch; /* headers of the record being built */
    int64_t now_ms;              /* loop time of this round */
    int64_t wall_ms;
    bool has_progress;
    struct shove_poison_scan *scans; /* all that are under way (poisoning.h) */
    bool is_start_sent;              /* app:on_start was asked for */

    uv_poll_t wake_poll;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* active: do not block, there is more to do */
    uv_timer_t due_timer;
    uv_timer_t commit_timer;
    uv_timer_t watch_timer;
    uv_timer_t report_timer;
    uv_timer_t scale_timer;
    uv_timer_t file_timer; /* file_watch.h */
    struct shove_folder_watch *folder_watches;
    uv_pipe_t remote;
    char remote_path[SHOVE_SOCKET_PATH_SIZE]; /* "": none */
    struct shove_remote_client *remote_clients;
    uv_signal_t sigint;
    uv_signal_t sigterm;
    uv_signal_t sighup;

    struct shove_metrics *metrics; /* NULL: nothing is measured (no --listen) */
    struct shove_admin *admin;     /* NULL: the same */
    uint64_t deaths[SHOVE_DEATH_COUNT_];
    int64_t watched_ms;      /* watchdog: loop time of its last look, or of the start */
    int64_t absent_ms;       /* how long control stood still the last time */
    int64_t absent_until_ms; /* 0: it never did */

    int64_t drain_deadline_ms;
    int64_t leave_deadline_ms;
    char *app_path;     /* of the script at the start, without links; owned; NULL: not found out */
    int64_t started_ms; /* loop time */
    int64_t joined_ms;  /* when all groups were joined */
    struct shove_verdict verdict;
};

/* How many messages one worker gets in a row, and one partition gives in a row: crossings are
 * batched by this much. */
#define SHOVE_FEED_STREAK 256u
#define SHOVE_TAKE_MAX 1024u
#define SHOVE_COMMIT_INTERVAL_MS 500
#define SHOVE_REVOKE_COMMIT_MS 5000
#define SHOVE_WATCH_INTERVAL_MS 250
#define SHOVE_KILL_GRACE_MS 2000

void shove_delivery_list_push(struct shove_delivery_list *list, struct shove_delivery *delivery);
struct shove_delivery *shove_delivery_list_pop(struct shove_delivery_list *list);

/* That waits there. */
struct shove_delivery *shove_delivery_of_wait(struct shove_due_entry *wait);

#endif
