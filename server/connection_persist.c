/* persist: answers when all that this connection has written since its last persist is durable at
 * every member. In the text protocol `persist`, among the meta commands `mp`, in the binary
 * protocol 0xe0.
 *
 * A barrier, as flush_all is: what came before it is answered before it begins. Only the shards
 * that the connection has written to are asked; who has written nothing is answered at once. */
#include "server/connection.h"
#include "server/connection_binary.h"

#include <assert.h>
#include <stdio.h>

#include "server/node.h"
#include "server/worker.h"

void connection_begin_persist(struct connection *connection)
{
    struct worker *worker = connection->worker;
    uint64_t scope = connection->scope;
    counters_add(&worker->counters, COUNTER_cmd_persist, 1);
    connection->barrier = COMMAND_PERSIST;
    connection->barrier_reply = REPLY_OK;
    for (unsigned i = 0; i < worker->node->worker_count; i++) {
        if ((scope >> i & 1) == 0)
            continue;
        counters_add(&worker->counters, COUNTER_persist_shards, 1);
        if (!connection_submit_part(connection, COMMAND_PERSIST, JOB_PERSIST, i, 0))
            return;
    }
    if (scope == 0)
        connection_end_barrier(connection);
}

void connection_persist_text(struct connection *connection, const struct text_request *request)
{
    connection->barrier_noreply = request->noreply;
    snprintf(connection->barrier_words, sizeof(connection->barrier_words), "%s",
             request->noreply ? "" : "OK");
    connection_begin_persist(connection);
}

/* The good answer is known before; q leaves none, but hides no error. */
void connection_persist_meta(struct connection *connection, const struct text_request *request)
{
    char line[META_ANSWER_SIZE_MAX];
    const struct meta_result result = {.code = META_HD};
    size_t size = meta_answer(line, COMMAND_MP, &request->meta, &result);
    connection->barrier_noreply = false;
    snprintf(connection->barrier_words, sizeof(connection->barrier_words), "%.*s",
             (int)(size > 2 ? size - 2 : 0), line);
    connection_begin_persist(connection);
}

void connection_note_persist(struct connection *connection, const struct job *job)
{
    if (job->outcome != OUTCOME_OK)
        connection->barrier_reply = REPLY_NOT_DURABLE;
}

static_assert(sizeof(((struct connection *)0)->barrier_words) >
                  sizeof("HD ") + META_OPAQUE_SIZE_MAX,
              "the opaque comes back");

static void answer_text(struct connection *connection)
{
    if (connection->barrier_reply != REPLY_OK)
        connection_answer_line(connection, connection->barrier_reply, connection->barrier_noreply);
    else if (connection->barrier_words[0] != 0)
        connection_answer_text(connection, connection->barrier_words);
}

/* What could not be said of one shard is to be asked again: the scope stays. */
void connection_end_persist(struct connection *connection)
{
    if (connection->barrier_reply == REPLY_OK)
        connection->scope = 0;
    else
        counters_add(&connection->worker->counters, COUNTER_persist_failed, 1);
    if (connection->protocol == CONNECTION_BINARY)
        connection_binary_end_barrier(connection, COMMAND_PERSIST);
    else
        answer_text(connection);
}
