/* store.h: the index over the log: the current record of each key of one shard. Owner thread only;
 * pure.
 *
 * The index holds one 8-byte entry (tag, state, place) for each key that has a current record of
 * any kind (VALUE, TOMBSTONE, DISCARD). A bucket is one cache line. It grows by linear hashing, one
 * bucket at a time, inside a range of address space given at start, so there is no pause and no
 * allocation.
 *
 * Also kept here, because cleaning must know it: the newest MARK for each node. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "pmem/log.h"

/* Replication state of the current record (doc/protocol.md has the diagram; replica_set_state is
 * the only writer). */
enum record_state {
    STATE_VALID,   /* may be read */
    STATE_INVALID, /* a newer value is on its way to being complete; reads wait */
    STATE_WRITE,   /* this node coordinates it */
    STATE_REPLAY,  /* this node finishes it for a departed coordinator */
    /* after this node's last mark, before the group confirmed it; older than anything */
    STATE_UNCONFIRMED,
};

enum { NODE_COUNT_MAX = 7 };

struct store;

/* The current record of a key. Valid until the next call that changes the store. */
struct found {
    uint64_t *entry; /* opaque; for the store_*_found functions */
    const struct record *record;
    place_t place;
    uint64_t lsn; /* see log_lsn */
    enum record_state state;
};

enum { STORE_WHOSE_SIZE = 48 };

/* For memory that outlives the process. Stays the caller's, until store_close. */
struct store_keep {
    /* what must be equal for a take-over: which boot, which directory */
    uint8_t whose[STORE_WHOSE_SIZE];
    /* when a segment was changed last, CLOCK_REALTIME; 0: not known */
    uint64_t changed_us;

    /* Before the index uses [from, to) of its memory for the first time. It stays usable in any
     * case; false: the part will not outlive the process, so that the whole can't be taken over any
     * more. May be called again for what was asked for. */
    bool (*grow)(void *user, uint64_t from, uint64_t to);
    void *user;
};

struct store_options {
    struct log_options log; /* memory and journal: the store's business */
    void *index; /* zeroed memory of the caller, 64-byte aligned; touched only as the store grows */
    uint64_t index_size;
    const struct store_keep *keep; /* NULL: the memory dies with the process */
    /* nobody will open this log again: no scan can bring back what a dropped tombstone has
     * deleted */
    bool forgetful;

    /* A record, or an entry that leads to it, turns out to be damaged: after a take-over when it is
     * used for the first time, else when cleaning is about to copy it. There is nothing true to
     * answer, so this must end the process and not return (NULL: an assertion fails). The next
     * start scans. `segment`: where the record is said to be. The owner's thread. */
    void (*broken)(void *user, uint32_t segment);
    void *broken_user;
};

/* Bytes of address space for the index of a log of `log_size` bytes. */
uint64_t store_index_size(uint64_t log_size);

/* How many segments of this size a log needs so that so many bytes of records may live in it: some
 * room is for cleaning. */
uint32_t store_segment_count(uint64_t live_bytes, uint32_t segment_size);

/* The other way round. */
uint64_t store_live_max(uint32_t segment_count, uint32_t segment_size);

/* Opens the log and builds the index. Records with lsn below the newest own MARK come up VALID,
 * others UNCONFIRMED. Errors and report as log_open. The struct itself lies at the beginning of
 * `index`. */
enum status store_open(struct store **store, const struct store_options *options,
                       struct log_report *report, uint32_t *bad_segment) MUST_CHECK;
void store_close(struct store *store);

/* Goes on with the memory that a process left which ended, however it ended: in milliseconds,
 * nothing is scanned. States and marks are as store_open would find them. STATUS_NOT_FOUND: *why
 * says why it can't be taken over (a phrase); a log's STATUS otherwise. Then nothing is open, and
 * store_open wants the memory zeroed again. The owner goes on with store_check(). */
enum status store_take_over(struct store **store, const struct store_options *options,
                            struct log_report *report, uint32_t *bad_segment,
                            const char **why) MUST_CHECK;

/* After a take-over: compares some more entries with their records, byte by byte, about `budget`
 * bytes of them. STATUS_CORRUPT: one does not hold; the memory will not be taken over again, and
 * the owner should stop, so that the next start scans. *bad_segment: where the entry says that the
 * record is. */
enum status store_check(struct store *store, uint64_t budget, uint32_t *bad_segment) MUST_CHECK;
bool store_wants_check(const struct store *store);

/* The process lives, at this CLOCK_REALTIME: call it about each tick. A segment that is changed
 * later was changed by somebody else, and nothing is taken over. */
void store_alive(struct store *store, uint64_t wall_us);

/* The memory must not be taken over any more; until the next store_open. Any thread, of an open
 * store. */
void store_distrust(struct store *store);

struct log *store_log(struct store *store);

