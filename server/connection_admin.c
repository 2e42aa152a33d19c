/* Commands without a key: about the server, not about an item. */
#include "server/connection.h"
#include "server/connection_binary.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "proto/number.h"
#include "server/node.h"
#include "server/segments.h"
#include "server/stats.h"
#include "server/tuning.h"
#include "server/version.h"
#include "server/worker.h"

/* ---- commands without a key, which wait for all before them ---- */

bool connection_submit_part(struct connection *connection, enum command command, enum job_kind kind,
                            uint32_t shard, uint32_t exptime)
{
    struct job *job = connection_new_job(connection, kind);
    if (job == NULL)
        return false;
    job->command = command;
    job->noreply = true;
    job->owner = (uint16_t)shard;
    job->request.type = kind == JOB_PERSIST ? REQUEST_PERSIST : REQUEST_FLUSH;
    job->request.key = slice_make(job->key, 0);
    job->request.hash = hash_key(job->request.key);
    job->request.exptime = exptime;
    connection_submit(connection, job);
    return true;
}

void connection_begin_barrier(struct connection *connection, enum command command,
                              enum job_kind kind, uint32_t exptime)
{
    struct worker *worker = connection->worker;
    connection->barrier = command;
    connection->barrier_reply = REPLY_OK;
    for (unsigned i = 0; i < worker->node->worker_count; i++)
        if (!connection_submit_part(connection, command, kind, i, exptime))
            return;
}

static void on_flush_all(struct connection *connection, const struct text_request *request)
{
    uint32_t now = worker_now(connection->worker);
    if (connection->worker->node->options.no_flush) {
        connection_answer_line(connection, REPLY_NO_FLUSH, request->noreply);
        return;
    }
    uint32_t at = text_expire_at(request->exptime, now);
    counters_add(&connection->worker->counters, COUNTER_cmd_flush, 1);
    connection->barrier_noreply = request->noreply;
    connection_begin_barrier(connection, COMMAND_FLUSH_ALL, JOB_FLUSH, at <= now ? 0 : at);
}

bool connection_owes_answers(const struct connection *connection)
{
    for (const struct job *job = connection->first; job != NULL; job = job->next_answer) {
        if (!job->noreply)
            return true;
    }
    return false;
}

/* Keys are listed one chain of the index after the other, and parsing goes on when that is done. */
static enum reply begin_dump(struct connection *connection, enum command command,
                             enum dump_format format, uint64_t limit)
{
    enum reply reply = connection_dump_begin(connection, format, limit);
    if (reply == REPLY_COUNT)
        connection->barrier = command;
    return reply;
}

/* stats cachedump and sizes are lists of keys; REPLY_COUNT: this is one, and it has begun. */
static enum reply begin_stats_dump(struct connection *connection,
                                   const struct text_request *request)
{
    const struct options *options = &connection->worker->node->options;
    uint32_t class, limit;
    if (slice_equal(request->words[1], slice_text("sizes")))
        return begin_dump(connection, COMMAND_STATS, DUMP_SIZES, UINT64_MAX);
    if (!tuning_is_short_for(request->words[1], "cachedump"))
        return begin_dump(connection, COMMAND_STATS, DUMP_CONNECTIONS, UINT64_MAX);
    if (options->no_dump || stream_is_datagram(&connection->stream))
        return REPLY_NO_CACHEDUMP;
    if (request->word_count < 4)
        return REPLY_BAD_LINE;
    if (!number_u32(request->words[2], &class) || !number_u32(request->words[3], &limit))
        return REPLY_BAD_FORMAT;
    if (class >= SLAB_CLASS_COUNT)
        return REPLY_BAD_SLAB_ID;
    if (class != SLAB_CLASS)
        return REPLY_END;
    if (!worker_lease_holds(connection->worker))
        return REPLY_NOT_SERVING;
    return begin_dump(connection, COMMAND_STATS, DUMP_CACHE, limit == 0 ? UINT64_MAX : limit);
}

static bool lists_keys(const struct connection *connection, const struct text_request *request)
{
    struct slice word = request->words[1];
    if (slice_equal(word, slice_text("sizes")))
        return connection->worker->node->options.track_sizes;
    return tuning_is_short_for(word, "cachedump") || tuning_is_short_for(word, "conns");
}

static void on_stats(struct connection *connection, const struct text_request *request)
{
    size_t used = 0;
    if (lists_keys(connection, request)) {
        enum reply reply = begin_stats_dump(connection, request);
        if (reply != REPLY_COUNT)
            connection_answer_line(connection, reply, false);
        return;
    }
    connection->barrier_words[0] = 0;
    for (uint32_t i = 1; i < request->word_count && used + 1 < sizeof(connection->barrier_words);
         i++)
        used += (size_t)snprintf(
            connection->barrier_words + used, sizeof(connection->barrier_words) - used, "%s%.*s",
            i > 1 ? " " : "", (int)request->words[i].size, (const char *)request->words[i].data);
    connection_begin_barrier(connection, COMMAND_STATS, JOB_PUBLISH, 0);
}

