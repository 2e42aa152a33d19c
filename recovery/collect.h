/* collect.h: deletes the pieces of large values that no manifest names any more. Pure; owner thread
 * only.
 *
 * A piece may go when the current record of its value's key is VALID and does not name its upload,
 * and never will:
 *
 *  1. Its manifest was replaced. A manifest is written once; what replaced it builds on it. The
 *     node that replaced it knows (struct replaced), checks that the key is VALID without it, and
 *     deletes the pieces after a grace, for those who are just reading them.
 *  2. Its manifest was never written: the node that stored it gave up or is gone. A slow walk finds
 *     such pieces. The uploader decides while it is a member, as it knows what is under way
 *     (`upload_floor`), otherwise the lowest member; and only for pieces before the own mark of a
 *     round that became stable in this epoch: then no member holds a record of that upload that is
 *     still to be completed by a replay. An upload ends with its node's incarnation at the latest
 *     (replica_takes_upload), so that what the lowest member judges is over, too. What happened
 *     since the walk before is left to the next one: that is the grace here, and asks no wall
 *     clock. The record that says when it happened may be a tombstone that is forgotten by now:
 *     then the piece has to have been met without it a grace ago.
 *
 * Each piece is deleted by an ordinary read-modify-write, so that all members agree. */
#ifndef RECOVERY_COLLECT_H
#define RECOVERY_COLLECT_H

#include "recovery/round.h"
#include "replica/replica.h"

enum {
    COLLECT_DELETES = 8,          /* under way at once */
    COLLECT_PERIOD_US = 10000000, /* unless options say otherwise */
    COLLECT_HASTE = 10,           /* so much more often while room is short */
    COLLECT_WALK_BUDGET = 65536,  /* bytes of log in one turn, see store_walk */
    COLLECT_UPLOADS = 4096,       /* bits of a set of uploads */
};

/* By a hash: it may seem to have one that it has not. */
struct collect_uploads {
    uint64_t bits[COLLECT_UPLOADS / 64];
};

struct collect_delete {
    struct request request;
    bool busy;
    uint8_t key[PIECE_KEY_SIZE];
};

struct collect {
    uint32_t period_us; /* between two walks; half of it is the grace, none while room is short */
    uint64_t upload_floor; /* this node's uploads from here on may still be under way */
    struct collect_delete deletes[COLLECT_DELETES];
    uint32_t number;    /* next piece of the oldest in replica->replaced */
    bool short_of_room; /* nearly all that may be live is, or the list of what was replaced is
                           nearly full */
    bool hurries;       /* and there was something to delete in the last turn */
    struct store_cursor cursor;
    bool walks; /* the cursor is in the middle of the log */
    uint64_t tail;
    uint64_t walk_us;             /* when the next walk begins */
    uint64_t noted_lsn, noted_us; /* the log's tail at the end of a walk, not of each one */
    uint64_t seen_lsn;            /* what lies before was there a grace ago */
    /* Uploads whose key has no record at all, as if nothing had ever been replaced: met since that
     * end of a walk, noted then, and seen a grace ago. */
    struct collect_uploads absent, noted, seen;
    uint64_t deleted;
};

void collect_on_tick(struct collect *collect, struct replica *replica, const struct round *round);

/* The walk is in the middle of something, or there is more to delete, soon. */
bool collect_wants_turn(const struct collect *collect);

#endif
