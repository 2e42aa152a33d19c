/* What a connection does with each event of its parser: it makes jobs. */
#include "server/connection_meta.h"

#include <assert.h>

#include "base/hash.h"
#include "proto/reply.h"
#include "server/large.h"
#include "server/node.h"
#include "server/stats.h"
#include "server/worker.h"

enum request_type connection_request_type(enum command command)
{
    static const uint8_t types[COMMAND_COUNT] = {
        [COMMAND_GAT] = REQUEST_GAT,         [COMMAND_GATS] = REQUEST_GAT,
        [COMMAND_SET] = REQUEST_SET,         [COMMAND_ADD] = REQUEST_ADD,
        [COMMAND_REPLACE] = REQUEST_REPLACE, [COMMAND_CAS] = REQUEST_CAS,
        [COMMAND_APPEND] = REQUEST_APPEND,   [COMMAND_PREPEND] = REQUEST_PREPEND,
        [COMMAND_INCR] = REQUEST_INCR,       [COMMAND_DECR] = REQUEST_DECR,
        [COMMAND_TOUCH] = REQUEST_TOUCH,     [COMMAND_DELETE] = REQUEST_DELETE,
        [COMMAND_FLUSH_ALL] = REQUEST_FLUSH,
    };
    static_assert(REQUEST_GET == 0, "what every other command is");
    return types[command];
}

/* NULL: no memory; the connection ends, since an answer would be missing. */
struct job *connection_new_job(struct connection *connection, enum job_kind kind)
{
    struct job *job = job_take(&connection->worker->jobs);
    if (job == NULL) {
        connection->broken = true;
        return NULL;
    }
    job->kind = kind;
    job->line_number = connection->line_number;
    job->home = (uint16_t)connection->worker->number;
    return job;
}

void connection_answer_line(struct connection *connection, enum reply reply, bool noreply)
{
    struct job *job = noreply ? NULL : connection_new_job(connection, JOB_LINE);
    if (job == NULL)
        return;
    job->line = reply;
    job->done = true;
    connection_append(connection, job);
}

/* Fills in all but the value. */
static struct job *new_request(struct connection *connection, const struct text_request *request)
{
    struct worker *worker = connection->worker;
    struct job *job = connection_new_job(connection, JOB_REQUEST);
    if (job == NULL)
        return NULL;
    assert(request->key.size <= sizeof(job->key));
    memcpy(job->key, request->key.data, request->key.size);
    job->command = request->command;
    job->noreply = request->noreply;
    job->too_large = request->replaced_by_too_large;
    job->request.type = connection_request_type(request->command);
    job->request.key = slice_make(job->key, request->key.size);
    job->request.hash = hash_key(job->request.key);
    job->request.client_flags = request->client_flags;
    uint32_t now = worker_now(worker);
    job->request.exptime = text_expire_at(request->exptime, now);
    job->request.cas = request->cas;
    job->request.delta = request->delta;
    job->owner = (uint16_t)hash_shard(job->request.hash, worker->node->worker_count);
    if (command_family(job->command) == FAMILY_META)
        connection_meta_fill(job, request, now);
    if (worker->node->options.no_cas)
        job->request.cas = CONNECTION_CAS_NEVER;
    return job;
}

void connection_submit(struct connection *connection, struct job *job)
{
    struct worker *worker = connection->worker;
    bool ordered = connection_is_idle_on(connection, job->request.hash);
    connection_append(connection, job);
    if (ordered && worker_read(worker, job))
        connection_done(worker, job);
    else
        worker_submit(worker, job);
}

static void on_key(struct connection *connection, const struct text_request *request)
{
    struct job *job = new_request(connection, request);
    if (job == NULL)
        return;
    connection->get_count++;
    connection_submit(connection, job);
}

/* END follows the answer of the last key; if that was written already, it is a line of its own. */
static void on_keys_end(struct connection *connection)
{
    struct job *last = connection->last;
    if (last != NULL && last->line_number == connection->line_number && !last->formatted)
        last->ends_keys = true;
    else
        connection_answer_line(connection, REPLY_END, false);
}

static void on_value(struct connection *connection, const struct text_request *request)
{
    struct job *job = new_request(connection, request);
    if (job == NULL)
        return;
    if (!connection_begin_value(connection, job, request->value_size))
        text_value_refuse(&connection->parser, REPLY_NO_MEMORY_STORING);
}

