#include "server/connection.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "server/connection_auth.h"
#include "server/connection_binary.h"
#include "server/large.h"
#include "server/node.h"
#include "server/udp.h"
#include "server/watcher.h"
#include "server/worker.h"

/* ---- the list of jobs ---- */

void connection_set_due(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (connection->is_due)
        return;
    connection->is_due = true;
    connection->next_due = worker->due;
    worker->due = connection;
}

static void begin_pending(struct connection *connection, struct job *job)
{
    job->key_group = job->request.hash % CONNECTION_KEY_GROUPS;
    connection->pending_count++;
    connection->pending_in[job->key_group]++;
}

void connection_end_pending(struct connection *connection, const struct job *job)
{
    connection->pending_count--;
    connection->pending_in[job->key_group]--;
}

bool connection_is_idle_on(const struct connection *connection, uint64_t hash)
{
    return connection->pending_in[hash % CONNECTION_KEY_GROUPS] == 0;
}

void connection_append(struct connection *connection, struct job *job)
{
    job->connection = connection;
    job->next_answer = NULL;
    if (connection->last == NULL)
        connection->first = job;
    else
        connection->last->next_answer = job;
    connection->last = job;
    connection->job_count++;
    connection->bytes += job->value_size;
    if (job->done)
        connection_set_due(connection);
    else
        begin_pending(connection, job);
}

/* The size of the next unknown value is guessed from the last ones: quickly up, slowly down. */
static void note_value(struct connection *connection, const struct job *job)
{
    connection->get_count--;
    connection->bytes += job->value_size;
    connection->value_hint -= connection->value_hint / 8;
    if (job->value_size > connection->value_hint)
        connection->value_hint = job->value_size;
}

/* In the middle of the list: a part of the answer `after`. */
void connection_insert(struct connection *connection, struct job *after, struct job *job)
{
    job->connection = connection;
    job->next_answer = after->next_answer;
    after->next_answer = job;
    if (connection->last == after)
        connection->last = job;
    connection->job_count++;
    begin_pending(connection, job);
}

void connection_submitted(const struct job *job)
{
    struct connection *connection = job->connection;
    if (connection == NULL || connection->holder != job)
        return;
    connection->holder = NULL;
    connection_set_due(connection);
}

static bool is_get(const struct job *job)
{
    return job->kind == JOB_REQUEST && (command_family(job->command) == FAMILY_KEYS ||
                                        (job->command == COMMAND_MG && !job->no_value));
}

/* The delete that stands for a set without memory becomes that set again; if it could not be
 * executed, that is the answer. */
static void end_upload(struct job *job)
{
    if (job->unstored) {
        bool executed = job->outcome != OUTCOME_REFUSED && job->outcome != OUTCOME_UNKNOWN;
        job->outcome = executed ? OUTCOME_NO_MEMORY : job->outcome;
        job->request.type = REQUEST_SET;
        upload_over(job->upload, OUTCOME_NO_MEMORY);
    } else {
        upload_over(job->upload, job->outcome);
    }
    job->upload = NULL;
}

void connection_done(struct worker *worker, struct job *job)
{
    struct connection *connection = job->connection;
    if (job->kind == JOB_PIECE) {
        large_done(worker, job);
        return;
    }
    if (job->outcome == OUTCOME_LARGE) {
        large_rewrite(worker, job);
        return;
    }
    if (job->upload != NULL)
        end_upload(job);
    job->done = true;
    connection_submitted(job);
    connection_tally(worker, job);
    if (connection == NULL) {
        job_give(&worker->jobs, job);
        return;
    }
    connection_end_pending(connection, job);
    if (job->wrote)
        connection->scope |= (uint64_t)1 << job->owner;
    connection_note_barrier(connection, job);
    if (is_get(job))
        note_value(connection, job);
    if (job->kind == JOB_DUMP) {
        connection_dump_take(connection, job);
        connection->bytes += job->value_size;
    }
    connection_set_due(connection);
}

/* ---- the life of a connection ---- */

/* Jobs that are out come back to nobody; the rest is freed. */
static void forget_jobs(struct connection *connection)
{
    struct job_pool *pool = &connection->worker->jobs;
    for (struct job *job = connection->first, *next; job != NULL; job = next) {
        next = job->next_answer;
        job->connection = NULL;
        if (job->done)
            job_give(pool, job);
    }
    if (connection->value_job != NULL)
        connection_cancel_value(connection);
    download_close(connection);
}

/* For watchers, in memcached's words. */
static const char *close_reason(const struct connection *connection)
{
    const struct worker *worker = connection->worker;
    uint64_t idle_us_max = (uint64_t)worker->node->options.idle_timeout_s * 1000000;
    if (worker->stopping)
        return "shutdown";
    if (connection->ended || connection->closing)
        return "normal";
    if (idle_us_max > 0 && worker->mono_us - connection->heard_us >= idle_us_max)
        return "idle_timeout";
    return "error";
}

/* Not from inside a step. */
static void close_connection(struct connection *connection)
{
    struct worker *worker = connection->worker;
    bool datagram = stream_is_datagram(&connection->stream);
    assert(!connection->is_due);
    watchers_note_connection(worker, connection, close_reason(connection));
    connection_dump_close(connection);
    connection_end_watch(connection);
    forget_jobs(connection);
    connection_auth_end(connection);
    connection_give_buffer(connection);
    watch_close(connection->read_watch);
    watch_close(connection->write_watch);
    stream_close(&connection->stream);
    if (connection->previous == NULL)
        worker->connections = connection->next;
    else
        connection->previous->next = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    if (!datagram)
        atomic_fetch_sub_explicit(&worker->node->connection_count, 1, memory_order_relaxed);
    free(connection);
}

