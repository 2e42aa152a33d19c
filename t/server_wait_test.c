/* Goal: a worker that polls asks the kernel seldom, sleeps when nobody has talked for --poll-us,
 * and never sleeps on something. Method: worker_wait() alone, on a worker of zeros; everything that
 * it calls is here, and writes down what happened. The clock is the real one, so what depends on it
 * is compared with the time that has passed. */
#include <string.h>

#include "server/clock.h"
#include "server/node.h"
#include "server/worker.h"
#include "t/test.h"

enum { LOOK_US = 20 };

static struct node node;
static struct worker worker;
static struct {
    unsigned polls, questions; /* net_poll(), net_may_sleep() */
    unsigned looks, sleeps;    /* of the kernel */
    unsigned arrives_at;       /* the poll that finds something; 0: none does */
    bool arrives_always;       /* each poll finds something */
    bool arrives_late;         /* net_may_sleep() finds something */
    bool busy;                 /* the store has work */
    bool asleep;               /* what other workers saw when it slept */
    uint64_t slept_us;
} seen;

/* ---- what worker_wait() calls ---- */

bool net_poll(struct net_lane *lane)
{
    (void)lane;
    return ++seen.polls == seen.arrives_at || seen.arrives_always;
}

bool net_may_sleep(struct net_lane *lane)
{
    (void)lane;
    seen.questions++;
    return !seen.arrives_late;
}

void watch_turn(struct event_base *base, bool wait)
{
    (void)base;
    seen.looks += !wait;
    seen.sleeps += wait;
    if (wait) {
        seen.slept_us = clock_mono_us();
        seen.asleep = atomic_load(&worker.asleep);
    }
}

bool shard_wants_turn(const struct shard *shard)
{
    (void)shard;
    return false;
}

bool store_wants_check(const struct store *store)
{
    (void)store;
    return seen.busy;
}

struct log *store_log(struct store *store)
{
    (void)store;
    return NULL;
}

uint64_t log_tail(const struct log *log)
{
    (void)log;
    return 0;
}

/* ---- the worker ---- */

static void *slots[8];

static void begin(uint32_t poll_us)
{
    static struct worker_ring ring;
    worker = (struct worker){.node = &node, .polls = poll_us > 0, .rings = &ring};
    node.worker_count = 1;
    node.workers = &worker;
    node.options.poll_us = poll_us;
    ring_init(&ring.ring, slots, 8);
    memset(&seen, 0, sizeof(seen));
    worker.mono_us = worker.looked_us = clock_mono_us();
}

/* Turns until it has slept; how long that took. */
static uint64_t run_until_asleep(void)
{
    uint64_t begin_us = clock_mono_us();
    while (seen.sleeps == 0)
        worker_wait(&worker);
    return seen.slept_us - begin_us;
}

TEST(wait, without_polling_is_sleep)
{
    begin(0);
    worker_wait(&worker);
    EXPECT_EQ(seen.sleeps, 1);
    EXPECT(seen.asleep);
    EXPECT(!atomic_load(&worker.asleep));
    EXPECT_EQ(seen.polls + seen.questions, 0);
}

TEST(wait, with_work_left_does_not_sleep)
{
    begin(0);
    seen.busy = true;
    worker_wait(&worker);
    EXPECT(seen.looks == 1 && seen.sleeps == 0);
    begin(1000000);
    seen.busy = true;
    worker_wait(&worker);
    EXPECT(seen.polls == 1 && seen.sleeps == 0 && seen.questions == 0);
}

TEST(wait, sleeps_at_once_when_nobody_has_talked)
{
    begin(1000000);
    worker_wait(&worker);
    EXPECT_EQ(seen.sleeps, 1);
    EXPECT_EQ(seen.polls, 1);
    EXPECT_EQ(seen.looks, 0);
    EXPECT(seen.asleep);
}

/* So that the clock decides how many system calls there are, not how fast it polls. */
TEST(wait, polls_for_as_long_as_it_should_and_asks_the_kernel_seldom)
{
    enum { POLL_US = 30000 };
    begin(POLL_US);
    worker.talked = true;
    uint64_t took_us = run_until_asleep();
    EXPECT(took_us >= POLL_US);
    EXPECT(seen.looks >= 1);
    EXPECT(seen.looks <= took_us / LOOK_US + 1);
    EXPECT(seen.polls > seen.looks);
    EXPECT_EQ(seen.questions, 1);
}

TEST(wait, begins_anew_with_each_talk)
{
    enum { POLL_US = 20000 };
    begin(POLL_US);
    worker.talked = true;
    uint64_t begin_us = clock_mono_us();
    while (clock_mono_us() - begin_us < POLL_US / 2)
        worker_wait(&worker);
    if (clock_mono_us() - begin_us >= POLL_US)
        return; /* The machine was elsewhere. */
    EXPECT_EQ(seen.sleeps, 0);
    worker.talked = true;
    EXPECT(run_until_asleep() >= POLL_US);
}

/* What the callbacks of an arrival have begun is the turn's to go on with. */
TEST(wait, ends_with_an_arrival)
{
    begin(1000000);
    worker.talked = true;
    seen.arrives_at = 3;
    do
        worker_wait(&worker);
    while (seen.polls < 3);
    EXPECT_EQ(seen.polls, 3);
    EXPECT_EQ(seen.sleeps, 0);
}

/* Heartbeats are timers: a member that its peers' messages keep busy must not fall silent. */
TEST(wait, asks_the_kernel_in_time_however_much_there_is_to_do)
{
    for (unsigned busy = 0; busy < 2; busy++) {
        begin(1000000);
        seen.arrives_always = true;
        seen.busy = busy;
        for (unsigned due_count = 0; due_count < 100;) {
            worker.talked = true;
            worker.mono_us = clock_mono_us();
            bool due = worker.mono_us - worker.looked_us >= LOOK_US;
            unsigned looks = seen.looks;
            worker_wait(&worker);
            EXPECT(!due || seen.looks == looks + 1);
            due_count += due;
        }
        EXPECT_EQ(seen.sleeps, 0);
    }
}

TEST(wait, goes_on_with_what_came_while_it_lay_down)
{
    begin(10);
    seen.arrives_late = true;
    worker_wait(&worker);
    EXPECT_EQ(seen.questions, 1);
    EXPECT_EQ(seen.sleeps, 0);
    EXPECT(!atomic_load(&worker.asleep));
    seen.arrives_late = false;
    worker_wait(&worker);
    EXPECT_EQ(seen.sleeps, 1);
}

TEST(wait, does_not_sleep_on_a_job_or_a_line_of_another_thread)
{
    for (unsigned polls = 0; polls < 2; polls++) {
        begin(polls * 1000000);
        ASSERT(ring_put(&worker.rings[0].ring, &seen));
        worker_wait(&worker);
        EXPECT_EQ(seen.sleeps, 0);
        begin(polls * 1000000);
        atomic_store(&worker.watched, true);
        worker_wait(&worker);
        EXPECT_EQ(seen.sleeps, 0);
        EXPECT(!atomic_load(&worker.asleep));
    }
}

/* Who puts a job into its ring must not pay for a wake-up that nobody needs. */
TEST(wait, counts_as_awake_while_it_polls)
{
    begin(1000000);
    worker.talked = true;
    worker_wait(&worker);
    EXPECT(!atomic_load(&worker.asleep));
    EXPECT(seen.sleeps == 0 && seen.questions == 0);
}
