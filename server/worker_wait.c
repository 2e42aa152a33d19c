/* How a worker waits: asleep in the kernel until there is an event; or, with --poll-us and peers on
 * RDMA, awake for a while after the last message to or from one of them, since the answer is
 * microseconds away and a sleep costs some system calls. While it polls, the kernel (clients,
 * timers, letters, the medium) is asked each LOOK_US; other workers see that it is awake and put
 * their jobs into its rings without a system call.
 *
 * Each call is one turn of the loop at most: a poll that waits longer than LOOK_US returns, so that
 * what each turn has to do by the clock is done. Atomics: `asleep` and `watched` of workers. */
#include <assert.h>
#include <immintrin.h>

#include "server/clock.h"
#include "server/node.h"
#include "server/worker.h"

enum {
    LOOK_US = 20,
    POLLS_PER_CLOCK = 8, /* reading a clock takes as long as looking into a queue */
};

static bool has_outbox(const struct worker *worker)
{
    for (unsigned to = 0; to < worker->node->worker_count; to++) {
        if (worker->outbox[to].count > 0)
            return true;
    }
    return false;
}

/* Nothing is left that the next turn goes on with by itself. */
static bool is_idle(const struct worker *worker)
{
    return worker->due == NULL && worker->uploads_due == NULL && worker->pieces_done.count == 0 &&
           worker->rewrites_due.count == 0 && !has_outbox(worker) && worker->grace == 0 &&
           !shard_wants_turn(worker->shard) && !store_wants_check(worker->store) &&
           log_tail(store_log(worker->store)) == worker->drained;
}

/* From other threads. */
static bool has_mail(const struct worker *worker)
{
    for (unsigned from = 0; from < worker->node->worker_count; from++) {
        if (!ring_is_empty(&worker->rings[from].ring))
            return true;
    }
    return atomic_load_explicit(&worker->watched, memory_order_acquire);
}

/* The other half of worker_wake(): both exchange `asleep`, so one of them comes first: either the
 * sender finds it set, or what the sender has put is seen here. */
static bool lie_down(struct worker *worker)
{
    atomic_exchange_explicit(&worker->asleep, true, memory_order_acq_rel);
    return !has_mail(worker);
}

static void ask_kernel(struct worker *worker, bool sleep)
{
    counters_add(&worker->counters, sleep ? COUNTER_kernel_sleeps : COUNTER_kernel_looks, 1);
    watch_turn(worker->base, sleep);
    atomic_store_explicit(&worker->asleep, false, memory_order_relaxed);
}

/* True: slept. False: something has come, and may have left work for this turn. */
static bool sleep_if_quiet(struct worker *worker)
{
    bool sleep = lie_down(worker) && net_may_sleep(worker->lane);
    if (sleep)
        ask_kernel(worker, true);
    atomic_store_explicit(&worker->asleep, false, memory_order_relaxed);
    return sleep;
}

/* The last message of a peer began or ended the turn before this: its time is now. */
static void note_talk(struct worker *worker, uint64_t now_us)
{
    if (!worker->talked)
        return;
    worker->talked = false;
    worker->poll_until_us = now_us + worker->node->options.poll_us;
}

/* Until there is something to do, the kernel has to be asked, or nothing came for so long that it
 * slept. Gives the time. */
static uint64_t poll_idle(struct worker *worker)
{
    uint64_t now_us = clock_mono_us();
    note_talk(worker, now_us);
    for (unsigned i = 1; !net_poll(worker->lane) && !has_mail(worker); i++) {
        if (i % POLLS_PER_CLOCK == 0)
            now_us = clock_mono_us();
        if (now_us >= worker->poll_until_us) {
            if (sleep_if_quiet(worker))
                now_us = worker->looked_us = clock_mono_us();
            return now_us;
        }
        if (now_us - worker->looked_us >= LOOK_US)
            return now_us;
        _mm_pause();
    }
    return now_us;
}

static uint64_t poll_busy(struct worker *worker)
{
    net_poll(worker->lane);
    return worker->mono_us;
}

void worker_wait(struct worker *worker)
{
    bool idle = is_idle(worker);
    worker->clocks_old = true;
    if (!worker->polls) {
        ask_kernel(worker, idle && lie_down(worker));
        return;
    }
    uint64_t now_us = idle ? poll_idle(worker) : poll_busy(worker);
    if (now_us - worker->looked_us < LOOK_US)
        return;
    worker->looked_us = now_us;
    ask_kernel(worker, false);
}
