/* Goal: what a replicated write costs in verbs and system calls, counted, while lanes are polled.
 * Method: three nodes on fake devices, which make no system calls of their own; the messages of
 * Hermes' writes (INV out, ACK back, VAL out), sent and polled by this thread; any system call it
 * makes meanwhile is trapped (Syscall User Dispatch, Linux 5.11) and counted. The kernel's part of
 * a real device's doorbell is its driver's: none on hardware, one call on soft-RoCE. */
#include <inttypes.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "t/net_cluster.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#define SYSCALL_DISPATCH_FILTER_ALLOW 0
#define SYSCALL_DISPATCH_FILTER_BLOCK 1
#endif

static volatile char selector = SYSCALL_DISPATCH_FILTER_ALLOW;
static volatile unsigned calls;
static volatile long last_call;

/* Refused like a call that does not exist: the test has failed anyway. Allowed from here on, for
 * the way back out of the handler. */
static void on_call(int number, siginfo_t *info, void *context)
{
    (void)number;
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    calls++;
    last_call = info->si_syscall;
    (void)context;
}

/* False: nothing is trapped, in an older kernel or where a sanitizer makes calls of its own. */
static bool trap_calls(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#endif
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSYS, &action, NULL);
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) == 0;
}

static void untrap_calls(void)
{
    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, NULL);
    signal(SIGSYS, SIG_DFL);
}

enum { HEADER = 64, KEY_AND_VALUE = 32 + 100 };

static struct net_lane *lane_of(struct cluster *cluster, unsigned id)
{
    return cluster->nodes[id].seats[0].lane;
}

static void send_to(struct cluster *cluster, unsigned from, unsigned to, uint32_t *number,
                    size_t size)
{
    ASSERT_EQ(send_number(cluster, from, 0, to, NET_URGENT, (*number)++, size), STATUS_OK);
}

/* Flushes who has something to say and polls until all of it has been heard. */
static void exchange(struct cluster *cluster)
{
    bool more = true;
    for (unsigned id = 1; id <= 3; id++)
        net_flush(lane_of(cluster, id));
    while (more) {
        more = false;
        for (unsigned id = 1; id <= 3; id++)
            more = net_poll(lane_of(cluster, id)) || more;
    }
}

struct numbers {
    uint32_t next[4][4];
};

/* `depth` writes of node 1 side by side. */
static void write_side_by_side(struct cluster *cluster, struct numbers *numbers, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        for (unsigned peer = 2; peer <= 3; peer++)
            send_to(cluster, 1, peer, &numbers->next[1][peer], HEADER + KEY_AND_VALUE);
    exchange(cluster);
    for (unsigned i = 0; i < depth; i++)
        for (unsigned peer = 2; peer <= 3; peer++)
            send_to(cluster, peer, 1, &numbers->next[peer][1], HEADER);
    exchange(cluster);
    for (unsigned i = 0; i < depth; i++)
        for (unsigned peer = 2; peer <= 3; peer++)
            send_to(cluster, 1, peer, &numbers->next[1][peer], HEADER);
    exchange(cluster);
}

struct cost {
    double sends;       /* a write and peer, at the coordinator */
    double doorbells;   /* of these */
    double all_sends;   /* a write and peer, both directions */
    double receives;    /* posted, both directions */
    double completions; /* polled, both directions */
    unsigned calls;
};

static void open_polled(struct cluster *cluster)
{
    cluster_open(cluster, OVER_POLLED_RDMA, 3, 1);
    RUN_UNTIL(cluster, all_up(cluster));
    cluster_run(cluster, 60); /* greetings and first pings are over */
}

