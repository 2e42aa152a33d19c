#include "server/worker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pmem/medium_file.h"
#include "server/connection.h"
#include "server/connection_auth.h"
#include "server/large.h"
#include "server/node.h"
#include "server/udp.h"

/* ---- jobs between workers
 * -------------------------------------------------------------------------- */

static void put_outbox(struct worker *worker, unsigned to, struct job *job)
{
    job_queue_put(&worker->outbox[to], job);
}

/* Moves what fits into the ring; true: the receiver has something new. */
static bool send_outbox(struct worker *worker, unsigned to)
{
    struct job_queue *outbox = &worker->outbox[to];
    struct ring *ring = &worker->node->workers[to].rings[worker->number].ring;
    bool sent = false;
    for (struct job *job; (job = job_queue_take(outbox)) != NULL; sent = true) {
        if (!ring_put(ring, job)) { /* Once it is put, the job is the receiver's: not even its link
                                       may be read. */
            job_queue_put_first(outbox, job);
            break;
        }
    }
    return sent;
}

/* Spares the system call while the receiver is awake: it empties its rings in each turn. */
static void wake(struct worker *worker)
{
    if (atomic_exchange_explicit(&worker->asleep, false, memory_order_acq_rel))
        eventfd_write(worker->ring_fd, 1);
}

void worker_wake_watchers_any(struct worker *worker)
{
    atomic_store_explicit(&worker->watched, true, memory_order_release);
    wake(worker);
}

static void send_outboxes(struct worker *worker)
{
    for (unsigned to = 0; to < worker->node->worker_count; to++) {
        if (worker->outbox[to].count > 0 && send_outbox(worker, to))
            wake(&worker->node->workers[to]);
    }
}

static void receive(struct worker *worker, struct job *job)
{
    if (job->home == worker->number && job->answered)
        connection_done(worker, job);
    else
        worker_execute(worker, job);
}

static void receive_all(struct worker *worker)
{
    for (unsigned from = 0; from < worker->node->worker_count; from++) {
        struct job *job;
        for (unsigned i = 0; i < WORKER_RING_COUNT; i++) {
            job = ring_take(&worker->rings[from].ring);
            if (job == NULL)
                break;
            receive(worker, job);
        }
    }
}

/* The rings are emptied in each turn; this only ends the sleep. */
static void on_ring(void *user)
{
    struct worker *worker = user;
    eventfd_t ignored;
    eventfd_read(worker->ring_fd, &ignored);
}

void worker_submit(struct worker *worker, struct job *job)
{
    job->home = (uint16_t)worker->number;
    if (job->owner == worker->number) {
        worker_execute(worker, job);
        return;
    }
    counters_add(&worker->counters, COUNTER_requests_forwarded, 1);
    put_outbox(worker, job->owner, job);
}

void worker_finish(struct worker *worker, struct job *job)
{
    job->answered = true; /* `done` is the home's alone: it looks at it while the job is out */
    if (job->home == worker->number)
        connection_done(worker, job);
    else
        put_outbox(worker, job->home, job);
}

/* ---- letters of the control thread
 * ----------------------------------------------------------------- */

static void install_view(struct worker *worker, const struct view *view)
{
    struct event event = {.type = EVENT_VIEW, .view = view};
    worker_step(worker, &event);
    worker_net_resume(worker);
    worker_publish(worker);
}

static void begin_anew(struct worker *worker, uint64_t incarnation)
{
    struct event event = {.type = EVENT_RESTART, .incarnation = incarnation};
    worker_step(worker, &event);
    worker_net_resume(worker);
    worker_publish(worker);
}

static void read_letter(struct worker *worker, const struct letter *letter)
{
    switch (letter->type) {
    case LETTER_CONNECTION:
        connection_open(worker, letter->fd, letter->listener);
        break;
    case LETTER_UDP:
        udp_open(worker, letter->fd, letter->listener);
        break;
    case LETTER_VIEW:
        install_view(worker, &letter->view);
        break;
    case LETTER_INCARNATION:
        begin_anew(worker, letter->incarnation);
        break;
    case LETTER_STOP:
        worker->stopping = true;
        break;
    case LETTER_SASL:
        connection_auth_done(worker, letter->call);
        break;
    case LETTER_HEALED:
    case LETTER_SUSPECT:
    case LETTER_FAILED:
        assert(!"a letter to the control thread");
    }
}

static void on_letter(void *user)
{
    struct worker *worker = user;
    for (struct letter *letter = mailbox_take(&worker->mailbox), *next; letter != NULL;
         letter = next) {
        next = letter->next;
        read_letter(worker, letter);
        free(letter);
    }
}

/* ---- the loop
 * -------------------------------------------------------------------------------------- */

static void nothing(void *user)
{
    (void)user; /* The turn after the event does the work. */
}

static void on_medium(void *user)
{
    struct worker *worker = user;
    medium_file_clear(worker->medium);
}

static void tick(struct worker *worker)
{
    bool due = worker->mono_us - worker->ticked_us >= TICK_US;
    if (!due && !shard_wants_turn(worker->shard))
        return;
    struct event event = {.type = EVENT_TICK};
    if (due)
        shard_set_upload_floor(worker->shard, large_floor_any(worker->node));
    worker_step(worker, &event);
    if (due && worker->holds)
        worker_net_resume(worker);
    if (due)
        store_alive(worker->store, worker->wall_us);
    if (due)
        worker->ticked_us = worker->mono_us;
    if (worker->mono_us - worker->published_us >= WORKER_PUBLISH_US)
        worker_publish(worker);
    if (worker->mono_us - worker->swept_us >= WORKER_SWEEP_US) {
        worker->swept_us = worker->mono_us;
        connection_sweep(worker);
    }
}

