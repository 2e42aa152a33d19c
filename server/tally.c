/* What the commands of clients came to, for `stats`. */
#include "server/connection.h"
#include "server/worker.h"

static void add(struct worker *worker, enum counter counter)
{
    counters_add(&worker->counters, counter, 1);
}

static void add_either(struct worker *worker, bool hit, enum counter hits, enum counter misses)
{
    add(worker, hit ? hits : misses);
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
    if (job->command != COMMAND_CAS)
        return;
    if (outcome == OUTCOME_STORED)
        add(worker, COUNTER_cas_hits);
    else if (outcome == OUTCOME_EXISTS)
        add(worker, COUNTER_cas_badval);
    else if (outcome == OUTCOME_NOT_FOUND)
        add(worker, COUNTER_cas_misses);
}

static void tally_request(struct worker *worker, const struct job *job)
{
    bool found = job->outcome == OUTCOME_HIT;
    switch ((int)job->command) {
    case COMMAND_GET:
    case COMMAND_GETS:
        add(worker, COUNTER_cmd_get);
        add_either(worker, found, COUNTER_get_hits, COUNTER_get_misses);
        break;
    case COMMAND_GAT:
    case COMMAND_GATS:
        add(worker, COUNTER_cmd_touch);
        add_either(worker, found, COUNTER_touch_hits, COUNTER_touch_misses);
        break;
    case COMMAND_TOUCH:
        add(worker, COUNTER_cmd_touch);
        add_either(worker, job->outcome == OUTCOME_TOUCHED, COUNTER_touch_hits,
                   COUNTER_touch_misses);
        break;
    case COMMAND_DELETE:
        if (!job->too_large)
            add_either(worker, job->outcome == OUTCOME_DELETED, COUNTER_delete_hits,
                       COUNTER_delete_misses);
        break;
    case COMMAND_INCR:
        add_either(worker, job->outcome == OUTCOME_NUMBER, COUNTER_incr_hits, COUNTER_incr_misses);
        break;
    case COMMAND_DECR:
        add_either(worker, job->outcome == OUTCOME_NUMBER, COUNTER_decr_hits, COUNTER_decr_misses);
        break;
    default:
        tally_storage(worker, job);
    }
}

void connection_tally(struct worker *worker, const struct job *job)
{
    if (job->kind != JOB_REQUEST)
        return;
    if (job->outcome == OUTCOME_UNKNOWN)
        add(worker, COUNTER_requests_unknown);
    if (job->outcome != OUTCOME_UNKNOWN && job->outcome != OUTCOME_REFUSED)
        tally_request(worker, job);
}
