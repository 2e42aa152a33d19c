/* crash_log.h: lives of a log that is cut off at every store and at either side of every drain.
 *
 * Before each store, when a drain was asked for and when it is done, the states that a power cut
 * would leave (crash_medium.h) are recovered one by one, all of them where they are few, and
 * compared with a ledger of what was written and promised:
 *
 *  1. What log_durable() has covered is there, or a newer record of its key.
 *  2. Every record that is found was written, and is unchanged; none that a former life had lost
 *     comes back.
 *  3. Of each key the newest record counts of all that were written up to some moment: no gaps.
 *  4. No damage is reported, for there is none.
 *
 * In some of these states a second life begins, with cuts at all of its stores again, those of the
 * recovery included. */
#ifndef T_CRASH_LOG_H
#define T_CRASH_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/prng.h"
#include "pmem/log.h"
#include "t/crash_medium.h"

enum {
    CRASH_SEGMENT_SIZE = 4096,
    CRASH_KEYS = 5,
    CRASH_SLOTS, /* one more: marks */
    CRASH_WRITTEN_MAX = 500,
    CRASH_DEPTH = 3,
    CRASH_TWO_TAILS = 5, /* with so many segments, copies have a tail of their own */
};

struct crash_written {
    uint8_t kind, slot;
    bool alive; /* may be found */
    uint32_t size;
    uint64_t lsn; /* 0: not known yet */
};

struct crash_ledger {
    struct crash_written written[CRASH_WRITTEN_MAX]; /* from 1; its ts is its number */
    uint32_t count;
    uint32_t promised[CRASH_SLOTS]; /* newest for certain; 0: none */
    uint32_t proved[CRASH_SLOTS];   /* newest whose loss would be reported */
};

/* What the opening of an image has found. */
struct crash_found {
    bool seen[CRASH_WRITTEN_MAX];
    uint32_t newest[CRASH_SLOTS];
    uint64_t newest_lsn[CRASH_SLOTS];
    place_t place[CRASH_SLOTS];
};

struct crash_run;

/* One life of a log on one of the media. */
struct crash_life {
    struct crash_run *run;
    unsigned depth;
    struct medium *medium;
    struct log *log;
    uint32_t segments; /* that the log may use */
    struct crash_ledger ledger;
    struct crash_found found; /* by the opening */
    uint32_t current[CRASH_SLOTS];
    place_t place[CRASH_SLOTS];
    bool opening;
};

struct crash_run {
    struct prng prng;
    struct medium *media[CRASH_DEPTH];
    struct crash_image *images[CRASH_DEPTH];
    struct crash_life lives[CRASH_DEPTH];
    struct crash_found look;
    struct log_report report; /* of the newest opening */
    uint32_t segments;
    uint32_t log_life;       /* of the newest opening */
    unsigned images_max;     /* a moment, beyond which they are drawn; 0: none is looked at */
    unsigned second_percent; /* of the moments begin a second life */
    uint64_t reported_count; /* images in which damage was reported */
    uint64_t moment_count, image_count, second_count, event_count;
    char failure[256]; /* empty: none */
};

void crash_run_begin(struct crash_run *run, uint32_t segments, uint64_t seed);
void crash_run_end(struct crash_run *run);

/* The first life; each act is one of a store's owner. Nothing is done any more after a failure. */
struct crash_life *crash_life_begin(struct crash_run *run);
void crash_put(struct crash_life *life, uint32_t key, enum record_kind kind, uint32_t value_size);
void crash_put_mark(struct crash_life *life); /* of what is durable */
void crash_turn(struct crash_life *life);     /* drains, and takes note of what is promised */
void crash_ask(struct crash_life *life);      /* only asks for the drain */
void crash_copy(struct crash_life *life, uint32_t segment);
/* copies what lives in the segment with the most dead bytes, gives it back */
void crash_clean(struct crash_life *life);

/* The process is killed and starts again. */
void crash_kill(struct crash_life *life);

/* The power goes: of what is uncertain all, nothing, or some survives; and comes again. */
enum crash_left { CRASH_ALL, CRASH_NOTHING, CRASH_SOME };
void crash_power(struct crash_life *life, enum crash_left left);

/* ---- damage ---- */

/* The bytes that a power cut leaves now if nothing uncertain survives, segment after segment; to be
 * changed. */
uint8_t *crash_left(struct crash_life *life);

/* Recovers what they have become: records that are found are right, and where one is missing that
 * was proved damage is reported. */
void crash_look(struct crash_life *life);

#endif
