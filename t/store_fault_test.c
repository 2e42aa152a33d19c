/* Goal: the random lives of the store can fail: each planted fault is found by them.
 * Method: a build with FAULTS (make VARIANT=faults build/faults/t/store_fault_test). */
#include "t/fault_child.h"
#include "t/store_trace.h"
#include "t/test.h"

#ifdef FAULTS
static bool found(enum fault fault)
{
    return fault_is_found(fault, store_trace_run);
}

TEST(store_fault, without_any_nothing_is_found)
{
    EXPECT(!found(FAULT_NONE));
}

TEST(store_fault, a_tombstone_dropped_before_absent_nodes_have_it_is_found)
{
    EXPECT(found(FAULT_DROP_TOMBSTONE_EARLY));
}

TEST(store_fault, a_tombstone_dropped_before_older_versions_is_found)
{
    EXPECT(found(FAULT_DROP_BEFORE_OLDER));
}

TEST(store_fault, a_discard_that_voids_only_one_record_is_found)
{
    EXPECT(found(FAULT_DISCARD_ONE));
}

TEST(store_fault, a_copy_of_what_is_not_durable_is_found)
{
    EXPECT(found(FAULT_COPY_EARLY));
}

TEST(store_fault, a_walk_that_leaves_out_copies_is_found)
{
    EXPECT(found(FAULT_WALK_LEAVES_COPIES));
}

TEST(store_fault, faults_of_the_log_are_found_here_too)
{
    EXPECT(found(FAULT_TORN_RECORD));
    EXPECT(found(FAULT_NO_FLUSH));
    EXPECT(found(FAULT_NO_DRAIN));
    EXPECT(found(FAULT_FREE_EARLY));
    EXPECT(found(FAULT_RESTART_LSN));
}
#else
TEST(store_fault, needs_a_build_with_faults)
{
    EXPECT_EQ(FAULT(DISCARD_ONE), 0);
}
#endif