/* A set that found no memory must not leave the old value, as if nothing had been set
 * (memcached). */
static void refuse_value(struct connection *connection, struct job *job)
{
    counters_add(&connection->worker->counters, COUNTER_store_no_memory, 1);
    if (job->request.type != REQUEST_SET) {
        job_give(&connection->worker->jobs, job);
        return;
    }
    job->request.type = REQUEST_DELETE;
    job->request.options = 0;
    job->noreply = job->too_large = true;
    connection_submit(connection, job);
}

bool connection_begin_value(struct connection *connection, struct job *job, uint32_t size)
{
    bool large = size > LARGE_VALUE_MIN;
    if (large) {
        job->connection = connection;
        job->upload = upload_open(connection->worker, job, size);
    }
    if (large ? job->upload == NULL : !job_reserve(job, size)) {
        refuse_value(connection, job);
        return false;
    }
    if (!large)
        job->request.value = slice_make(job->value, job->value_size);
    connection->value_job = job;
    return true;
}

void connection_cancel_value(struct connection *connection)
{
    struct job *job = connection->value_job;
    if (job->upload != NULL)
        upload_abandon(job->upload);
    job_give(&connection->worker->jobs, job);
    connection->value_job = NULL;
}

static void on_value_end(struct connection *connection)
{
    connection_end_value(connection);
}

/* An append that turns out to need pieces is executed later: what follows must wait for it. */
static bool may_be_rewritten(const struct connection *connection, const struct job *job)
{
    return request_may_be_rewritten(&job->request) &&
           connection->worker->node->options.item_size_max > LARGE_VALUE_MIN;
}

void connection_end_value(struct connection *connection)
{
    struct job *job = connection->value_job;
    connection->value_job = NULL;
    if (job->upload != NULL || may_be_rewritten(connection, job))
        connection->holder = job;
    if (job->upload == NULL) {
        connection_submit(connection, job);
        return;
    }
    connection_append(connection, job);
    upload_end(job->upload);
}

static void on_request(struct connection *connection, const struct text_request *request)
{
    enum command_family family = command_family(request->command);
    if (family == FAMILY_PLAIN || family == FAMILY_ADMIN) {
        connection_on_admin(connection, request);
        return;
    }
    if (request->command == COMMAND_MN) {
        connection_answer_line(connection, REPLY_MN, false);
        return;
    }
    if (request->command == COMMAND_MP) {
        connection_persist_meta(connection, request);
        return;
    }
    struct job *job = new_request(connection, request);
    if (job == NULL)
        return;
    if (request->command == COMMAND_MG && !job->no_value)
        connection->get_count++;
    connection_submit(connection, job);
}

bool connection_must_wait(const struct connection *connection, enum text_event event,
                          const struct text_request *request)
{
    if (event != TEXT_REQUEST || connection->pending_count == 0)
        return false;
    bool plain = command_family(request->command) == FAMILY_PLAIN;
    return request->command == COMMAND_MP || (plain && request->command != COMMAND_VERSION);
}

static void on_error(struct connection *connection, const struct text_request *request)
{
    if (request->reply == REPLY_TOO_LARGE)
        counters_add(&connection->worker->counters, COUNTER_store_too_large, 1);
    connection_answer_line(connection, request->reply, request->noreply);
}

void connection_on_event(struct connection *connection, enum text_event event,
                         const struct text_request *request)
{
    if (event != TEXT_KEY && event != TEXT_KEYS_END && event != TEXT_VALUE_END)
        connection->line_number++;
    switch (event) {
    case TEXT_MORE:
        break;
    case TEXT_REQUEST:
        on_request(connection, request);
        break;
    case TEXT_KEY:
        on_key(connection, request);
        break;
    case TEXT_KEYS_END:
        on_keys_end(connection);
        connection->line_number++;
        break;
    case TEXT_VALUE:
        on_value(connection, request);
        break;
    case TEXT_VALUE_END:
        on_value_end(connection);
        break;
    case TEXT_VALUE_BAD:
        counters_add(&connection->worker->counters, COUNTER_cmd_set, 1); /* as memcached */
        connection_cancel_value(connection);
        connection_answer_line(connection, request->reply, request->noreply);
        break;
    case TEXT_ERROR:
        on_error(connection, request);
        break;
    case TEXT_CLOSE:
        connection->closing = true;
        break;
    }
}
