/* request.h: one command of a client on one key, as the replication core sees it.
 *
 * Ownership: the caller owns a request and its slices and keeps them unchanged from EVENT_REQUEST
 * until the ACTION_REPLY that names it. Meanwhile the core uses the fields under "core". */
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
    /* made by the core itself: deletes the record if it is still there and past its exptime, or
     * flushed */
    REQUEST_EXPIRE,
    REQUEST_FETCH, /* meta get: a read, which becomes a write where it has to change the record */
    /* of no key (it stays empty): OUTCOME_OK when all that this shard has acknowledged at this node
     * is durable at every member. Goes on waiting over changes of view; who stalls, or is removed,
     * answers REFUSED, which says nothing. One a shard; as many as the caller likes share a
     * stability round */
    REQUEST_PERSIST,
    /* made by the core itself: deletes the record if it is still the one with ts `cas`, and unread
     * here */
    REQUEST_EVICT
};

/* Answers the value of a record. */
static inline bool request_reads(enum request_type type)
{
    return type == REQUEST_GET || type == REQUEST_GAT || type == REQUEST_FETCH;
}

/* Brings a value, which is joined to the one that is there. */
static inline bool request_extends(enum request_type type)
{
    return type == REQUEST_APPEND || type == REQUEST_PREPEND;
}

/* Brings a value. */
static inline bool request_stores(enum request_type type)
{
    return type == REQUEST_SET || type == REQUEST_ADD || type == REQUEST_REPLACE ||
           type == REQUEST_CAS || request_extends(type);
}

/* What meta commands ask for in addition. */
enum request_option {
    /* FETCH, INCR, DECR: `new_exptime`, if there is a record; DELETE with MARKS_STALE too */
    REQUEST_SETS_EXPTIME = 1 << 0,
    REQUEST_EXPTIME_FIRST = 1 << 1, /* FETCH: and `recache_at` is compared with the new one */
    /* FETCH: who finds it expiring before `recache_at` wins, unless somebody has already */
    REQUEST_RECACHES = 1 << 2,
    /* DELETE: keep the value, as stale. CAS: accept an older unique too, and store as stale */
    REQUEST_MARKS_STALE = 1 << 3,
    /* DELETE: keep the key, without its value; client_flags and exptime as given */
    REQUEST_EMPTIES = 1 << 4,
    /* a new value's unique is `new_cas`. Clients take care themselves that it is one */
    REQUEST_SETS_CAS = 1 << 5,
    REQUEST_KEY_BASE64 = 1 << 6, /* the key came in base64: remembered with the record */
    REQUEST_UNNOTICED = 1 << 7,  /* GET, FETCH: does not count as access */
};

enum seen_marks {
    SEEN_CREATED = 1, /* there was none */
    SEEN_WON = 2,     /* FETCH: this one shall bring a new value */
    SEEN_TAKEN = 4,   /* FETCH: somebody else was told so already */
    SEEN_STALE = 8,
    SEEN_BASE64 = 16, /* the record's key came in base64 */
};

/* What a command saw of its record before it changed it. */
struct seen {
    uint8_t marks;
    bool fetched;       /* read before, since its value was set */
    uint32_t access_at; /* last read here, or written, in seconds since 1970 */
    uint32_t exptime;
    uint32_t value_size; /* of what it has written, or else read or deleted */
    /* there was one past its time; it is gone now. For statistics, as the next */
    bool expired;
    bool flushed; /* there is one, but flush_all came after it */
};

enum outcome {
    OUTCOME_HIT,  /* record is the value */
    OUTCOME_MISS, /* get, gat */
    OUTCOME_STORED,
    OUTCOME_NOT_STORED,
    OUTCOME_EXISTS, /* cas: another unique */
    OUTCOME_NOT_FOUND,
    OUTCOME_DELETED,
    OUTCOME_TOUCHED,
    OUTCOME_NUMBER, /* incr, decr: `number` */
    OUTCOME_NON_NUMERIC,
    /* append, prepend: the result lies in pieces, which the core does not make; not applied */
    OUTCOME_LARGE,
    OUTCOME_TOO_LARGE, /* the result would not fit: append and prepend answer NOT_STORED for it */
    OUTCOME_NO_MEMORY, /* the store is full; not applied */
    OUTCOME_OK,        /* flush_all, persist */
    OUTCOME_REFUSED,   /* this node is not serving; not applied */
    /* this node left or lost the group meanwhile; applied once, now or later, or not at all */
    OUTCOME_UNKNOWN
};

struct request {
    enum request_type type;
    uint32_t client_flags;
    uint32_t exptime; /* absolute seconds, 0: never */
    uint64_t hash;    /* hash_key(key) */
    struct slice key;
    struct slice value;
    /* the value is a manifest, of pieces that this incarnation of this node has stored
     * (replica/piece.h) */
    bool large;
    bool whole;     /* append, prepend: the value is not what is added, but the result */
    uint64_t cas;   /* the unique to compare with */
    uint64_t delta; /* incr, decr */
    /* not executed if there is a record with another unique than `cas`: OUTCOME_EXISTS. REQUEST_CAS
     * does so by itself; not for SET and FLUSH, which look at nothing */
    bool compare;
    /* incr, decr of a key that is not there: it is made, with `initial`, client_flags and exptime.
     * FETCH makes it empty, and wins; append and prepend make it of their value */
    bool vivify;
    uint64_t initial;
    uint8_t options; /* enum request_option */
    uint32_t new_exptime;
    uint32_t recache_at;
    uint64_t new_cas;

    /* core */
    struct seen seen; /* complete when the answer is given: HIT, MISS and what was written */
    struct request *next;
    /* made by the core itself: no action, but this is cleared, and `outcome` set; else NULL */
    bool *busy;
    enum outcome outcome;
    /* a try of it was overtaken and refused here; until its key is VALID here it may still take
     * effect elsewhere */
    bool tried;
};

/* Record flags of a value that is stored without looking at what is there. */
static inline uint8_t request_record_flags(const struct request *request)
{
    return (uint8_t)(((request->options & REQUEST_KEY_BASE64) ? RECORD_BASE64 : 0) |
                     ((request->options & REQUEST_SETS_CAS) ? RECORD_CAS : 0) |
                     (request->large ? RECORD_LARGE : 0));
}

#endif
