/* log.h: the log of one shard, which is also its store. Owner thread only. Format: doc/format.md.
 *
 * The log is a set of segments. Records are appended at a tail: the newest segment of a stream; a
 * full segment is sealed. There are two streams: the hot one takes what is new, the cold one what
 * cleaning has found alive, so that records of one age lie together, and a segment of old ones is
 * seldom cleaned. Space comes back by cleaning: the store copies what lives in a victim to a tail
 * (log_copy_nodrain) and gives the segment back (log_segment_give). Nothing is overwritten before
 * the copies are durable.
 *
 *     FREE --(log_append)--> OPEN --(full: seal)--> SEALED --(log_segment_give)--> DRAINING
 *     DRAINING --(copies durable)--> ERASING --(durable, unread)--> FREE
 *
 * lsn: each stream numbers its appends. The lsn of a record is the hot stream's number at which it
 * was first appended: a copy keeps it. So durability is counted in appends and recency in first
 * appends; log_tail and log_durable are numbers of the hot stream. A drain is of both streams.
 *
 * Order of durability (invariants, checked by t/pmem_log_test and the simulator):
 *  1. log_durable() never passes a record that would be lost by a power cut now.
 *  2. A segment's old content is durably invalid (header erased) before its space is written again.
 *  3. A segment given back stays intact until every append made before the giving is proved
 *     (log_proved()).
 *  4. With options.readers: records of a segment given back are not written over before every
 *     reader of another thread has let go of what it may have found before the giving
 *     (log_grace_ask). Its header is: readers look at records only.
 *  5. What is not durable is not copied: a restart finds the hot stream up to some append, and no
 *     record behind that.
 *  6. On a scan, of the records of one key the one with the highest lsn is current, whatever its
 *     ts. */
#ifndef PMEM_LOG_H
#define PMEM_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "pmem/journal.h"
#include "pmem/medium.h"
#include "pmem/record.h"

/* Where a record lies: segment number (upper 20 of 48 bits) and offset (lower 28). Never 0. */
typedef uint64_t place_t;

enum {
    LOG_FORMAT_VERSION = 3,
    LOG_SEGMENT_COUNT_MAX = 4096,
    LOG_SEGMENT_SIZE_MAX = 1 << 28,
    LOG_SEGMENT_OVERHEAD = 128, /* bytes that hold no records */
    PLACE_UNIT_BITS = 28,
    PLACE_BITS = 48,
};

/* Whose log it is; written to each segment, compared on opening: STATUS_FOREIGN, STATUS_VERSION. */
struct log_identity {
    uint64_t cluster; /* hash of the cluster-wide settings */
    uint16_t node;
    uint16_t shard;
    uint16_t shard_count;
    uint16_t reserved;
};

struct log_options {
    struct log_identity identity;
    struct medium *medium; /* owned by the caller; open until log_close */
    uint32_t segment_count_max;
    /* other threads read records, too: segments given back wait for log_grace_pass() */
    bool readers;
    bool refuse_damage; /* STATUS_CORRUPT where there is any: there is nobody to heal from */
    /* another at each opening, durable before: part of the checksums of what is written */
    uint32_t life;
    /* the caller's, zeroed, of log_memory_size() bytes, 64-byte aligned; NULL: the log takes its
     * own */
    void *memory;
};

enum log_stream {
    STREAM_HOT,
    STREAM_COLD,
    STREAM_COUNT,
};

enum segment_state {
    SEGMENT_FREE,
    SEGMENT_OPEN,
    SEGMENT_SEALED,
    SEGMENT_DRAINING,
    SEGMENT_ERASING,
};

