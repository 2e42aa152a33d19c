/* What happens, as lines for watchers, in memcached's words. */
#include <stdio.h>

#include "proto/uri.h"
#include "server/connection.h"
#include "server/endpoint.h"
#include "server/node.h"
#include "server/tuning.h"
#include "server/watcher.h"
#include "server/worker.h"

static struct slice encode_key(char out[3 * RECORD_KEY_SIZE_MAX], const struct request *request)
{
    return slice_make(out, uri_encode(out, request->key));
}

static struct slice encode(char out[3 * RECORD_KEY_SIZE_MAX], const struct job *job)
{
    return encode_key(out, &job->request);
}

/* -1: the client has gone meanwhile. */
static int descriptor(const struct job *job)
{
    return job->connection != NULL ? job->connection->stream.fd : -1;
}

static void put(struct worker *worker, enum watcher_event event, const char *line, int size)
{
    if (size >= WATCHER_LINE_SIZE_MAX)
        size = WATCHER_LINE_SIZE_MAX - 1;
    watchers_put_any(&worker->node->watchers, event, slice_make(line, (size_t)size));
}

static void note_fetch(struct worker *worker, const struct job *job)
{
    char line[WATCHER_LINE_SIZE_MAX], key[3 * RECORD_KEY_SIZE_MAX];
    const struct seen *seen = &job->request.seen;
    struct slice name = encode(key, job);
    bool found = job->outcome == OUTCOME_HIT && !(seen->marks & SEEN_CREATED);
    const char *status = found           ? "found"
                         : seen->expired ? "expired"
                         : seen->flushed ? "flushed"
                                         : "not_found";
    int size =
        snprintf(line, sizeof(line), "type=item_get key=%.*s status=%s clsid=%d cfd=%d size=%u",
                 (int)name.size, key, status, found ? SLAB_CLASS : 0, descriptor(job),
                 found ? seen->value_size : 0);
    put(worker, WATCHER_FETCHERS, line, size);
}

static const char *store_status(enum outcome outcome)
{
    switch ((int)outcome) {
    case OUTCOME_STORED:
        return "stored";
    case OUTCOME_EXISTS:
        return "exists";
    case OUTCOME_NOT_FOUND:
        return "not_found";
    case OUTCOME_TOO_LARGE:
        return "too_large";
    case OUTCOME_NO_MEMORY:
        return "no_memory";
    }
    return "not_stored";
}

static const char *store_command(enum request_type type)
{
    static const char *const words[] = {
        [REQUEST_SET] = "set",       [REQUEST_ADD] = "add",         [REQUEST_REPLACE] = "replace",
        [REQUEST_APPEND] = "append", [REQUEST_PREPEND] = "prepend", [REQUEST_CAS] = "cas",
    };
    return words[type];
}

static void note_store(struct worker *worker, const struct job *job)
{
    char line[WATCHER_LINE_SIZE_MAX], key[3 * RECORD_KEY_SIZE_MAX];
    struct slice name = encode(key, job);
    const struct seen *seen = &job->request.seen;
    bool extends = request_extends(job->request.type);
    uint32_t now = worker_now(worker);
    uint32_t exptime = extends ? seen->exptime : job->request.exptime;
    uint64_t value_size =
        job->outcome == OUTCOME_STORED ? seen->value_size : job->request.value.size;
    int size =
        snprintf(line, sizeof(line),
                 "type=item_store key=%.*s status=%s cmd=%s ttl=%u clsid=%d cfd=%d size=%llu",
                 (int)name.size, key, store_status(job->outcome), store_command(job->request.type),
                 exptime > now ? exptime - now : 0, SLAB_CLASS, descriptor(job),
                 (unsigned long long)value_size);
    put(worker, WATCHER_MUTATIONS, line, size);
}

static void note_delete(struct worker *worker, const struct job *job)
{
    char line[WATCHER_LINE_SIZE_MAX], key[3 * RECORD_KEY_SIZE_MAX];
    struct slice name = encode(key, job);
    int size = snprintf(line, sizeof(line), "type=deleted key=%.*s cmd=%s clsid=%d size=%u",
                        (int)name.size, key, command_word(job->command), SLAB_CLASS,
                        job->request.seen.value_size);
    put(worker, WATCHER_DELETIONS, line, size);
}

void watchers_note_job(struct worker *worker, const struct job *job)
{
    struct watchers *watchers = &worker->node->watchers;
    enum request_type type = job->request.type;
    bool deleted = type == REQUEST_DELETE && job->outcome == OUTCOME_DELETED && !job->too_large;
    if (request_reads(type) && watchers_want(watchers, WATCHER_FETCHERS))
        note_fetch(worker, job);
    if (request_stores(type) && watchers_want(watchers, WATCHER_MUTATIONS))
        note_store(worker, job);
    if (deleted && watchers_want(watchers, WATCHER_DELETIONS))
        note_delete(worker, job);
}

void watchers_note_eviction(struct worker *worker, const struct request *request)
{
    char line[WATCHER_LINE_SIZE_MAX], key[3 * RECORD_KEY_SIZE_MAX];
    const struct seen *seen = &request->seen;
    struct slice name = encode_key(key, request);
    uint32_t now = worker_now(worker);
    long long ttl = seen->exptime == 0 ? -1 : (long long)seen->exptime - now;
    int size = snprintf(
        line, sizeof(line), "type=eviction key=%.*s fetch=%s ttl=%lld la=%u clsid=%d size=%u",
        (int)name.size, key, seen->fetched ? "yes" : "no", ttl,
        now > seen->access_at ? now - seen->access_at : 0, SLAB_CLASS, seen->value_size);
    put(worker, WATCHER_EVICTIONS, line, size);
}

void watchers_note_connection(struct worker *worker, const struct connection *connection,
                              const char *closed_because)
{
    char line[WATCHER_LINE_SIZE_MAX];
    struct endpoint peer;
    if (!watchers_want(&worker->node->watchers, WATCHER_CONNEVENTS) ||
        stream_is_datagram(&connection->stream))
        return;
    endpoint_of_peer(connection->stream.fd, &peer);
    bool local = strcmp(peer.transport, "unix") == 0;
    int size =
        snprintf(line, sizeof(line), "type=%s rip=%s rport=%u transport=%s%s%s cfd=%d",
                 closed_because != NULL ? "conn_close" : "conn_new", local ? "unix" : peer.host,
                 peer.port, local ? "local" : "tcp", closed_because != NULL ? " reason=" : "",
                 closed_because != NULL ? closed_because : "", connection->stream.fd);
    put(worker, WATCHER_CONNEVENTS, line, size);
}
