/* log_private.h: what the files of the log share: the bytes of a segment's header, and the log's
 * own state.
 *
 *     | struct segment_header | struct segment_progress | record | record | ... | SEAL, or less
 * than a record's header |
 *
 * The magic is the switch: it is written last and replaced first, one atomic store, and both lines
 * are line aligned. So a power cut leaves a header that is whole or none. */
#ifndef PMEM_LOG_PRIVATE_H
#define PMEM_LOG_PRIVATE_H

#include "pmem/log.h"

/* "healclog", little-endian. */
#define SEGMENT_MAGIC 0x676f6c636c616568ULL
/* "healfree": the segment was used, and is free; or one above it was. It never has none again. */
#define SEGMENT_MAGIC_ERASED 0x656572666c616568ULL

enum {
    SEGMENT_LINE = 64,
    SEGMENT_RECORDS = 2 * SEGMENT_LINE, /* where the first record lies */
    SEGMENT_COUNT_MAX = LOG_SEGMENT_COUNT_MAX,
    SEGMENT_SIZE_MIN = 4096,
    /* free segments at a start where those in use are nearly all that the limit allows, or more...
     */
    LIMIT_HEADROOM = 8,
    LIMIT_NEAR_SHARE = 8, /* ...nearly: but for one, and this part of them */
    DRAIN_COUNT_MAX = 64,
    PROGRESS_STEPS = 16,
    KIND_MAX = RECORD_SEAL,
};

static const uint32_t SEGMENT_NONE = UINT32_MAX;

struct segment_header {
    /* 0: never used. The place of magic, crc and version is the same in every version */
    uint64_t magic;
    uint32_t crc; /* of all that follows */
    uint32_t version;
    struct log_identity identity;
    uint32_t segment_size;
    uint16_t number;
    uint16_t stream; /* enum log_stream */
    uint32_t generation;
    uint32_t life;         /* of the log, when the segment was opened */
    uint64_t append_first; /* in its stream */
    /* the hot stream's number at its opening; records tell their lsn from here */
    uint64_t lsn_base;
};
static_assert(sizeof(struct segment_header) == SEGMENT_LINE,
              "the segment header is part of the format");
static_assert((int)SEGMENT_RECORDS == (int)LOG_SEGMENT_OVERHEAD, "what callers reckon with");
static_assert(sizeof(struct log_identity) == 16, "the identity is part of the format");

/* How many records of the segment, and how much of each stream, are known to be durable: written
 * after the fact and flushed now and then, so it may lag. If less is found, the rest did not fail
 * to arrive: it was damaged. */
struct segment_progress {
    uint32_t crc; /* of all that follows */
    uint32_t generation;
    uint64_t count;
    uint64_t durable[STREAM_COUNT]; /* every append below was safe */
    uint64_t append_first;          /* as in the header, should that be damaged... */
    uint64_t lsn_base;
    uint32_t life;
    uint16_t stream; /* ...up to here */
    uint16_t used;   /* segments with smaller numbers have been used: each has a magic */
    uint8_t reserved[8];
};
static_assert(sizeof(struct segment_progress) == SEGMENT_LINE,
              "the progress line is part of the format");

/* Beside struct segment: what only the log itself uses. */
struct segment_more {
    uint32_t crc_seed;
    uint32_t life;             /* in which it was opened */
    uint32_t progress_used;    /* `used` when the progress was flushed last */
    uint32_t last;             /* where the newest record begins; 0: none */
    uint64_t count;            /* of records, SEAL included */
    uint64_t progress;         /* of these, written to the progress line */
    uint64_t progress_flushed; /* of these, flushed with it */
    bool damaged;  /* records have to be checked one by one, and searched behind the broken ones */
    bool unusable; /* cannot be mapped or read */
};

/* A drain that was asked for: when it is done, every append below the tails is durable. */
struct drain {
    uint64_t cookie;
    uint64_t tail[STREAM_COUNT];
    uint64_t noted;  /* every append of the hot stream below is proved */
    uint64_t ticket; /* the newest proof that is noted */
};

struct stream {
    uint32_t open; /* segment; SEGMENT_NONE: none */
    uint64_t tail;
    uint64_t tail_asked; /* the tail at the newest drain */
    uint64_t durable;
};

/* The proof under way: when the streams are durable up to `target`, the progress lines say so and
 * are flushed: it is noted. It is done when the drain behind that is. */
struct proof {
    uint64_t target[STREAM_COUNT];
    uint64_t wanted, noted, done; /* tickets: the newest given out, noted, done */
    bool again;                   /* another one was asked for meanwhile: wanted + 1 */
    uint64_t hot_noted, hot_done; /* what is proved of the hot stream */
};

struct log {
    struct log_options options;
    struct medium *medium;
    struct segment *segments;
    struct segment_more *more;
    uint32_t segment_count;
    uint32_t free_count;
    uint32_t moving_count;  /* DRAINING and ERASING */
    uint32_t unnoted_count; /* SEALED, progress not complete */
    uint32_t generation;    /* the newest given out or seen */
    uint32_t used;          /* segments with smaller numbers were used, and had durable records */
    uint32_t told;          /* `used` that was noted in another segment than the last of these */
    struct proof proof;
    struct stream streams[STREAM_COUNT];
    uint64_t cookie; /* of the newest drain */
    uint64_t cookie_done;
    bool flushed; /* something other than a record was flushed since the newest drain */
    bool growing; /* segments may still be created */
    struct drain drains[DRAIN_COUNT_MAX];
    uint32_t drain_count;
    /* the period of now: of those who are given back, until log_grace_ask() ends it */
    uint64_t grace;
    uint64_t grace_given;    /* the last in which a segment was given back */
    uint64_t grace_passed;   /* nobody reads any more what was given back until its end */
    struct journal *journal; /* NULL: nothing is noted */
    bool own_memory;         /* the log's, to be freed */
};

