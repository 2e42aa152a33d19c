/* store_private.h: what the files of the store share. Holds atomics: the words of the index, which
 * other workers may read. */
#ifndef STORE_STORE_PRIVATE_H
#define STORE_STORE_PRIVATE_H

#include <stdatomic.h>

#include "base/fault.h"
#include "store/store.h"

enum {
    BUCKET_ENTRIES = 7,
    ACCESS_BUCKET_SIZE = BUCKET_ENTRIES * sizeof(uint32_t),
    BUCKET_SIZE = 64,
    STATE_SHIFT = PLACE_BITS,
    STATE_BITS = 3,
    LIFE_SHIFT = STATE_SHIFT + STATE_BITS,
    LIFE_BITS = 2,
    LIFE_COUNT = 1 << LIFE_BITS,
    TAG_SHIFT = LIFE_SHIFT + LIFE_BITS,
    TAG_HASH_SHIFT =
        35, /* below the bits that choose the shard, above those that choose the bucket */
    TAG_MASK = (1 << (64 - TAG_SHIFT)) - 1,
    /* buckets asked for at once: so little that a pause stays below 1 ms */
    INDEX_GROW_COUNT = 8192,
};

enum { EVICT_MARGIN_SHARE = 128 }; /* of the room for live data, which eviction keeps free */

static const uint32_t VICTIM_NONE = UINT32_MAX;

/* How cleaning chooses: the others are there to be compared with (bench/clean.c). */
enum clean_policy {
    POLICY_BEST,     /* the most gain for its cost, copies to a tail of their own */
    POLICY_ONE_TAIL, /* the most gain for its cost, copies to the hot tail */
    POLICY_GREEDY,   /* the most dead, copies to the hot tail */
};

/* Entries are packed: from the front, without holes, over the whole chain. */
struct bucket {
    uint64_t entries[BUCKET_ENTRIES];
    uint64_t overflow; /* number of the next bucket of the chain; 0: none */
};
static_assert(sizeof(struct bucket) == BUCKET_SIZE, "a bucket is one cache line");

/* What changes is changed behind a note (pmem/journal.h), but for the access words: they may be
 * wrong. */
struct index {
    struct bucket *buckets;
    uint32_t *accesses; /* BUCKET_ENTRIES a bucket, in the same order: store_access.c */
    struct journal *journal;
    uint32_t total;         /* buckets in the range */
    uint32_t main_granted;  /* memory was asked for up to here... */
    uint32_t low_granted;   /* ...and from here on */
    bool fresh;             /* being built: access words are zero, and stay out of the caches */
    uint32_t main_count;    /* at the bottom: one chain each */
    uint32_t overflow_low;  /* from the top down: the lowest overflow bucket ever used */
    uint32_t overflow_free; /* a list of those given back; 0: empty */
    uint32_t free_count;    /* in that list */
    uint64_t entry_count;
};

struct store_mark {
    struct mark mark;
    uint64_t lsn;  /* of the record */
    place_t place; /* 0: there is none */
};

/* Whose the memory is, and whether it can be taken over: store_take.c. */
struct store_header {
    uint64_t magic;
    uint32_t crc;      /* of `made` */
    uint32_t ready;    /* 0: being built, or known to be wrong */
    uint32_t life;     /* 1, and one more with each process that took over */
    uint32_t checked;  /* the newest life whose entries were all checked */
    uint64_t alive_us; /* when the process was seen alive last */
    struct store_origin {
        uint32_t version, store_size;
        uint64_t log_size, index_size;
        struct log_identity identity;
        uint32_t segment_size, reserved;
        uint8_t whose[STORE_WHOSE_SIZE];
    } made;
};

struct store {
    struct store_header header;
    struct journal notes;
    struct journal *journal; /* &notes; NULL: the memory dies with the process */
    const struct store_keep *keep;
    uint64_t confirmed_below; /* lsn at the start: what the newest own mark says */
    uint64_t check_position;  /* of store_check() */
    struct log *log;
    struct index index;
    struct store_mark marks[NODE_COUNT_MAX]; /* newest for each node */
    struct store_stats stats;
    uint64_t tombstone_bytes;
    uint32_t expires_later;      /* store_expires_first() as its complement: 0 is never */
    struct store_drop drop;      /* what the last store_clean allowed */
    struct store_cursor dropped; /* the walk that drops tombstones */
    uint64_t drop_walked;        /* the log's tail when that walk had come to its end */
    bool forgetful;              /* as the options say */
    uint32_t victim;             /* being cleaned; VICTIM_NONE: none */
    uint32_t victim_offset;
    uint64_t copied; /* since data last died: more than twice the log means that cleaning gains
                        nothing */
    uint32_t walk_segment[STREAM_COUNT]; /* where the last walk was: saves searching */
    uint64_t appended;                   /* bytes, by puts */
    uint64_t appended_before;            /* that, at the last turn of cleaning */
    uint64_t oldest_left;                /* lsn_base of the oldest segment but the victim */
    enum clean_policy policy;
    bool index_full; /* during the opening scan */
    bool repair;     /* damaged segments may go */
    /* segments that begin before this lsn were taken over: no scan has read them */
    uint64_t proven_from;
    void (*broken)(void *user, uint32_t segment); /* as the options say */
    void *broken_user;
};

