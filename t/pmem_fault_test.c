/* Goal: the random lives of the log can fail: each planted fault is found by them.
 * Method: a build with FAULTS (make VARIANT=faults build/faults/t/pmem_fault_test); each fault in a
 * child process, because an assertion that stops it counts as found, too. */
#include "base/fault.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "t/log_trace.h"
#include "t/test.h"

#ifdef FAULTS
enum { SEEDS_MAX = 400, STOPPED = 1 };

/* The child's exit: 1 found by an assertion, 2 found by the checks, 0 not found. */
static int run_child(enum fault fault)
{
    fault_active = fault;
    for (uint64_t seed = 1; seed <= SEEDS_MAX; seed++) {
        const char *failure = log_trace_run(seed, TRACE_KILL);
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
