/* Goal: what the process asks the kernel for at its start is enough for what it was told to be.
 * Method: settings at the upper end, and the limits that follow from them. */
#include "server/process.h"

#include <sys/resource.h>

#include "t/test.h"

static rlim_t raised(uint32_t connections, uint32_t threads, uint32_t peers)
{
    struct rlimit before, after = {0};
    struct options options = {
        .connection_max = connections, .thread_count = threads, .peer_count = peers};
    getrlimit(RLIMIT_NOFILE, &before);
    struct rlimit low = {.rlim_cur = 256, .rlim_max = before.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    EXPECT_EQ(process_raise_descriptors(&options), 0);
    getrlimit(RLIMIT_NOFILE, &after);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    return after.rlim_cur;
}

/* A thread has 8 descriptors of its own, over RDMA 10, and one for each peer; so has the control
 * thread, and 64 for strangers. Clients may have all of theirs at the same time. */
TEST(process, has_descriptors_for_its_threads_and_peers_beside_its_clients)
{
    EXPECT(raised(500, 64, 7) >= 500 + 65 * (10 + 6) + 64);
    EXPECT(raised(500, 64, 1) >= 500 + 65 * 8 + 64);
    EXPECT(raised(500, 4, 3) < 500 + 700);
}