/* ---- entries ---- */

static inline uint64_t entry_load(const uint64_t *entry)
{
    return atomic_load_explicit((const _Atomic uint64_t *)entry, memory_order_acquire);
}

static inline void entry_store(uint64_t *entry, uint64_t word)
{
    atomic_store_explicit((_Atomic uint64_t *)entry, word, memory_order_release);
}

/* The owner is the only writer, and loads it as it is. */
static inline uint32_t main_count_load(const struct index *index)
{
    return atomic_load_explicit((const _Atomic uint32_t *)&index->main_count, memory_order_acquire);
}

static inline void main_count_store(struct index *index, uint32_t count)
{
    atomic_store_explicit((_Atomic uint32_t *)&index->main_count, count, memory_order_release);
}

/* Access words stand in no order with anything. */
static inline uint32_t access_load(const uint32_t *access)
{
    return atomic_load_explicit((const _Atomic uint32_t *)access, memory_order_relaxed);
}

static inline void access_store(uint32_t *access, uint32_t word)
{
    atomic_store_explicit((_Atomic uint32_t *)access, word, memory_order_relaxed);
}

static inline uint64_t entry_life(uint64_t word)
{
    return word >> LIFE_SHIFT & (LIFE_COUNT - 1);
}

static inline uint64_t life_of(const struct store *store)
{
    return store->header.life & (LIFE_COUNT - 1);
}

static inline uint64_t entry_make(const struct store *store, uint64_t hash, enum record_state state,
                                  place_t place)
{
    return ((hash >> TAG_HASH_SHIFT) & TAG_MASK) << TAG_SHIFT | life_of(store) << LIFE_SHIFT |
           (uint64_t)state << STATE_SHIFT | place;
}

/* The same entry in another state, of this life. */
static inline uint64_t entry_with_state(const struct store *store, uint64_t word,
                                        enum record_state state)
{
    uint64_t mask = (((uint64_t)1 << (STATE_BITS + LIFE_BITS)) - 1) << STATE_SHIFT;
    return (word & ~mask) | life_of(store) << LIFE_SHIFT | (uint64_t)state << STATE_SHIFT;
}

static inline place_t entry_place(uint64_t word)
{
    return word & (((uint64_t)1 << PLACE_BITS) - 1);
}

/* What a former life said of a record is void: the newest mark decides, as after a scan. */
static inline enum record_state entry_state(const struct store *store, uint64_t word)
{
    if (entry_life(word) == life_of(store) || FAULT(OLD_STATES))
        return (enum record_state)((word >> STATE_SHIFT) & ((1U << STATE_BITS) - 1));
    bool confirmed = log_lsn(store->log, entry_place(word)) < store->confirmed_below;
    return confirmed ? STATE_VALID : STATE_UNCONFIRMED;
}

/* The access word of an entry: store_access.c. */
static inline uint32_t *index_access(const struct index *index, const uint64_t *entry)
{
    size_t word = (size_t)(entry - (const uint64_t *)index->buckets);
    enum { WORDS = BUCKET_SIZE / sizeof(uint64_t) };
    return &index->accesses[word / WORDS * BUCKET_ENTRIES + word % WORDS];
}

/* ---- index.c: linear hashing ---- */

/* The main bucket of a hash, when there are `count` of them. */
uint32_t index_bucket_of(uint64_t hash, uint32_t count);

void index_init(struct index *index, void *memory, uint64_t size);

/* Where the parts lie in `memory`. */
void index_find_parts(struct index *index, void *memory, uint64_t size);

/* Asks for the memory of the buckets in use, or has done so in a former life. */
void index_grant(struct store *store, bool ask);

/* NULL: the key is not there. */
uint64_t *index_find(const struct store *store, struct slice key, uint64_t hash);

/* For any thread: the entry as it was at some moment of the call, in *word. NULL: it was not met;
 * the key may be there. */
const uint64_t *index_find_any(const struct store *store, struct slice key, uint64_t hash,
                               uint64_t *word);
uint64_t *index_find_hash(const struct store *store, uint64_t hash);