struct segment {
    uint8_t *base; /* NULL: never mapped */
    enum segment_state state;
    enum log_stream stream;
    uint32_t generation;   /* grows for ever over both streams */
    uint32_t used;         /* bytes, header included */
    uint32_t live;         /* bytes of records that are current */
    uint64_t append_first; /* its stream's number of the first append in it */
    /* the hot stream's number at its opening: whatever was dead then is not copied into it */
    uint64_t lsn_base;
    uint64_t lsn_max; /* newest first-append number in it */
    uint64_t wait;    /* DRAINING, ERASING: the drain that ends the state */
    uint64_t grace;   /* the same: the period in which it was given back */
};

struct log;

/* What the opening scan found. */
struct log_report {
    uint64_t record_count;
    uint64_t torn_bytes;      /* a tail that was never durable; cut off */
    uint32_t corrupt_count;   /* damage that is no torn tail: the node must heal in full */
    uint32_t corrupt_segment; /* the first such, for the message... */
    /* ...and its bytes from, up to which nothing could be read; not after a take-over */
    uint32_t corrupt_from, corrupt_to;
    uint32_t unread_count; /* segments of which it is not even known how many records they held */
    /* records that at least are missing from the others; not after a take-over */
    uint64_t missing_count;
};

/* Called for every valid record, segment by segment in the order of their opening. The report's
 * record_count is complete by then, but for damaged segments. */
typedef void (*log_scan_t)(void *user, const struct record *record, place_t place);

/* Opens the log and scans what is there. Segments that are damaged are left as they are (never
 * overwritten before the caller gives them back) and counted in `report`. STATUS_FOREIGN,
 * STATUS_VERSION, STATUS_IO, STATUS_NO_MEMORY, with options.refuse_damage STATUS_CORRUPT (the
 * report is complete): nothing is open, nothing was written; *bad_segment says which one. *log is
 * set before `scan` is called first, for log_record() and log_dead() only. */
enum status log_open(struct log **log, const struct log_options *options, log_scan_t scan,
                     void *user, struct log_report *report, uint32_t *bad_segment) MUST_CHECK;
void log_close(struct log *log);

/* The size of options.memory. */
uint64_t log_memory_size(void);

/* From now on changes are noted, inside the caller's brackets: the memory is to be taken over. What
 * was scanned is worth nothing before it is complete, so not from the beginning. */
void log_set_journal(struct log *log, struct journal *journal);

/* Goes on with the memory of a process that has ended, in the same boot and with the same options
 * (segment_count_max may differ), after the journal was rolled back: nothing is scanned, no record
 * but those at the tail is looked at. What that process had not made durable counts as such only
 * when a drain is done. `undone`: an update was rolled back; else nothing may lie in the segments
 * that the memory does not know, or another process has used them since. The report has damage that
 * was known already. STATUS_CORRUPT: the segments are not those that the memory speaks of; or as
 * log_open. Then nothing is open, nothing was written to a segment, and log_open will find what
 * there is. */
enum status log_take_over(struct log **log, const struct log_options *options, bool undone,
                          struct log_report *report, uint32_t *bad_segment) MUST_CHECK;

/* Appends a record to the hot stream; durable only when log_durable() is beyond its lsn. `reserve`:
 * the free segments that must remain (cleaning itself passes 0). STATUS_NO_SPACE: nothing was
 * appended; clean and retry. STATUS_TOO_LARGE: never fits. */
enum status log_append_nodrain(struct log *log, const struct record_spec *spec, uint32_t reserve,
                               place_t *place) MUST_CHECK;

/* Everything in it is a copy of, or is itself, what is durable: it may be cleaned. */
bool log_segment_is_durable(const struct log *log, uint32_t number);

/* Copies a record, of such a segment, to the tail of a stream; it keeps its lsn (recency). The
 * original becomes dead. STATUS_NO_SPACE: nothing has changed. */
enum status log_copy_nodrain(struct log *log, place_t from, enum log_stream stream,
                             place_t *to) MUST_CHECK;

/* log_append_nodrain() of so many bytes would find room. */
bool log_has_room(const struct log *log, uint64_t size, uint32_t reserve);

/* The largest record that fits. */
uint64_t log_record_size_max(const struct log *log);

