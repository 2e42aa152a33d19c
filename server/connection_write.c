/* Answers: formatted when it is their turn, and written many at once. */
#include "server/connection.h"
#include "server/connection_binary.h"
#include "server/connection_meta.h"

#include <sys/uio.h>

#include "proto/reply.h"
#include "server/large.h"
#include "server/node.h"
#include "server/worker.h"

enum { PIECES_MAX = 192, PIECES_PER_JOB = 3 };

static const char line_end[] = "\r\n";
static const char line_end_and_end[] = "\r\nEND\r\n";

static enum reply memory_reply(const struct job *job)
{
    bool delta = job->request.type == REQUEST_INCR || job->request.type == REQUEST_DECR;
    return delta ? REPLY_NO_MEMORY_DELTA : REPLY_NO_MEMORY_STORING;
}

static enum reply too_large_reply(const struct job *job)
{
    bool extends = job->command == COMMAND_APPEND || job->command == COMMAND_PREPEND;
    return extends ? REPLY_NOT_STORED : REPLY_TOO_LARGE;
}

enum reply connection_fixed_reply(const struct job *job)
{
    if (job->lost)
        return REPLY_NO_MEMORY_GETTING;
    switch (job->outcome) {
    case OUTCOME_HIT:
    case OUTCOME_MISS:
    case OUTCOME_NUMBER:
        return REPLY_COUNT;
    case OUTCOME_STORED:
        return REPLY_STORED;
    case OUTCOME_NOT_STORED:
        return REPLY_NOT_STORED;
    case OUTCOME_EXISTS:
        return REPLY_EXISTS;
    case OUTCOME_NOT_FOUND:
        return REPLY_NOT_FOUND;
    case OUTCOME_DELETED:
        return REPLY_DELETED;
    case OUTCOME_TOUCHED:
        return REPLY_TOUCHED;
    case OUTCOME_NON_NUMERIC:
        return REPLY_NON_NUMERIC;
    case OUTCOME_LARGE: /* never comes here: large_rewrite() */
    case OUTCOME_TOO_LARGE:
        return too_large_reply(job);
    case OUTCOME_NO_MEMORY:
        return memory_reply(job);
    case OUTCOME_OK:
        return REPLY_OK;
    case OUTCOME_REFUSED:
        return REPLY_NOT_SERVING;
    case OUTCOME_UNKNOWN:
        return REPLY_OUTCOME_UNKNOWN;
    }
    return REPLY_ERROR;
}

void connection_set_head(struct job *job, struct slice text)
{
    job->head = text.data;
    job->head_size = (uint32_t)text.size;
}

void connection_set_tail(struct job *job, struct slice text)
{
    job->tail = text.data;
    job->tail_size = (uint32_t)text.size;
}

void connection_drop_value(struct connection *connection, struct job *job)
{
    connection->bytes -= job->value_size;
    job->value_size = 0;
}

/* Over UDP an answer is one message: as many datagrams as there can be numbers of, at most. */
void connection_claim_pieces(struct connection *connection, struct job *job)
{
    if (job->large && job->outcome == OUTCOME_HIT && !job->lost)
        job->lost = stream_is_datagram(&connection->stream) || !download_claim(connection, job);
}

/* The head is sent alone; what followed the value follows the last piece. */
void connection_send_pieces(struct connection *connection, struct job *job)
{
    struct slice tail = slice_make(job->tail, job->tail_size);
    connection_set_tail(job, slice_make(NULL, 0));
    if (!download_begin(connection, tail))
        connection->broken = true;
    connection_drop_value(connection, job);
}

static void format_value(struct connection *connection, struct job *job)
{
    struct slice key = job->request.key;
    bool with_cas = job->command == COMMAND_GETS || job->command == COMMAND_GATS;
    uint32_t value_size = (uint32_t)job_client_size(job);
    size_t size = with_cas ? reply_value_cas(job->head_memory, key, job->answer_flags, value_size,
                                             job->answer_cas)
                           : reply_value(job->head_memory, key, job->answer_flags, value_size);
    connection_set_head(job, slice_make(job->head_memory, size));
    connection_set_tail(job, job->ends_keys
                                 ? slice_make(line_end_and_end, sizeof(line_end_and_end) - 1)
                                 : slice_make(line_end, sizeof(line_end) - 1));
    if (job->large)
        connection_send_pieces(connection, job);
}

