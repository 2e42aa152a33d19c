/* What the commands of clients came to, for `stats`: counted as memcached does, whatever protocol
 * asked. */
#include "server/connection.h"
#include "server/node.h"
#include "server/worker.h"

static void add(struct worker *worker, enum counter counter)
{
    counters_add(&worker->counters, counter, 1);
}

static void add_either(struct worker *worker, bool hit, enum counter hits, enum counter misses)
{
    add(worker, hit ? hits : misses);
}

/* Of a command that compares the unique. */
static void tally_cas(struct worker *worker, enum outcome outcome)
{
    if (outcome == OUTCOME_STORED)
        add(worker, COUNTER_cas_hits);
    else if (outcome == OUTCOME_EXISTS)
        add(worker, COUNTER_cas_badval);
    else if (outcome == OUTCOME_NOT_FOUND)
        add(worker, COUNTER_cas_misses);
}

static void tally_storage(struct worker *worker, const struct job *job)
{
    enum outcome outcome = job->outcome;
    add(worker, COUNTER_cmd_set);
    if (outcome == OUTCOME_STORED)
        add(worker, COUNTER_total_items);
    if (outcome == OUTCOME_TOO_LARGE)
        add(worker, COUNTER_store_too_large);
    if (outcome == OUTCOME_NO_MEMORY)
        add(worker, COUNTER_store_no_memory);
    if (job->request.type == REQUEST_CAS || job->request.compare)
        tally_cas(worker, outcome);
}

/* A value made because there was none (meta N) counts as if it had been there, and as an item. */
static bool is_created(const struct job *job)
{
    return (job->request.seen.marks & SEEN_CREATED) != 0;
}

static void tally_read(struct worker *worker, const struct job *job)
{
    bool found = job->outcome == OUTCOME_HIT;
    bool touches = job->request.type == REQUEST_GAT ||
                   (found && (job->request.options & REQUEST_SETS_EXPTIME));
    if (found && is_created(job))
        add(worker, COUNTER_total_items);
    if (job->request.seen.expired)
        add(worker, COUNTER_get_expired);
    if (job->request.seen.flushed)
        add(worker, COUNTER_get_flushed);
    add(worker, touches ? COUNTER_cmd_touch : COUNTER_cmd_get);
    if (touches)
        add_either(worker, found, COUNTER_touch_hits, COUNTER_touch_misses);
    else
        add_either(worker, found, COUNTER_get_hits, COUNTER_get_misses);
}

/* Neither hit nor miss: what is there is no number, has another unique, or was made now. */
static void tally_arithmetic(struct worker *worker, const struct job *job, enum counter hits,
                             enum counter misses)
{
    bool created = job->outcome == OUTCOME_NUMBER && is_created(job);
    if (created)
        add(worker, COUNTER_total_items);
    else if (job->outcome == OUTCOME_NUMBER || job->outcome == OUTCOME_NOT_FOUND)
        add_either(worker, job->outcome == OUTCOME_NUMBER, hits, misses);
}

/* md I deletes nothing. */
static bool only_marked(const struct job *job)
{
    return job->outcome == OUTCOME_DELETED && (job->request.options & REQUEST_MARKS_STALE);
}

static void tally_delete(struct worker *worker, const struct job *job)
{
    if (!job->too_large && !only_marked(job))
        add_either(worker, job->outcome == OUTCOME_DELETED, COUNTER_delete_hits,
                   COUNTER_delete_misses);
}

static void tally_touch(struct worker *worker, const struct job *job)
{
    add(worker, COUNTER_cmd_touch);
    add_either(worker, job->outcome == OUTCOME_TOUCHED, COUNTER_touch_hits, COUNTER_touch_misses);
}

static void tally_request(struct worker *worker, const struct job *job)
{
    enum request_type type = job->request.type;
    if (job->command == COMMAND_ME)
        add(worker, COUNTER_cmd_meta);
    else if (request_reads(type))
        tally_read(worker, job);
    else if (request_stores(type))
        tally_storage(worker, job);
    else if (type == REQUEST_DELETE)
        tally_delete(worker, job);
    else if (type == REQUEST_TOUCH)
        tally_touch(worker, job);
    else if (type == REQUEST_INCR)
        tally_arithmetic(worker, job, COUNTER_incr_hits, COUNTER_incr_misses);
    else if (type == REQUEST_DECR)
        tally_arithmetic(worker, job, COUNTER_decr_hits, COUNTER_decr_misses);
}

static void note_prefix(struct prefixes *prefixes, const struct job *job)
{
    enum request_type type = job->request.type;
    if (request_reads(type) && job->command != COMMAND_ME)
        prefixes_note(prefixes, job->request.key,
                      job->outcome == OUTCOME_HIT ? PREFIX_HIT : PREFIX_MISS);
    else if (request_stores(type))
        prefixes_note(prefixes, job->request.key, PREFIX_SET);
    else if (type == REQUEST_DELETE && !job->too_large)
        prefixes_note(prefixes, job->request.key, PREFIX_DELETE);
}

void connection_tally_eviction(struct worker *worker, const struct request *request)
{
    add(worker, COUNTER_evictions);
    if (!request->seen.fetched)
        add(worker, COUNTER_evicted_unfetched);
    if (request->seen.exptime != 0)
        add(worker, COUNTER_evicted_nonzero);
    if (watchers_want(&worker->node->watchers, WATCHER_EVICTIONS))
        watchers_note_eviction(worker, request);
}

void connection_tally(struct worker *worker, const struct job *job)
{
    if (job->kind != JOB_REQUEST)
        return;
    if (job->outcome == OUTCOME_UNKNOWN)
        add(worker, COUNTER_requests_unknown);
    if (job->outcome == OUTCOME_UNKNOWN || job->outcome == OUTCOME_REFUSED)
        return;
    tally_request(worker, job);
    if (atomic_load_explicit(&worker->node->watchers.mask, memory_order_relaxed) != 0)
        watchers_note_job(worker, job);
    if (atomic_load_explicit(&worker->node->prefixes.enabled, memory_order_relaxed))
        note_prefix(&worker->node->prefixes, job);
}