/* What a change of several words must be able to put back after the process was killed: tails,
 * generation, open, segments and `more` are changed behind a note. Counts of segments, cookies and
 * drains are made anew by log_take_over(). */
static inline void log_note(struct log *log, const void *at, uint32_t size)
{
    journal_note(log->journal, at, size);
}

/* The whole of a segment's row. */
static inline void log_note_segment(struct log *log, uint32_t number)
{
    log_note(log, &log->segments[number], sizeof(struct segment));
    log_note(log, &log->more[number], sizeof(struct segment_more));
}

/* ---- log_segment.c: life of a segment ---- */

struct segment_header *segment_header_of(const struct log *log, uint32_t number);
struct segment_progress *segment_progress_of(const struct log *log, uint32_t number);
bool segment_header_is_free(const struct segment_header *header);
uint32_t segment_header_crc(const struct segment_header *header);
uint32_t segment_progress_crc(const struct segment_progress *progress);
uint32_t segment_crc_seed(const struct log *log, uint32_t number, uint32_t generation);

/* Makes a free segment the stream's open one; the former one is sealed. STATUS_NO_SPACE: no more
 * than `reserve` are free. */
enum status segment_open_next(struct log *log, enum log_stream stream, uint32_t reserve) MUST_CHECK;

/* Ends segment `number` where it is now; writes SEAL if there is room. */
void segment_seal(struct log *log, uint32_t number);

/* Erases the header of a segment whose content is no longer needed. */
void segment_erase(struct log *log, uint32_t number);

/* Moves DRAINING and ERASING segments on, as far as drains are done. */
void segments_move(struct log *log);

/* Notes in the segments how far they are durable; with a drain behind it, if a proof is wanted. */
void segments_note_progress(struct log *log);
bool segments_want_proof(const struct log *log);

/* The ticket of a proof of everything appended so far. */
uint64_t segments_ask_proof(struct log *log);

/* ---- log.c ---- */

/* Where the tables of segments lie: behind the log itself. */
void log_find_tables(struct log *log);

/* Asks the medium for a drain of everything flushed so far, in any case. */
void log_ask_drain(struct log *log);

/* ---- log_record.c: bytes of records ---- */

uint32_t record_crc(uint32_t seed, uint32_t offset, const struct record *record);

/* Whether a whole and sound record of this generation lies at `offset`. Trusts no byte. */
bool record_sound(const struct log *log, uint32_t number, uint32_t generation, uint32_t offset);

/* The first sound record at or behind `offset`; 0: none. Among bytes that look like records it
 * gives up after a while. */
uint32_t record_search(const struct log *log, uint32_t number, uint32_t generation,
                       uint32_t offset);

/* Lays a record down at `offset` of a segment, with crc, and flushes it. */
struct record *record_write(struct log *log, uint32_t number, uint32_t offset,
                            const struct record_spec *spec, uint64_t lsn);
void record_copy(struct log *log, uint32_t number, uint32_t offset, const struct record *from,
                 uint64_t lsn);

/* Whether the header at `offset` may be one: kind and sizes. Trusts no byte. */
bool record_plausible(const struct log *log, uint32_t number, uint32_t offset);

/* A copy that has stayed unchanged for more than 2^31 appends counts as that old: later than it
 * was, so still before whatever comes, and its absence is still noticed by who was away. */
static inline int32_t lsn_delta_of(uint64_t lsn, uint64_t base)
{
    if (lsn >= base)
        return lsn - base > INT32_MAX ? INT32_MAX : (int32_t)(lsn - base);
    return base - lsn > INT32_MAX ? -INT32_MAX : -(int32_t)(base - lsn);
}

static inline uint64_t segment_lsn(const struct log *log, uint32_t number,
                                   const struct record *record)
{
    return log->segments[number].lsn_base + (uint64_t)(int64_t)record->lsn_delta;
}

static inline place_t place_make(uint32_t number, uint32_t offset)
{
    return ((place_t)number << PLACE_UNIT_BITS) | offset;
}

static inline uint32_t place_segment(place_t place)
{
    return (uint32_t)(place >> PLACE_UNIT_BITS);
}

static inline uint32_t place_offset(place_t place)
{
    return (uint32_t)(place & ((1U << PLACE_UNIT_BITS) - 1));
}

/* ---- log_scan.c ---- */

/* STATUS_CORRUPT, STATUS_VERSION, STATUS_FOREIGN: a mapped segment's header is not what this log
 * writes. */
enum status segment_check_header(const struct log *log, uint32_t number) MUST_CHECK;

/* Erases a free segment before it is used; ERASING until the drain after that. */
void segment_erase_first(struct log *log, uint32_t number);

/* Finds out what the medium holds and hands it to `scan`. */
enum status log_scan(struct log *log, log_scan_t scan, void *user, struct log_report *report,
                     uint32_t *bad_segment) MUST_CHECK;

/* How many segments the log has where the last one in use, or the limit, makes `count`, and `used`
 * of them are in use: some more if hardly any of the others is left, so that deletes and cleaning
 * have where to begin. */
uint32_t log_with_headroom(const struct log *log, uint32_t count, uint32_t used);

#endif
