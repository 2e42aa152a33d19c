/* Who a client is: logging in with the text protocol (-Y), and SASL in the binary one (-S). */
#include "server/connection_auth.h"

#include <string.h>

#include "proto/binary_answer.h"
#include "server/connection_binary.h"
#include "server/node.h"
#include "server/sasl.h"
#include "server/worker.h"

static void tally(struct connection *connection, bool good)
{
    struct counters *counters = &connection->worker->counters;
    counters_add(counters, COUNTER_auth_cmds, 1);
    if (!good)
        counters_add(counters, COUNTER_auth_errors, 1);
}

/* ---- text
 * --------------------------------------------------------------------------------------- */

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

/* ---- SASL
 * --------------------------------------------------------------------------------------- */

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

void connection_auth_step(struct connection *connection, struct job *job)
{
    struct slice data = slice_make(job->value, job->value_size);
    struct slice answer = slice_make(NULL, 0);
    enum sasl_verdict verdict;
    connection->authenticated = false;
    if (job->binary_base == BINARY_SASL_AUTH)
        verdict = sasl_begin(&connection->sasl, job->request.key, data, &answer);
    else
        verdict = sasl_step(connection->sasl, data, &answer);
    switch (verdict) {
    case SASL_ACCEPTED:
        connection->authenticated = true;
        tally(connection, true);
        connection_binary_answer(connection, &job->tag, BINARY_STATUS_OK,
                                 slice_text("Authenticated"));
        break;
    case SASL_CONTINUES:
        connection_binary_answer(connection, &job->tag, BINARY_STATUS_AUTH_CONTINUE, answer);
        break;
    case SASL_REFUSED:
        tally(connection, false);
        connection_binary_answer(connection, &job->tag, BINARY_STATUS_AUTH_ERROR,
                                 binary_status_text(BINARY_STATUS_AUTH_ERROR));
        break;
    }
    explicit_bzero(job->value, job->value_size);
    job_give(&connection->worker->jobs, job);
}

void connection_auth_end(struct connection *connection)
{
    sasl_end(connection->sasl);
    connection->sasl = NULL;
}
