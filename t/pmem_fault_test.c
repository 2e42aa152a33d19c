/* Goal: the random lives of the log can fail: each planted fault is found by them.
 * Method: a build with FAULTS (make VARIANT=faults build/faults/t/pmem_fault_test). */
#include "t/fault_child.h"
#include "t/log_trace.h"
#include "t/test.h"

#ifdef FAULTS
static const char *live(uint64_t seed)
{
    return log_trace_run(seed, TRACE_KILL);
}

static bool found(enum fault fault)
{
    return fault_is_found(fault, live);
}

TEST(log_fault, without_any_nothing_is_found)
{
    EXPECT(!found(FAULT_NONE));
}

TEST(log_fault, a_torn_record_that_is_accepted_is_found)
{
    EXPECT(found(FAULT_TORN_RECORD));
}

TEST(log_fault, a_flush_left_out_is_found)
{
    EXPECT(found(FAULT_NO_FLUSH));
}

TEST(log_fault, a_drain_left_out_is_found)
{
    EXPECT(found(FAULT_NO_DRAIN));
}

TEST(log_fault, a_segment_used_again_too_early_is_found)
{
    EXPECT(found(FAULT_FREE_EARLY));
}

TEST(log_fault, numbers_that_begin_too_low_after_a_restart_are_found)
{
    EXPECT(found(FAULT_RESTART_LSN));
}
#else
TEST(log_fault, needs_a_build_with_faults)
{
    EXPECT_EQ(FAULT(NO_FLUSH), 0);
}
#endif
