/* plan.h: what a command does to the current record of its key: either an answer, or the record to
 * write. For replica_request.c; pure. */
#ifndef REPLICA_PLAN_H
#define REPLICA_PLAN_H

#include "replica/piece.h"
#include "replica/replica.h"

/* What a command sees of its key. */
struct current {
    const struct record *record; /* NULL: absent, deleted or flushed */
    uint64_t base;               /* version to build on */
    bool expired;
    bool flushed;
};

/* The record to write. `digits` holds a computed value. */
struct plan {
    struct record_spec spec;
    bool plain;
    bool reads;        /* a fetch that has nothing to write */
    bool keeps_access; /* when the key was last read is the same as before */
    unsigned joined;   /* other SETs that it answers */
    enum outcome outcome;
    uint64_t number;
    struct manifest replaces; /* size 0: none */
    char digits[128];         /* doc/differences.md: nothing longer is a number */
};

static inline uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* `found` NULL: the key has no record of any kind. */
struct current plan_look(const struct replica *replica, const struct found *found);

/* True: write plan->spec, then answer plan->outcome. False: answer plan->outcome now, from
 * now->record. Fills in what the answer tells of the record (request->seen) but for its access
 * times. */
bool plan_write(const struct replica *replica, struct request *request, const struct current *now,
                struct plan *plan);

#endif
