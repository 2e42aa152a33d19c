/* buddy.h: the member's side of healing: answers what a healing node has to check, and walks its
 * own log for what that node missed. One session a healing node and epoch. Pure; owner thread
 * only. */
#ifndef RECOVERY_BUDDY_H
#define RECOVERY_BUDDY_H

#include "replica/replica.h"

enum {
    BUDDY_WINDOW = 512, /* records that were sent and not yet taken */
    BUDDY_WINDOW_BYTES = 1 << 20,
};

struct buddy {
    bool active;
    bool full;
    bool listed; /* the node has checked all it had to */
    bool waits;  /* with the walk, until then */
    bool walked;
    bool ended;
    uint64_t session;
    uint64_t lsn_min; /* the walk begins here */
    uint64_t lsn_end; /* from here on the node got every INV itself */
    struct store_cursor cursor;
    uint64_t tail;        /* for replica_walk_budget */
    uint64_t sent, taken; /* sequence numbers */
    uint64_t bytes_ahead;
    uint64_t sent_records, sent_bytes;
    uint64_t left_bytes; /* when this turn began */
};

/* number[2] of HEAL_RECORD: the record's size, and how much of the buddy's log is left, in KB. */
static inline uint64_t heal_progress_make(uint64_t size, uint64_t left)
{
    uint64_t left_kb = left / 1024 < UINT32_MAX ? left / 1024 : UINT32_MAX;
    return left_kb << 32 | (uint32_t)size;
}

static inline uint64_t heal_progress_size(uint64_t progress)
{
    return (uint32_t)progress;
}

static inline uint64_t heal_progress_left(uint64_t progress)
{
    return (progress >> 32) * 1024;
}

void buddy_on_ask(struct replica *replica, const struct message *message);
void buddy_on_open(struct buddy *buddy, struct replica *replica, const struct message *message);
void buddy_on_check(struct buddy *buddy, struct replica *replica, const struct message *message);
void buddy_on_listed(struct buddy *buddy, struct replica *replica, const struct message *message);
void buddy_on_taken(struct buddy *buddy, const struct message *message);

/* Bytes of log that the walk still has to look at, about. */
uint64_t buddy_left_bytes(const struct buddy *buddy, const struct replica *replica);

/* One turn of the walk for healing node `node`. */
void buddy_on_tick(struct buddy *buddy, struct replica *replica, unsigned node);
bool buddy_wants_turn(const struct buddy *buddy);

#endif