const struct record *log_record(const struct log *log, place_t place);

/* Position of the record at `place` in the order of first appending; a copy made by cleaning keeps
 * it. */
uint64_t log_lsn(const struct log *log, place_t place);

/* The number the next append will take: everything appended so far, copies apart, is below it. */
uint64_t log_tail(const struct log *log);

/* Asks for durability of everything appended so far, copies too; cheap when there is nothing
 * new. */
void log_drain(struct log *log);

/* Every append numbered below *durable survives a power cut. Also moves DRAINING and ERASING
 * segments on; call it each turn. After log_open what was found counts only when a drain is done: a
 * killed process leaves what is not safe yet. STATUS_IO: the medium failed; the node must stop. */
enum status log_durable(struct log *log, uint64_t *durable) MUST_CHECK;

/* Proved is what is durable and would be missed: it is noted beside the records, so that a start
 * that finds less reports damage. What is durable but not proved cannot be told from a torn tail
 * when it rots. log_prove() asks for a proof of everything appended so far; it takes a drain behind
 * the one that makes it durable. */
void log_prove(struct log *log);
uint64_t log_proved(const struct log *log); /* every append numbered below */

/* The record at `place` is no longer current. */
void log_dead(struct log *log, place_t place);

uint32_t log_segment_count(const struct log *log);

/* The segments that its data may fill: all, or fewer if the log was opened with a smaller limit
 * than before and segments above it hold data. Then there are also some free ones above these, for
 * cleaning to begin with. */
uint32_t log_segment_limit(const struct log *log);

/* Does without the last segment, if it is above the limit and free. False: it is not. */
bool log_drop_last(struct log *log);
const struct segment *log_segment(const struct log *log, uint32_t number);
/* FREE and mappable; not DRAINING, not ERASING */
uint32_t log_segment_free_count(const struct log *log);

/* Lets the log use `count` segments from now on: no more than it was opened for, and none less than
 * were ever used since. Returns what it is. Not kept over a restart. */
uint32_t log_resize(struct log *log, uint32_t count);

/* The segment at the tail of a stream; LOG_SEGMENT_NONE: none is open. */
#define LOG_SEGMENT_NONE UINT32_MAX
uint32_t log_stream_open(const struct log *log, enum log_stream stream);

/* The newest that any segment has had: the next one to be opened takes the next. */
uint32_t log_generation(const struct log *log);

/* One more than the number of the last segment that was ever used. */
uint32_t log_segment_used_count(const struct log *log);

/* `place` lies in the used part of a segment in use. Any may be asked for. */
bool log_place_in_use(const struct log *log, place_t place);

/* Whether a whole and sound record lies at `place`, in a segment in use: checks every byte of it.
 * Any place may be asked for. */
bool log_is_sound(const struct log *log, place_t place);

/* The opening scan found damage in it, and nobody has given it back. */
bool log_segment_is_damaged(const struct log *log, uint32_t number);

/* The same, and also one that was given back, until that is durable: a start now might find the
 * damage again. */
bool log_segment_shows_damage(const struct log *log, uint32_t number);

/* Ends the open segment of a stream, if there is one, where it is now: it may be cleaned. */
void log_stream_end(struct log *log, enum log_stream stream);

/* Gives a sealed segment back, after its live records were copied. */
void log_segment_give(struct log *log, uint32_t number);

/* Quiescence, with options.readers. What was given back until now may still be read by threads that
 * found it before; the number stands for that. When all of them have let go since
 * (server/readers.h), say so by log_grace_pass(), and the space may be used again. 0: nothing waits
 * for readers. */
uint64_t log_grace_ask(struct log *log);
void log_grace_pass(struct log *log, uint64_t number);

/* Iterates over the records (dead ones included) of one segment: *offset is 0 to begin; NULL at the
 * end. */
const struct record *log_segment_next(const struct log *log, uint32_t number, uint32_t *offset,
                                      place_t *place);

#endif
