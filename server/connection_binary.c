/* The binary protocol on a connection: requests become jobs, outcomes become answers.
 *
 * All answers of such a connection are made here; the list of jobs, their order and their writing
 * are those of every connection. */
#include "server/connection_binary.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "proto/binary_answer.h"
#include "server/connection_auth.h"
#include "server/large.h"
#include "server/node.h"
#include "server/stats.h"
#include "server/version.h"
#include "server/worker.h"

static_assert(sizeof(((struct job *)0)->head_memory) >= BINARY_ANSWER_SIZE_MAX, "an answer's head");

/* ---- answers that need no work ---- */

static void answer_status(struct connection *connection, const struct binary_tag *tag,
                          enum binary_status status)
{
    struct job *job = connection_new_job(connection, JOB_LINE);
    if (job == NULL)
        return;
    job->tag = *tag;
    job->binary_status = (uint8_t)status;
    job->done = true;
    connection_append(connection, job);
}

void connection_binary_answer(struct connection *connection, const struct binary_tag *tag,
                              enum binary_status status, struct slice body)
{
    struct job *job = connection_new_job(connection, JOB_TEXT);
    if (job == NULL)
        return;
    if (!job_reserve(job, (uint32_t)(BINARY_HEADER_SIZE + body.size))) {
        job_give(&connection->worker->jobs, job);
        connection->broken = true;
        return;
    }
    binary_put_header(job->value, tag, status, 0, 0, 0, (uint32_t)body.size);
    if (body.size > 0)
        memcpy(job->value + BINARY_HEADER_SIZE, body.data, body.size);
    job->done = true;
    connection_append(connection, job);
}

/* ---- requests on a key ---- */

/* The text protocol's command of the same effect. */
static enum command command_of(const struct binary_request *request)
{
    static const uint8_t commands[] = {
        [BINARY_SET] = COMMAND_SET,         [BINARY_ADD] = COMMAND_ADD,
        [BINARY_REPLACE] = COMMAND_REPLACE, [BINARY_APPEND] = COMMAND_APPEND,
        [BINARY_PREPEND] = COMMAND_PREPEND, [BINARY_DELETE] = COMMAND_DELETE,
        [BINARY_INCREMENT] = COMMAND_INCR,  [BINARY_DECREMENT] = COMMAND_DECR,
        [BINARY_TOUCH] = COMMAND_TOUCH,     [BINARY_GAT] = COMMAND_GAT,
    };
    static_assert(COMMAND_GET == 0, "what every other request is");
    uint32_t base = (uint32_t)request->base;
    enum command command = base < sizeof(commands) ? commands[base] : COMMAND_GET;
    bool stores = command == COMMAND_SET || command == COMMAND_ADD || command == COMMAND_REPLACE;
    return stores && request->cas != 0 ? COMMAND_CAS : command;
}

/* Fills in all but the value. */
static struct job *new_request(struct connection *connection, const struct binary_request *request)
{
    struct worker *worker = connection->worker;
    struct job *job = connection_new_job(connection, JOB_REQUEST);
    if (job == NULL)
        return NULL;
    struct request *core = &job->request;
    assert(request->key.size <= sizeof(job->key));
    memcpy(job->key, request->key.data, request->key.size);
    job->tag = request->tag;
    job->binary_base = (uint8_t)request->base;
    job->too_large = request->replaced_by_too_large;
    job->command = command_of(request);
    core->type = connection_request_type(job->command);
    core->key = slice_make(job->key, request->key.size);
    core->hash = hash_key(core->key);
    core->client_flags = request->client_flags;
    core->exptime = text_expire_at(request->exptime, worker_now(worker));
    core->cas = request->cas;
    /* A get of any kind takes no notice of the unique. */
    core->compare = request->cas != 0 && core->type != REQUEST_TOUCH && core->type != REQUEST_GAT;
    core->delta = request->delta;
    core->initial = request->initial;
    core->vivify = core->type == REQUEST_INCR || core->type == REQUEST_DECR
                       ? request->exptime != BINARY_FOREVER
                       : false;
    job->owner = (uint16_t)hash_shard(core->hash, worker->node->worker_count);
    if (worker->node->options.no_cas)
        core->cas = CONNECTION_CAS_NEVER;
    return job;
}

static void on_key(struct connection *connection, const struct binary_request *request)
{
    struct job *job = new_request(connection, request);
    if (job == NULL)
        return;
    if (command_family(job->command) == FAMILY_KEYS)
        connection->get_count++;
    connection_submit(connection, job);
}