/* False: the key has no record of any kind. */
bool store_find(const struct store *store, struct slice key, uint64_t hash, struct found *found);

/* For any thread: the key's current record at a moment of the call, if it was VALID then. False
 * says nothing: entries move while the owner works, and what was taken over is not looked at before
 * it was checked; ask the owner. *found has no lsn. The record stays as it is until the caller lets
 * go of the log (log_grace_ask). */
bool store_read_any(const struct store *store, struct slice key, uint64_t hash,
                    struct found *found);
/* The same for a key of which only the hash is known. */
bool store_find_hash(const struct store *store, uint64_t hash, struct found *found);

/* Appends a record and makes it the key's current one, in `state`; the former one is dead. *found
 * is the new one. STATUS_BUSY (cleaning is making room: retry when log_durable() has moved on),
 * STATUS_NO_SPACE (full of live data), STATUS_TOO_LARGE: nothing changed; STATUS_IO: no segment can
 * be made. Slices of `spec` may lie in this log. `urgent` may use the reserve that is kept for
 * cleaning and for what peers send (an INV can't be refused); clients' writes pass false. */
enum status store_put_nodrain(struct store *store, const struct record_spec *spec, uint64_t hash,
                              enum record_state state, bool urgent, struct found *found) MUST_CHECK;

/* When a key was last read here, and whether at all since its current value was set. Volatile, of
 * this node only, and exact to the second: for `h`, `l` and `la=`, and to choose what to evict. 4
 * bytes an entry beside the index. `now` is CLOCK_REALTIME in seconds. */
struct access {
    uint32_t at; /* seconds since 1970; 0: neither set nor read since the start */
    bool fetched;
};
struct access store_access_of(const struct store *store, const struct found *found, uint32_t now);
void store_accessed(struct store *store, const struct found *found, uint32_t now); /* read */
/* For any thread, of what store_read_any() has found: when it was read before, in *access; with
 * `notice` it is read now. False: it has moved or was replaced meanwhile, *access is not to be
 * trusted. An entry that moves between that look and the mark leaves the mark to its successor,
 * which then counts as read. */
bool store_accessed_any(const struct store *store, const struct found *found, uint32_t now,
                        bool notice, struct access *access);
/* set to a new value */
void store_access_reset(struct store *store, const struct found *found, uint32_t now);

/* How often a key was read here lately, to choose what to evict (recovery/evict.h): a read counts
 * it up, the hands of eviction count it down. It belongs to the key, not to the value: a new value
 * keeps it, and so does a tombstone, for the next value. */
enum { STORE_FREQUENCY_MAX = 3 };
unsigned store_frequency(const struct store *store, const struct found *found);
void store_set_frequency(struct store *store, const struct found *found, unsigned frequency);

/* One of `count` slices of the hash space of a shard. */
struct store_share {
    unsigned number, count;
};
/* bits that choose neither shard nor bucket, and stand in the index entry */
enum { STORE_SHARE_SHIFT = 35, STORE_SHARE_BITS = 11 };
static inline bool store_share_has(const struct store_share *share, uint64_t hash)
{
    uint64_t bits = hash >> STORE_SHARE_SHIFT & ((1 << STORE_SHARE_BITS) - 1);
    return (bits * share->count >> STORE_SHARE_BITS) == share->number;
}

/* No growth by clients would be admitted here, and cleaning cannot help: peers must not make this
 * store take any more. */
bool store_is_full(const struct store *store);

/* An urgent put of so many bytes would be answered STATUS_BUSY: there is room when log_durable()
 * has moved on. */
bool store_is_busy(const struct store *store, uint64_t key_size, uint64_t value_size);

/* By how much a put of `spec` makes the live data grow; 0: not at all. */
uint64_t store_growth(const struct store *store, const struct record_spec *spec, uint64_t hash);

/* The growth that one of `peers` others may have under way at once, so that together they find room
 * here even if this store becomes full meanwhile; UINT64_MAX: there is so much room that it does
 * not matter. */
uint64_t store_growth_max(const struct store *store, unsigned peers);

/* Changes the state bits of a found entry. */
void store_set_state(struct store *store, struct found *found, enum record_state state);

/* Appends a MARK; it replaces the older marks of all nodes in mark->members. mark->lsn must be
 * durable here already: a start takes it as proof, and reports damage if less is found.
 * STATUS_BUSY, STATUS_NO_SPACE: as store_put_nodrain. */
enum status store_put_mark_nodrain(struct store *store, const struct mark *mark) MUST_CHECK;

/* The newest mark of a round in which `node` (1..7) and this node took part; false: none. */
bool store_mark_with(const struct store *store, unsigned node, struct mark *mark);

/* The newest mark of all: where this node's own records become unconfirmed; false: none, all
 * are. */
bool store_mark_last(const struct store *store, struct mark *mark);

/* The highest clock and floor of the marks: what a start will know, once the log is durable. Zeros:
 * none. */
