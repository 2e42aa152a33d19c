/* The worker's shard: its log, its steps, and what comes out of them. */
#include "server/worker.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "server/clock.h"
#include "server/connection.h"
#include "server/node.h"
#include "server/segments.h"

enum {
    FULL_TOLD_US = 60000000,  /* a full store is logged at most so often */
    CHECK_BUDGET = 128 << 10, /* bytes of records in a turn: some 100 us */
};

void worker_read_clocks(struct worker *worker)
{
    worker->wall_us = clock_wall_us();
    worker->mono_us = clock_mono_us();
    worker->clocks_old = false;
}

/* ---- answers
 * --------------------------------------------------------------------------------------- */

bool worker_lease_holds(const struct worker *worker)
{
    uint64_t until_us = atomic_load_explicit(&worker->node->lease_until_us, memory_order_acquire);
    return until_us == UINT64_MAX || clock_mono_us() < until_us;
}

static bool lease_holds(void *user)
{
    return worker_lease_holds(user);
}

/* They come back in any order, thousands at once when this node is removed; sorted when they are
 * tried again. */
static void park(struct worker *worker, struct job *job)
{
    struct job_queue *parked = &worker->parked;
    counters_add(&worker->counters, COUNTER_requests_parked, 1);
    if (parked->last != NULL && parked->last->sequence > job->sequence)
        worker->parked_unsorted = true;
    job_queue_put(parked, job);
}

/* False: the copy may be of a value that another node has replaced meanwhile. */
static bool copy_record(struct worker *worker, struct job *job, const struct action *action)
{
    struct slice value = slice_make("", 0);
    if (action->record != NULL && !job->no_value) {
        value = record_value(action->record);
        job->answer_exptime = record_exptime(action->record);
        job->large = (action->record->flags & RECORD_LARGE) != 0;
        job->lost = !job_reserve(job, (uint32_t)value.size);
        if (job->lost)
            value.size = 0;
    }
    return lease_copy(job->value, value, lease_holds, worker) || !action->local;
}

static void on_reply(struct worker *worker, const struct action *action)
{
    struct job *job = job_of(action->request);
    job->outcome = action->outcome;
    job->number = action->number;
    job->answer_cas = action->cas;
    if (action->record != NULL)
        job->answer_flags = record_client_flags(action->record);
    job->wrote = !action->local && action->outcome != OUTCOME_REFUSED && job->kind != JOB_PERSIST;
    bool current =
        action->outcome == OUTCOME_HIT || action->local ? copy_record(worker, job, action) : true;
    if (!current || action->outcome == OUTCOME_REFUSED)
        park(worker, job);
    else
        worker_finish(worker, job);
}

static void tell_control(struct worker *worker, const struct letter *letter)
{
    if (mailbox_put_any(&worker->node->mailbox, letter) != STATUS_OK)
        log_error("shard %u: no memory for a letter to the control thread", worker->number);
}

static void take(void *user, const struct action *action)
{
    struct worker *worker = user;
    switch (action->type) {
    case ACTION_SEND:
        worker_net_send(worker, action);
        break;
    case ACTION_REPLY:
        on_reply(worker, action);
        break;
    case ACTION_HEALED:
        worker->healed_epoch = action->epoch;
        break;
    case ACTION_EVICTED:
        connection_tally_eviction(worker, action->request);
        break;
    case ACTION_SUSPECT:
        tell_control(worker, &(struct letter){.type = LETTER_SUSPECT,
                                              .shard = worker->number,
                                              .epoch = action->epoch,
                                              .nodes = action->to});
        break;
    }
}

void worker_set_actions(struct worker *worker)
{
    worker->actions = (struct actions){.take = take, .user = worker};
}

/* ---- steps
 * ----------------------------------------------------------------------------------------- */

/* The numbers first: the control thread logs them when this node has become a member. */
static void tell_healed(struct worker *worker)
{
    worker_publish(worker);
    tell_control(worker, &(struct letter){.type = LETTER_HEALED,
                                          .shard = worker->number,
                                          .epoch = worker->healed_epoch});
    worker->healed_epoch = 0;
}

void worker_step(struct worker *worker, struct event *event)
{
    if (worker->clocks_old)
        worker_read_clocks(worker);
    event->wall_us = worker->wall_us;
    event->mono_us = worker->mono_us;
    shard_step(worker->shard, event, &worker->actions);
    if (worker->healed_epoch != 0)
        tell_healed(worker);
}

void worker_execute(struct worker *worker, struct job *job)
{
    if (worker->clocks_old)
        worker_read_clocks(worker);
    if (job->kind == JOB_PUBLISH) {
        worker_publish(worker);
        worker_finish(worker, job);
        return;
    }
    if (job->kind == JOB_RESIZE) {
        job->lost = job->request.exptime < log_segment_used_count(store_log(worker->store));
        if (!job->lost)
            log_resize(store_log(worker->store), job->request.exptime);
        worker_publish(worker);
        worker_finish(worker, job);
        return;
    }
    if (job->kind == JOB_DUMP) {
        if (job->slice.format == DUMP_CONNECTIONS)
            connection_list_slice(worker, job);
        else
            dump_slice(worker, job);
        worker_finish(worker, job);
        return;
    }
    job->sequence = ++worker->sequence;
    job->deadline_us = worker->mono_us + (uint64_t)worker->node->options.stall_ms * 1000;
    /* Without a lease this node may be alone: what it began would wait for the others, perhaps for
     * ever. */
    if (worker->parked.count > 0 || !lease_holds(worker)) {
        park(worker, job);
        return;
    }
    struct event event = {.type = EVENT_REQUEST, .request = &job->request};
    worker_step(worker, &event);
}

