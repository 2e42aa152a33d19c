/* How a connection receives: bytes into its buffer, or straight to where a value belongs; events of
 * its parser out. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "server/connection_auth.h"
#include "server/connection_binary.h"
#include "server/large.h"
#include "server/node.h"
#include "server/worker.h"

/* ---- buffers: only connections in the middle of something have one ---- */

static bool take_buffer(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (connection->buffer != NULL)
        return true;
    connection->begin = connection->end = 0;
    if (worker->buffers != NULL) {
        connection->buffer = worker->buffers;
        worker->buffers = *(void **)worker->buffers;
        worker->buffer_count--;
    } else {
        connection->buffer = malloc(WORKER_BUFFER_SIZE);
        worker->buffer_total += connection->buffer != NULL;
    }
    return connection->buffer != NULL;
}

void connection_give_buffer(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (connection->buffer == NULL)
        return;
    if (worker->buffer_count < WORKER_BUFFER_COUNT_MAX) {
        *(void **)connection->buffer = worker->buffers;
        worker->buffers = connection->buffer;
        worker->buffer_count++;
    } else {
        free(connection->buffer);
        worker->buffer_total--;
    }
    connection->buffer = NULL;
}

/* ---- what may be read ---- */

/* A stranger's share is small. */
static uint32_t job_max(const struct connection *connection)
{
    bool stranger = connection->worker->node->options.sasl && !connection->authenticated;
    if (stranger || connection->protocol == CONNECTION_LOGIN)
        return CONNECTION_STRANGER_JOB_MAX;
    return CONNECTION_JOB_MAX;
}

/* For one more command: the size of what its gets will answer can only be guessed. */
static bool has_room(const struct connection *connection)
{
    uint64_t gets_max = CONNECTION_BYTES_MAX / (connection->value_hint | 1);
    if (gets_max > CONNECTION_GET_MAX)
        gets_max = CONNECTION_GET_MAX;
    if (gets_max == 0)
        gets_max = 1;
    if (connection->job_count > 0 && connection->worker->jobs.taken >= WORKER_JOB_MAX)
        return false;
    return connection->job_count < job_max(connection) &&
           connection->bytes < CONNECTION_BYTES_MAX && connection->get_count < gets_max;
}

bool connection_may_parse(const struct connection *connection)
{
    const struct job *value = connection->value_job;
    if (connection->closing || connection->broken)
        return false;
    if (connection->asking || connection->holder != NULL || connection->waits)
        return false;
    if (connection->barrier != COMMAND_COUNT)
        return false;
    if (value != NULL && value->upload != NULL && !upload_has_room(value->upload))
        return false;
    return has_room(connection);
}

/* Returns how much came; the end and errors are noted. 0: nothing more now. */
static size_t receive(struct connection *connection, void *to, size_t size)
{
    size_t got;
    enum stream_result result = stream_receive(&connection->stream, to, size, &got);
    connection->ended = connection->ended || result == STREAM_ENDED;
    connection->broken = connection->broken || result == STREAM_BROKEN;
    if (got > 0) {
        connection->turn_bytes += got;
        counters_add(&connection->worker->counters, COUNTER_bytes_read, got);
        connection->heard_us = connection->worker->mono_us;
    }
    return got;
}

static uint32_t value_left(const struct connection *connection)
{
    if (connection->value_job == NULL)
        return 0;
    return connection->protocol == CONNECTION_BINARY ? binary_value_left(&connection->binary)
                                                     : text_value_left(&connection->parser);
}

static void value_taken(struct connection *connection, uint32_t size)
{
    if (connection->protocol == CONNECTION_BINARY)
        binary_value_taken(&connection->binary, size);
    else
        text_value_taken(&connection->parser, size);
}

/* Moves bytes of a data block to where they belong: first what is in the buffer, then straight from
 * the socket. False: nothing there now. */
static bool take_value(struct connection *connection, uint32_t left)
{
    struct job *job = connection->value_job;
    uint8_t *to = job->upload == NULL ? job->value + (job->value_size - left) : NULL;
    uint32_t size = connection->end - connection->begin, room = left;
    if (job->upload != NULL)
        to = upload_room(job->upload, &room);
    if (left > room)
        left = room;
    if (size > left)
        size = left;
    if (size > 0) {
        memcpy(to, connection->buffer + connection->begin, size);
        connection->begin += size;
    } else if (!connection->ended) {
        size = (uint32_t)receive(connection, to, left);
    }
    value_taken(connection, size);
    if (job->upload != NULL)
        upload_taken(job->upload, size);
    return size > 0;
}

