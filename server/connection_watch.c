/* A client that has become a watcher: it is told what others do, and what it says is not read as
 * commands any more. */
#include "server/connection.h"
#include "server/node.h"
#include "server/tuning.h"
#include "server/watcher.h"
#include "server/worker.h"

enum { PIECE_SIZE = 16384, BYTES_MAX = 65536 };

static const struct {
    const char *name;
    uint32_t event;
} names[] = {
    {"fetchers", WATCHER_FETCHERS},   {"mutations", WATCHER_MUTATIONS},
    {"evictions", WATCHER_EVICTIONS}, {"connevents", WATCHER_CONNEVENTS},
    {"deletions", WATCHER_DELETIONS},
};

/* What memcached has events for, and this server has not. */
static const char *const silent_names[] = {"rawcmds", "sysevents", "proxyreqs", "proxyevents",
                                           "proxyuser"};

/* False: no such. */
static bool read_event(struct slice word, uint32_t *events)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (tuning_is_short_for(word, names[i].name)) {
            *events |= names[i].event;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(silent_names) / sizeof(silent_names[0]); i++) {
        if (tuning_is_short_for(word, silent_names[i]))
            return true;
    }
    return false;
}

static enum reply begin(struct connection *connection, const struct text_request *request)
{
    struct worker *worker = connection->worker;
    struct node *node = worker->node;
    uint32_t events = request->word_count > 1 ? 0 : WATCHER_FETCHERS;
    if (node->options.no_watch || stream_is_datagram(&connection->stream))
        return REPLY_NO_WATCH;
    if (connection_owes_answers(connection))
        return REPLY_PIPELINED_WATCH;
    for (uint32_t i = 1; i < request->word_count; i++) {
        if (!read_event(request->words[i], &events))
            return REPLY_ERROR;
    }
    connection->watcher = watcher_add(&node->watchers, worker, events,
                                      (uint32_t)node->options.watcher_buffer_kb << 10);
    if (connection->watcher == NULL)
        return REPLY_WATCHERS_MAX;
    connection->next_watcher = worker->watchers;
    worker->watchers = connection;
    return REPLY_OK;
}

void connection_begin_watch(struct connection *connection, const struct text_request *request)
{
    connection_answer_line(connection, begin(connection, request), false);
    if (connection->watcher != NULL)
        connection->barrier = COMMAND_WATCH; /* No more commands. */
}

void connection_end_watch(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (connection->watcher == NULL)
        return;
    struct connection **at = &worker->watchers;
    while (*at != connection)
        at = &(*at)->next_watcher;
    *at = connection->next_watcher;
    watcher_remove(&worker->node->watchers, connection->watcher);
    connection->watcher = NULL;
}

void connection_take_lines(struct connection *connection)
{
    if (connection->bytes >= BYTES_MAX)
        return;
    struct job *job = connection_new_job(connection, JOB_TEXT);
    if (job == NULL)
        return;
    if (!job_reserve(job, PIECE_SIZE)) {
        connection->broken = true;
        job_give(&connection->worker->jobs, job);
        return;
    }
    job->value_size = watcher_take(&connection->worker->node->watchers, connection->watcher,
                                   job->value, PIECE_SIZE);
    if (job->value_size == 0) {
        job_give(&connection->worker->jobs, job);
        return;
    }
    job->done = true;
    connection_append(connection, job);
}

bool connection_lines_wait(const struct connection *connection)
{
    return connection->bytes < BYTES_MAX &&
           watcher_has_lines(&connection->worker->node->watchers, connection->watcher);
}

/* What it sends is thrown away; when it stops to send, it is gone. */
void connection_ignore_input(struct connection *connection)
{
    uint8_t ignored[1024];
    size_t got = 0;
    enum stream_result result = stream_receive(&connection->stream, ignored, sizeof(ignored), &got);
    if (result == STREAM_ENDED || result == STREAM_BROKEN) {
        connection->ended = result == STREAM_ENDED;
        connection->broken = true;
        connection_set_due(connection);
    }
}

void connection_run_watchers(struct worker *worker)
{
    if (!atomic_exchange_explicit(&worker->watched, false, memory_order_acquire))
        return;
    for (struct connection *at = worker->watchers; at != NULL; at = at->next_watcher)
        connection_set_due(at);
}