/* Everything was answered that ever will be. */
static bool is_finished(const struct connection *connection)
{
    if (connection->broken)
        return true;
    return (connection->closing || (connection->ended && !connection->more)) &&
           connection->first == NULL && connection->barrier == COMMAND_COUNT;
}

static void set_watches(struct connection *connection)
{
    bool writes = connection->first != NULL && connection->first->done;
    bool reads =
        (connection_may_parse(connection) && !connection->ended) || connection->watcher != NULL;
    if (stream_is_datagram(&connection->stream))
        return;
    stream_wanted_events(&connection->stream, &reads, &writes);
    if (reads)
        watch_start(connection->read_watch, 0);
    else
        watch_stop(connection->read_watch);
    if (writes)
        watch_start(connection->write_watch, 0);
    else
        watch_stop(connection->write_watch);
}

/* What the connection can do now: answers out, then on with what waited for that. */
static void run(struct connection *connection)
{
    if (connection->barrier != COMMAND_COUNT && connection->pending_count == 0)
        connection_end_barrier(connection);
    if (connection->watcher != NULL)
        connection_take_lines(connection);
    connection_write(connection);
    if (connection->watcher != NULL && connection_lines_wait(connection))
        connection_set_due(connection);
    if (connection->pending_count == 0)
        connection->waits = false;
    if (connection->dump != NULL && connection->pending_count == 0 &&
        connection_dump_has_room(connection))
        connection_set_due(connection);
    if (connection->more && connection_may_parse(connection))
        connection_read(connection);
    if (is_finished(connection)) {
        if (!connection->is_due)
            close_connection(connection);
        return; /* Else it is due again and ends then. */
    }
    set_watches(connection);
    if (connection->more && connection_may_parse(connection))
        connection_set_due(connection);
}

void connection_run_due(struct worker *worker)
{
    struct connection *connection = worker->due;
    worker->due = NULL;
    while (connection != NULL) {
        struct connection *next = connection->next_due;
        connection->is_due = false;
        run(connection);
        connection = next;
    }
}

static void on_readable(void *user)
{
    struct connection *connection = user;
    if (connection->watcher != NULL)
        connection_ignore_input(connection);
    else
        connection_read(connection);
    connection_set_due(connection);
}

/* What wants to receive may have had to wait for this, too. */
static void on_writable(void *user)
{
    struct connection *connection = user;
    if (connection->stream.receive_awaits_write)
        connection_read(connection);
    connection_set_due(connection);
}

static enum status open_stream(struct connection *connection, int fd)
{
    static const enum tls_verify verify[] = {
        [LISTEN_TLS_OPTION] = TLS_VERIFY_OPTION,
        [LISTEN_TLS_BASIC] = TLS_VERIFY_NONE,
        [LISTEN_TLS_MUTUAL] = TLS_VERIFY_REQUIRE,
    };
    struct stream_commons *commons = &connection->worker->streams;
    enum listen_tls kind = connection->listener->tls;
    if (commons->tls == NULL || kind == LISTEN_TLS_NONE)
        return stream_open_plain(&connection->stream, commons, fd);
    return stream_open_tls(&connection->stream, commons, fd, verify[kind]);
}

/* All but its stream. */
static struct connection *make(struct worker *worker, unsigned listener)
{
    struct connection *connection = malloc(sizeof(*connection));
    if (connection == NULL)
        return NULL;
    *connection = (struct connection){
        .worker = worker,
        .listener = &worker->node->options.listen[listener],
        .value_hint = CONNECTION_HINT_INITIAL,
        .line_number = 1,
        .barrier = COMMAND_COUNT,
        .opened_us = worker->mono_us,
        .heard_us = worker->mono_us,
    };
    return connection;
}

static void link_connection(struct connection *connection)
{
    struct worker *worker = connection->worker;
    connection->next = worker->connections;
    if (worker->connections != NULL)
        worker->connections->previous = connection;
    worker->connections = connection;
    connection->number = ++worker->connection_number;
    watchers_note_connection(worker, connection, NULL);
}

static struct connection *make_for_socket(struct worker *worker, int fd, unsigned listener)
{
    struct connection *connection = make(worker, listener);
    if (connection == NULL)
        return NULL;
    connection->read_watch = watch_open(worker->base, fd, WATCH_READ, on_readable, connection);
    connection->write_watch = watch_open(worker->base, fd, WATCH_WRITE, on_writable, connection);
    if (connection->read_watch != NULL && connection->write_watch != NULL &&
        open_stream(connection, fd) == STATUS_OK)
        return connection;
    watch_close(connection->read_watch);
    watch_close(connection->write_watch);
    free(connection);
    return NULL;
}

void connection_open(struct worker *worker, int fd, unsigned listener)
{
    struct connection *connection = make_for_socket(worker, fd, listener);
    if (connection == NULL) {
        log_error("no memory for a connection");
        close(fd);
        atomic_fetch_sub_explicit(&worker->node->connection_count, 1, memory_order_relaxed);
        return;
    }
    link_connection(connection);
    watch_start(connection->read_watch, 0);
}

void connection_open_datagram(struct worker *worker, struct udp_request *request, unsigned listener)
{
    struct connection *connection = make(worker, listener);
    if (connection == NULL) {
        udp_request_close(request);
        return;
    }
    stream_open_datagram(&connection->stream, &worker->streams, request);
    link_connection(connection);
    connection_read(connection);
    connection_set_due(connection);
}

void connection_close_all(struct worker *worker)
{
    while (worker->connections != NULL) {
        worker->connections->is_due = false;
        close_connection(worker->connections);
    }
    worker->due = NULL;
}
