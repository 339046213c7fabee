/* ledger.h: which messages of one partition are finished, and what may therefore be committed.
 *
 * Control, one per partition and assignment (epoch). Pure: no clock, no I/O.
 *
 * Records are delivered in offset order; each delivered record that is not finished is an *open*
 * entry in an intrusive, doubly linked list in delivery order. Everything delivered and not in the
 * list is finished, so holes in offsets (compaction, transaction markers) are complete by
 * definition, opening and closing are O(1), and memory is proportional to what is open, however far
 * the frontier is held back.
 *
 *   frontier = offset of the oldest open entry, else the next one not known to be finished
 *
 * It never goes back, unless the log does (shove_ledger_rewind).
 *
 * Restoring: the metadata committed with the frontier lists the open offsets from it on, up to the
 * offset it speaks to. After a restart, records between the frontier and that offset which are not
 * listed are already finished and are skipped. Until they come by again, listed offsets count as
 * open, for the frontier and for the metadata written meanwhile; one that is passed by (retention,
 * compaction) is gone and finished.
 *
 * Sequenced topics: what waits behind an open entry of its own key need not be listed, however much
 * that is; the caller says so with is_implied. The metadata then says that it is *keyed*: of the
 * key of everything listed, all that follows is open. For as long as such a text is restored and
 * not passed, records are delivered with a hash of their key, the frontier stays where it was, and
 * the metadata written meanwhile lists what was settled last of each of these keys, too. Two keys
 * of one hash cost a repetition, never a message. So does what was closed ahead of an open entry of
 * its key (dead letters that went ahead of one that could not be stored), and a listed record that
 * is gone when it is passed (retention, compaction): nobody knows its key any more, so all that
 * follows it is open, and the metadata written from then on does not speak of what was not read
 * again.
 */
#ifndef SHOVE_CORE_LEDGER_H
#define SHOVE_CORE_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Kafka refuses more than 4,096 characters of commit metadata, as it is configured by default: what
 * shove uses there at most. */
#define SHOVE_LEDGER_METADATA_MAX 3072
/* The same of a broker that has no limit of its own. Nothing longer is read. */
#define SHOVE_LEDGER_METADATA_MOST ((size_t)1 << 20)

/* Embedded in whatever the caller keeps per message; the ledger never allocates or frees it.
 * Zeroed before first use. */
struct shove_ledger_entry {
    struct shove_ledger_entry *previous;
    struct shove_ledger_entry *next;
    int64_t offset;
    int64_t due_ms;    /* the caller's: wall time before which it is not handled; 0: none. Kept in
                          the metadata, rounded up to a second */
    uint64_t key_hash; /* 0: none, or not asked for */
    uint8_t attempts;  /* the caller's to count; kept in the metadata; saturates at 255 */
    uint8_t crashes;
    bool is_open;
    bool was_open;   /* the restored metadata lists it: it may have been handled before */
    bool is_implied; /* the caller's: an open entry of its key, of this ledger, is before it */
};

struct shove_ledger_mark { /* one restored, not yet redelivered offset */
    int64_t offset;
    int64_t due_ms;
    uint8_t attempts;
    uint8_t crashes;
    bool is_settled; /* finished, and listed for what follows under its key */
};

struct shove_ledger_keys; /* those of a keyed text (ledger_keys.h) */

struct shove_ledger {
    struct shove_ledger_entry *first; /* oldest open */
    struct shove_ledger_entry *last;
    size_t open_count;
    int64_t next_offset;             /* one past the last delivered record */
    int64_t speaks_to;               /* restored knowledge ends here; offsets >= it are new */
    struct shove_ledger_mark *marks; /* restored, ascending */
    size_t mark_count;
    size_t mark_next;               /* marks before it were delivered or are gone. From speaks_to
                                       on they say what is known of a record, not that it is open */
    struct shove_ledger_keys *keys; /* NULL: nothing keyed was restored, or it is passed */
    int64_t keyed_frontier;         /* the frontier while there are keys */
};

enum shove_ledger_verdict {
    SHOVE_LEDGER_OPENED,   /* handle it */
    SHOVE_LEDGER_FINISHED, /* finished before the restart: skip it, `entry` was not linked */
    SHOVE_LEDGER_REWOUND   /* below what this epoch already delivered: the log was truncated or an
                              offset reset went back; nothing was changed, the caller must rewind
                              and deliver again */
};

