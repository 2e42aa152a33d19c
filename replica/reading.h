/* reading.h: reads by threads that are not the owner: without a lock, without a message to the
 * owner, and only where nothing is in doubt (doc/protocol.md, Reads by other workers). Holds
 * atomics.
 *
 *     begin_any -> copy the value -> look at the lease -> end_any
 *
 * The caller is inside its turn from begin to end, so that the record stays whole (pmem/log.h,
 * log_grace_ask). False anywhere says nothing of the key: ask the owner. */
#ifndef REPLICA_READING_H
#define REPLICA_READING_H

#include <stdatomic.h>

#include "replica/request.h"
#include "store/store.h"

struct replica;

/* What the owner lets others know, on a cache line of its own. */
struct notice {
    /* the epoch in which VALID records may be read here; 0: none may */
    _Alignas(64) _Atomic uint64_t serving;
    /* records with a smaller ts are absent, or are to be; UINT64_MAX: the owner knows */
    _Atomic uint64_t flushed;
    uint8_t rest[64 - 2 * sizeof(uint64_t)];
};

struct reading {
    struct found found;
    uint64_t serving;
};

/* Finds a VALID value that answers the request as it is, at second `now`. */
bool replica_read_begin_any(const struct replica *replica, const struct request *request,
                            uint32_t now, struct reading *reading);

/* After the copy, and after the lease was seen to hold: the copy answers the request, whose `seen`
 * is filled in. */
bool replica_read_end_any(const struct replica *replica, struct request *request, uint32_t now,
                          const struct reading *reading);

#endif