/* With -C a value to be stored has no unique, as in memcached; other changes then match none. */
static void on_value(struct connection *connection, const struct binary_request *request)
{
    struct binary_request plain = *request;
    if (connection->worker->node->options.no_cas)
        plain.cas = 0;
    struct job *job = new_request(connection, &plain);
    if (job == NULL)
        return;
    if (!connection_begin_value(connection, job, request->value_size))
        binary_value_refuse(&connection->binary, BINARY_STATUS_NO_MEMORY);
}

static bool is_sasl(uint8_t base)
{
    return base == BINARY_SASL_AUTH || base == BINARY_SASL_STEP;
}

static void on_value_end(struct connection *connection)
{
    struct job *job = connection->value_job;
    if (!is_sasl(job->binary_base)) {
        connection_end_value(connection);
        return;
    }
    connection->value_job = NULL;
    connection_auth_step(connection, job);
}

/* ---- requests without a key ---- */

static void on_flush(struct connection *connection, const struct binary_request *request)
{
    struct worker *worker = connection->worker;
    uint32_t now = worker_now(worker);
    uint32_t at = text_expire_at(request->exptime, now);
    if (worker->node->options.no_flush) {
        answer_status(connection, &request->tag, BINARY_STATUS_AUTH_ERROR);
        return;
    }
    counters_add(&worker->counters, COUNTER_cmd_flush, 1);
    connection->barrier_tag = request->tag;
    connection_begin_barrier(connection, COMMAND_FLUSH_ALL, JOB_FLUSH, at <= now ? 0 : at);
}

/* The group's name is the key: what stands behind `stats` in text. */
static void on_stat(struct connection *connection, const struct binary_request *request)
{
    size_t size = request->key.size;
    if (size >= sizeof(connection->barrier_words)) {
        answer_status(connection, &request->tag, BINARY_STATUS_NOT_FOUND);
        return;
    }
    if (size > 0)
        memcpy(connection->barrier_words, request->key.data, size);
    connection->barrier_words[size] = 0;
    connection->barrier_tag = request->tag;
    connection_begin_barrier(connection, COMMAND_STATS, JOB_PUBLISH, 0);
}

static void on_quit(struct connection *connection, const struct binary_request *request)
{
    if (!request->tag.quiet)
        answer_status(connection, &request->tag, BINARY_STATUS_OK);
    connection->closing = true;
}

static void on_request(struct connection *connection, const struct binary_request *request)
{
    switch ((int)request->base) {
    case BINARY_NOOP:
        answer_status(connection, &request->tag, BINARY_STATUS_OK);
        return;
    case BINARY_VERSION:
        connection_binary_answer(connection, &request->tag, BINARY_STATUS_OK,
                                 slice_text(SERVER_VERSION_PROTOCOL));
        return;
    case BINARY_QUIT:
        on_quit(connection, request);
        return;
    case BINARY_FLUSH:
        on_flush(connection, request);
        return;
    case BINARY_STAT:
        on_stat(connection, request);
        return;
    case BINARY_PERSIST:
        connection->barrier_tag = request->tag;
        connection_begin_persist(connection);
        return;
    case BINARY_SASL_LIST_MECHS:
        connection_auth_list(connection, &request->tag);
        return;
    }
    on_key(connection, request);
}

static bool must_wait(const struct connection *connection, enum binary_event event,
                      const struct binary_request *request)
{
    return event == BINARY_REQUEST && connection->pending_count > 0 &&
           (request->base == BINARY_FLUSH || request->base == BINARY_STAT ||
            request->base == BINARY_PERSIST);
}

/* ---- events ---- */

static void on_error(struct connection *connection, const struct binary_request *request)
{
    if (request->status == BINARY_STATUS_TOO_LARGE)
        counters_add(&connection->worker->counters, COUNTER_store_too_large, 1);
    answer_status(connection, &request->tag, request->status);
    connection->closing = request->closes;
}

static void on_event(struct connection *connection, enum binary_event event,
                     const struct binary_request *request)
{
    switch (event) {
    case BINARY_MORE:
        break;
    case BINARY_REQUEST:
        on_request(connection, request);
        break;
    case BINARY_VALUE:
        on_value(connection, request);
        break;
    case BINARY_VALUE_END:
        on_value_end(connection);
        break;
    case BINARY_ERROR:
        on_error(connection, request);
        break;
    case BINARY_CLOSE:
        connection->closing = true;
        break;
    }
}

bool connection_binary_parse(struct connection *connection, struct slice input, size_t *consumed)
{
    const struct options *options = &connection->worker->node->options;
    const struct binary_limits limits = {
        .item_size_max = options->item_size_max,
        .sasl = options->sasl,
        .locked = options->sasl && !connection->authenticated,
    };
    struct binary_parser before = connection->binary;
    struct binary_request request;
    enum binary_event event = binary_parse(&connection->binary, &limits, input, consumed, &request);
    if (must_wait(connection, event, &request)) {
        connection->binary = before; /* It is parsed again when nothing is under way. */
        connection->waits = true;
        *consumed = 0;
        return false;
    }
    on_event(connection, event, &request);
    return event != BINARY_MORE;
}