static void sums_of(struct cluster *cluster, struct net_stats sums[4])
{
    cluster_run(cluster, 30); /* two ticks: they publish */
    for (unsigned id = 1; id <= 3; id++) {
        sums[id] = (struct net_stats){0};
        for (unsigned peer = 1; peer <= 3; peer++) {
            struct net_stats stats;
            net_stats_any(cluster->nodes[id].net, 0, peer, &stats);
            sums[id].work_requests += stats.work_requests;
            sums[id].doorbells += stats.doorbells;
            sums[id].receives += stats.receives;
            sums[id].completions += stats.completions;
            sums[id].not_ready += stats.not_ready;
        }
    }
}

static struct cost measure(unsigned depth, unsigned rounds)
{
    struct cluster cluster;
    struct numbers numbers = {0};
    struct fake_counters before, after;
    struct net_stats old[4], new[4];
    open_polled(&cluster);
    for (unsigned i = 0; i < rounds; i++) /* buffers grow to what they need */
        write_side_by_side(&cluster, &numbers, depth);
    sums_of(&cluster, old);
    fake_verbs_counters(&before);
    calls = 0;
    bool trapped = trap_calls();
    selector = trapped ? SYSCALL_DISPATCH_FILTER_BLOCK : SYSCALL_DISPATCH_FILTER_ALLOW;
    for (unsigned i = 0; i < rounds; i++)
        write_side_by_side(&cluster, &numbers, depth);
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    untrap_calls();
    fake_verbs_counters(&after);
    EXPECT_EQ(after.rnr, 0);
    EXPECT_EQ(after.arms, before.arms);
    double writes = 2.0 * depth * rounds; /* and peers */
    struct cost cost = {
        .all_sends = (double)(after.sends - before.sends) / writes,
        .receives = (double)(after.receives - before.receives) / writes,
        .completions = (double)(after.completions - before.completions) / writes,
        .calls = calls,
    };
    sums_of(&cluster, new);
    cost.sends = (double)(new[1].work_requests - old[1].work_requests) / writes;
    cost.doorbells = (double)(new[1].doorbells - old[1].doorbells) / writes;
    cluster_close(&cluster);
    printf("figure verbs.%u.sends %.3f per_write_and_peer\n", depth, cost.sends);
    printf("figure verbs.%u.doorbells %.3f per_write_and_peer\n", depth, cost.doorbells);
    printf("figure verbs.%u.all_sends %.3f per_write_and_peer\n", depth, cost.all_sends);
    printf("figure verbs.%u.receives %.3f per_write_and_peer\n", depth, cost.receives);
    printf("figure verbs.%u.completions %.3f per_write_and_peer\n", depth, cost.completions);
    if (trapped)
        printf("figure verbs.%u.system_calls %u in_all\n", depth, cost.calls);
    if (cost.calls > 0)
        printf("the first was number %ld\n", last_call);
    return cost;
}

/* INV and VAL; heartbeats of the two ticks that publish are in it, too: a few in a thousand. */
TEST(silent, a_write_alone_costs_two_sends_a_peer_and_no_system_call)
{
    struct cost cost = measure(1, 1000);
    EXPECT(cost.sends <= 2.05);
    EXPECT(cost.all_sends <= 3.1);
    EXPECT_EQ(cost.calls, 0);
}

TEST(silent, sixteen_side_by_side_share_their_frames)
{
    struct cost cost = measure(16, 100);
    EXPECT(cost.sends <= 0.2);
    EXPECT_EQ(cost.calls, 0);
}

TEST(silent, two_hundred_and_fifty_six_cost_below_a_third_of_a_send_each)
{
    struct cost cost = measure(256, 20);
    EXPECT(cost.sends < 0.3);
    EXPECT_EQ(cost.calls, 0);
}

/* That the trap works: reading the process id is a call. */
TEST(silent, a_system_call_is_noticed)
{
    calls = 0;
    if (!trap_calls())
        return; /* nothing is proved about calls, here as above */
    selector = SYSCALL_DISPATCH_FILTER_BLOCK;
    (void)syscall(SYS_getpid);
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    untrap_calls();
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(last_call, SYS_getpid);
}