/* The entry of the record at `place`, if that is its key's current one. Touches no record, unless a
 * former life wrote the entry. */
uint64_t *index_find_place(const struct store *store, uint64_t hash, place_t place);
/* As many buckets as so many entries would have made; the index is empty. */
void index_presize(struct store *store, uint64_t entry_count);

/* NULL: no room. The key is not there yet. */
uint64_t *index_insert(struct store *store, uint64_t hash, uint64_t word);
void index_remove(struct store *store, uint64_t hash, uint64_t *entry);
bool index_has_room(const struct store *store);

/* The next entry in use, in the order of the buckets; NULL at the end. Begin with a zeroed cursor.
 */
struct index_cursor {
    uint32_t main;
    uint32_t bucket;
    uint32_t slot;
};
uint64_t *index_next(const struct store *store, struct index_cursor *cursor);

/* ---- store.c ---- */

/* A change of several words, which a killed process leaves done or undone. */
void store_begin(struct store *store);
void store_commit(struct store *store);

void store_fill_found(const struct store *store, uint64_t *entry, struct found *found);

/* Books a record as current, or as dead: counters, and the log's. */
void store_count_current(struct store *store, const struct record *record);
void store_count_dead(struct store *store, const struct record *record, place_t place);

/* ---- store_build.c ---- */

enum { BUILD_BATCH = 64 };

struct build {
    struct store *store;
    const struct log_report *report;
    bool sized;
    uint32_t count;
    struct build_item {
        place_t place;
        uint64_t hash;
    } items[BUILD_BATCH];
};

/* A log_scan_t; report->record_count is there before the first record is. */
void build_on_scanned(void *user, const struct record *record, place_t place);

/* After the last. False: the index has no room. */
bool build_end(struct build *build);

/* ---- store_mark.c ---- */

void mark_scanned(struct store *store, const struct record *record, place_t place);
/* The record of a mark moved. False: the mark is dead. */
bool mark_is_current(const struct store *store, place_t place);
void mark_moved(struct store *store, place_t from, place_t to);
/* 0: every record is unconfirmed. */
uint64_t mark_confirmed_below(const struct store *store);

/* ---- store_scan.c ---- */

/* The bits last to first; and how many of the last bits of a hash choose this chain. */
uint32_t store_backwards(uint32_t bits);
unsigned store_chain_depth(uint32_t bucket, uint32_t main_count);

/* ---- store_take.c ---- */

/* Where the parts lie in the memory that store_options gives. */
void *store_log_memory(const struct store *store);
void *store_index_memory(const struct store *store, uint64_t index_size, uint64_t *size);

/* Asks for the memory up to the index's. False: it does not outlive the process. */
bool store_grant_head(const struct store_options *options);

/* The first use of an entry that a former life has written: it becomes one of this life if its
 * record holds, byte by byte. If not, there is nothing true to answer: the process ends here
 * (store_options.broken), and the next start scans. Returns the new word. */
uint64_t entry_use_first(const struct store *store, uint64_t *entry);

/* A record in this segment does not hold: see store_options.broken. Does not return. */
void store_end_broken(const struct store *store, uint32_t segment);

/* log_segment_next(), and the same for records of segments that were taken over: those that no
 * entry leads to are damaged as easily, and a walk that loses its way would pass over others. */
const struct record *store_segment_next(const struct store *store, uint32_t number,
                                        uint32_t *offset, place_t *place);

/* From now on the memory can be taken over. */
void store_set_ready(struct store *store, const struct store_options *options);

/* ---- store_clean.c ---- */

/* Whose append it is, from the most to the least privileged. */
enum append_class {
    APPEND_URGENT,    /* of a peer, or a mark */
    APPEND_OVERWRITE, /* of a client; the live data does not grow */
    APPEND_GROWING,   /* of a client */
};

/* The cleaning that a put does itself when it finds no room, beyond some times its own size. */
enum { PUT_CLEANS_MAX = 64 << 10 };

/* The segments that have to stay free after an append of this class. */
uint32_t clean_reserve(const struct store *store, enum append_class class);

/* Whether an append of this class may take room now, also in the open segment: below its reserve
 * the room is cleaning's. */
bool clean_leaves_room(const struct store *store, enum append_class class);

/* The space that the live data of clients may fill, and how much of it. */
uint64_t clean_log_bytes(const struct store *store);
uint64_t clean_live_max(const struct store *store);

/* Some cleaning, as the last store_clean() allowed. */
void clean_more(struct store *store, uint64_t budget);

/* True: segments will become free; or (the other one) live data will become less, because
 * tombstones may go. */
bool clean_frees_segments(const struct store *store);
bool clean_drops_tombstones(const struct store *store);

#endif