static void format_request(struct connection *connection, struct job *job)
{
    bool keys = command_family(job->command) == FAMILY_KEYS;
    connection_claim_pieces(connection, job);
    enum reply reply = connection_fixed_reply(job);
    if (reply != REPLY_COUNT || job->outcome != OUTCOME_HIT)
        connection_drop_value(connection, job);
    if (reply != REPLY_COUNT) {
        /* In the middle of a get it stands for the rest, END included: a client would take END for
         * the next answer. */
        connection_set_head(job, reply_line(reply));
        if (keys)
            connection->refused_line = job->line_number;
    } else if (job->outcome == OUTCOME_HIT) {
        format_value(connection, job);
    } else if (job->outcome == OUTCOME_NUMBER) {
        connection_set_head(
            job, slice_make(job->head_memory, reply_number(job->head_memory, job->number)));
    } else if (job->ends_keys) {
        connection_set_head(job, reply_line(REPLY_END));
    }
}

static void format(struct connection *connection, struct job *job)
{
    job->formatted = true;
    if (connection->worker->node->options.no_cas)
        job->answer_cas = 0;
    if (job->kind == JOB_BODY) {
        download_format(connection, job);
        return;
    }
    if (connection->protocol == CONNECTION_BINARY) {
        connection_binary_format(connection, job);
        return;
    }
    bool muted = job->noreply || job->line_number == connection->refused_line;
    if (muted)
        connection_drop_value(connection, job);
    else if (job->kind == JOB_REQUEST && command_family(job->command) == FAMILY_META)
        connection_meta_format(connection, job);
    else if (job->kind == JOB_REQUEST)
        format_request(connection, job);
    else if (job->kind == JOB_LINE)
        connection_set_head(job, reply_line(job->line));
}

static void add_piece(struct iovec *pieces, unsigned *count, const void *data, size_t size)
{
    if (size > 0)
        pieces[(*count)++] = (struct iovec){.iov_base = (void *)data, .iov_len = size};
}

/* What can be sent now, in order. */
static unsigned gather(struct connection *connection, struct iovec pieces[PIECES_MAX])
{
    unsigned count = 0;
    for (struct job *job = connection->first;
         job != NULL && job->done && count <= PIECES_MAX - PIECES_PER_JOB; job = job->next_answer) {
        if (count > 0 && stream_is_datagram(&connection->stream))
            break; /* Each answer is a message of its own. */
        if (!job->formatted && job->large && connection->download != NULL)
            break; /* One large answer at a time. */
        if (!job->formatted)
            format(connection, job);
        if (connection->broken)
            break;
        add_piece(pieces, &count, job->head, job->head_size);
        add_piece(pieces, &count, job->value, job->value_size);
        add_piece(pieces, &count, job->tail, job->tail_size);
        if (download_continues(job))
            break; /* The next piece is not asked for yet. */
    }
    return count;
}

/* Leaves out what was written of the first answer before. */
static void skip_written(struct iovec *pieces, unsigned count, uint64_t written)
{
    for (unsigned i = 0; i < count && written > 0; i++) {
        size_t step = written < pieces[i].iov_len ? written : pieces[i].iov_len;
        pieces[i].iov_base = (char *)pieces[i].iov_base + step;
        pieces[i].iov_len -= step;
        written -= step;
    }
}

static void pop_first(struct connection *connection)
{
    struct job *job = connection->first;
    if (job->download != NULL)
        download_sent(connection, job);
    connection->first = job->next_answer;
    if (connection->first == NULL)
        connection->last = NULL;
    connection->job_count--;
    connection->bytes -= job->value_size;
    job_give(&connection->worker->jobs, job);
}

/* Frees the answers that are out. */
static void advance(struct connection *connection, uint64_t sent)
{
    connection->written += sent;
    while (connection->first != NULL && connection->first->formatted) {
        const struct job *job = connection->first;
        uint64_t size = (uint64_t)job->head_size + job->value_size + job->tail_size;
        if (connection->written < size)
            return;
        connection->written -= size;
        pop_first(connection);
    }
}

void connection_write(struct connection *connection)
{
    struct iovec pieces[PIECES_MAX];
    while (!connection->broken && connection->first != NULL && connection->first->done) {
        unsigned count = gather(connection, pieces);
        size_t sent = 0;
        if (count > 0) {
            skip_written(pieces, count, connection->written);
            enum stream_result result = stream_send(&connection->stream, pieces, count, &sent);
            connection->broken = connection->broken || result == STREAM_BROKEN;
            if (result != STREAM_OK)
                return;
        }
        counters_add(&connection->worker->counters, COUNTER_bytes_written, sent);
        advance(connection, sent);
    }
}
