/* Meta commands: what their flags ask of the core, and what their answers tell. */
#include "server/connection_meta.h"

#include "base/decimal.h"
#include "server/node.h"
#include "server/tuning.h"
#include "server/worker.h"

/* ---- requests ---- */

/* What a record that a command makes gets: of T and N the later one in the line counts. */
static uint32_t exptime_if_created(const struct meta *meta, const struct request *core,
                                   uint32_t vivify_exptime)
{
    for (unsigned i = meta->flag_count; i-- > 0;) {
        if (meta->flags[i] == 'T')
            return core->new_exptime;
        if (meta->flags[i] == 'N')
            return vivify_exptime;
    }
    return 0;
}

static bool is_before(const struct meta *meta, char first, char second)
{
    const char *a = memchr(meta->flags, first, meta->flag_count);
    const char *b = memchr(meta->flags, second, meta->flag_count);
    return a != NULL && b != NULL && a < b;
}

static void fill_get(struct job *job, uint32_t now)
{
    const struct meta *meta = &job->meta;
    struct request *core = &job->request;
    core->type = REQUEST_FETCH;
    core->vivify = meta_has(meta, 'N');
    core->exptime = exptime_if_created(meta, core, job->vivify_exptime);
    if (meta_has(meta, 'R'))
        core->options |= REQUEST_RECACHES;
    if (is_before(meta, 'T', 'R'))
        core->options |= REQUEST_EXPTIME_FIRST;
    if (meta_has(meta, 'u'))
        core->options |= REQUEST_UNNOTICED;
    core->recache_at = text_expire_at(meta->recache, now);
    job->no_value = !meta_has(meta, 'v');
}

/* 0 compares with nothing in these commands. */
static void fill_compare(struct request *core, const struct meta *meta)
{
    core->cas = meta->compare;
    core->compare = meta->compare != 0;
}

static void fill_set(struct job *job)
{
    const struct meta *meta = &job->meta;
    struct request *core = &job->request;
    bool compares = meta_has(meta, 'C');
    core->client_flags = meta->client_flags;
    core->exptime = core->new_exptime;
    core->cas = meta->compare;
    switch (meta->mode) {
    case 'E':
        core->type = REQUEST_ADD;
        break;
    case 'A':
    case 'P':
        core->type = meta->mode == 'A' ? REQUEST_APPEND : REQUEST_PREPEND;
        core->vivify = meta_has(meta, 'N');
        core->exptime = core->vivify ? job->vivify_exptime : core->exptime;
        fill_compare(core, meta);
        break;
    case 'R':
        core->type = compares ? REQUEST_CAS : REQUEST_REPLACE;
        break;
    default:
        core->type = compares ? REQUEST_CAS : REQUEST_SET;
    }
    if (core->type == REQUEST_CAS && meta_has(meta, 'I'))
        core->options |= REQUEST_MARKS_STALE;
}

static void fill_delete(struct job *job)
{
    const struct meta *meta = &job->meta;
    struct request *core = &job->request;
    core->type = REQUEST_DELETE;
    core->cas = meta->compare;
    core->compare = meta_has(meta, 'C');
    core->client_flags = meta->client_flags;
    core->exptime = core->new_exptime;
    if (meta_has(meta, 'I'))
        core->options |= REQUEST_MARKS_STALE;
    if (meta_has(meta, 'x'))
        core->options |= REQUEST_EMPTIES;
}

static void fill_arithmetic(struct job *job)
{
    const struct meta *meta = &job->meta;
    struct request *core = &job->request;
    core->type = meta->mode == 'D' || meta->mode == '-' ? REQUEST_DECR : REQUEST_INCR;
    core->delta = meta->delta;
    core->vivify = meta_has(meta, 'N');
    core->initial = meta->initial;
    core->exptime = exptime_if_created(meta, core, job->vivify_exptime);
    fill_compare(core, meta);
}

void connection_meta_fill(struct job *job, const struct text_request *request, uint32_t now)
{
    const struct meta *meta = &job->meta;
    struct request *core = &job->request;
    job->meta = request->meta;
    job->sent_size = request->value_size;
    job->vivify_exptime = text_expire_at(meta->vivify_exptime, now);
    core->new_exptime = text_expire_at(meta->exptime, now);
    core->new_cas = meta->cas;
    core->options = (meta_has(meta, 'T') ? REQUEST_SETS_EXPTIME : 0) |
                    (meta_has(meta, 'E') ? REQUEST_SETS_CAS : 0) |
                    (meta_has(meta, 'b') ? REQUEST_KEY_BASE64 : 0);
    switch ((int)job->command) {
    case COMMAND_MG:
        fill_get(job, now);
        break;
    case COMMAND_MS:
        fill_set(job);
        break;
    case COMMAND_MD:
        fill_delete(job);
        break;
    case COMMAND_MA:
        fill_arithmetic(job);
        break;
    case COMMAND_ME:
        core->type = REQUEST_GET;
        core->options = REQUEST_UNNOTICED;
        job->no_value = true;
        break;
    }
}