static void answer_stats(struct connection *connection)
{
    struct job *job = connection_new_job(connection, JOB_TEXT);
    if (job == NULL)
        return;
    enum reply reply = stats_answer(connection->worker, connection->barrier_words, job);
    if (reply != REPLY_COUNT) {
        job->kind = JOB_LINE;
        job->line = reply;
    }
    job->done = true;
    connection_append(connection, job);
}

/* ---- cache_memlimit ---- */

/* The size of each shard's log, in segments; 0: not possible. */
static uint32_t segments_of(const struct node *node, uint32_t megabytes)
{
    uint64_t size = (uint64_t)megabytes << 20;
    uint64_t most =
        store_live_max(node->segment_count_shard, node->segment_size) * node->worker_count;
    most = segments_limit(node->options.memory_size, most);
    uint32_t count = segments_count(size, node->worker_count, node->segment_size);
    if (size > most + (1 << 20) - 1 ||
        store_live_max(count, node->segment_size) * node->worker_count > 2 * size)
        return 0;
    return count < node->segment_count_shard ? count : node->segment_count_shard;
}

/* REPLY_COUNT: the shards were told. */
static enum reply resize(struct connection *connection, const struct text_request *request)
{
    struct node *node = connection->worker->node;
    uint32_t megabytes;
    if (request->word_count < 2 || !number_u32(request->words[1], &megabytes))
        return REPLY_ERROR;
    if (megabytes < 8)
        return REPLY_MEMLIMIT_SMALL;
    if (megabytes > 1000000000)
        return REPLY_MEMLIMIT_BYTES;
    uint32_t count = segments_of(node, megabytes);
    if (count == 0)
        return REPLY_MEMLIMIT_FAILED;
    connection->barrier_megabytes = megabytes;
    connection_begin_barrier(connection, COMMAND_MEMLIMIT, JOB_RESIZE, count);
    return REPLY_COUNT;
}

/* A shard that uses more already has refused: the others get back what they had, which always
 * goes. */
static void end_resize(struct connection *connection)
{
    struct node *node = connection->worker->node;
    uint32_t megabytes = connection->barrier_megabytes;
    if (connection->barrier_reply == REPLY_OK) {
        atomic_store(&node->memory_limit, (uint64_t)megabytes << 20);
        log_note("cache_memlimit: %u MB until the next start", megabytes);
    } else if (megabytes != 0) {
        uint32_t before = segments_of(node, (uint32_t)(atomic_load(&node->memory_limit) >> 20));
        connection->barrier_megabytes = 0;
        connection_begin_barrier(connection, COMMAND_MEMLIMIT, JOB_RESIZE,
                                 before != 0 ? before : node->segment_count_shard);
        connection->barrier_reply = REPLY_MEMLIMIT_FAILED;
        return;
    }
    connection_answer_line(connection, connection->barrier_reply, false);
}

static void on_memlimit(struct connection *connection, const struct text_request *request)
{
    enum reply reply = resize(connection, request);
    if (reply != REPLY_COUNT)
        connection_answer_line(connection, reply, false);
}

/* ---- the end of a barrier ---- */

/* At once: the job may be gone from the list when the last one is back. What is not known outweighs
 * what is. */
void connection_note_barrier(struct connection *connection, const struct job *job)
{
    if (job->kind == JOB_RESIZE && job->lost)
        connection->barrier_reply = REPLY_MEMLIMIT_FAILED;
    if (job->kind == JOB_PERSIST)
        connection_note_persist(connection, job);
    if (job->kind != JOB_FLUSH || connection->barrier_reply == REPLY_OUTCOME_UNKNOWN)
        return;
    if (job->outcome == OUTCOME_REFUSED)
        connection->barrier_reply = REPLY_NOT_SERVING;
    else if (job->outcome == OUTCOME_UNKNOWN)
        connection->barrier_reply = REPLY_OUTCOME_UNKNOWN;
    else if (job->outcome == OUTCOME_NO_MEMORY)
        connection->barrier_reply = REPLY_NO_MEMORY_STORING;
}

void connection_end_barrier(struct connection *connection)
{
    enum command command = connection->barrier;
    if (connection->watcher != NULL)
        return; /* A barrier without end. */
    if (connection->dump != NULL) {
        connection_dump_go_on(connection);
        return;
    }
    connection->barrier = COMMAND_COUNT;
    if (command == COMMAND_PERSIST)
        connection_end_persist(connection);
    else if (connection->protocol == CONNECTION_BINARY)
        connection_binary_end_barrier(connection, command);
    else if (command == COMMAND_STATS)
        answer_stats(connection);
    else if (command == COMMAND_MEMLIMIT)
        end_resize(connection);
    else
        connection_answer_line(connection, connection->barrier_reply, connection->barrier_noreply);
}

static void on_version(struct connection *connection)
{
    struct job *job = connection_new_job(connection, JOB_TEXT);
    if (job == NULL)
        return;
    size_t size =
        reply_version((char *)job->value, job->value_capacity, slice_text(SERVER_VERSION_PROTOCOL));
    job->value_size = (uint32_t)size;
    job->done = true;
    connection_append(connection, job);
}

