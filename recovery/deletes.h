/* deletes.h: deletes that the core makes itself, several at once: of keys that are past their time,
 * or chosen to go. Nobody waits for them; one whose key is not at rest, or that finds no room, is
 * left out. Pure; owner thread only. */
#ifndef RECOVERY_DELETES_H
#define RECOVERY_DELETES_H

#include "replica/replica.h"

enum { DELETES_MAX = 128 }; /* under way at once */

struct delete
{
    struct request request;
    bool busy; /* the core has it */
    uint8_t key[RECORD_KEY_SIZE_MAX];
};

struct deletes {
    struct delete deletes[DELETES_MAX];
    uint8_t free[DELETES_MAX];
    unsigned free_count;
    unsigned next; /* to be looked at by deletes_take */
};

/* The share of the hash space in which this member deletes: no two do it at once. */
struct store_share deletes_share(const struct replica *replica);

void deletes_init(struct deletes *deletes);

static inline bool deletes_have_room(const struct deletes *deletes)
{
    return deletes->free_count > 0;
}

/* REQUEST_EXPIRE, or REQUEST_EVICT of the version `ts`. False: it was left out. There is room. */
bool deletes_start(struct deletes *deletes, struct replica *replica, enum request_type type,
                   const struct found *found);

/* One that is over, NULL: none. Its `outcome`, key and `seen` are to be looked at before the next
 * call. */
const struct request *deletes_take(struct deletes *deletes);

#endif
