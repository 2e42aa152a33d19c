/* expire.h: deletes what is past its time, or was made absent by flush_all, though nobody asks for
 * it: its space comes back. Pure; owner thread only.
 *
 * A walk over the index, some chains a turn. It begins when the store may hold such a record: the
 * store knows a second before which none passes its exptime, and each walk finds the next. So a
 * store in which nothing expires pays nothing. Each member deletes in its own share of the hash
 * space, by its own clock, and by ordinary read-modify-writes (REQUEST_EXPIRE). */
#ifndef RECOVERY_EXPIRE_H
#define RECOVERY_EXPIRE_H

#include "recovery/deletes.h"

enum {
    EXPIRE_REST_US = 1000000, /* between two walks */
    /* in one chain of the index; the others have to wait for the next walk */
    EXPIRE_FOUND = 16,
};

struct expire {
    struct deletes deletes;
    bool walking;
    uint64_t position;
    uint64_t turn_us;    /* of the last turn */
    uint64_t rest_us;    /* no walk before that */
    uint32_t first;      /* the earliest exptime of what the walk has left alone */
    uint64_t flush_ts;   /* of the flush as the walk began; 0: none that is VALID */
    uint64_t flushed_ts; /* a walk has found everything gone that this flush made absent */
    unsigned tries;      /* at the present chain */
    bool left;           /* the walk has left something that it may not leave */
    uint64_t deleted, checked, walks;
};

void expire_init(struct expire *expire);
void expire_on_view(struct expire *expire, struct replica *replica);
void expire_on_tick(struct expire *expire, struct replica *replica);

/* Room is short: the walk is in a hurry. */
bool expire_wants_turn(const struct expire *expire, const struct replica *replica);

#endif