/* Starts an epoch at `start_offset` (the committed frontier, or what the reset policy gave). */
void shove_ledger_init(struct shove_ledger *ledger, int64_t start_offset);
void shove_ledger_release(struct shove_ledger *ledger);

/* Takes over what the metadata of the commit at start_offset says, right after init. `text` NULL
 * or empty: nothing to restore. SHOVE_ECORRUPT when it is not ours, fails its checks (magic,
 * version, checksum, order) or was committed with another offset, SHOVE_ENOMEM, SHOVE_EINVAL
 * (something was delivered already); the ledger is unchanged. */
int shove_ledger_restore(struct shove_ledger *ledger, const char *text, size_t text_size,
                         struct shove_error *error);

/* The log ends at `log_end` (high watermark): nothing from there on can have been finished,
 * whatever was restored. To be called after restore where the end is known, so that records
 * written after a truncation are not taken for old ones. */
void shove_ledger_clip(struct shove_ledger *ledger, int64_t log_end);

/* The record at `offset` came by. `key_hash`: of its key where shove_ledger_asks_for_keys, else 0.
 * On OPENED, `entry` is linked with the attempts, crashes and due time known for it. */
enum shove_ledger_verdict shove_ledger_deliver(struct shove_ledger *ledger,
                                               struct shove_ledger_entry *entry, int64_t offset,
                                               uint64_t key_hash);

static inline bool shove_ledger_asks_for_keys(const struct shove_ledger *ledger) {
    return ledger->keys != NULL;
}

/* Never 0, which is a record without a key. FNV-1a (Fowler, Noll, Vo), 64 bits. */
uint64_t shove_ledger_hash(const void *key, size_t size);

/* Closes an open entry. Returns true when the frontier moved. Closing twice is a no-op that
 * returns false. */
bool shove_ledger_close(struct shove_ledger *ledger, struct shove_ledger_entry *entry);

/* Unlinks every open entry without finishing it (the epoch ends); calls `forget` (may be NULL,
 * may free the entry) for each, oldest first. The frontier stays where it was and what was
 * finished beyond it is forgotten. */
void shove_ledger_abandon(struct shove_ledger *ledger,
                          void (*forget)(void *ctx, struct shove_ledger_entry *entry), void *ctx);

/* The log goes on from `offset`, which was delivered before: it was cut there and written anew.
 * Unlinks every open entry from there on and calls `forget` as above; what was finished or restored
 * there is forgotten too. Entries below stay open. The frontier goes back to `offset` where nothing
 * below is open. */
void shove_ledger_rewind(struct shove_ledger *ledger, int64_t offset,
                         void (*forget)(void *ctx, struct shove_ledger_entry *entry), void *ctx);

int64_t shove_ledger_frontier(const struct shove_ledger *ledger);

/* Every offset below it is either open or finished; of what lies beyond nothing is known. */
int64_t shove_ledger_known_end(const struct shove_ledger *ledger);

/* Offsets at or past the frontier that are finished, holes counted: lag is high watermark -
 * frontier - these. While there are restored keys, what they imply and was not read again counts as
 * finished. */
int64_t shove_ledger_finished_beyond(const struct shove_ledger *ledger);

/* What the metadata written now says, and what it could not say: records finished past speaks_to
 * may be handled again after a crash. Exact up to holes (counts offsets). */
struct shove_ledger_coverage {
    int64_t speaks_to;
    size_t listed;      /* open entries it speaks of */
    size_t unlisted;    /* open entries that did not fit */
    int64_t may_repeat; /* finished offsets from speaks_to on */
};

/* Characters that shove_ledger_metadata has a use for now, `max_chars` at most. */
size_t shove_ledger_metadata_room(const struct shove_ledger *ledger, size_t max_chars);

/* Writes the metadata for a commit of the current frontier into `out` (NUL-terminated; at most
 * `max_chars` characters plus NUL; the rest of them is scratch).
 * An empty string when nothing is open, or when not even the frontier's entry fits. What does
 * not fit is cut from the far end: entries nearest the frontier are kept, and the text says up
 * to which offset it speaks. `coverage` may be NULL. */
void shove_ledger_metadata(const struct shove_ledger *ledger, char *out, size_t max_chars,
                           struct shove_ledger_coverage *coverage);

#endif