void store_mark_kept(const struct store *store, uint64_t *clock, uint64_t *floor);

/* Appends the newest mark once more, with this clock and floor; if there is none, one that says
 * nothing else. As store_put_mark_nodrain. */
enum status store_put_clock_nodrain(struct store *store, uint64_t clock, uint64_t floor) MUST_CHECK;

/* Forgets all marks but their clock and floor, durably with the next drain: this node no longer
 * knows what it has (corruption). */
enum status store_drop_marks_nodrain(struct store *store) MUST_CHECK;

/* Visits the current record of each key whose lsn is at or above `lsn_min`, in the order of the
 * log: its cold stream, then the hot one. Segments without any such are skipped. Stays right while
 * the store changes between calls: a record that is current during the whole walk is given at least
 * once. Begin with a zeroed cursor; false: the end was reached. `budget` bytes of log are looked at
 * per call at most; *found->record is NULL when the budget ran out first. */
/* of looking at one record, in bytes of budget; what is done with it costs the caller */
enum { STORE_WALK_COST = 64 };
struct store_cursor {
    struct {
        uint32_t generation;
        uint32_t offset;
    } at[STREAM_COUNT];
};
bool store_walk(struct store *store, struct store_cursor *cursor, uint64_t lsn_min,
                uint64_t *budget, struct found *found);

/* Bytes of log that such a walk still has to look at, about. */
uint64_t store_walk_left(const struct store *store, const struct store_cursor *cursor,
                         uint64_t lsn_min);

/* Visits the keys of one chain of the index, current records of any kind, and moves on; false: all
 * were visited. *position is 0 to begin. A key that has a record during the whole scan is visited
 * exactly once, whatever is put, removed and cleaned between the calls and however much the index
 * grows; a chain is a few keys. `visit` may not change the store. */
typedef void (*store_visit_t)(void *user, const struct found *found);
bool store_scan(const struct store *store, uint64_t *position, store_visit_t visit, void *user);

/* The hand of a clock over the index. Looks at the keys of one chain, as store_scan does, and moves
 * on; false: all were looked at. Of VALID values of the share whose lsn is below `lsn_end` it
 * visits those whose frequency is 0, and counts that of the others down. Most records are not
 * touched. Pieces of large values are left out. */
bool store_hand(struct store *store, uint64_t *position, const struct store_share *share,
                uint64_t lsn_end, store_visit_t visit, void *user);

/* No record of this store passes its exptime before this second, as far as is known: a put of one
 * that does lowers it; who has looked at all of them may raise it. UINT32_MAX: never. */
uint32_t store_expires_first(const struct store *store);
void store_set_expires_first(struct store *store, uint32_t second);

/* By how much the live data are above `level`, or, if that is 0, above the level at which clients'
 * writes are near having to wait; 0: below. */
uint64_t store_excess(const struct store *store, uint64_t level);

/* Cleaning: reclaims space, `budget` bytes of copying and scanning at most; call each turn while
 * store_wants_cleaning(). Tombstones and DISCARDs may be dropped only when VALID, lsn below
 * drop->lsn, ts version at most drop->floor, and every older version of the key has left the log (a
 * scan would bring it back). drop->lsn == 0: none may be dropped now. */
struct store_drop {
    uint64_t lsn;
    uint64_t floor;
};
bool store_wants_cleaning(const struct store *store);
void store_clean(struct store *store, const struct store_drop *drop, uint64_t budget);

/* The same, for as much as a turn should spend: in proportion to what was appended since the last
 * turn, the more the less room is left, so that no turn has to make up for many. */
void store_clean_turn(struct store *store, const struct store_drop *drop);

/* What the group has is here: damaged segments are evidence no more. Cleaning takes them first, so
 * that the next start finds none. */
void store_repair(struct store *store);

struct store_stats {
    uint64_t value_count;     /* current VALUE records, pieces included */
    uint64_t piece_count;     /* of these, the pieces of large values */
    uint64_t tombstone_count; /* current TOMBSTONE and DISCARD records */
    uint64_t tombstone_bytes; /* of these */
    uint64_t expiring_count;  /* current VALUE records with an exptime */
    uint64_t live_bytes;      /* of current records */
    uint64_t put_bytes;       /* of VALUE records appended so far, copies by cleaning left out */
    uint64_t live_max;        /* to which commands may make that grow */
    uint64_t log_bytes;       /* that the log may use */
    uint32_t segment_count;   /* that the log may use, all in all */
    uint32_t segment_free;    /* of these, ready to be written */
    /* of these, with a part that could not be read when the log was scanned; until a start would
     * not find it any more */
    uint32_t segment_damaged;
    uint64_t index_bytes;   /* touched */
    uint64_t cleaned_bytes; /* copied so far */
    uint64_t version_max;   /* newest ts version seen, at opening and since */
};
void store_stats(const struct store *store, struct store_stats *stats);

#endif
