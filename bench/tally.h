/* tally.h: what a phase of bench/load has seen, and its report. One thread. */
#ifndef BENCH_TALLY_H
#define BENCH_TALLY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/histogram.h"
#include "bench/options.h"

enum tally_count {
    TALLY_HIT,
    TALLY_MISS,
    TALLY_ERROR,   /* the server answered with an error */
    TALLY_UNKNOWN, /* the connection or the patience ended before the answer */
    TALLY_WRONG,   /* not a value of that key */
    TALLY_STALE,   /* older than one that was already seen or acknowledged */
    TALLY_LOST,    /* a miss of an acknowledged key */
    TALLY_COUNT,
};

/* The longest time without an acknowledged write. */
struct gap {
    uint64_t last_ns, longest_ns, at_ns;
};

struct bucket {
    uint32_t gets, sets, errors, unknown;
};

struct tally {
    uint64_t start_ns, end_ns; /* of what is measured */
    struct histogram get, set, persist;
    uint64_t counts[TALLY_COUNT];
    struct gap gaps[SERVER_MAX + 1]; /* the last: of all servers together */
    struct bucket *buckets;
    uint32_t bucket_count;
    uint64_t bucket_ns; /* 0: no timeline */
};

void tally_start(struct tally *tally, uint64_t now_ns, uint64_t bucket_ns);
void tally_end(struct tally *tally, uint64_t now_ns);
void tally_free(struct tally *tally);
void tally_get(struct tally *tally, uint64_t now_ns, uint64_t took_ns);
void tally_set(struct tally *tally, uint64_t now_ns, uint64_t took_ns, unsigned server);
void tally_persist(struct tally *tally, uint64_t took_ns);
void tally_count(struct tally *tally, uint64_t now_ns, enum tally_count what);

/* Gets and sets that were answered without an error. */
uint64_t tally_done(const struct tally *tally);
/* A value was wrong, stale or lost. */
bool tally_bad(const struct tally *tally);

void tally_print(const struct tally *tally, const char *phase, const struct options *options);
/* Comma-separated, one line a bucket; the first column is CLOCK_MONOTONIC in ms. */
void tally_write_timeline(const struct tally *tally, FILE *file);

#endif