static void choose_protocol(struct connection *connection, struct slice input)
{
    uint32_t allowed = connection->listener->protocol;
    bool binary = allowed == PROTOCOL_BINARY;
    if (allowed == PROTOCOL_AUTO)
        binary = *(const uint8_t *)input.data == BINARY_MAGIC_REQUEST;
    connection->protocol = binary ? CONNECTION_BINARY : CONNECTION_TEXT;
    if (!binary && connection->worker->node->options.auth_file != NULL)
        connection->protocol = CONNECTION_LOGIN;
    if (binary)
        binary_init(&connection->binary);
    else if (connection->protocol == CONNECTION_LOGIN)
        login_init(&connection->login);
    else
        text_init(&connection->parser);
}

static bool parse_text(struct connection *connection, struct slice input, size_t *consumed)
{
    const struct text_limits limits = {.item_size_max =
                                           connection->worker->node->options.item_size_max};
    struct text_parser before = connection->parser;
    struct text_request request;
    enum text_event event = text_parse(&connection->parser, &limits, input, consumed, &request);
    if (connection_must_wait(connection, event, &request)) {
        connection->parser = before; /* It is parsed again when nothing is under way. */
        connection->waits = true;
        *consumed = 0;
        return false;
    }
    if (event != TEXT_MORE)
        connection_on_event(connection, event, &request);
    return event != TEXT_MORE;
}

/* One event of the parser. False: it needs more bytes, or the command has to wait. */
static bool parse_one(struct connection *connection)
{
    size_t consumed = 0;
    struct slice input = slice_make(NULL, 0);
    if (connection->buffer != NULL)
        input =
            slice_make(connection->buffer + connection->begin, connection->end - connection->begin);
    if (connection->protocol == CONNECTION_UNDECIDED && input.size > 0)
        choose_protocol(connection, input);
    bool more = false;
    if (connection->protocol == CONNECTION_BINARY)
        more = connection_binary_parse(connection, input, &consumed);
    else if (connection->protocol == CONNECTION_LOGIN)
        more = connection_auth_parse(connection, input, &consumed);
    else if (connection->protocol == CONNECTION_TEXT)
        more = parse_text(connection, input, &consumed);
    connection->begin += (uint32_t)consumed;
    return more;
}

/* Makes room behind the bytes that are there. False: no memory. */
static bool make_room(struct connection *connection)
{
    if (!take_buffer(connection))
        return false;
    if (connection->begin > 0) {
        connection->end -= connection->begin;
        memmove(connection->buffer, connection->buffer + connection->begin, connection->end);
        connection->begin = 0;
    }
    assert(connection->end < WORKER_BUFFER_SIZE);
    return true;
}

static bool fill_buffer(struct connection *connection)
{
    if (connection->ended)
        return false;
    if (!make_room(connection)) {
        connection->broken = true;
        return false;
    }
    size_t got = receive(connection, connection->buffer + connection->end,
                         WORKER_BUFFER_SIZE - connection->end);
    connection->end += (uint32_t)got;
    return got > 0;
}

/* Takes the next bytes or the next command. False: there is nothing without new bytes from the
 * socket. */
static bool advance(struct connection *connection, bool *filled)
{
    uint32_t left = value_left(connection);
    bool complete =
        connection->value_job != NULL && left == 0; /* in the binary protocol nothing follows it */
    if (left > 0)
        return take_value(connection, left);
    if ((connection->buffer != NULL || complete) && (parse_one(connection) || connection->waits))
        return true;
    if (*filled)
        return false;
    *filled = true;
    return fill_buffer(connection);
}

void connection_read(struct connection *connection)
{
    uint32_t budget = connection->worker->node->options.per_turn_max;
    bool filled = false;
    connection->more = true;
    connection->turn_bytes = 0;
    while (connection->more && connection_may_parse(connection)) {
        if (budget-- == 0 || connection->turn_bytes >= CONNECTION_TURN_MAX) {
            counters_add(&connection->worker->counters, COUNTER_conn_yields, 1);
            break;
        }
        connection->more = advance(connection, &filled);
    }
    if (!connection->ended && stream_has_more(&connection->stream))
        connection->more = true;
    if (connection->buffer != NULL && connection->begin == connection->end)
        connection_give_buffer(connection);
}