static void turn(struct worker *worker)
{
    stream_commons_begin_turn(&worker->streams);
    worker_wait(worker);
    worker_read_clocks(worker);
    receive_all(worker);
    worker_notice_lease(worker);
    worker_retry_parked(worker);
    tick(worker);
    worker_check(worker);
    worker_pass_grace(worker);
    worker_durable(worker);
    large_run_due(worker);
    connection_run_watchers(worker);
    connection_run_due(worker);
    send_outboxes(worker);
    if (worker->lane != NULL)
        net_flush(worker->lane);
    worker_stop_reading(worker);
}

static void *run(void *user)
{
    struct worker *worker = user;
    char name[16];
    snprintf(name, sizeof(name), "worker-%u", worker->number);
    pthread_setname_np(pthread_self(), name);
    while (!worker->stopping && !worker->failed)
        turn(worker);
    connection_close_all(worker);
    udp_close_all(worker);
    /* The core gives back what it has of clients; nobody waits for it any more. */
    worker_step(worker, &(struct event){.type = EVENT_STALLED});
    large_close(worker);
    worker_stop_reading(worker);
    return NULL;
}

/* ---- opening, closing
 * ------------------------------------------------------------------------------ */

static enum status open_rings(struct worker *worker)
{
    worker->rings = aligned_alloc(64, worker->node->worker_count * sizeof(struct worker_ring));
    if (worker->rings == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned i = 0; i < worker->node->worker_count; i++)
        ring_init(&worker->rings[i].ring, worker->rings[i].slots, WORKER_RING_COUNT);
    worker->ring_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (worker->ring_fd >= 0)
        return STATUS_OK;
    free(worker->rings);
    return STATUS_IO;
}

static void close_watches(struct worker *worker)
{
    watch_close(worker->letter_watch);
    watch_close(worker->ring_watch);
    watch_close(worker->tick_watch);
    watch_close(worker->medium_watch);
}

static enum status open_watches(struct worker *worker)
{
    struct event_base *base = worker->base;
    worker->letter_watch = watch_open(base, worker->mailbox.wake_fd, WATCH_READ, on_letter, worker);
    worker->ring_watch = watch_open(base, worker->ring_fd, WATCH_READ, on_ring, worker);
    worker->tick_watch = watch_open(base, -1, WATCH_TIMER, nothing, worker);
    if (worker->medium_fd >= 0)
        worker->medium_watch = watch_open(base, worker->medium_fd, WATCH_READ, on_medium, worker);
    if (worker->letter_watch == NULL || worker->ring_watch == NULL || worker->tick_watch == NULL ||
        (worker->medium_fd >= 0 && worker->medium_watch == NULL)) {
        close_watches(worker);
        return STATUS_NO_MEMORY;
    }
    watch_start(worker->letter_watch, 0);
    watch_start(worker->ring_watch, 0);
    watch_start(worker->tick_watch, TICK_US);
    if (worker->medium_watch != NULL)
        watch_start(worker->medium_watch, 0);
    return STATUS_OK;
}

enum status worker_open(struct worker *worker)
{
    const struct node *node = worker->node;
    worker_read_clocks(worker);
    enum status status = open_rings(worker);
    if (status != STATUS_OK)
        return status;
    status = mailbox_open(&worker->mailbox);
    if (status != STATUS_OK)
        goto close_rings;
    status = STATUS_NO_MEMORY;
    worker->base = watch_base_open();
    if (worker->base == NULL)
        goto close_mailbox;
    status = open_watches(worker);
    if (status != STATUS_OK)
        goto close_base;
    status = stream_commons_open(&worker->streams, &worker->counters, node->tls,
                                 (size_t)node->options.tls.buffer_kb << 10);
    if (status != STATUS_OK)
        goto close_watches;
    status = worker_net_open(worker);
    if (status == STATUS_OK)
        return STATUS_OK;

    stream_commons_close(&worker->streams);
close_watches:
    close_watches(worker);
close_base:
    watch_base_close(worker->base);
close_mailbox:
    mailbox_close(&worker->mailbox);
close_rings:
    close(worker->ring_fd);
    free(worker->rings);
    return status;
}

enum status worker_start(struct worker *worker)
{
    return pthread_create(&worker->thread, NULL, run, worker) == 0 ? STATUS_OK : STATUS_NO_MEMORY;
}

void worker_join(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
}

static void free_queue(struct worker *worker, struct job_queue *queue)
{
    for (struct job *job; (job = job_queue_take(queue)) != NULL;)
        job_give(&worker->jobs, job);
}

/* All workers have stopped. Jobs that are still inside the core are given up with it. */
void worker_close(struct worker *worker)
{
    net_lane_close(worker->lane);
    stream_commons_close(&worker->streams);
    close_watches(worker);
    watch_base_close(worker->base);
    mailbox_close(&worker->mailbox);
    for (unsigned i = 0; i < worker->node->worker_count; i++) {
        for (struct job *job; (job = ring_take(&worker->rings[i].ring)) != NULL;)
            job_give(&worker->jobs, job);
        free_queue(worker, &worker->outbox[i]);
    }
    free_queue(worker, &worker->parked);
    close(worker->ring_fd);
    free(worker->rings);
    job_pool_close(&worker->jobs);
    while (worker->buffers != NULL) {
        void *next = *(void **)worker->buffers;
        free(worker->buffers);
        worker->buffers = next;
    }
}
