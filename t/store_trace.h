/* store_trace.h: a long random life of a store on the simulated medium, with checks at every step
 * and of what every restart finds. Used where it must pass (store_clean_test) and where it must not
 * (store_fault_test). */
#ifndef T_STORE_TRACE_H
#define T_STORE_TRACE_H

#include <stdint.h>

/* Runs several lives, ended by power cuts and kills. NULL: every rule held; else what was broken,
 * valid until the next call. */
const char *store_trace_run(uint64_t seed);

#endif