/* ---- barriers ---- */

static enum binary_status barrier_status(enum reply reply)
{
    switch ((int)reply) {
    case REPLY_NOT_DURABLE:
        return BINARY_STATUS_NOT_DURABLE;
    case REPLY_NOT_SERVING:
        return BINARY_STATUS_NOT_SERVING;
    case REPLY_OUTCOME_UNKNOWN:
        return BINARY_STATUS_OUTCOME_UNKNOWN;
    case REPLY_NO_MEMORY_STORING:
        return BINARY_STATUS_NO_MEMORY;
    }
    return BINARY_STATUS_OK;
}

/* The next line `STAT name value` of `text`. False: there is none. */
static bool next_stat(struct slice *text, struct slice *name, struct slice *value)
{
    const char *line = text->data;
    const char *end = text->size > 0 ? memchr(line, '\n', text->size) : NULL;
    if (end == NULL || end - line < 6 || memcmp(line, "STAT ", 5) != 0)
        return false;
    const char *stop = end > line && end[-1] == '\r' ? end - 1 : end;
    const char *space = memchr(line + 5, ' ', (size_t)(stop - line - 5));
    *name = slice_make(line + 5, (size_t)((space != NULL ? space : stop) - line - 5));
    *value =
        space != NULL ? slice_make(space + 1, (size_t)(stop - space - 1)) : slice_make(NULL, 0);
    *text = slice_make(end + 1, text->size - (size_t)(end + 1 - line));
    return true;
}

/* One packet for each line of `text`, and an empty one. False: no memory. */
static bool put_stats(struct job *job, struct slice text)
{
    struct slice rest = text, name, value;
    size_t size = BINARY_HEADER_SIZE, used = 0;
    while (next_stat(&rest, &name, &value))
        size += BINARY_HEADER_SIZE + name.size + value.size;
    if (!job_reserve(job, (uint32_t)size))
        return false;
    for (rest = text; next_stat(&rest, &name, &value);)
        used += binary_put_stat(job->value + used, size - used, &job->tag, name, value);
    used += binary_put_stat(job->value + used, size - used, &job->tag, slice_make(NULL, 0),
                            slice_make(NULL, 0));
    assert(used == size);
    return true;
}

/* Text that is not made of statistics: memcached gives the prefixes of `detail dump` one name. */
static bool put_other(struct job *job, struct slice text, const char *words)
{
    struct slice name = slice_text("detailed"), none = slice_make(NULL, 0);
    size_t size = 2 * BINARY_HEADER_SIZE + name.size + text.size;
    if (strcmp(words, "detail dump") != 0 || !job_reserve(job, (uint32_t)size))
        return false;
    size_t used = binary_put_stat(job->value, size, &job->tag, name, text);
    used += binary_put_stat(job->value + used, size - used, &job->tag, none, none);
    assert(used == size);
    return true;
}

static bool is_stats(struct slice text)
{
    return text.size >= 4 &&
           (memcmp(text.data, "STAT", 4) == 0 || memcmp(text.data, "END\r", 4) == 0);
}

/* The text protocol's answer to these words in packets, if it can be. */
static enum binary_status fill_stats(struct job *job, const struct job *text, enum reply reply,
                                     const char *words)
{
    struct slice lines = slice_make(text->value, reply == REPLY_COUNT ? text->value_size : 0);
    if (reply != REPLY_COUNT && reply != REPLY_RESET && reply != REPLY_OK)
        return BINARY_STATUS_NOT_FOUND;
    if (lines.size > 0 && !is_stats(lines))
        return put_other(job, lines, words) ? BINARY_STATUS_OK : BINARY_STATUS_NOT_FOUND;
    return put_stats(job, lines) ? BINARY_STATUS_OK : BINARY_STATUS_NO_MEMORY;
}

static void answer_stats(struct connection *connection)
{
    const char *words = connection->barrier_words;
    struct job *text = connection_new_job(connection, JOB_TEXT);
    struct job *job = text != NULL ? connection_new_job(connection, JOB_TEXT) : NULL;
    if (job == NULL) {
        if (text != NULL)
            job_give(&connection->worker->jobs, text);
        return;
    }
    job->tag = connection->barrier_tag;
    enum reply reply = stats_answer(connection->worker, words, text);
    enum binary_status status = fill_stats(job, text, reply, words);
    if (status != BINARY_STATUS_OK) {
        job->kind = JOB_LINE;
        job->binary_status = (uint8_t)status;
    }
    job_give(&connection->worker->jobs, text);
    job->done = true;
    connection_append(connection, job);
}

