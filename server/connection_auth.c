/* Who a client is: logging in with the text protocol (-Y), and SASL in the binary one (-S). */
#include "server/connection_auth.h"

#include <stdlib.h>
#include <string.h>

#include "proto/binary_answer.h"
#include "server/connection_binary.h"
#include "server/node.h"
#include "server/sasl_desk.h"
#include "server/worker.h"

static void tally(struct connection *connection, bool good)
{
    struct counters *counters = &connection->worker->counters;
    counters_add(counters, COUNTER_auth_cmds, 1);
    if (!good)
        counters_add(counters, COUNTER_auth_errors, 1);
}

/* ---- text ---- */

static void on_login(struct connection *connection, const struct login_request *request)
{
    struct auth *auth = &connection->worker->node->auth;
    bool good = auth_is_right_any(auth, request->user, request->password);
    tally(connection, good);
    connection_answer_line(connection, good ? REPLY_STORED : REPLY_AUTH_FAILURE, false);
    if (!good)
        return;
    connection->protocol = CONNECTION_TEXT;
    text_init(&connection->parser);
}

bool connection_auth_parse(struct connection *connection, struct slice input, size_t *consumed)
{
    struct login_request request;
    enum login_event event = login_parse(&connection->login, input, consumed, &request);
    switch (event) {
    case LOGIN_MORE:
        break;
    case LOGIN_TRY:
        on_login(connection, &request);
        break;
    case LOGIN_ANSWER:
        connection_answer_line(connection, request.reply, false);
        connection->closing = request.closes;
        break;
    case LOGIN_CLOSE:
        connection->closing = true;
        break;
    }
    return event != LOGIN_MORE;
}

/* ---- SASL ---- */

void connection_auth_list(struct connection *connection, const struct binary_tag *tag)
{
    connection->authenticated = false; /* as memcached: a dialogue begins */
    struct slice list = sasl_mechanisms(&connection->sasl);
    if (list.size > 0)
        connection_binary_answer(connection, tag, BINARY_STATUS_OK, list);
    else
        connection_binary_answer(connection, tag, BINARY_STATUS_AUTH_ERROR,
                                 binary_status_text(BINARY_STATUS_AUTH_ERROR));
}

/* The job takes its place in the order of answers; nothing more is parsed until it is back, since
 * what follows may be allowed then. */
void connection_auth_step(struct connection *connection, struct job *job)
{
    struct worker *worker = connection->worker;
    struct sasl_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        connection->broken = true;
        job_give(&worker->jobs, job);
        return;
    }
    *call = (struct sasl_call){
        .home = &worker->mailbox,
        .job = job,
        .dialogue = connection->sasl,
        .begins = job->binary_base == BINARY_SASL_AUTH,
        .mechanism = job->request.key,
        .data = slice_make(job->value, job->value_size),
    };
    job->kind = JOB_TEXT;
    connection->sasl = NULL;
    connection->authenticated = false;
    connection->asking = true;
    connection_append(connection, job);
    sasl_desk_ask_any(&worker->node->sasl_desk, call);
}

/* The answer takes the place of the data in the job. */
static void fill(struct connection *connection, struct job *job, enum binary_status status,
                 struct slice body)
{
    size_t size = BINARY_HEADER_SIZE + body.size;
    connection_drop_value(connection, job);
    if (!job_reserve(job, (uint32_t)size)) {
        connection->broken = true;
        return;
    }
    connection->bytes += size;
    binary_put_header(job->value, &job->tag, status, 0, 0, 0, (uint32_t)body.size);
    if (body.size > 0)
        memcpy(job->value + BINARY_HEADER_SIZE, body.data, body.size);
}

static void answer(struct connection *connection, const struct sasl_call *call)
{
    connection->authenticated = call->verdict == SASL_ACCEPTED;
    switch (call->verdict) {
    case SASL_ACCEPTED:
        tally(connection, true);
        fill(connection, call->job, BINARY_STATUS_OK, slice_text("Authenticated"));
        break;
    case SASL_CONTINUES:
        fill(connection, call->job, BINARY_STATUS_AUTH_CONTINUE, call->answer);
        break;
    case SASL_REFUSED:
        tally(connection, false);
        fill(connection, call->job, BINARY_STATUS_AUTH_ERROR,
             binary_status_text(BINARY_STATUS_AUTH_ERROR));
        break;
    }
}

void connection_auth_done(struct worker *worker, struct sasl_call *call)
{
    struct job *job = call->job;
    struct connection *connection = job->connection;
    explicit_bzero(job->value, job->value_size);
    job->done = true;
    if (connection == NULL) { /* the client is gone */
        sasl_end(call->dialogue);
        job_give(&worker->jobs, job);
    } else {
        connection->asking = false;
        connection->sasl = call->dialogue;
        connection_end_pending(connection, job);
        answer(connection, call);
        connection_set_due(connection);
    }
    free(call);
}

void connection_auth_end(struct connection *connection)
{
    sasl_end(connection->sasl);
    connection->sasl = NULL;
}
