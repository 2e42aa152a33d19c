/* evict.h: makes room in a store that is nearly full, by deletes of what is unlikely to be read
 * again. Pure; owner thread only.
 *
 * Each member chooses in its own share of the hash space, so that no two delete the same at once. A
 * delete is an ordinary read-modify-write, executed only if the record is still the one that was
 * chosen (REQUEST_EVICT).
 *
 * Which: S3-FIFO (Yang et al., SOSP 2023) over the log, with the frequency of two bits beside each
 * index entry (store.h).
 *
 *  - The youngest tenth of the log is on probation. The young hand follows its end in the order of
 *    the log: what was not read since it came goes; the rest has passed. Most keys are asked for
 *    once, and go here; they lie side by side, so that whole segments become dead, which cleaning
 *    likes.
 *  - What has passed is looked at by the main hand, in the order of the index (the clock's order
 *    does not matter, and the words that it looks at are small and lie side by side): what was read
 *    gives away one of its frequency, and stays; the rest goes.
 *  - The ghosts, keys that went a short while ago: their tombstones. It has a frequency of 1, which
 *    a new value inherits: so it passes the young hand.
 *
 * Only a member that serves a read knows of it. So before a batch of keys goes, the other members
 * are asked (EVICT_ASK): a key that was read there lately stays, and gives away one of the
 * frequency that it has there.
 *
 * Each eviction leaves a tombstone, which can go when all configured nodes are members. While one
 * is away they stay, up to half of the room; from then on a full store refuses what would make it
 * grow, as with -M.
 *
 * Pieces of large values are never chosen: their manifest is, and the collector takes them after it
 * (collect.h). */
#ifndef RECOVERY_EVICT_H
#define RECOVERY_EVICT_H

#include "recovery/deletes.h"

enum {
    EVICT_BATCH = 31, /* keys that one message asks for: their hashes fill its key */
    EVICT_BATCHES = 4,
    EVICT_CHECKPOINTS = 32,
};

struct evict_candidate {
    uint64_t hash, ts;
};

struct evict_batch {
    uint32_t number; /* 0: free */
    uint8_t waits;   /* members that have not answered */
    unsigned count;
    uint32_t kept;  /* a bit for each */
    uint64_t bytes; /* that its keys take */
    uint64_t sent_us;
    struct evict_candidate candidates[EVICT_BATCH];
};

struct evict_checkpoint {
    uint64_t lsn, put_bytes;
};

struct evict {
    struct deletes deletes;

    struct store_cursor young; /* the young hand */
    uint64_t young_lsn;        /* what lies before has passed, or gone */
    uint64_t probation_lsn;    /* to which the young hand may go */
    struct evict_checkpoint checkpoints[EVICT_CHECKPOINTS]; /* a ring */
    unsigned checkpoint_count;

    uint64_t main;     /* the main hand */
    unsigned turns;    /* of it, since anything was found */
    bool barren;       /* there is nothing that could go */
    uint64_t level_us; /* when the level last moved */
    uint64_t vain_us;  /* since the hand has found nothing; 0: it has */

    struct evict_batch batches[EVICT_BATCHES];
    struct evict_batch *open; /* being filled; NULL: none */
    uint32_t batch_number;    /* of the newest */
    uint64_t proposed_bytes;  /* so far */
    bool wants_turn;

    uint64_t evictions, unfetched, asked, kept;
};

void evict_init(struct evict *evict, const struct replica *replica);
void evict_on_view(struct evict *evict);
void evict_on_ask(struct replica *replica, const struct message *message);
void evict_on_keep(struct evict *evict, struct replica *replica, const struct message *message);

/* Makes some room, if there is need. At every tick, and when something of it may be complete. */
void evict_advance(struct evict *evict, struct replica *replica);

/* There is more to do, and it need not wait for anybody. */
static inline bool evict_wants_turn(const struct evict *evict)
{
    return evict->wants_turn;
}

#endif