/* ---- answers ---- */

static bool shows_value(const struct job *job)
{
    const struct meta *meta = &job->meta;
    return meta_has(meta, 'v') && !(meta_has(meta, 'C') && meta->compare == job->answer_cas);
}

/* False: the answer is one of the fixed lines. */
static bool code_of(const struct job *job, enum meta_code *code)
{
    switch ((int)job->outcome) {
    case OUTCOME_HIT:
        *code = shows_value(job) ? META_VA : META_HD;
        return !job->lost;
    case OUTCOME_NUMBER:
        *code = meta_has(&job->meta, 'v') ? META_VA : META_HD;
        return true;
    case OUTCOME_STORED:
    case OUTCOME_DELETED:
        *code = META_HD;
        return true;
    case OUTCOME_MISS:
        *code = META_EN;
        return true;
    case OUTCOME_NOT_FOUND:
        *code = META_NF;
        return true;
    case OUTCOME_EXISTS:
        *code = META_EX;
        return true;
    case OUTCOME_NOT_STORED:
        *code = META_NS;
        return true;
    case OUTCOME_TOO_LARGE:
        *code = META_NS;
        return request_extends(job->request.type);
    }
    return false;
}

static struct meta_result result_of(const struct job *job, enum meta_code code, uint32_t now)
{
    const struct seen *seen = &job->request.seen;
    bool hit = job->outcome == OUTCOME_HIT, created = (seen->marks & SEEN_CREATED) != 0;
    struct meta_result result = {
        .code = code,
        .key = job->request.key,
        .base64 = hit && !created ? (seen->marks & SEEN_BASE64) != 0 : meta_has(&job->meta, 'b'),
        .created = created,
        .fetched = seen->fetched,
        .value_size = hit ? seen->value_size : job->sent_size,
        .client_flags = job->answer_flags,
        .cas = job->answer_cas,
        .now = now,
        .access_at = created ? now : seen->access_at,
        .exptime = seen->exptime,
        .new_exptime = job->request.new_exptime,
        .vivify_exptime = job->vivify_exptime,
    };
    if (hit) {
        result.won = (seen->marks & SEEN_WON) != 0;
        result.taken = (seen->marks & SEEN_TAKEN) != 0;
        result.stale = (seen->marks & SEEN_STALE) != 0;
    }
    bool extends = request_extends(job->request.type);
    if (extends && job->outcome == OUTCOME_STORED)
        result.value_size = seen->value_size;
    return result;
}

static void format_debug(struct job *job, uint32_t now)
{
    const struct seen *seen = &job->request.seen;
    struct slice key = job->request.key;
    if (job->outcome == OUTCOME_MISS) {
        connection_set_head(job, reply_line(REPLY_EN));
        return;
    }
    struct meta_debug debug = {
        .key = key,
        .base64 = (seen->marks & SEEN_BASE64) != 0,
        .fetched = seen->fetched,
        .now = now,
        .exptime = seen->exptime,
        .access_at = seen->access_at,
        .cas = job->answer_cas,
        .class_id = SLAB_CLASS,
        .size = text_item_size(key.size, job->answer_flags, seen->value_size),
    };
    connection_set_head(job,
                        slice_make(job->head_memory, meta_debug_answer(job->head_memory, &debug)));
}

/* The number is not the stored value: that may end in spaces. It goes out with the line. */
static size_t format_number(struct job *job, struct meta_result *result)
{
    char digits[DECIMAL_SIZE_MAX];
    size_t count = decimal_format(job->number, digits);
    result->value_size = (uint32_t)count;
    size_t size = meta_answer(job->head_memory, job->command, &job->meta, result);
    if (size == 0 || result->code != META_VA)
        return size;
    memcpy(job->head_memory + size, digits, count);
    memcpy(job->head_memory + size + count, "\r\n", 2);
    return size + count + 2;
}

void connection_meta_format(struct connection *connection, struct job *job)
{
    uint32_t now = worker_now(connection->worker);
    enum meta_code code;
    if (shows_value(job))
        connection_claim_pieces(connection, job);
    bool coded = code_of(job, &code);
    bool sends_value = coded && job->outcome == OUTCOME_HIT && code == META_VA;
    if (!sends_value)
        connection_drop_value(connection, job);
    if (!coded) {
        connection_set_head(job, reply_line(connection_fixed_reply(job)));
        return;
    }
    if (job->command == COMMAND_ME) {
        format_debug(job, now);
        return;
    }
    struct meta_result result = result_of(job, code, now);
    size_t size = job->outcome == OUTCOME_NUMBER
                      ? format_number(job, &result)
                      : meta_answer(job->head_memory, job->command, &job->meta, &result);
    connection_set_head(job, slice_make(job->head_memory, size));
    if (sends_value)
        connection_set_tail(job, slice_make("\r\n", 2));
    if (sends_value && job->large)
        connection_send_pieces(connection, job);
}