void connection_binary_end_barrier(struct connection *connection, enum command command)
{
    if (command == COMMAND_STATS) {
        answer_stats(connection);
        return;
    }
    enum binary_status status = barrier_status(connection->barrier_reply);
    if (!connection->barrier_tag.quiet || status != BINARY_STATUS_OK)
        answer_status(connection, &connection->barrier_tag, status);
}

/* ---- formatting ---- */

static enum binary_status not_stored(const struct job *job)
{
    if (job->binary_base == BINARY_ADD)
        return BINARY_STATUS_EXISTS;
    return job->binary_base == BINARY_REPLACE ? BINARY_STATUS_NOT_FOUND : BINARY_STATUS_NOT_STORED;
}

static enum binary_status too_large(const struct job *job)
{
    bool extends = job->binary_base == BINARY_APPEND || job->binary_base == BINARY_PREPEND;
    return extends ? BINARY_STATUS_NOT_STORED : BINARY_STATUS_TOO_LARGE;
}

static enum binary_status status_of(const struct job *job)
{
    if (job->lost)
        return BINARY_STATUS_NO_MEMORY;
    switch (job->outcome) {
    case OUTCOME_HIT:
    case OUTCOME_STORED:
    case OUTCOME_DELETED:
    case OUTCOME_TOUCHED:
    case OUTCOME_NUMBER:
    case OUTCOME_OK:
        return BINARY_STATUS_OK;
    case OUTCOME_MISS:
    case OUTCOME_NOT_FOUND:
        return BINARY_STATUS_NOT_FOUND;
    case OUTCOME_NOT_STORED:
        return not_stored(job);
    case OUTCOME_EXISTS:
        return BINARY_STATUS_EXISTS;
    case OUTCOME_NON_NUMERIC:
        return BINARY_STATUS_NON_NUMERIC;
    case OUTCOME_LARGE: /* never comes here: large_rewrite() */
    case OUTCOME_TOO_LARGE:
        return too_large(job);
    case OUTCOME_NO_MEMORY:
        return BINARY_STATUS_NO_MEMORY;
    case OUTCOME_REFUSED:
        return BINARY_STATUS_NOT_SERVING;
    case OUTCOME_UNKNOWN:
        return BINARY_STATUS_OUTCOME_UNKNOWN;
    }
    return BINARY_STATUS_INVALID;
}

/* A quiet get says nothing when it misses, any other quiet request when it succeeds. */
static bool is_hidden(const struct job *job, enum binary_status status)
{
    bool gets = job->binary_base == BINARY_GET || job->binary_base == BINARY_GAT;
    if (job->too_large)
        return true; /* The Set itself is answered behind it. */
    return job->tag.quiet && status == (gets ? BINARY_STATUS_NOT_FOUND : BINARY_STATUS_OK);
}

static size_t put_answer(struct job *job, enum binary_status status)
{
    uint8_t *out = (uint8_t *)job->head_memory;
    const struct binary_tag *tag = &job->tag;
    uint64_t cas = job->answer_cas;
    switch ((int)job->outcome) {
    case OUTCOME_HIT:
    case OUTCOME_TOUCHED:
        if (status == BINARY_STATUS_OK)
            return binary_put_hit(out, tag, cas, job->answer_flags, job->request.key,
                                  (uint32_t)job_client_size(job));
        break;
    case OUTCOME_MISS:
        return binary_put_miss(out, tag, job->request.key);
    case OUTCOME_NUMBER:
        return binary_put_number(out, tag, cas, job->number);
    }
    return binary_put_status(out, tag, status, job->outcome == OUTCOME_STORED ? cas : 0);
}

void connection_binary_format(struct connection *connection, struct job *job)
{
    if (job->kind == JOB_TEXT)
        return;
    bool works = job->kind == JOB_REQUEST;
    if (works)
        connection_claim_pieces(connection, job);
    enum binary_status status = works ? status_of(job) : (enum binary_status)job->binary_status;
    if (!works || job->outcome != OUTCOME_HIT || status != BINARY_STATUS_OK)
        connection_drop_value(connection, job);
    if (job->kind == JOB_FLUSH || job->kind == JOB_PERSIST || job->kind == JOB_PUBLISH ||
        (works && is_hidden(job, status)))
        return;
    job->head = job->head_memory;
    job->head_size =
        (uint32_t)(works ? put_answer(job, status)
                         : binary_put_status((uint8_t *)job->head_memory, &job->tag, status, 0));
    if (works && job->large && job->outcome == OUTCOME_HIT && status == BINARY_STATUS_OK)
        connection_send_pieces(connection, job);
}
