/* Reads of records in other workers' shards, without asking them (replica/reading.h), and waiting
 * for such readers before the space of records is used again (server/readers.h). */
#include "server/node.h"
#include "server/worker.h"

static bool lease_holds(void *user)
{
    return worker_lease_holds(user);
}

/* False: no memory, or the copy may be of a value that another node has replaced meanwhile. */
static bool copy_record(struct worker *worker, struct job *job, const struct record *record)
{
    struct slice value = job->no_value ? slice_make("", 0) : record_value(record);
    return job_reserve(job, (uint32_t)value.size) &&
           lease_copy(job->value, value, lease_holds, worker);
}

static void enter(struct worker *worker)
{
    if (!worker->reading)
        readers_enter_any(&worker->node->readers, worker->number);
    worker->reading = true;
}

static bool may_read(const struct worker *worker, const struct job *job)
{
    bool reads = job->request.type == REQUEST_GET || job->request.type == REQUEST_FETCH;
    return reads && job->kind == JOB_REQUEST && job->owner != worker->number &&
           job->command != COMMAND_ME; /* which tells of the access times of its very record */
}

bool worker_read(struct worker *worker, struct job *job)
{
    if (!may_read(worker, job))
        return false;
    if (worker->clocks_old)
        worker_read_clocks(worker);
    const struct shard *shard = worker->node->workers[job->owner].shard;
    uint32_t now = (uint32_t)(worker->wall_us / 1000000);
    struct reading reading;
    enter(worker);
    if (!shard_read_begin_any(shard, &job->request, now, &reading))
        return false;
    const struct record *record = reading.found.record;
    if (!copy_record(worker, job, record) ||
        !shard_read_end_any(shard, &job->request, now, &reading)) {
        job->value_size = 0;
        return false;
    }
    job->outcome = OUTCOME_HIT;
    job->answer_flags = record_client_flags(record);
    job->answer_exptime = record_exptime(record);
    job->answer_cas = record_cas(record);
    job->answered = true;
    counters_add(&worker->counters, COUNTER_requests_read_here, 1);
    return true;
}

void worker_stop_reading(struct worker *worker)
{
    if (worker->reading)
        readers_leave_any(&worker->node->readers, worker->number);
    worker->reading = false;
}

/* Who has asked does not sleep before it has the answer: the others are in the middle of a turn, no
 * longer. */
void worker_pass_grace(struct worker *worker)
{
    struct readers *readers = &worker->node->readers;
    struct log *log = store_log(worker->store);
    if (worker->grace == 0) {
        worker->grace = log_grace_ask(log);
        if (worker->grace == 0)
            return;
        worker->grace_asked = readers_ask_any(readers);
    }
    if (!readers_passed_any(readers, worker->grace_asked))
        return;
    log_grace_pass(log, worker->grace);
    worker->grace = 0;
}
