/* request.h: one command of a client on one key, as the replication core sees it.
 *
 * Ownership: the caller owns a request and its slices and keeps them unchanged from EVENT_REQUEST until the
 * ACTION_REPLY that names it. Meanwhile the core uses the fields under "core". */
#ifndef REPLICA_REQUEST_H
#define REPLICA_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "pmem/record.h"

enum request_type {
    REQUEST_GET,
    REQUEST_SET,
    REQUEST_ADD,
    REQUEST_REPLACE,
    REQUEST_APPEND,
    REQUEST_PREPEND,
    REQUEST_CAS,
    REQUEST_INCR,
    REQUEST_DECR,
    REQUEST_TOUCH, /* new exptime, keeps value and cas */
    REQUEST_GAT,   /* touch, and answers the value */
    REQUEST_DELETE,
    REQUEST_FLUSH, /* key is empty; exptime 0: now; else the second at which it takes effect */
    REQUEST_EXPIRE /* made by the core itself: deletes the record if it is still there and past its exptime */
};

enum outcome {
    OUTCOME_HIT,       /* record is the value */
    OUTCOME_MISS,      /* get, gat */
    OUTCOME_STORED,
    OUTCOME_NOT_STORED,
    OUTCOME_EXISTS,    /* cas: another unique */
    OUTCOME_NOT_FOUND,
    OUTCOME_DELETED,
    OUTCOME_TOUCHED,
    OUTCOME_NUMBER,    /* incr, decr: `number` */
    OUTCOME_NON_NUMERIC,
    OUTCOME_LARGE,     /* append, prepend: the result lies in pieces, which the core does not make; not applied */
    OUTCOME_TOO_LARGE, /* the result would not fit: append and prepend answer NOT_STORED for it */
    OUTCOME_NO_MEMORY, /* the store is full; not applied */
    OUTCOME_OK,        /* flush_all */
    OUTCOME_REFUSED,   /* this node is not serving; not applied */
    OUTCOME_UNKNOWN    /* this node left or lost the group meanwhile; applied once, now or later, or not at all */
};

struct request {
    enum request_type type;
    uint32_t client_flags;
    uint32_t exptime; /* absolute seconds, 0: never */
    uint64_t hash;    /* hash_key(key) */
    struct slice key;
    struct slice value;
    bool large;       /* the value is a manifest: set, add, replace, cas (replica/piece.h) */
    uint64_t cas;     /* the unique to compare with */
    uint64_t delta;   /* incr, decr */
    bool compare;     /* not executed if there is a record with another unique than `cas`: OUTCOME_EXISTS. REQUEST_CAS
                         does so by itself; not for SET and FLUSH, which look at nothing */
    bool vivify;      /* incr, decr of a key that is not there: it is made, with `initial`, client_flags and exptime */
    uint64_t initial;

    /* core */
    struct request *next;
    bool *busy; /* made by the core itself: no action, but this is cleared; else NULL */
};

#endif
