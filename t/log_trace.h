/* log_trace.h: a long random life of a log on the simulated medium, with checks of what every
 * restart finds. Used where it must pass (pmem_log_test) and where it must not
 * (pmem_fault_test). */
#ifndef T_LOG_TRACE_H
#define T_LOG_TRACE_H

#include <stdint.h>

enum log_trace_end {
    TRACE_CUT,     /* power cuts */
    TRACE_KILL,    /* killed processes, and power cuts */
    TRACE_CORRUPT, /* as both, and rot between the lives */
};

/* Runs several lives. NULL: every rule held; else what was broken, valid until the next call. */
const char *log_trace_run(uint64_t seed, enum log_trace_end end);

#endif