/* As a signal would: the control thread ends the process in order. memcached closes without an
 * answer. */
static void on_shutdown(struct connection *connection, const struct text_request *request)
{
    bool graceful =
        request->word_count == 2 && slice_equal(request->words[1], slice_text("graceful"));
    if (!connection->worker->node->options.shutdown_allowed) {
        connection_answer_line(connection, REPLY_NO_SHUTDOWN, false);
    } else if (request->word_count > 1 && !graceful) {
        connection_answer_line(connection, REPLY_BAD_SHUTDOWN, false);
    } else {
        connection->closing = true;
        kill(getpid(), graceful ? SIGUSR1 : SIGINT);
    }
}

static void on_verbosity(struct connection *connection, const struct text_request *request)
{
    log_set_level((int)(request->level > 2 ? 2 : request->level));
    connection_answer_line(connection, REPLY_OK, request->noreply);
}

/* metadump and mgdump. */
static enum reply crawl(struct connection *connection, const struct text_request *request, bool mg)
{
    struct worker *worker = connection->worker;
    if (atomic_load(&worker->node->crawler_off))
        return REPLY_NO_CRAWLER;
    /* A datagram's sender may not be who it says: nobody is sent so much for so little. */
    if (worker->node->options.no_dump || stream_is_datagram(&connection->stream))
        return mg ? REPLY_NO_MGDUMP : REPLY_NO_METADUMP;
    if (connection_owes_answers(connection))
        return mg ? REPLY_PIPELINED_MGDUMP : REPLY_PIPELINED_METADUMP;
    enum reply reply = tuning_read_classes(request->words[2]);
    if (reply != REPLY_OK)
        return reply;
    if (!worker_lease_holds(worker))
        return REPLY_NOT_SERVING;
    return begin_dump(connection, COMMAND_CRAWLER, mg ? DUMP_MG : DUMP_META, UINT64_MAX);
}

static enum reply answer_crawler(struct connection *connection, const struct text_request *request)
{
    struct slice word = request->words[1];
    struct node *node = connection->worker->node;
    if (request->word_count == 2) {
        bool off = tuning_is_short_for(word, "disable");
        if (!off && !tuning_is_short_for(word, "enable"))
            return REPLY_ERROR;
        bool was_off = atomic_exchange(&node->crawler_off, off);
        return off || was_off ? REPLY_OK
                              : REPLY_CRAWLER_ON; /* memcached says that it is on already so */
    }
    if (request->word_count == 3 && tuning_is_short_for(word, "crawl"))
        return atomic_load(&node->crawler_off) ? REPLY_NO_CRAWLER : tuning_answer_crawler(request);
    bool mg = tuning_is_short_for(word, "mgdump");
    if (request->word_count == 3 && (mg || tuning_is_short_for(word, "metadump")))
        return crawl(connection, request, mg && word.size > 1);
    return tuning_answer_crawler(request);
}

static void on_crawler(struct connection *connection, const struct text_request *request)
{
    enum reply reply = answer_crawler(connection, request);
    if (reply != REPLY_COUNT)
        connection_answer_line(connection, reply, false);
}

void connection_answer_text(struct connection *connection, const char *text)
{
    struct job *job = connection_new_job(connection, JOB_TEXT);
    if (job == NULL)
        return;
    int size = snprintf((char *)job->value, job->value_capacity, "%s\r\n", text);
    assert(size > 0 && (uint32_t)size < job->value_capacity);
    job->value_size = (uint32_t)size;
    job->done = true;
    connection_append(connection, job);
}

static void on_refresh_certs(struct connection *connection)
{
    char why[JOB_INLINE_SIZE - 8];
    if (node_refresh_certs_any(connection->worker->node, why, sizeof(why)))
        connection_answer_line(connection, REPLY_OK, false);
    else
        connection_answer_text(connection, why);
}

void connection_on_admin(struct connection *connection, const struct text_request *request)
{
    switch ((int)request->command) {
    case COMMAND_FLUSH_ALL:
        on_flush_all(connection, request);
        break;
    case COMMAND_STATS:
        on_stats(connection, request);
        break;
    case COMMAND_VERSION:
        on_version(connection);
        break;
    case COMMAND_VERBOSITY:
        on_verbosity(connection, request);
        break;
    case COMMAND_QUIT:
        connection->closing = true;
        break;
    case COMMAND_WATCH:
        connection_begin_watch(connection, request);
        break;
    case COMMAND_CRAWLER:
        on_crawler(connection, request);
        break;
    case COMMAND_LRU:
        connection_answer_line(connection, tuning_answer_lru(request), false);
        break;
    case COMMAND_SLABS:
        connection_answer_line(connection, tuning_answer_slabs(request), false);
        break;
    case COMMAND_MEMLIMIT:
        on_memlimit(connection, request);
        break;
    case COMMAND_SHUTDOWN:
        on_shutdown(connection, request);
        break;
    case COMMAND_PERSIST:
        connection_persist_text(connection, request);
        break;
    case COMMAND_REFRESH_CERTS:
        on_refresh_certs(connection);
        break;
    }
}