static void refuse(struct worker *worker, struct job *job)
{
    counters_add(&worker->counters, COUNTER_requests_refused, 1);
    job->outcome = OUTCOME_REFUSED;
    worker_finish(worker, job);
}

/* Who has waited so long for the others is told; what was begun goes on, and may be complete later.
 * Once for each time: without a lease nothing new begins. */
void worker_notice_lease(struct worker *worker)
{
    uint64_t stall_us = (uint64_t)worker->node->options.stall_ms * 1000;
    if (lease_holds(worker)) {
        worker->leased_us = worker->mono_us;
        worker->stalled = false;
    } else if (!worker->stalled && worker->mono_us - worker->leased_us >= stall_us) {
        struct event event = {.type = EVENT_STALLED};
        worker->stalled = true;
        worker_step(worker, &event);
    }
}

/* In order, up to the first that cannot be answered now either; those that waited for too long are
 * refused. */
void worker_retry_parked(struct worker *worker)
{
    if (worker->parked.count == 0 || worker->mono_us - worker->retried_us < TICK_US)
        return;
    worker->retried_us = worker->mono_us;
    if (worker->parked_unsorted)
        job_queue_sort(&worker->parked);
    worker->parked_unsorted = false;
    struct job_queue waiting = worker->parked;
    worker->parked = (struct job_queue){.first = NULL};
    for (struct job *job; (job = job_queue_take(&waiting)) != NULL;) {
        if (job->deadline_us <= worker->mono_us) {
            refuse(worker, job);
        } else if (worker->parked.count > 0 || !lease_holds(worker)) {
            job_queue_put(&worker->parked, job);
        } else {
            struct event event = {.type = EVENT_REQUEST, .request = &job->request};
            worker_step(worker, &event);
        }
    }
}

static void fail(struct worker *worker)
{
    worker->failed = true;
    /* a failed sync may have dropped what memory still shows: the next start reads */
    store_distrust(worker->store);
    log_error("shard %u: the log's medium failed: nothing more can be made durable; stopping. %s",
              worker->number, segments_trouble(worker->node, worker->medium));
    tell_control(worker, &(struct letter){.type = LETTER_FAILED, .shard = worker->number});
}

void worker_tell_broken(const struct worker *worker, uint32_t segment)
{
    char name[SEGMENTS_NAME_SIZE];
    segments_name(worker->node, worker->number, worker->medium, segment, name);
    log_error(
        "%s: damaged, or the index that was taken over is; stopping: the next start scans the log",
        name);
    /* All of it: or a supervisor would have to start the node once for each shard that is hurt. */
    for (unsigned i = 0; i < worker->node->worker_count; i++)
        if (worker->node->workers[i].store != NULL)
            store_distrust(worker->node->workers[i].store);
}

static void fail_check(struct worker *worker, uint32_t segment)
{
    worker->failed = true;
    worker_tell_broken(worker, segment);
    tell_control(worker, &(struct letter){.type = LETTER_FAILED, .shard = worker->number});
}

void worker_check(struct worker *worker)
{
    if (!store_wants_check(worker->store))
        return;
    uint32_t bad_segment = 0;
    if (store_check(worker->store, CHECK_BUDGET, &bad_segment) != STATUS_OK)
        fail_check(worker, bad_segment);
    else if (!store_wants_check(worker->store))
        log_note("shard %u: index checked: all of it holds", worker->number);
}

void worker_durable(struct worker *worker)
{
    struct log *log = store_log(worker->store);
    for (int i = 0; i < WORKER_DURABLE_MAX; i++) {
        worker->drained = log_tail(log);
        log_drain(log);
        if (i == 0 && worker->lane != NULL)
            net_flush(worker->lane); /* Peers make it durable at the same time. */
        struct event event = {.type = EVENT_DURABLE};
        if (log_durable(log, &event.durable) != STATUS_OK) {
            fail(worker);
            return;
        }
        if (event.durable == worker->durable && log_proved(log) == worker->proved)
            return;
        worker->durable = event.durable;
        worker->proved = log_proved(log);
        worker_step(worker, &event);
        if (worker->holds)
            worker_net_resume(worker);
    }
}

/* An operator must hear of it, also when it is another node whose -m is too small. */
static void tell_full(struct worker *worker, const struct shard_stats *stats)
{
    bool full = stats->full || stats->group_full;
    bool calm = worker->mono_us - worker->told_full_us > FULL_TOLD_US || worker->told_full_us == 0;
    if (full && !worker->full && calm) {
        log_warn("shard %u: %s full: what makes the data grow is refused as out of memory",
                 worker->number, stats->full ? "the store is" : "the store of another node is");
        worker->told_full_us = worker->mono_us;
    }
    worker->full = full;
}

void worker_publish(struct worker *worker)
{
    struct published published = {
        .undurable = log_tail(store_log(worker->store)) - worker->durable,
        .parked = worker->parked.count,
        .jobs_taken = worker->jobs.taken,
        .buffers = worker->buffer_total,
    };
    shard_stats(worker->shard, &published.shard);
    store_stats(worker->store, &published.store);
    if (worker->node->options.data != NULL)
        medium_file_stats_any(worker->medium, &published.medium);
    tell_full(worker, &published.shard);
    publication_write(&worker->publication, &published);
    worker->published_us = worker->mono_us;
}
