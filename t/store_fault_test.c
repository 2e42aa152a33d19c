/* Goal: the random lives of the store can fail: each planted fault is found by them.
 * Method: a build with FAULTS (make VARIANT=faults build/faults/t/store_fault_test); each fault in
 * a child process, because an assertion that stops it counts as found, too. */
#include "base/fault.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "t/store_trace.h"
#include "t/test.h"

#ifdef FAULTS
enum { SEEDS_MAX = 400, STOPPED = 1 };

/* The child's exit: 1 found by an assertion, 2 found by the checks, 0 not found. */
static int run_child(enum fault fault)
{
    fault_active = fault;
    for (uint64_t seed = 1; seed <= SEEDS_MAX; seed++) {
        const char *failure = store_trace_run(seed);
        if (failure == NULL)
            continue;
        printf("found with seed %llu: %s\n", (unsigned long long)seed, failure);
        fflush(stdout);
        return 2;
    }
    return 0;
}

static bool found(enum fault fault)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(run_child(fault));
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return false;
    return WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
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
