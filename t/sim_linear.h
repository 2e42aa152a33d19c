/* sim_linear.h: an exact judge of histories: is what the clients of one key saw linearizable?
 *
 * Independent of the product: it shares with it only the names of commands and outcomes. The search
 * is that of Wing and Gong with Lowe's memory of configurations, as in Porcupine. Proved against
 * brute force by t/sim_linear_test.c.
 *
 * Operations with an unknown outcome may take effect at any time after their start, or never. A
 * record past its exptime may become absent at any moment from then on, and so may any record where
 * there is eviction: but absent it stays. Cas uniques are opaque: an update makes a unique that
 * nobody saw before, touch keeps it. */
#ifndef T_SIM_LINEAR_H
#define T_SIM_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replica/request.h"

enum { SIM_VALUE_SIZE_MAX = 250 };

struct sim_value {
    uint8_t size;
    char bytes[SIM_VALUE_SIZE_MAX + 1];
};

struct sim_operation {
    uint64_t invoked;  /* positions in one total order of all starts and answers */
    uint64_t answered; /* UINT64_MAX: the outcome is unknown */
    enum request_type type;
    enum outcome outcome;
    uint16_t key;
    uint8_t client;
    uint8_t node;
    uint32_t flags, exptime;
    uint64_t cas, delta, initial;
    bool large;           /* the value is a manifest */
    bool evicts;          /* the key may have been evicted right before */
    bool whole;           /* append, prepend: it is that of the result */
    bool compare, vivify; /* these and the next ones as in struct request */
    uint8_t options;
    uint32_t new_exptime, recache_at;
    struct sim_value value;
    /* what was answered */
    struct sim_value result;
    uint32_t result_flags;
    bool result_large;
    uint8_t result_marks; /* fetch: enum seen_marks */
    uint64_t result_cas;  /* of what was read or written; 0: not told */
    uint64_t number;
    /* clocks: an exptime above wall_max (seconds) can't have passed anywhere when it was answered;
     * one below wall_min had passed at its node when it began */
    uint32_t wall_max, wall_min;
    uint64_t started_us, ended_us; /* for people */
};

enum sim_verdict {
    SIM_LINEARIZABLE,
    SIM_VIOLATION,
    SIM_UNDECIDED, /* the search gave up: a failure of the test, never a success */
};

/* What one key holds, for the sequential specification. */
struct sim_state {
    bool exists;
    bool large;
    bool stale, won; /* to be replaced; somebody was told to */
    uint32_t flags, exptime;
    uint64_t cas; /* 0: not seen by anybody yet */
    struct sim_value value;
};

enum sim_variant {
    SIM_AS_IT_IS,
    SIM_EXPIRED_FIRST, /* the record passes its exptime first, or is evicted */
    /* a set without an answer: it may have found no room, and deleted the old value */
    SIM_DELETED_ONLY,
    SIM_VARIANT_COUNT,
};

/* May `operation` take effect on `before` in this way, with the answer that it got? *after is the
 * new state. `cas_seen`: the unique that the operation reports has been reported before. */
bool sim_spec_apply(const struct sim_state *before, const struct sim_operation *operation,
                    enum sim_variant variant, bool cas_seen, struct sim_state *after);

/* Judges the operations of one key, in any order. `step_count_max` limits the search. *steps: what
 * it took. */
enum sim_verdict sim_linear_check(const struct sim_operation *const *operations, size_t count,
                                  uint64_t step_count_max, uint64_t *steps);

/* One line for people. */
void sim_operation_print(const struct sim_operation *operation, char *text, size_t size);

#endif
