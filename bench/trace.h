/* trace.h: which key a cache is asked for next: popular ones as Zipf has it, for any exponent, and
 * between them keys that are asked for once and never again. Same seed, same trace. */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stdint.h>

#include "base/prng.h"

struct trace {
    struct prng prng;
    uint64_t key_count; /* popular ones */
    double exponent;
    unsigned once_percent; /* of all requests, one by one */
    uint32_t scan_length;  /* so many in a row... */
    uint32_t scan_gap;     /* ...after each so many others; 0: never */
    uint64_t next_once;
    uint32_t position; /* between two scans */
    double low, high;  /* of the integral: see trace.c */
};

/* The other fields are the caller's. */
void trace_init(struct trace *trace, uint64_t seed);
uint64_t trace_next(struct trace *trace);

#endif
